//! Forward Kullback-Leibler divergence: KL(p || q) = sum_i p_i ln(p_i / q_i), which wants the student q wherever the teacher p is.
//! Source: Hinton et al., arXiv:1503.02531, section 2.

use burn::tensor::Tensor;

use super::divergence::times;

/// The divergence of log-probabilities; leaves q_i dL/dq_i = -p_i in `gradient`.
pub(crate) fn row(log_p: &[f32], log_q: &[f32], gradient: &mut [f32]) -> f32 {
    let mut total = 0.0f64;
    for ((log_p, log_q), gradient) in log_p.iter().zip(log_q).zip(gradient) {
        let p = log_p.exp();
        total += times(p, log_p - log_q);
        *gradient = -p;
    }
    total as f32
}

/// The same in burn's operations, of each row, [k].
pub(crate) fn composed(log_p_kv: Tensor<2>, log_q_kv: Tensor<2>) -> Tensor<1> {
    (log_p_kv.clone().exp() * (log_p_kv - log_q_kv)).sum_dim(1).flatten(0, 1)
}
