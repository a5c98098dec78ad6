//! The fused form of a linear group: rows in chunks, each normed, quantised and multiplied while it is in the cache. The forward
//! product is the runtime's own, so that a student in training computes what the packed one will.
//!
//! Straight-through: with Xq and Wq what was multiplied, dX = dY Wq through the norm, dW = dY^T Xq; of an adapter dA and dB in its place.

use std::sync::{Arc, LazyLock};

use rayon::prelude::*;
use runtime::kernel::{Activations, FineActivations, Isa, Pool, multiply, multiply_integers};

use super::{
    quantised,
    tiled::weight_gradients,
    weights::{Backward, Form, Weights, dequantise, dequantised},
};
use crate::{
    adapter,
    operation::{
        buffer,
        fused::{Fused, Values},
        matmul::{self, View, ViewMut, Workers, Write},
        norm::{norm_row, norm_row_backward},
        simd::for_each_isa,
    },
};

/// Rows that one task computes.
const ROWS: usize = 64;

/// The kernel's own threads are not used: the chunks are spread over rayon's.
static CALLER: LazyLock<Pool> = LazyLock::new(|| Pool::new(1));

/// Inputs: x [n, i], then the gain [i] and the residual [n, o] where there are such, then each layer's weights, or its A and B.
#[derive(Clone, Debug)]
pub(super) struct FusedLinear {
    pub(super) weights: Arc<Weights>,
    /// s, where adapters of the layers are trained and not their weights.
    pub(super) adapter: Option<f32>,
    pub(super) normed: bool,
    pub(super) residual: bool,
    pub(super) norm_epsilon: f32,
}

/// What backward needs.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    x_ni: Values,
    gain_i: Option<Values>,
    /// A and B of each layer, where these are trained.
    pairs: Vec<Values>,
    /// For each chunk of rows.
    chunks: Vec<SavedChunk>,
}

#[derive(Clone, Debug, Default)]
struct SavedChunk {
    /// 1 / sqrt(mean(x^2) + epsilon) of each row, where there is a norm.
    inverses: Vec<f32>,
    /// The quantised input, where it is quantised.
    activations: Activations,
}

impl Fused for FusedLinear {
    type Saved = Saved;

    fn forward(&self, inputs: Vec<Values>) -> (Values, Saved) {
        let (i, o) = (self.weights.inputs, self.weights.width());
        let mut inputs = inputs.into_iter();
        let x_ni = inputs.next().expect("an input");
        let gain_i = if self.normed { inputs.next() } else { None };
        let residual_no = if self.residual { inputs.next() } else { None };
        let pairs = if self.adapter.is_some() { inputs.collect() } else { Vec::new() };
        let n = x_ni.len() / i;
        let mut y_no = buffer::take(n * o);
        let gain = gain_i.as_deref();
        let chunks = match &self.weights.form {
            Form::Full(layers) => self.forward_full(layers, &x_ni, gain, &mut y_no),
            Form::Ternary { .. } | Form::Integer { .. } => {
                let rows = y_no.par_chunks_mut(ROWS * o).zip(x_ni.par_chunks(ROWS * i));
                rows.map(|(y, x)| self.forward_chunk(x, gain, y)).collect()
            }
        };
        if let Some(residual_no) = &residual_no {
            y_no.par_chunks_mut(ROWS * o).zip(residual_no.par_chunks(ROWS * o)).for_each(|(y, residual)| add(y, residual));
        }
        (Values::new(y_no, [n, o]), Saved { x_ni, gain_i, pairs, chunks })
    }

