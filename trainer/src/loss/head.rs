//! The loss of the logits norm(x_k) E^T, E being the embedding or a head of its own, summed over the supervised places k: cross-entropy,
//! and in part the divergence from a teacher where one said something. The final norm and the head are part of it and the gradients are made on the way forward, so that logits
//! exist for a chunk of places at a time and never for all.

use std::{
    ops::AddAssign,
    sync::{Arc, Mutex},
};

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::{cross_entropy, divergence::Teaching};
use crate::{
    device::{Path, Storage},
    operation::{
        buffer,
        fused::{Fused, Inputs, Values, run},
        linear::sum_parts,
        matmul::{View, ViewMut, Workers, Write, multiply},
        norm::{norm_row, norm_row_backward, rms_norm},
        simd::{for_each_isa, sum},
    },
};

/// The supervised places of a batch, and what is to be said there.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    /// Which of the n tokens.
    pub(crate) places: Arc<[u32]>,
    /// The token to be predicted there.
    pub(crate) tokens: Arc<[u32]>,
    /// What a teacher said there.
    pub(crate) teaching: Option<Teaching>,
    /// Filled on the way forward.
    pub(crate) terms: Arc<Mutex<Terms>>,
}

/// The terms of a loss, each a sum over the supervised places.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    /// What is minimised, the states included.
    pub(crate) loss: f64,
    /// Everywhere, in nats.
    pub(crate) cross_entropy: f64,
    /// Where a teacher said something, in nats; of `uld` a distance.
    pub(crate) divergence: f64,
    /// At how many places that is.
    pub(crate) taught: f64,
    /// How far inner states are from the teacher's, as weighed.
    pub(crate) states: f64,
    /// The squared norms of the gradients of cross-entropy and divergence at the logits there. Not known in the composed form.
    pub(crate) slopes: [f64; 2],
}

/// The loss of the residual stream at the supervised places, `hidden_kd`, under `head_vd`.
///
/// # Panics
/// If a target is not below v.
pub(crate) fn head_loss(
    path: Path,
    hidden_kd: Tensor<2>,
    gain_d: Tensor<1>,
    head_vd: Tensor<2>,
    targets: Targets,
    norm_epsilon: f32,
) -> Tensor<1> {
    let [vocab, width] = head_vd.dims();
    assert!(targets.tokens.iter().all(|token| (*token as usize) < vocab), "a target is not below the vocabulary of {vocab}");
    match path {
        Path::Composed(storage) => composed(hidden_kd, gain_d, head_vd, &targets, norm_epsilon, storage),
        Path::Fused => {
            let operation = FusedHead { targets, norm_epsilon, vocab, width, is_trained: head_vd.is_require_grad() };
            run(operation, Inputs::default().and(hidden_kd).and(gain_d).and(head_vd))
        }
    }
}

fn composed(
    hidden_kd: Tensor<2>,
    gain_d: Tensor<1>,
    head_vd: Tensor<2>,
    targets: &Targets,
    norm_epsilon: f32,
    storage: Storage,
) -> Tensor<1> {
    let (device, k) = (hidden_kd.device(), targets.tokens.len());
    let normed_kd = storage.keep(rms_norm(hidden_kd, gain_d, norm_epsilon));
    let logits_kv = Storage::F32.keep(normed_kd.matmul(storage.keep(head_vd).transpose()));
    let cross_entropy_k = cross_entropy::composed(logits_kv.clone(), &targets.tokens);
    let scalar = |sum: &Tensor<1>| f64::from(sum.clone().sum().into_scalar::<f32>());
    let mut terms = Terms { cross_entropy: scalar(&cross_entropy_k), ..Terms::default() };
    let loss = match &targets.teaching {
        None => cross_entropy_k.sum(),
        Some(teaching) => {
            let speaks: Vec<f32> = (0..k).map(|at| f32::from(u8::from(teaching.speaks(at)))).collect();
            terms.taught = speaks.iter().map(|speaks| f64::from(*speaks)).sum();
            let speaks_k = Tensor::<1>::from_data(TensorData::new(speaks, [k]), &device);
            let divergence_k = teaching.composed(logits_kv, &targets.tokens) * speaks_k.clone();
            terms.divergence = scalar(&divergence_k);
            let share_k = speaks_k.mul_scalar(teaching.lesson.share);
            (cross_entropy_k * share_k.neg().add_scalar(1.0) + divergence_k.mul_scalar(teaching.lesson.share)).sum()
        }
    };
    terms.loss = scalar(&loss);
    targets.tell(terms);
    loss
}

