//! Universal logit distillation, for vocabularies that have nothing in common: sum_r |p_(r) - q_(r)|, where (r) is the r-th largest
//! probability of each and the shorter list is filled up with zeros. It is the Wasserstein-1 distance of the two distributions where
//! it costs the same to move probability from any token to any other; at most 2.
//! Source: Boizard et al., arXiv:2402.12030, section 3. Lambda times it beside the cross-entropy, as there, is a share of
//! lambda / (1 + lambda).
//!
//! Which token has which rank is constant but where two are equal, so that the gradient is the sign of each difference.

use burn::tensor::Tensor;

/// The distance of log-probabilities; leaves q_i dL/dq_i = q_i sign(q_i - p_(rank of i)) in `gradient`. Equal probabilities are ranked
/// by their places.
pub(crate) fn row(log_p: &[f32], log_q: &[f32], gradient: &mut [f32]) -> f32 {
    let mut p: Vec<f32> = log_p.iter().map(|log_p| log_p.exp()).collect();
    p.sort_unstable_by(|one, other| other.total_cmp(one));
    let mut q: Vec<(f32, usize)> = log_q.iter().enumerate().map(|(token, log_q)| (log_q.exp(), token)).collect();
    q.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    let beyond: f64 = p.iter().skip(q.len()).map(|p| f64::from(*p)).sum();
    let mut total = beyond;
    for ((q, token), p) in q.into_iter().zip(p.into_iter().chain(std::iter::repeat(0.0))) {
        total += f64::from((q - p).abs());
        gradient[token] = if q == p { 0.0 } else { q * (q - p).signum() };
    }
    total as f32
}

/// The same in burn's operations, of each row, [k]; the two may have different widths.
pub(crate) fn composed(log_p_kv: Tensor<2>, log_q_kw: Tensor<2>) -> Tensor<1> {
    let widest = log_p_kv.dims()[1].max(log_q_kw.dims()[1]);
    let ranked = |log: Tensor<2>| {
        let ([k, v], device) = (log.dims(), log.device());
        let ranked = log.exp().sort_descending(1);
        if v == widest { ranked } else { Tensor::cat(vec![ranked, Tensor::zeros([k, widest - v], &device)], 1) }
    };
    (ranked(log_p_kv) - ranked(log_q_kw)).abs().sum_dim(1).flatten(0, 1)
}

#[cfg(test)]
mod tests;
