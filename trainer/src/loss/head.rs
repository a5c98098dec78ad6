//! Losses of the logits norm(x_k) E^T at the supervised places k: the fused form of all of them. The final norm and the head are part
//! of it and the gradients are made on the way forward, so that logits exist for a chunk of places at a time and never for all.

use std::{fmt::Debug, ops::Range, sync::Arc};

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::operation::{
    buffer,
    fused::{Fused, Inputs, Values, run},
    linear::sum_parts,
    matmul::{View, ViewMut, Workers, Write, multiply},
    norm::{norm_row, norm_row_backward},
};

/// What a loss does with one place's logits.
pub(crate) trait RowLoss: Clone + Debug + Send + Sync + 'static {
    /// What it needs for a chunk of the places, beside the logits.
    type Chunk: Sync;

    /// What it needs for these places, counted among the supervised ones.
    fn chunk(&self, places: Range<usize>) -> Self::Chunk;

    /// The loss of the place `at` of a chunk; leaves its gradient in the place of the logits.
    fn row(&self, chunk: &Self::Chunk, at: usize, logits: &mut [f32]) -> f32;
}

/// The sum of a loss over the supervised places of the residual stream `hidden_nd` under `head_vd`.
pub(crate) fn head_loss<L: RowLoss>(
    loss: L,
    hidden_nd: Tensor<2>,
    gain_d: Tensor<1>,
    head_vd: Tensor<2>,
    places: Arc<[u32]>,
    norm_epsilon: f32,
) -> Tensor<1> {
    let [vocab, width] = head_vd.dims();
    let operation = FusedHead { loss, places, norm_epsilon, vocab, width };
    run(operation, Inputs::default().and(hidden_nd).and(gain_d).and(head_vd))
}

/// Logits that are in memory at once.
const LOGITS: usize = 1 << 20;
/// Rows that one task differentiates.
const ROWS: usize = 64;

/// Inputs: the residual stream [n, d], the final norm's gain [d] and the head [v, d].
#[derive(Clone, Debug)]
struct FusedHead<L> {
    loss: L,
    places: Arc<[u32]>,
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

impl<L: RowLoss> Fused for FusedHead<L> {
    type Saved = Saved;

    fn forward(&self, inputs: Vec<Values>) -> (Values, Saved) {
        let [hidden_nd, gain_d, head_vd] = inputs.try_into().expect("three inputs");
        let (v, d) = (self.vocab, self.width);
        let chunk = (LOGITS / v).clamp(16, 1024);
        let mut saved = Saved { dhidden_nd: buffer::zeros(hidden_nd.len()), dgain_d: vec![0.0; d], dhead_vd: buffer::zeros(v * d) };
        let (mut normed_kd, mut gradient_kd) = (buffer::take(chunk * d), buffer::take(chunk * d));
        let mut logits_kv = buffer::take(chunk * v);
        let head = View::new(&head_vd, v, d);
        let mut loss = 0.0f64;
        for (number, places) in self.places.chunks(chunk).enumerate() {
            let k = places.len();
            let (normed_kd, gradient_kd, logits_kv) = (&mut normed_kd[..k * d], &mut gradient_kd[..k * d], &mut logits_kv[..k * v]);
            let hidden = |place: &u32| &hidden_nd[*place as usize * d..][..d];

            let rows = normed_kd.par_chunks_mut(d).zip(places);
            let inverses: Vec<f32> = rows.map(|(normed, place)| norm_row(hidden(place), &gain_d, self.norm_epsilon, normed)).collect();
            let normed = View::new(normed_kd, k, d);
            multiply(ViewMut::new(logits_kv, k, v), normed, head.transposed(), 1.0, Write::Replace, Workers::Pool);
            let of_chunk = self.loss.chunk(number * chunk..number * chunk + k);
            let rows = logits_kv.par_chunks_mut(v).enumerate();
            let losses: Vec<f32> = rows.map(|(at, row)| self.loss.row(&of_chunk, at, row)).collect();
            loss += losses.into_iter().map(f64::from).sum::<f64>();

            let dlogits = View::new(logits_kv, k, v);
            multiply(ViewMut::new(&mut saved.dhead_vd, v, d), dlogits.transposed(), normed, 1.0, Write::Add, Workers::Pool);
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