/// Logits that are in memory at once.
const LOGITS: usize = 1 << 20;
/// Rows that one task differentiates.
const ROWS: usize = 64;

/// Inputs: the residual stream at the supervised places [k, d], the final norm's gain [d] and the head [v, d].
#[derive(Clone, Debug)]
struct FusedHead {
    targets: Targets,
    norm_epsilon: f32,
    /// v.
    vocab: usize,
    /// d.
    width: usize,
    /// Whether the head has a gradient.
    is_trained: bool,
}

/// The gradients of the inputs for a gradient of 1; none of a head that is not trained.
#[derive(Clone, Debug)]
struct Saved {
    dhidden_kd: Vec<f32>,
    dgain_d: Vec<f32>,
    dhead_vd: Vec<f32>,
}

impl Fused for FusedHead {
    type Saved = Saved;

    fn forward(&self, inputs: Vec<Values>) -> (Values, Saved) {
        let [hidden_kd, gain_d, head_vd] = inputs.try_into().expect("three inputs");
        let (v, d) = (self.vocab, self.width);
        let widest = self.targets.teaching.as_ref().map_or(v, |teaching| teaching.widest(v));
        let chunk = (LOGITS / widest).clamp(16, 1024);
        let mut saved = Saved {
            dhidden_kd: buffer::take(hidden_kd.len()),
            dgain_d: vec![0.0; d],
            dhead_vd: buffer::take(if self.is_trained { v * d } else { 0 }),
        };
        let mut normed_kd = buffer::take(chunk * d);
        let mut logits_kv = buffer::take(chunk * v);
        let head = View::new(&head_vd, v, d);
        let mut terms = Terms::default();
        for (number, (hidden_kd, gradient_kd)) in hidden_kd.chunks(chunk * d).zip(saved.dhidden_kd.chunks_mut(chunk * d)).enumerate() {
            let (k, first) = (hidden_kd.len() / d, number * chunk);
            let (normed_kd, logits_kv) = (&mut normed_kd[..k * d], &mut logits_kv[..k * v]);

            let rows = normed_kd.par_chunks_mut(d).zip(hidden_kd.par_chunks(d));
            let inverses: Vec<f32> = rows.map(|(normed, hidden)| norm_row(hidden, &gain_d, self.norm_epsilon, normed)).collect();
            let normed = View::new(normed_kd, k, d);
            multiply(ViewMut::new(logits_kv, k, v), normed, head.transposed(), 1.0, Write::Replace, Workers::Pool);
            let teacher_kv = self.targets.teaching.as_ref().map_or(Vec::new(), |teaching| teaching.logits(first..first + k));
            let w = teacher_kv.len() / k;
            let of_teacher = |at: usize| &teacher_kv[at * w..(at + 1) * w];
            let rows = logits_kv.par_chunks_mut(v).enumerate();
            let of_rows: Vec<Terms> = rows.map(|(at, row)| self.targets.row(first + at, of_teacher(at), row)).collect();
            of_rows.into_iter().for_each(|of_row| terms += of_row);

            let dlogits = View::new(logits_kv, k, v);
            let write = if first == 0 { Write::Replace } else { Write::Add };
            if self.is_trained {
                multiply(ViewMut::new(&mut saved.dhead_vd, v, d), dlogits.transposed(), normed, 1.0, write, Workers::Pool);
            }
            multiply(ViewMut::new(gradient_kd, k, d), dlogits, head, 1.0, Write::Replace, Workers::Pool);
            let rows = gradient_kd.par_chunks_mut(ROWS * d).zip(hidden_kd.par_chunks(ROWS * d)).zip(inverses.par_chunks(ROWS));
            let of_gain: Vec<Vec<f32>> = rows
                .map(|((gradient, hidden), inverses)| {
                    let mut of_gain = vec![0.0; d];
                    for ((gradient, hidden), inverse) in gradient.chunks_mut(d).zip(hidden.chunks(d)).zip(inverses) {
                        norm_row_backward(hidden, &gain_d, *inverse, gradient, &mut of_gain);
                    }
                    of_gain
                })
                .collect();
            for (dgain, of_gain) in saved.dgain_d.iter_mut().zip(sum_parts(&of_gain, d)) {
                *dgain += of_gain;
            }
        }
        [normed_kd, logits_kv].into_iter().for_each(buffer::give);
        self.targets.tell(terms);
        (Values::new(vec![terms.loss as f32], [1]), saved)
    }

