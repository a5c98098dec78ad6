//! The weights of a linear group as the fused form multiplies with them, made once for each optimizer step.

use model::{Quant, Scale, ternary};
use rayon::prelude::*;
use runtime::kernel::{Isa, Matrix, quantize_weights};

use super::Precision;
use crate::operation::{buffer, fused::Values, matmul::View};

/// The layers of a group, one below the other.
#[derive(Debug)]
pub(crate) struct Weights {
    /// i.
    pub(super) inputs: usize,
    /// Outputs of each layer, o_1, o_2, ...
    pub(super) outputs: Vec<usize>,
    pub(super) form: Form,
}

/// What is multiplied with.
#[derive(Debug)]
pub(super) enum Form {
    /// The master weights, layer by layer.
    Full(Vec<Values>),
    /// Ternary weights.
    Ternary {
        /// As the runtime's kernels take them, for the forward pass.
        matrix: Matrix,
        /// Codes times scales, [o, i], for the backward pass.
        dequantised_oi: Vec<f32>,
    },
}

/// Rows of a matrix that one task quantises.
const ROWS: usize = 32;

impl Weights {
    /// The weights of each layer with its number of outputs.
    pub(super) fn prepare(masters: Vec<(Values, usize)>, inputs: usize, precision: Precision) -> Weights {
        let outputs = masters.iter().map(|(_, outputs)| *outputs).collect();
        let form = match precision.quant {
            Quant::None => Form::Full(masters.into_iter().map(|(values, _)| values).collect()),
            Quant::Ternary => ternary(&masters, inputs, precision.scale),
        };
        Weights { inputs, outputs, form }
    }

    /// o, all layers together.
    pub(super) fn width(&self) -> usize {
        self.outputs.iter().sum()
    }

    /// What the backward pass multiplies a gradient with: matrices that hold so many outputs each, in order.
    pub(super) fn backward_oi(&self) -> Vec<View<'_>> {
        match &self.form {
            Form::Full(layers) => {
                layers.iter().zip(&self.outputs).map(|(values, outputs)| View::new(values, *outputs, self.inputs)).collect()
            }
            Form::Ternary { dequantised_oi, .. } => vec![View::new(dequantised_oi, self.width(), self.inputs)],
        }
    }
}

impl Drop for Weights {
    fn drop(&mut self) {
        if let Form::Ternary { dequantised_oi, .. } = &mut self.form {
            buffer::give(std::mem::take(dequantised_oi));
        }
    }
}

/// Codes, scales and their products of all layers. A tensor's one scale is repeated for each of its rows, which gives the same
/// bits.
fn ternary(masters: &[(Values, usize)], inputs: usize, scale: Scale) -> Form {
    let isa = Isa::fastest();
    let total = masters.iter().map(|(values, _)| values.len()).sum();
    let (mut codes, mut dequantised_oi) = (vec![0i8; total], buffer::take(total));
    let mut scales = Vec::new();
    let mut start = 0;
    for (values, outputs) in masters {
        let range = start..start + values.len();
        start = range.end;
        let spans = match scale {
            Scale::Tensor => vec![ternary::weight_scales(values, *outputs, inputs, scale)[0]; *outputs],
            Scale::Row | Scale::Group => {
                let of_rows = |values: &[f32]| ternary::weight_scales(values, values.len() / inputs, inputs, scale);
                values.par_chunks(ROWS * inputs).flat_map_iter(of_rows).collect()
            }
        };
        let span = scale.span(inputs);
        let codes = codes[range.clone()].par_chunks_mut(span);
        let dequantised = dequantised_oi[range].par_chunks_mut(span);
        codes.zip(dequantised).zip(values.par_chunks(span)).zip(&spans).for_each(|(((codes, dequantised), values), scale)| {
            quantize_weights(isa, values, *scale, codes);
            let scale = scale.to_f32();
            for (dequantised, code) in dequantised.iter_mut().zip(codes) {
                *dequantised = f32::from(*code) * scale;
            }
        });
        scales.extend(spans);
    }
    let kind = if scale == Scale::Group { Scale::Group } else { Scale::Row };
    Form::Ternary { matrix: Matrix::from_codes(&codes, total / inputs, inputs, kind, &scales), dequantised_oi }
}