    fn backward(&self, saved: Saved, dy_no: Values) -> Vec<Values> {
        let i = self.weights.inputs;
        let n = saved.x_ni.len() / i;
        let mut dx_ni = buffer::take(n * i);
        self.input_gradient(&dy_no, &mut dx_ni);
        let of_layers = match self.adapter {
            None => self.weight_gradients(&saved, &dy_no),
            Some(scale) => self.adapter_gradients(&saved, &dy_no, scale),
        };

        let mut gradients = Vec::new();
        let of_gain = saved.gain_i.as_ref().map(|gain| {
            let rows = dx_ni.par_chunks_mut(ROWS * i).zip(saved.x_ni.par_chunks(ROWS * i)).zip(&saved.chunks);
            let parts: Vec<_> = rows.map(|((dx, x), saved)| norm_chunk_backward(x, gain, saved, dx)).collect();
            sum_parts(&parts, i)
        });
        gradients.push(Values::new(dx_ni, [n, i]));
        gradients.extend(of_gain.map(|of_gain| Values::new(of_gain, [i])));
        gradients.extend(self.residual.then(|| dy_no.clone()));
        gradients.extend(of_layers);
        gradients
    }
}

impl FusedLinear {
    /// Multiply some rows with codes.
    fn forward_chunk(&self, x: &[f32], gain: Option<&[f32]>, y: &mut [f32]) -> SavedChunk {
        let (i, isa) = (self.weights.inputs, Isa::fastest());
        let mut saved = SavedChunk::default();
        let mut normed = Vec::new();
        let x = match gain {
            Some(gain) => {
                normed = buffer::take(x.len());
                saved.inverses = self.norm(x, gain, &mut normed);
                &normed[..]
            }
            None => x,
        };
        saved.activations.quantize_to(isa, self.largest_input(), x, i);
        match &self.weights.form {
            Form::Ternary { matrix, .. } => multiply(isa, &CALLER, matrix, &saved.activations, y),
            Form::Integer { matrix, .. } => {
                let mut fine = FineActivations::default();
                fine.widen(isa, &saved.activations);
                multiply_integers(isa, &CALLER, matrix, &fine, y);
            }
            Form::Full(_) => unreachable!("floats are multiplied all at once"),
        }
        buffer::give(normed);
        saved
    }

    /// Multiply all rows with floats at once, so that the weights are brought into the product's order once and not for each chunk.
    fn forward_full(&self, layers: &[Values], x_ni: &[f32], gain: Option<&[f32]>, y_no: &mut [f32]) -> Vec<SavedChunk> {
        let (i, o) = (self.weights.inputs, self.weights.width());
        let n = x_ni.len() / i;
        let mut multiplied_ni = buffer::take(n * i);
        let rows = multiplied_ni.par_chunks_mut(ROWS * i).zip(x_ni.par_chunks(ROWS * i));
        let chunk = |(multiplied, x): (&mut [f32], &[f32])| {
            let mut saved = SavedChunk::default();
            match gain {
                Some(gain) => saved.inverses = self.norm(x, gain, multiplied),
                None => multiplied.copy_from_slice(x),
            }
            if let Some((largest, share)) = self.in_part() {
                quantised::mix_inputs(multiplied, i, largest, share);
            }
            saved
        };
        let chunks = rows.map(chunk).collect();
        let mut start = 0;
        for (weights, outputs) in layers.iter().zip(&self.weights.outputs) {
            let y = ViewMut::strided(&mut y_no[start..], n, *outputs, o);
            let weights = View::new(weights, *outputs, i).transposed();
            matmul::multiply(y, View::new(&multiplied_ni, n, i), weights, 1.0, Write::Replace, Workers::Pool);
            start += outputs;
        }
        buffer::give(multiplied_ni);
        chunks
    }

    /// Norm some rows; returns what each was multiplied with.
    fn norm(&self, x: &[f32], gain: &[f32], normed: &mut [f32]) -> Vec<f32> {
        let rows = normed.chunks_mut(gain.len()).zip(x.chunks(gain.len()));
        rows.map(|(normed, x)| norm_row(x, gain, self.norm_epsilon, normed)).collect()
    }

    /// The largest code of inputs that are quantised in part, and how much.
    fn in_part(&self) -> Option<(i8, f32)> {
        self.weights.largest_input.map(|largest| (largest, self.weights.share)).filter(|(_, share)| *share != 1.0)
    }

    fn largest_input(&self) -> i8 {
        self.weights.largest_input.expect("codes are multiplied with codes")
    }