    fn backward(&self, saved: Saved, gradient: Values) -> Vec<Values> {
        let (v, d, k) = (self.vocab, self.width, saved.dhidden_kd.len() / self.width);
        let scale = gradient[0];
        let scaled = |mut values: Vec<f32>| {
            if scale != 1.0 {
                values.par_iter_mut().for_each(|value| *value *= scale);
            }
            values
        };
        let mut gradients = vec![Values::new(scaled(saved.dhidden_kd), [k, d]), Values::new(scaled(saved.dgain_d), [d])];
        if self.is_trained {
            gradients.push(Values::new(scaled(saved.dhead_vd), [v, d]));
        }
        gradients
    }
}

impl Targets {
    /// The terms of one place; leaves the gradient of the loss in the place of its logits.
    fn row(&self, place: usize, of_teacher: &[f32], logits: &mut [f32]) -> Terms {
        let target = self.tokens[place] as usize;
        let Some(teaching) = self.teaching.as_ref().filter(|teaching| teaching.speaks(place)) else {
            let cross_entropy = f64::from(cross_entropy::row(logits, target));
            return Terms { loss: cross_entropy, cross_entropy, ..Terms::default() };
        };
        let mut to_teacher = logits.to_vec();
        let divergence = f64::from(teaching.row(of_teacher, place, target, &mut to_teacher));
        let cross_entropy = f64::from(cross_entropy::row(logits, target));
        let slopes = [square(logits), square(&to_teacher)].map(f64::from);
        let share = teaching.lesson.share;
        mix(logits, &to_teacher, share);
        let loss = f64::from(1.0 - share) * cross_entropy + f64::from(share) * divergence;
        Terms { loss, cross_entropy, divergence, taught: 1.0, slopes, ..Terms::default() }
    }

    fn tell(&self, terms: Terms) {
        *self.terms.lock().expect("nothing panics while it holds the terms") = terms;
    }

    /// The terms of the last pass forward.
    pub(crate) fn told(&self) -> Terms {
        *self.terms.lock().expect("nothing panics while it holds the terms")
    }
}

impl AddAssign for Terms {
    fn add_assign(&mut self, other: Terms) {
        self.loss += other.loss;
        self.cross_entropy += other.cross_entropy;
        self.divergence += other.divergence;
        self.taught += other.taught;
        self.states += other.states;
        self.slopes.iter_mut().zip(other.slopes).for_each(|(slope, other)| *slope += other);
    }
}

for_each_isa! {
    /// From one gradient to a mixture of two.
    fn mix(gradient: &mut [f32], other: &[f32], share: f32) {
        for (x, y) in gradient.iter_mut().zip(other) {
            *x = (1.0 - share) * *x + share * *y;
        }
    }
}

for_each_isa! {
    fn square(x: &[f32]) -> f32 {
        sum([x], |[x]| x * x)
    }
}

#[cfg(test)]
pub(crate) mod tests;
