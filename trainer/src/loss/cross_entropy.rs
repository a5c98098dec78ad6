//! Cross-entropy of the next token under the head: -sum_k log softmax(norm(x_k) E^T)[target_k], in nats, over supervised
//! positions only. The final norm and the head are part of it: see `head.rs`.

use std::{ops::Range, sync::Arc};

use burn::tensor::{Tensor, activation::log_softmax};

use super::{
    head::{RowLoss, head_loss},
    teacher::{self, Likely},
};
use crate::{
    device::Path,
    operation::{
        embed::{indices, select_rows},
        norm::rms_norm,
        simd::{exp, for_each_isa, sum},
    },
};

/// The supervised positions of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    /// Which of the n tokens.
    pub(crate) places: Arc<[u32]>,
    /// The token to be predicted there.
    pub(crate) tokens: Arc<[u32]>,
    /// What a teacher held likely there.
    pub(crate) likely: Option<Likely>,
}

/// The loss of the residual stream `hidden_nd` under `head_vd`, summed over the targets.
///
/// # Panics
/// If a target is not below v.
pub(crate) fn cross_entropy(
    path: Path,
    hidden_nd: Tensor<2>,
    gain_d: Tensor<1>,
    head_vd: Tensor<2>,
    targets: Targets,
    norm_epsilon: f32,
) -> Tensor<1> {
    let v = head_vd.dims()[0];
    assert!(targets.tokens.iter().all(|token| (*token as usize) < v), "a target is not below the vocabulary of {v}");
    match path {
        Path::Composed => composed(hidden_nd, gain_d, head_vd, &targets, norm_epsilon),
        Path::Fused => {
            let places = targets.places.clone();
            head_loss(targets, hidden_nd, gain_d, head_vd, places, norm_epsilon)
        }
    }
}

fn composed(hidden_nd: Tensor<2>, gain_d: Tensor<1>, head_vd: Tensor<2>, targets: &Targets, norm_epsilon: f32) -> Tensor<1> {
    let device = hidden_nd.device();
    let hidden_kd = rms_norm(select_rows(hidden_nd, &targets.places, &device), gain_d, norm_epsilon);
    let log_probabilities_kv = log_softmax(hidden_kd.matmul(head_vd.transpose()), 1);
    let targets_k1 = indices(&targets.tokens, &device).reshape([targets.tokens.len(), 1]);
    let cross_entropy_k = log_probabilities_kv.clone().gather(1, targets_k1).flatten::<1>(0, 1).neg();
    match &targets.likely {
        None => cross_entropy_k.sum(),
        Some(likely) => teacher::composed(log_probabilities_kv, cross_entropy_k, targets, likely),
    }
}

impl RowLoss for Targets {
    /// The number of the first target.
    type Chunk = usize;

    fn chunk(&self, places: Range<usize>) -> usize {
        places.start
    }

    fn row(&self, first: &usize, at: usize, logits: &mut [f32]) -> f32 {
        let target = self.tokens[first + at] as usize;
        let likely = self.likely.as_ref().map(|likely| (likely.share, likely.of(first + at)));
        let Some((share, tokens)) = likely.filter(|(_, tokens)| !tokens.is_empty()) else {
            return lose(logits, target);
        };
        let (of_target, mut log_q) = (logits[target], tokens.iter().map(|(token, _)| logits[*token as usize]).collect::<Vec<_>>());
        let cross_entropy = lose(logits, target);
        log_q.iter_mut().for_each(|logit| *logit -= cross_entropy + of_target);
        teacher::mix(logits, target, cross_entropy, share, tokens, &log_q)
    }
}

for_each_isa! {
    /// The loss of one row of logits; leaves its gradient there, softmax - 1 at the target.
    fn lose(logits: &mut [f32], target: usize) -> f32 {
        let largest = logits.iter().fold(f32::NEG_INFINITY, |largest, x| if *x > largest { *x } else { largest });
        let of_target = logits[target] - largest;
        for x in logits.iter_mut() {
            *x = exp(*x - largest);
        }
        let total = sum([logits], |[x]| x);
        let inverse = 1.0 / total;
        for x in logits.iter_mut() {
            *x *= inverse;
        }
        logits[target] -= 1.0;
        total.ln() - of_target
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::check::{same_and_smooth, sample};

    #[test]
    fn both_forms_are_the_same() {
        // The last case has more targets than fit a chunk of logits.
        for (n, d, v, every) in [(1, 1, 1, 1), (5, 7, 9, 2), (40, 12, 1 << 16, 1), (1500, 4, 3, 1)] {
            let places: Vec<u32> = (0..n as u32).step_by(every).collect();
            let tokens: Vec<u32> = places.iter().map(|place| place * 7919 % v as u32).collect();
            // Every other target has up to three tokens that a teacher named, with 0.4, 0.2 and 0.1, and one that it did not.
            let named = |target: usize| if target.is_multiple_of(2) { (v - 1).min(3) } else { 0 };
            let ends = (0..tokens.len()).scan(0, |end, target| Some(std::mem::replace(end, *end + named(target) as u32)));
            let pairs = |target: usize| (0..named(target)).map(move |at| (((target + at) % v) as u32, 0.4 / (1 << at) as f32));
            let all: Vec<_> = (0..tokens.len()).flat_map(pairs).collect();
            let likely = Likely { share: 0.6, starts: ends.chain([all.len() as u32]).collect(), tokens: all.into() };
            for likely in [None, Some(likely)] {
                let targets = Targets { places: places.clone().into(), tokens: tokens.clone().into(), likely };
                let inputs = [(sample(n * d, 1), n), (sample(d, 2), 1), (sample(v * d, 3), v)];
                same_and_smooth(&inputs, |path, inputs| {
                    let [hidden, gain, head] = inputs.try_into().expect("three inputs");
                    cross_entropy(path, hidden, gain.reshape([d]), head, targets.clone(), 1e-5).unsqueeze()
                });
            }
        }
    }

    #[test]
    fn a_certain_prediction_costs_nothing_and_a_wrong_one_all() {
        let mut logits = [0.0, 200.0, 0.0];
        assert_eq!(lose(&mut logits, 1), 0.0);
        assert!(logits.iter().all(|gradient| gradient.abs() < 1e-30));
        let mut logits = [0.0, 200.0, 0.0];
        assert_eq!(lose(&mut logits, 2), 200.0);
        assert!((logits[1] - 1.0).abs() < 1e-6 && (logits[2] + 1.0).abs() < 1e-6);
        assert!(lose(&mut [0.0, f32::NAN], 0).is_nan());
    }
}