    /// The gradient of what was multiplied, dY Wq.
    fn input_gradient(&self, dy_no: &[f32], dx_ni: &mut [f32]) {
        let (i, o) = (self.weights.inputs, self.weights.width());
        let n = dy_no.len() / o;
        match &self.weights.form {
            Form::Ternary { backward: Backward::Tiled(weights), .. } => {
                let rows = dx_ni.par_chunks_mut(ROWS * i).zip(dy_no.par_chunks(ROWS * o));
                rows.for_each(|(dx, dy)| weights.input_gradient(dy, dx));
            }
            Form::Ternary { backward: Backward::Codes { codes, span, scales }, .. } => {
                let weights_oi = dequantised(codes, *span, scales);
                multiply_by(&weights_oi, dy_no, o, dx_ni);
                buffer::give(weights_oi);
            }
            Form::Integer { weights_oi, .. } => multiply_by(weights_oi, dy_no, o, dx_ni),
            Form::Full(layers) => {
                let (mut start, mut write) = (0, Write::Replace);
                for (weights, outputs) in layers.iter().zip(&self.weights.outputs) {
                    let (dy, weights) = (View::strided(&dy_no[start..], n, *outputs, o), View::new(weights, *outputs, i));
                    matmul::multiply(ViewMut::new(dx_ni, n, i), dy, weights, 1.0, write, Workers::Pool);
                    (start, write) = (start + outputs, Write::Add);
                }
            }
        }
    }

    /// The first of each layer's columns of dY.
    fn starts(&self) -> impl Iterator<Item = usize> {
        self.weights.outputs.iter().scan(0, |start, outputs| Some(std::mem::replace(start, *start + outputs)))
    }

    /// dW of each layer, dY^T Xq.
    fn weight_gradients(&self, saved: &Saved, dy_no: &[f32]) -> Vec<Values> {
        let (i, o) = (self.weights.inputs, self.weights.width());
        let sizes = self.starts().zip(&self.weights.outputs);
        let mut layers: Vec<_> = sizes.map(|(start, outputs)| (start, buffer::take(outputs * i))).collect();
        if let Form::Ternary { backward: Backward::Tiled(weights), .. } = &self.weights.form {
            let chunks: Vec<_> = saved.chunks.iter().map(|chunk| &chunk.activations).collect();
            weight_gradients(weights.tiles(), &chunks, i, dy_no, &mut layers);
        } else {
            let (multiplied_ni, n) = (self.multiplied(saved), dy_no.len() / o);
            for (start, dw) in &mut layers {
                let outputs = dw.len() / i;
                let (dy, multiplied) = (View::strided(&dy_no[*start..], n, outputs, o), View::new(&multiplied_ni, n, i));
                matmul::multiply(ViewMut::new(dw, outputs, i), dy.transposed(), multiplied, 1.0, Write::Replace, Workers::Pool);
            }
            buffer::give(multiplied_ni);
        }
        layers.into_iter().map(|(_, dw)| (dw.len() / i, dw)).map(|(outputs, dw)| Values::new(dw, [outputs, i])).collect()
    }

    /// dA and dB of each layer.
    fn adapter_gradients(&self, saved: &Saved, dy_no: &[f32], scale: f32) -> Vec<Values> {
        let (i, o, multiplied_ni) = (self.weights.inputs, self.weights.width(), self.multiplied(saved));
        let pairs = self.starts().zip(saved.pairs.chunks(2));
        let of_pair =
            |(start, pair): (usize, &[Values])| adapter::gradients(scale, [&pair[0], &pair[1]], i, &multiplied_ni, &dy_no[start..], o);
        let gradients = pairs.flat_map(of_pair).collect();
        buffer::give(multiplied_ni);
        gradients
    }

