//! A group of linear layers that share their input: norm, quantise, multiply, add the residual. Query, key and value are one
//! group, gate and up another, so that the input is normed and quantised once and multiplied once.
//!
//! y = residual + concat_k(Q(norm(x)) Qw(W_k)^T); BitNet b1.58, arXiv:2402.17764.

use burn::tensor::Tensor;
use model::{Quant, Scale};

use super::{norm, quantize};
use crate::device::Path;

/// How a linear group computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Precision {
    pub(crate) quant: Quant,
    pub(crate) scale: Scale,
    pub(crate) norm_epsilon: f32,
}

/// What goes into a linear group.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    /// The shared input, [n, i].
    pub(crate) x_ni: Tensor<2>,
    /// Gain of the norm before the layers, where there is one, [i].
    pub(crate) gain_i: Option<Tensor<1>>,
    /// The layers' weights, each [o_k, i].
    pub(crate) weights_oi: Vec<Tensor<2>>,
    /// Added to the product, [n, o].
    pub(crate) residual_no: Option<Tensor<2>>,
}

/// The outputs of all layers of a group side by side, [n, o_1 + o_2 + ...].
pub(crate) fn linear(path: Path, inputs: Inputs, precision: Precision) -> Tensor<2> {
    match path {
        Path::Composed | Path::Fused => composed(inputs, precision),
    }
}

fn composed(inputs: Inputs, precision: Precision) -> Tensor<2> {
    let Inputs { x_ni, gain_i, weights_oi, residual_no } = inputs;
    let x_ni = match gain_i {
        Some(gain_i) => norm::rms_norm(x_ni, gain_i, precision.norm_epsilon),
        None => x_ni,
    };
    let x_ni = match precision.quant {
        Quant::None => x_ni,
        Quant::Ternary => quantize::int8_activations(x_ni),
    };
    let multiply = |weights_oi| match precision.quant {
        Quant::None => x_ni.clone().matmul(Tensor::transpose(weights_oi)),
        Quant::Ternary => x_ni.clone().matmul(quantize::ternary_weights(weights_oi, precision.scale).transpose()),
    };
    let y_no = Tensor::cat(weights_oi.into_iter().map(multiply).collect(), 1);
    match residual_no {
        Some(residual_no) => residual_no + y_no,
        None => y_no,
    }
}
