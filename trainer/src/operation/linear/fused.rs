//! The fused form of a linear group: rows in chunks, each normed, quantised and multiplied while it is in the cache. The forward
//! product is the runtime's own, so that a student in training computes what the packed one will.
//!
//! Straight-through: with Xq and Wq what was multiplied, dX = dY Wq through the norm, dW = dY^T Xq.

use std::sync::{Arc, LazyLock};

use rayon::prelude::*;
use runtime::kernel::{Activations, Isa, Pool, multiply};

use super::weights::{Form, Weights};
use crate::operation::{
    buffer,
    fused::{Fused, Values},
    matmul::{self, View, ViewMut, Workers, Write},
    norm::{norm_row, norm_row_backward},
    simd::for_each_isa,
};

/// Rows that one task computes.
const ROWS: usize = 64;

/// The kernel's own threads are not used: the chunks are spread over rayon's.
static CALLER: LazyLock<Pool> = LazyLock::new(|| Pool::new(1));

/// Inputs: x [n, i], then the gain [i] and the residual [n, o] where there are such, then each layer's weights.
#[derive(Clone, Debug)]
pub(super) struct FusedLinear {
    pub(super) weights: Arc<Weights>,
    pub(super) normed: bool,
    pub(super) residual: bool,
    pub(super) norm_epsilon: f32,
}

/// What backward needs.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    x_ni: Values,
    gain_i: Option<Values>,
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
        let n = x_ni.len() / i;
        let mut y_no = buffer::take(n * o);
        let rows = y_no.par_chunks_mut(ROWS * o).zip(x_ni.par_chunks(ROWS * i)).enumerate();
        let chunks = rows
            .map(|(chunk, (y, x))| {
                let saved = self.forward_chunk(x, gain_i.as_deref(), y);
                if let Some(residual_no) = &residual_no {
                    add(y, &residual_no[chunk * ROWS * o..][..y.len()]);
                }
                saved
            })
            .collect();
        (Values::new(y_no, [n, o]), Saved { x_ni, gain_i, chunks })
    }

    fn backward(&self, saved: Saved, dy_no: Values) -> Vec<Values> {
        let (i, o) = (self.weights.inputs, self.weights.width());
        let Saved { x_ni, gain_i, chunks } = saved;
        let n = x_ni.len() / i;
        let (mut dx_ni, mut multiplied_ni) = (buffer::take(n * i), buffer::take(n * i));
        let (mut start, mut write) = (0, Write::Replace);
        for weights in self.weights.backward_oi() {
            let dy = View::strided(&dy_no[start..], n, weights.rows(), o);
            matmul::multiply(ViewMut::new(&mut dx_ni, n, i), dy, weights, 1.0, write, Workers::Pool);
            (start, write) = (start + weights.rows(), Write::Add);
        }
        let rows = dx_ni.par_chunks_mut(ROWS * i).zip(multiplied_ni.par_chunks_mut(ROWS * i));
        let rows = rows.zip(x_ni.par_chunks(ROWS * i)).zip(&chunks);
        let gain_parts: Vec<Vec<f32>> =
            rows.map(|(((dx, multiplied), x), saved)| self.backward_chunk(x, gain_i.as_deref(), saved, dx, multiplied)).collect();

        let mut gradients = vec![Values::new(dx_ni, [n, i])];
        if self.normed {
            gradients.push(Values::new(sum_parts(&gain_parts, i), [i]));
        }
        if self.residual {
            gradients.push(dy_no.clone());
        }
        let mut start = 0;
        for outputs in &self.weights.outputs {
            let mut dw = buffer::take(outputs * i);
            let dy = View::strided(&dy_no[start..], n, *outputs, o);
            let multiplied = View::new(&multiplied_ni, n, i);
            matmul::multiply(ViewMut::new(&mut dw, *outputs, i), dy.transposed(), multiplied, 1.0, Write::Replace, Workers::Pool);
            gradients.push(Values::new(dw, [*outputs, i]));
            start += outputs;
        }
        buffer::give(multiplied_ni);
        gradients
    }
}

impl FusedLinear {
    fn forward_chunk(&self, x: &[f32], gain: Option<&[f32]>, y: &mut [f32]) -> SavedChunk {
        let (i, o) = (self.weights.inputs, self.weights.width());
        let rows = x.len() / i;
        let mut saved = SavedChunk::default();
        let mut normed = Vec::new();
        let x = match gain {
            Some(gain) => {
                normed = buffer::take(x.len());
                let rows = normed.chunks_mut(i).zip(x.chunks(i));
                saved.inverses = rows.map(|(normed, x)| norm_row(x, gain, self.norm_epsilon, normed)).collect();
                &normed[..]
            }
            None => x,
        };
        match &self.weights.form {
            Form::Ternary { matrix, .. } => {
                let isa = Isa::fastest();
                saved.activations.quantize(isa, x, i);
                multiply(isa, &CALLER, matrix, &saved.activations, y);
            }
            Form::Full(layers) => {
                let mut start = 0;
                for (weights, outputs) in layers.iter().zip(&self.weights.outputs) {
                    let y = ViewMut::strided(&mut y[start..], rows, *outputs, o);
                    let weights = View::new(weights, *outputs, i).transposed();
                    matmul::multiply(y, View::new(x, rows, i), weights, 1.0, Write::Replace, Workers::Caller);
                    start += outputs;
                }
            }
        }
        buffer::give(normed);
        saved
    }

    /// Fills `multiplied` with what the weights were multiplied with, and takes `dx` through the norm; returns the chunk's part of
    /// the gain's gradient.
    fn backward_chunk(&self, x: &[f32], gain: Option<&[f32]>, saved: &SavedChunk, dx: &mut [f32], multiplied: &mut [f32]) -> Vec<f32> {
        let i = self.weights.inputs;
        let mut of_gain = Vec::new();
        match (&self.weights.form, gain) {
            (Form::Ternary { .. }, _) => {
                for (row, multiplied) in multiplied.chunks_mut(i).enumerate() {
                    dequantise(saved.activations.codes(row), saved.activations.scales()[row], multiplied);
                }
            }
            (Form::Full(_), Some(gain)) => {
                for (x, multiplied) in x.chunks(i).zip(multiplied.chunks_mut(i)) {
                    norm_row(x, gain, self.norm_epsilon, multiplied);
                }
            }
            (Form::Full(_), None) => multiplied.copy_from_slice(x),
        }
        if let Some(gain) = gain {
            of_gain.resize(i, 0.0);
            for ((x, dx), inverse) in x.chunks(i).zip(dx.chunks_mut(i)).zip(&saved.inverses) {
                norm_row_backward(x, gain, *inverse, dx, &mut of_gain);
            }
        }
        of_gain
    }
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

for_each_isa! {
    fn dequantise(codes: &[i8], scale: f32, values: &mut [f32]) {
        for (value, code) in values.iter_mut().zip(codes) {
            *value = f32::from(*code) * scale;
        }
    }
}