    /// Xq, [n, i], in a buffer.
    fn multiplied(&self, saved: &Saved) -> Vec<f32> {
        let i = self.weights.inputs;
        let mut multiplied_ni = buffer::take(saved.x_ni.len());
        let rows = multiplied_ni.par_chunks_mut(ROWS * i).zip(saved.x_ni.par_chunks(ROWS * i)).zip(&saved.chunks);
        rows.for_each(|((multiplied, x), chunk)| {
            match (&self.weights.form, &saved.gain_i) {
                (Form::Ternary { .. } | Form::Integer { .. }, _) => {
                    let tokens = multiplied.chunks_mut(i).zip(chunk.activations.scales());
                    tokens
                        .enumerate()
                        .for_each(|(token, (multiplied, scale))| dequantise(chunk.activations.codes(token), *scale, multiplied));
                }
                (Form::Full(_), Some(gain)) => {
                    for (x, multiplied) in x.chunks(i).zip(multiplied.chunks_mut(i)) {
                        norm_row(x, gain, self.norm_epsilon, multiplied);
                    }
                }
                (Form::Full(_), None) => multiplied.copy_from_slice(x),
            }
            if let Some((largest, share)) = self.in_part() {
                quantised::mix_inputs(multiplied, i, largest, share);
            }
        });
        multiplied_ni
    }
}

/// dX = dY W.
fn multiply_by(weights_oi: &[f32], dy_no: &[f32], outputs: usize, dx_ni: &mut [f32]) {
    let (o, i, n) = (outputs, weights_oi.len() / outputs, dy_no.len() / outputs);
    let (dy, weights) = (View::new(dy_no, n, o), View::new(weights_oi, o, i));
    matmul::multiply(ViewMut::new(dx_ni, n, i), dy, weights, 1.0, Write::Replace, Workers::Pool);
}

/// Takes the gradient of some rows' norms, `dx`, to that of the rows; returns their part of the gain's.
fn norm_chunk_backward(x: &[f32], gain: &[f32], saved: &SavedChunk, dx: &mut [f32]) -> Vec<f32> {
    let i = gain.len();
    let mut of_gain = vec![0.0; i];
    for ((x, dx), inverse) in x.chunks(i).zip(dx.chunks_mut(i)).zip(&saved.inverses) {
        norm_row_backward(x, gain, *inverse, dx, &mut of_gain);
    }
    of_gain
}

/// The sum of equally long parts, in their order.
pub(crate) fn sum_parts(parts: &[Vec<f32>], length: usize) -> Vec<f32> {
    let mut total = vec![0.0; length];
    for part in parts {
        add(&mut total, part);
    }
    total
}

for_each_isa! {
    fn add(to: &mut [f32], from: &[f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to += from;
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Quant, Scale};

    use super::*;
    use crate::operation::{check::sample, linear::Precision, tiles::Tiles};

    #[test]
    fn a_tile_unit_gives_the_gradients_of_the_vectors() {
        let Some(tiles) = Tiles::detect() else { return };
        let (n, i, outputs) = (100, 512, [40, 7]);
        for scale in [Scale::Tensor, Scale::Row, Scale::Group] {
            let precision = Precision { quant: Quant::Ternary, scale, largest_input: Some(127), share: 1.0, norm_epsilon: 1e-5 };
            let gradients = |tiles: Option<Tiles>| {
                let masters = outputs.iter().map(|o| (Values::new(sample(o * i, *o as u64), [*o, i]), *o)).collect();
                let weights = Arc::new(Weights::prepare(masters, i, precision, tiles));
                let operation = FusedLinear { weights, adapter: None, normed: true, residual: false, norm_epsilon: 1e-5 };
                let inputs = vec![Values::new(sample(n * i, 1), [n, i]), Values::new(sample(i, 2), [i])];
                let (y, saved) = operation.forward(inputs);
                operation.backward(saved, Values::new(sample(y.len(), 3), [n, y.len() / n]))
            };
            for (tiled, plain) in gradients(Some(tiles)).iter().zip(gradients(None)) {
                let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                let apart = norm(&mut tiled.iter().zip(plain.iter()).map(|(a, b)| a - b));
                assert!(apart < 4e-6 * norm(&mut plain.iter().copied()), "{scale:?}: {apart}");
            }
        }
    }
}
