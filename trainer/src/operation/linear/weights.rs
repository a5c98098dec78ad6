//! The weights of a linear group as the fused form multiplies with them, made once for each optimizer step.

use model::{Quant, Scale, ternary};
use rayon::prelude::*;
use runtime::kernel::{IntegerMatrix, Isa, Matrix, quantize_weights};

use super::{Precision, quantised, tiled::TiledWeights};
use crate::operation::{buffer, fused::Values, simd::for_each_isa, tiles::Tiles};

/// The layers of a group, one below the other.
#[derive(Debug)]
pub(crate) struct Weights {
    /// i.
    pub(super) inputs: usize,
    /// Outputs of each layer, o_1, o_2, ...
    pub(super) outputs: Vec<usize>,
    /// The largest code of an input, where it is quantised.
    pub(super) largest_input: Option<i8>,
    /// How much of the quantisation there is; less than all is multiplied as floats.
    pub(super) share: f32,
    pub(super) form: Form,
}

/// What is multiplied with.
#[derive(Debug)]
pub(super) enum Form {
    /// Floats, layer by layer: the master weights, or what they become where they alone or both sides in part are quantised.
    Full(Vec<Values>),
    /// Ternary weights.
    Ternary {
        /// As the runtime's kernels take them, for the forward pass.
        matrix: Matrix,
        backward: Backward,
    },
    /// Integers of several bits.
    Integer {
        /// As the runtime's kernels take them, for the forward pass.
        matrix: IntegerMatrix,
        /// Codes times scales, [o, i], for the backward pass.
        weights_oi: Vec<f32>,
    },
}

/// Ternary weights as the backward pass takes them.
#[derive(Debug)]
pub(super) enum Backward {
    /// For a tile unit.
    Tiled(TiledWeights),
    /// Codes, [o, i], with a scale for each `span` of them. Each pass dequantises them anew, which next to its product costs nothing,
    /// and a quarter of the floats' memory is held.
    Codes { codes: Vec<i8>, span: usize, scales: Vec<f32> },
}

/// Rows of a matrix that one task quantises.
const ROWS: usize = 32;

impl Weights {
    /// The weights of each layer with its number of outputs; ternary ones for the tile unit, where there is one.
    pub(super) fn prepare(masters: Vec<(Values, usize)>, inputs: usize, precision: Precision, tiles: Option<Tiles>) -> Weights {
        let outputs = masters.iter().map(|(_, outputs)| *outputs).collect();
        let form = match (precision.quant, precision.largest_input.filter(|_| precision.share == 1.0)) {
            (Quant::None, _) => Form::Full(masters.into_iter().map(|(values, _)| values).collect()),
            (_, None) => Form::Full(masters.iter().map(|(values, _)| quantised::layer(values, inputs, precision)).collect()),
            (Quant::Ternary, Some(_)) => ternary(&masters, inputs, precision.scale, tiles),
            (Quant::Int8 | Quant::Int4, Some(_)) => {
                let layers: Vec<_> = masters.iter().map(|(values, _)| &values[..]).collect();
                let (matrix, weights_oi) = quantised::integers(&layers, inputs, precision.quant.grid().expect("of several bits"));
                Form::Integer { matrix, weights_oi }
            }
        };
        Weights { inputs, outputs, largest_input: precision.largest_input, share: precision.share, form }
    }

    /// o, all layers together.
    pub(super) fn width(&self) -> usize {
        self.outputs.iter().sum()
    }
}

impl Drop for Weights {
    fn drop(&mut self) {
        if let Form::Integer { weights_oi, .. } = &mut self.form {
            buffer::give(std::mem::take(weights_oi));
        }
    }
}

/// Codes and scales of all layers. A tensor's one scale is repeated for each of its rows, which gives the same bits.
fn ternary(masters: &[(Values, usize)], inputs: usize, scale: Scale, tiles: Option<Tiles>) -> Form {
    let isa = Isa::fastest();
    let span = scale.span(inputs);
    let mut codes = vec![0i8; masters.iter().map(|(values, _)| values.len()).sum()];
    let mut scales = Vec::with_capacity(codes.len() / span);
    let mut rest = &mut codes[..];
    for (values, outputs) in masters {
        let (layer, following) = rest.split_at_mut(values.len());
        rest = following;
        let layer_scales = match scale {
            Scale::Tensor => vec![ternary::weight_scales(values, *outputs, inputs, scale)[0]; *outputs],
            Scale::Row | Scale::Group => {
                let of_rows = |values: &[f32]| ternary::weight_scales(values, values.len() / inputs, inputs, scale);
                values.par_chunks(ROWS * inputs).flat_map_iter(of_rows).collect()
            }
        };
        let spans = layer.par_chunks_mut(span).zip(values.par_chunks(span)).zip(&layer_scales);
        spans.for_each(|((codes, values), scale)| quantize_weights(isa, values, *scale, codes));
        scales.extend(layer_scales);
    }
    let kind = if scale == Scale::Group { Scale::Group } else { Scale::Row };
    let matrix = Matrix::from_codes(&codes, codes.len() / inputs, inputs, kind, &scales);
    let scales: Vec<f32> = scales.into_iter().map(f32::from).collect();
    let backward = match tiles {
        Some(tiles) => Backward::Tiled(TiledWeights::new(tiles, &codes, inputs, span, &scales)),
        None => Backward::Codes { codes, span, scales },
    };
    Form::Ternary { matrix, backward }
}

/// Codes times the scale of each span, in a buffer.
pub(super) fn dequantised(codes: &[i8], span: usize, scales: &[f32]) -> Vec<f32> {
    let mut values = buffer::take(codes.len());
    let spans = values.par_chunks_mut(span).zip(codes.par_chunks(span)).zip(scales);
    spans.for_each(|((values, codes), scale)| dequantise(codes, *scale, values));
    values
}

for_each_isa! {
    /// Codes times their scale.
    pub(super) fn dequantise(codes: &[i8], scale: f32, values: &mut [f32]) {
        for (value, code) in values.iter_mut().zip(codes) {
            *value = f32::from(*code) * scale;
        }
    }
}
