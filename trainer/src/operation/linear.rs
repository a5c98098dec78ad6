//! A group of linear layers that share their input: norm, quantise, multiply, add the residual. Query, key and value are one
//! group, gate and up another, so that the input is normed and quantised once and multiplied once.
//!
//! y = residual + concat_k(Q(norm(x)) Qw(W_k)^T); BitNet b1.58, arXiv:2402.17764.

mod fused;
mod weights;

use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;
use model::{Quant, Scale};

pub(crate) use fused::sum_parts;
pub(crate) use weights::Weights;

use super::{
    fused::{Inputs, Values, run},
    norm, quantize,
};
use crate::device::Path;
use fused::FusedLinear;

/// How a linear group computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Precision {
    pub(crate) quant: Quant,
    pub(crate) scale: Scale,
    pub(crate) norm_epsilon: f32,
}

/// A linear group and what goes into it.
#[derive(Clone, Debug)]
pub(crate) struct Group<'a> {
    /// The shared input, [n, i].
    pub(crate) x_ni: Tensor<2>,
    /// Gain of the norm before the layers, where there is one, [i].
    pub(crate) gain_i: Option<Tensor<1>>,
    /// The layers' weights, each [o_k, i].
    pub(crate) weights_oi: Vec<Tensor<2>>,
    /// Added to the product, [n, o].
    pub(crate) residual_no: Option<Tensor<2>>,
    /// The weights as the fused form multiplies with them; made at first use, and to be emptied whenever a weight changes.
    pub(crate) prepared: &'a OnceLock<Arc<Weights>>,
}

/// The outputs of all layers of a group side by side, [n, o_1 + o_2 + ...].
pub(crate) fn linear(path: Path, group: Group, precision: Precision) -> Tensor<2> {
    match path {
        Path::Composed => composed(group, precision),
        Path::Fused => fused(group, precision),
    }
}

fn composed(group: Group, precision: Precision) -> Tensor<2> {
    let Group { x_ni, gain_i, weights_oi, residual_no, prepared: _ } = group;
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

fn fused(group: Group, precision: Precision) -> Tensor<2> {
    let Group { x_ni, gain_i, weights_oi, residual_no, prepared } = group;
    let [_, inputs] = x_ni.dims();
    let prepare = || {
        let masters = weights_oi.iter().map(|weights| (Values::of(weights.clone()), weights.dims()[0])).collect();
        Arc::new(Weights::prepare(masters, inputs, precision))
    };
    let operation = FusedLinear {
        weights: prepared.get_or_init(prepare).clone(),
        normed: gain_i.is_some(),
        residual: residual_no.is_some(),
        norm_epsilon: precision.norm_epsilon,
    };
    let mut all = Inputs::default().and(x_ni);
    if let Some(gain_i) = gain_i {
        all = all.and(gain_i);
    }
    if let Some(residual_no) = residual_no {
        all = all.and(residual_no);
    }
    run(operation, weights_oi.into_iter().fold(all, Inputs::and))
}
