//! Generalised Jensen-Shannon divergence between teacher p and student q, with the mixture m = beta p + (1 - beta) q:
//! beta KL(p || m) + (1 - beta) KL(q || m). Source: GKD, arXiv:2306.13649, eq. 1.
//!
//! As there, beta 0 stands for KL(p || q) and beta 1 for KL(q || p), which are its limits divided by beta and by 1 - beta.

use burn::tensor::Tensor;

use super::{divergence::times, forward_kl, reverse_kl};

/// The divergence of log-probabilities; leaves q_i dL/dq_i = (1 - beta) q_i ln(q_i / m_i) in `gradient`.
pub(crate) fn row(beta: f32, log_p: &[f32], log_q: &[f32], gradient: &mut [f32]) -> f32 {
    if beta == 0.0 {
        return forward_kl::row(log_p, log_q, gradient);
    }
    if beta == 1.0 {
        return reverse_kl::row(log_p, log_q, gradient);
    }
    let (log_beta, log_rest) = (beta.ln(), (1.0 - beta).ln());
    let mut total = 0.0f64;
    for ((log_p, log_q), gradient) in log_p.iter().zip(log_q).zip(gradient) {
        let (a, b) = (log_p + log_beta, log_q + log_rest);
        let log_m = a.max(b) + (-(a - b).abs()).exp().ln_1p();
        let of_student = times((1.0 - beta) * log_q.exp(), log_q - log_m);
        total += times(beta * log_p.exp(), log_p - log_m) + of_student;
        *gradient = of_student as f32;
    }
    total as f32
}

/// The same in burn's operations, of each row, [k].
pub(crate) fn composed(beta: f32, log_p_kv: Tensor<2>, log_q_kv: Tensor<2>) -> Tensor<1> {
    if beta == 0.0 {
        return forward_kl::composed(log_p_kv, log_q_kv);
    }
    if beta == 1.0 {
        return reverse_kl::composed(log_p_kv, log_q_kv);
    }
    let (a, b) = (log_p_kv.clone().add_scalar(beta.ln()), log_q_kv.clone().add_scalar((1.0 - beta).ln()));
    let log_m = a.clone().max_pair(b.clone()) + (a - b).abs().neg().exp().log1p();
    forward_kl::composed(log_p_kv, log_m.clone()).mul_scalar(beta) + forward_kl::composed(log_q_kv, log_m).mul_scalar(1.0 - beta)
}
