//! Confidence-weighted divergence: c KL(q || p) + (1 - c) KL(p || q), where c is the probability that the teacher p gives to the target:
//! where the teacher is sure the student should be too, elsewhere it should cover what the teacher holds possible.
//! Source: BitDistiller, arXiv:2402.10631, eq. 6 and 7; c is of each position here, not a mean over the text.

use burn::tensor::Tensor;

use super::{forward_kl, reverse_kl};

/// The divergence of log-probabilities; leaves q_i dL/dq_i in `gradient`.
pub(crate) fn row(confidence: f32, log_p: &[f32], log_q: &[f32], gradient: &mut [f32]) -> f32 {
    let mut of_reverse = vec![0.0; gradient.len()];
    let reverse = reverse_kl::row(log_p, log_q, &mut of_reverse);
    let forward = forward_kl::row(log_p, log_q, gradient);
    for (gradient, reverse) in gradient.iter_mut().zip(of_reverse) {
        *gradient = confidence * reverse + (1.0 - confidence) * *gradient;
    }
    confidence * reverse + (1.0 - confidence) * forward
}

/// The same in burn's operations, of each row, [k].
pub(crate) fn composed(confidence_k: Tensor<1>, log_p_kv: Tensor<2>, log_q_kv: Tensor<2>) -> Tensor<1> {
    let reverse_k = reverse_kl::composed(log_p_kv.clone(), log_q_kv.clone());
    let forward_k = forward_kl::composed(log_p_kv, log_q_kv);
    confidence_k.clone() * reverse_k + confidence_k.neg().add_scalar(1.0) * forward_k
}
