//! A teacher's most likely tokens as a target: the divergence of the student's distribution q from the teacher's p, where all tokens
//! that the teacher did not name are one, the tail, with p_tail = 1 - sum_i p_i and q_tail = 1 - sum_i q_i:
//!
//! KL = sum_i p_i ln(p_i / q_i) + p_tail ln(p_tail / q_tail)
//!
//! Its gradient at the logits is q - p~ with p~ = p on the named tokens and p_tail q / q_tail on all others: what the teacher left
//! open is shared out as the student would. So nothing of size v is stored, and no mass is lost or guessed. With a share a of the
//! loss, a KL + (1 - a) cross-entropy has the gradient q - a p~ - (1 - a) onehot(target). Temperature 1 on both sides.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

use super::cross_entropy::Targets;
use crate::operation::simd::{for_each_isa, sum};

/// What a teacher held likely at some targets.
#[derive(Clone, Debug)]
pub(crate) struct Likely {
    /// Share of the divergence in the loss of a target that has it; the rest is cross-entropy.
    pub(crate) share: f32,
    /// For each target, where its tokens begin; one more at the end. A target without any has no divergence.
    pub(crate) starts: Arc<[u32]>,
    /// Tokens and their probabilities, each above 0; a target's sum to at most 1.
    pub(crate) tokens: Arc<[(u32, f32)]>,
}

impl Likely {
    /// From a list for each target; nothing where all are empty or the share is 0.
    pub(crate) fn new<'a>(share: f32, targets: impl Iterator<Item = &'a [(u32, f32)]>) -> Option<Likely> {
        let (mut starts, mut tokens) = (vec![0], Vec::new());
        for target in targets {
            tokens.extend_from_slice(target);
            starts.push(tokens.len() as u32);
        }
        (share > 0.0 && !tokens.is_empty()).then(|| Likely { share, starts: starts.into(), tokens: tokens.into() })
    }

    /// The tokens of a target.
    pub(crate) fn of(&self, target: usize) -> &[(u32, f32)] {
        &self.tokens[self.starts[target] as usize..self.starts[target + 1] as usize]
    }

    fn tail(tokens: &[(u32, f32)]) -> f32 {
        (1.0 - tokens.iter().map(|(_, p)| p).sum::<f32>()).max(0.0)
    }
}

/// From a row of softmax - onehot(target), the gradient of the cross-entropy, to that of the mixed loss; returns the mixed loss.
/// `cross_entropy` is the row's, `log_q` the logarithms of the named tokens' probabilities.
pub(crate) fn mix(row: &mut [f32], target: usize, cross_entropy: f32, share: f32, likely: &[(u32, f32)], log_q: &[f32]) -> f32 {
    row[target] += 1.0;
    let named: Vec<f32> = likely.iter().map(|(token, _)| std::mem::take(&mut row[*token as usize])).collect();
    let (tail, q_tail) = (Likely::tail(likely), total(row).max(f32::MIN_POSITIVE));
    let mut divergence: f32 = likely.iter().zip(log_q).map(|((_, p), log_q)| p * (p.ln() - log_q)).sum();
    if tail > 0.0 {
        divergence += tail * (tail / q_tail).ln();
        scale(row, 1.0 - share * tail / q_tail);
    }
    for ((token, p), q) in likely.iter().zip(named) {
        row[*token as usize] = q - share * p;
    }
    row[target] -= 1.0 - share;
    share * divergence + (1.0 - share) * cross_entropy
}

/// The same in burn's operations, summed over the targets: of the log-probabilities [k, v] and each target's cross-entropy [k].
pub(crate) fn composed(log_q_kv: Tensor<2>, cross_entropy_k: Tensor<1>, targets: &Targets, likely: &Likely) -> Tensor<1> {
    let (device, k) = (log_q_kv.device(), targets.tokens.len());
    let most = (0..k).map(|target| likely.of(target).len()).max().unwrap_or(0).max(1);
    let (mut tokens, mut p, mut named, mut tails, mut shares) =
        (vec![0i32; k * most], vec![0.0; k * most], vec![0.0; k * most], vec![], vec![]);
    for target in 0..k {
        let of = likely.of(target);
        for (at, (token, probability)) in of.iter().enumerate() {
            (tokens[target * most + at], p[target * most + at], named[target * most + at]) = (*token as i32, *probability, 1.0);
        }
        tails.push(if of.is_empty() { 0.0 } else { Likely::tail(of) });
        shares.push(if of.is_empty() { 0.0 } else { likely.share });
    }
    let entropy: Vec<f32> = (0..k)
        .map(|target| {
            let tail = tails[target];
            let of_tail = if tail > 0.0 { tail * tail.ln() } else { 0.0 };
            likely.of(target).iter().map(|(_, p)| p * p.ln()).sum::<f32>() + of_tail
        })
        .collect();
    let row = |values: Vec<f32>| Tensor::<1>::from_floats(values.as_slice(), &device);
    let matrix = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [k, most]), &device);
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [k, most]), &device);
    let log_q = log_q_kv.gather(1, tokens);
    let q_tail = (log_q.clone().exp() * matrix(named)).sum_dim(1).neg().add_scalar(1.0).clamp_min(1e-30).flatten::<1>(0, 1);
    let divergence_k = row(entropy) - (log_q * matrix(p)).sum_dim(1).flatten::<1>(0, 1) - q_tail.log() * row(tails);
    let shares = row(shares);
    (divergence_k * shares.clone() + cross_entropy_k * shares.neg().add_scalar(1.0)).sum()
}

