//! Quantised weights besides the ternary ones that kernels multiply: integers of several bits, and any kind as the floats that it
//! stands for. The codes and scales are those of `model::integer` and `model::ternary`.

use half::f16;
use model::{
    Quant, Scale,
    integer::{BLOCK, Grid, Integers},
    ternary,
};
use rayon::prelude::*;
use runtime::kernel::{IntegerMatrix, Isa, Pool, quantize_activations_to, quantize_weights};

use super::{Precision, weights::dequantise};
use crate::operation::{buffer, fused::Values, simd::for_each_isa};

/// Rows that one task quantises.
const ROWS: usize = 32;

/// The layers of a group, one below the other, as the runtime's kernels take them, and what they stand for, [o, i].
pub(super) fn integers(layers: &[&[f32]], inputs: usize, grid: Grid) -> (IntegerMatrix, Vec<f32>) {
    let tasks = layers.iter().flat_map(|layer| layer.chunks(ROWS * inputs)).collect::<Vec<_>>();
    let parts: Vec<(Vec<i8>, Vec<f16>)> = tasks.into_par_iter().map(|rows| quantize(rows, grid)).collect();
    let (codes, scales): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let (codes, scales) = (codes.concat(), scales.concat());
    let matrix = Integers { rows: codes.len() / inputs, columns: inputs, grid, codes, scales };
    let mut values = buffer::take(matrix.codes.len());
    let blocks = values.par_chunks_mut(BLOCK).zip(matrix.codes.par_chunks(BLOCK)).zip(&matrix.scales);
    blocks.with_min_len(ROWS).for_each(|((values, codes), scale)| dequantise(codes, scale.to_f32(), values));
    (IntegerMatrix::from_codes(&Pool::new(1), &matrix), values)
}

for_each_isa! {
    /// The codes and scales of some blocks.
    fn quantize(masters: &[f32], grid: Grid) -> (Vec<i8>, Vec<f16>) {
        let scales: Vec<f16> = masters.chunks_exact(BLOCK).map(|block| grid.scale(block)).collect();
        let mut codes = vec![0; masters.len()];
        for ((codes, masters), scale) in codes.chunks_exact_mut(BLOCK).zip(masters.chunks_exact(BLOCK)).zip(&scales) {
            grid.quantize_block(masters, *scale, codes);
        }
        (codes, scales)
    }
}

for_each_isa! {
    /// (1 - share) x + share Q(x) in place of Q(x).
    fn mix(x: &[f32], share: f32, quantised: &mut [f32]) {
        for (quantised, x) in quantised.iter_mut().zip(x) {
            *quantised = x * (1.0 - share) + *quantised * share;
        }
    }
}

/// Rows of inputs in place of which (1 - share) x + share Q(x) is multiplied.
pub(super) fn mix_inputs(x_ni: &mut [f32], inputs: usize, largest: i8, share: f32) {
    let (mut codes, mut quantised) = (vec![0; inputs], vec![0.0; inputs]);
    for x in x_ni.chunks_mut(inputs) {
        let scale = quantize_activations_to(Isa::fastest(), largest, x, &mut codes);
        dequantise(&codes, scale, &mut quantised);
        mix(x, share, &mut quantised);
        x.copy_from_slice(&quantised);
    }
}

/// What one layer's quantised weights stand for, as far as they are quantised, [o, i].
pub(super) fn layer(masters: &[f32], inputs: usize, precision: Precision) -> Values {
    let mut values = buffer::take(masters.len());
    let rows = masters.len() / inputs;
    let of_tensor = || ternary::weight_scales(masters, rows, inputs, Scale::Tensor)[0];
    let shared = (precision.quant == Quant::Ternary && precision.scale == Scale::Tensor).then(of_tensor);
    let tasks = values.par_chunks_mut(ROWS * inputs).zip(masters.par_chunks(ROWS * inputs));
    tasks.for_each(|(values, masters)| {
        match precision.quant.grid() {
            Some(grid) => {
                let (codes, scales) = quantize(masters, grid);
                let blocks = values.chunks_mut(BLOCK).zip(codes.chunks(BLOCK)).zip(scales);
                blocks.for_each(|((values, codes), scale)| dequantise(codes, scale.to_f32(), values));
            }
            None => {
                let span = precision.scale.span(inputs);
                let mut codes = vec![0; span];
                let scales = match shared {
                    Some(scale) => vec![scale; masters.len() / span],
                    None => ternary::weight_scales(masters, masters.len() / inputs, inputs, precision.scale),
                };
                for ((values, masters), scale) in values.chunks_mut(span).zip(masters.chunks(span)).zip(scales) {
                    quantize_weights(Isa::fastest(), masters, scale, &mut codes);
                    dequantise(&codes, scale.to_f32(), values);
                }
            }
        }
        if precision.share != 1.0 {
            mix(masters, precision.share, values);
        }
    });
    Values::new(values, [rows, inputs])
}
