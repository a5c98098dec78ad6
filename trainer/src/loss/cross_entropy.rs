//! Cross-entropy of the next token under the head: -sum_k log softmax(norm(x_k) E^T)[target_k], in nats, over supervised
//! positions only. The final norm and the head are part of it, so that logits exist for a chunk of positions at a time.

use std::sync::Arc;

use burn::tensor::{Tensor, activation::log_softmax};
use rayon::prelude::*;

use super::teacher::{self, Likely};
use crate::{
    device::Path,
    operation::{
        buffer,
        embed::{indices, select_rows},
        fused::{Fused, Inputs, Values, run},
        linear::sum_parts,
        matmul::{View, ViewMut, Workers, Write, multiply},
        norm::{norm_row, norm_row_backward, rms_norm},
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
    let [v, d] = head_vd.dims();
    assert!(targets.tokens.iter().all(|token| (*token as usize) < v), "a target is not below the vocabulary of {v}");
    match path {
        Path::Composed => composed(hidden_nd, gain_d, head_vd, &targets, norm_epsilon),
        Path::Fused => {
            let operation = FusedCrossEntropy { targets, norm_epsilon, vocab: v, width: d };
            run(operation, Inputs::default().and(hidden_nd).and(gain_d).and(head_vd))
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

/// Logits that are in memory at once.
const LOGITS: usize = 1 << 20;

/// Inputs: the residual stream [n, d], the final norm's gain [d] and the head [v, d]. The gradients are made on the way forward,
/// while the logits exist.
#[derive(Clone, Debug)]
struct FusedCrossEntropy {
    targets: Targets,
    norm_epsilon: f32,
    /// v.
    vocab: usize,
    /// d.
    width: usize,
}

/// The gradients of the three inputs for a gradient of 1.
#[derive(Clone, Debug)]
struct Saved {
    dhidden_nd: Vec<f32>,
    dgain_d: Vec<f32>,
    dhead_vd: Vec<f32>,
}

impl Fused for FusedCrossEntropy {
    type Saved = Saved;

    fn forward(&self, inputs: Vec<Values>) -> (Values, Saved) {
        let [hidden_nd, gain_d, head_vd] = inputs.try_into().expect("three inputs");
        let (v, d) = (self.vocab, self.width);
        let chunk = (LOGITS / v).clamp(16, 1024);
        let mut saved = Saved { dhidden_nd: buffer::zeros(hidden_nd.len()), dgain_d: vec![0.0; d], dhead_vd: buffer::take(v * d) };
        let (mut normed_kd, mut gradient_kd) = (buffer::take(chunk * d), buffer::take(chunk * d));
        let mut logits_kv = buffer::take(chunk * v);
        let head = View::new(&head_vd, v, d);
        let (mut loss, mut first) = (0.0f64, 0);
        for (places, tokens) in self.targets.places.chunks(chunk).zip(self.targets.tokens.chunks(chunk)) {
            let k = places.len();
            let (normed_kd, gradient_kd, logits_kv) = (&mut normed_kd[..k * d], &mut gradient_kd[..k * d], &mut logits_kv[..k * v]);
            let hidden = |place: &u32| &hidden_nd[*place as usize * d..][..d];

            let rows = normed_kd.par_chunks_mut(d).zip(places);
            let inverses: Vec<f32> = rows.map(|(normed, place)| norm_row(hidden(place), &gain_d, self.norm_epsilon, normed)).collect();
            let normed = View::new(normed_kd, k, d);
            multiply(ViewMut::new(logits_kv, k, v), normed, head.transposed(), 1.0, Write::Replace, Workers::Pool);
            let rows = logits_kv.par_chunks_mut(v).zip(tokens).enumerate();
            let losses: Vec<f32> = rows.map(|(at, (row, token))| self.lose(row, first + at, *token as usize)).collect();
            loss += losses.into_iter().map(f64::from).sum::<f64>();
            let write = if first == 0 { Write::Replace } else { Write::Add };
            first += k;

            let dlogits = View::new(logits_kv, k, v);
            multiply(ViewMut::new(&mut saved.dhead_vd, v, d), dlogits.transposed(), normed, 1.0, write, Workers::Pool);
            multiply(ViewMut::new(gradient_kd, k, d), dlogits, head, 1.0, Write::Replace, Workers::Pool);
            let rows = gradient_kd.par_chunks_mut(ROWS * d).zip(places.par_chunks(ROWS)).zip(inverses.par_chunks(ROWS));
            let of_gain: Vec<Vec<f32>> = rows
                .map(|((gradient, places), inverses)| {
                    let mut of_gain = vec![0.0; d];
                    for ((gradient, place), inverse) in gradient.chunks_mut(d).zip(places).zip(inverses) {
                        norm_row_backward(hidden(place), &gain_d, *inverse, gradient, &mut of_gain);
                    }
                    of_gain
                })
                .collect();
            for (dgain, of_gain) in saved.dgain_d.iter_mut().zip(sum_parts(&of_gain, d)) {
                *dgain += of_gain;
            }
            for (place, gradient) in places.iter().zip(gradient_kd.chunks(d)) {
                saved.dhidden_nd[*place as usize * d..][..d].copy_from_slice(gradient);
            }
        }
        if first == 0 {
            saved.dhead_vd.fill(0.0);
        }
        for used in [normed_kd, gradient_kd, logits_kv] {
            buffer::give(used);
        }
        (Values::new(vec![loss as f32], [1]), saved)
    }

    fn backward(&self, saved: Saved, gradient: Values) -> Vec<Values> {
        let (v, d, n) = (self.vocab, self.width, saved.dhidden_nd.len() / self.width);
        let scale = gradient[0];
        let scaled = |mut values: Vec<f32>| {
            if scale != 1.0 {
                values.par_iter_mut().for_each(|value| *value *= scale);
            }
            values
        };
        vec![
            Values::new(scaled(saved.dhidden_nd), [n, d]),
            Values::new(scaled(saved.dgain_d), [d]),
            Values::new(scaled(saved.dhead_vd), [v, d]),
        ]
    }
}

impl FusedCrossEntropy {
    /// The loss of a target's row of logits; leaves its gradient there.
    fn lose(&self, row: &mut [f32], at: usize, target: usize) -> f32 {
        let likely = self.targets.likely.as_ref().map(|likely| (likely.share, likely.of(at)));
        let Some((share, tokens)) = likely.filter(|(_, tokens)| !tokens.is_empty()) else {
            return lose(row, target);
        };
        let (of_target, mut log_q) = (row[target], tokens.iter().map(|(token, _)| row[*token as usize]).collect::<Vec<_>>());
        let cross_entropy = lose(row, target);
        log_q.iter_mut().for_each(|logit| *logit -= cross_entropy + of_target);
        teacher::mix(row, target, cross_entropy, share, tokens, &log_q)
    }
}

/// Rows that one task differentiates.
const ROWS: usize = 64;

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
