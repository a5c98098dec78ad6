//! Reverse Kullback-Leibler divergence: KL(q || p) = sum_i q_i ln(q_i / p_i), which wants the student q only where the teacher p is.
//! Source: MiniLLM, arXiv:2306.08543, section 2.1.

use burn::tensor::Tensor;

use super::divergence::times;

/// The divergence of log-probabilities; leaves q_i dL/dq_i = q_i (ln(q_i / p_i) + 1) in `gradient`.
pub(crate) fn row(log_p: &[f32], log_q: &[f32], gradient: &mut [f32]) -> f32 {
    let mut total = 0.0f64;
    for ((log_p, log_q), gradient) in log_p.iter().zip(log_q).zip(gradient) {
        let q = log_q.exp();
        total += times(q, log_q - log_p);
        *gradient = times(q, log_q - log_p + 1.0) as f32;
    }
    total as f32
}

/// The same in burn's operations, of each row, [k].
pub(crate) fn composed(log_p_kv: Tensor<2>, log_q_kv: Tensor<2>) -> Tensor<1> {
    (log_q_kv.clone().exp() * (log_q_kv - log_p_kv)).sum_dim(1).flatten(0, 1)
}