for_each_isa! {
    fn total(row: &[f32]) -> f32 {
        sum([row], |[x]| x)
    }
}

for_each_isa! {
    fn scale(row: &mut [f32], factor: f32) {
        for x in row {
            *x *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loss and gradient by the definition, in f64.
    fn dense(logits: &[f32], target: usize, share: f64, likely: &[(u32, f32)]) -> (f64, Vec<f64>) {
        let exps: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp()).collect();
        let total: f64 = exps.iter().sum();
        let q: Vec<f64> = exps.iter().map(|x| x / total).collect();
        let is_named = |token: usize| likely.iter().any(|(named, _)| *named as usize == token);
        let p_tail = 1.0 - likely.iter().map(|(_, p)| f64::from(*p)).sum::<f64>();
        let q_tail: f64 = q.iter().enumerate().filter(|(token, _)| !is_named(*token)).map(|(_, q)| q).sum();
        let kl: f64 = likely.iter().map(|(token, p)| f64::from(*p) * (f64::from(*p) / q[*token as usize]).ln()).sum();
        let kl = kl + if p_tail > 1e-6 { p_tail * (p_tail / q_tail).ln() } else { 0.0 };
        let soft = |token: usize| match likely.iter().find(|(named, _)| *named as usize == token) {
            Some((_, p)) => f64::from(*p),
            None => p_tail * q[token] / q_tail,
        };
        let hard = |token: usize| f64::from(u8::from(token == target));
        let gradient = (0..q.len()).map(|token| q[token] - share * soft(token) - (1.0 - share) * hard(token)).collect();
        (share * kl - (1.0 - share) * q[target].ln(), gradient)
    }

    #[test]
    fn a_row_is_that_of_the_definition() {
        let logits = [0.3, -1.2, 2.0, 0.0, -0.5, 1.1];
        let everything = [(2, 0.5), (0, 0.2), (1, 0.1), (3, 0.1), (4, 0.05), (5, 0.05)];
        let log_total = logits.iter().map(|x: &f32| f64::from(*x).exp()).sum::<f64>().ln() as f32;
        for likely in [&everything[..1], &everything[..3], &everything] {
            for (share, target) in [(0.0, 2), (0.4, 5), (1.0, 0)] {
                let mut row: Vec<f32> = logits.iter().map(|x| (x - log_total).exp()).collect();
                row[target] -= 1.0;
                let log_q: Vec<f32> = likely.iter().map(|(token, _)| logits[*token as usize] - log_total).collect();
                let loss = mix(&mut row, target, log_total - logits[target], share, likely, &log_q);
                let (expected, gradient) = dense(&logits, target, f64::from(share), likely);
                assert!((f64::from(loss) - expected).abs() < 1e-6, "{loss} {expected}");
                let apart = row.iter().zip(&gradient).map(|(x, y)| (f64::from(*x) - y).abs()).fold(0.0, f64::max);
                assert!(apart < 1e-6, "{row:?} {gradient:?}");
                assert!(row.iter().sum::<f32>().abs() < 1e-6, "a gradient at logits sums to 0");
            }
        }
    }

    #[test]
    fn a_student_that_agrees_has_nothing_to_learn() {
        let q = [0.5f32, 0.25, 0.125, 0.125];
        let mut row = q;
        row[1] -= 1.0;
        let loss = mix(&mut row, 1, -0.25f32.ln(), 1.0, &[(0, 0.5), (1, 0.25)], &[0.5f32.ln(), 0.25f32.ln()]);
        assert!(loss.abs() < 1e-7 && row.iter().all(|x| x.abs() < 1e-7), "{loss} {row:?}");
    }

    #[test]
    fn probabilities_that_round_to_nothing_give_finite_numbers() {
        let mut row = [1.0f32, 0.0, 0.0];
        row[0] -= 1.0;
        let loss = mix(&mut row, 0, 0.0, 0.5, &[(0, 0.9)], &[0.0]);
        assert!(loss.is_finite() && row.iter().all(|x| x.is_finite()), "{loss} {row:?}");
    }
}
