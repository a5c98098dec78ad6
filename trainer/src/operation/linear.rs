//! A group of linear layers that share their input: norm, quantise, multiply, add the residual. Query, key and value are one
//! group, gate and up another, so that the input is normed and quantised once and multiplied once.
//!
//! y = residual + concat_k(Q(norm(x)) Qw(W_k)^T); BitNet b1.58, arXiv:2402.17764.

mod fused;
mod quantised;
mod tiled;
mod weights;

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor};
use model::{Quant, Scale};

pub(crate) use fused::sum_parts;
pub(crate) use weights::Weights;

use super::{
    fused::{Inputs, Values, run},
    norm, quantize,
    tiles::Tiles,
};
use crate::{
    adapter::Adapted,
    device::{Path, Storage},
};
use fused::FusedLinear;

/// How a linear group computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Precision {
    pub(crate) quant: Quant,
    pub(crate) scale: Scale,
    /// The largest code of an input, where it is quantised.
    pub(crate) largest_input: Option<i8>,
    /// How much of the quantisation there is, from 0 to 1: what is multiplied is (1 - share) x + share Q(x).
    pub(crate) share: f32,
    pub(crate) norm_epsilon: f32,
}

/// A linear group and what goes into it.
#[derive(Clone, Debug)]
pub(crate) struct Group<'a> {
    /// The shared input, [n, i].
    pub(crate) x_ni: Tensor<2>,
    /// Gain of the norm before the layers, where there is one, [i].
    pub(crate) gain_i: Option<Tensor<1>>,
    /// The layers, each with weights of [o_k, i]; all are of the one kind or all of the other.
    pub(crate) layers: Vec<Layer>,
    /// Added to the product, [n, o].
    pub(crate) residual_no: Option<Tensor<2>>,
    /// The weights as the fused form multiplies with them; made at first use, and to be emptied whenever a weight changes.
    pub(crate) prepared: &'a OnceLock<Arc<Weights>>,
}

/// The weights of a layer, [o, i].
#[expect(clippy::large_enum_variant, reason = "there are three at a time")]
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    /// Trained.
    Whole(Tensor<2>),
    /// Frozen, with an adapter that is trained.
    Adapted(Adapted),
}

impl Layer {
    /// The weights as a tensor that knows what is trained.
    fn composed(self, device: &Device) -> Tensor<2> {
        match self {
            Layer::Whole(weights_oi) => weights_oi,
            Layer::Adapted(adapted) => adapted.composed(device),
        }
    }

    fn values(&self) -> Values {
        match self {
            Layer::Whole(weights_oi) => Values::of(weights_oi.clone()),
            Layer::Adapted(adapted) => Values::new(adapted.merged(), [self.outputs(), self.inputs()]),
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Layer::Whole(weights_oi) => weights_oi.dims()[0],
            Layer::Adapted(Adapted { b_or, .. }) => b_or.dims()[0],
        }
    }

    fn inputs(&self) -> usize {
        match self {
            Layer::Whole(weights_oi) => weights_oi.dims()[1],
            Layer::Adapted(Adapted { a_ri, .. }) => a_ri.dims()[1],
        }
    }
}

/// The outputs of all layers of a group side by side, [n, o_1 + o_2 + ...].
pub(crate) fn linear(path: Path, group: Group, precision: Precision) -> Tensor<2> {
    match path {
        Path::Composed(storage) => composed(group, precision, storage),
        Path::Fused => fused(group, precision),
    }
}

fn composed(group: Group, precision: Precision, storage: Storage) -> Tensor<2> {
    let Group { x_ni, gain_i, layers, residual_no, prepared: _ } = group;
    let device = x_ni.device();
    let x_ni = match gain_i {
        Some(gain_i) => norm::rms_norm(x_ni, gain_i, precision.norm_epsilon),
        None => x_ni,
    };
    let x_ni = match precision.largest_input {
        None => x_ni,
        Some(largest) => quantize::in_part(precision.share, x_ni, |x_ni| quantize::activations(x_ni, largest)),
    };
    let quantised = |weights_oi| match (precision.quant, precision.quant.grid()) {
        (Quant::Ternary, _) => quantize::ternary_weights(weights_oi, precision.scale),
        (_, Some(grid)) => quantize::integer_weights(weights_oi, grid),
        (_, None) => weights_oi,
    };
    let x_ni = storage.keep(x_ni);
    let weights = |layer: Layer| storage.keep(quantize::in_part(precision.share, layer.composed(&device), quantised));
    let multiply = |layer| x_ni.clone().matmul(weights(layer).transpose());
    let y_no = Storage::F32.keep(Tensor::cat(layers.into_iter().map(multiply).collect(), 1));
    match residual_no {
        Some(residual_no) => residual_no + y_no,
        None => y_no,
    }
}

fn fused(group: Group, precision: Precision) -> Tensor<2> {
    let Group { x_ni, gain_i, layers, residual_no, prepared } = group;
    let operation = FusedLinear {
        weights: prepare(prepared, &layers, precision),
        adapter: layers.iter().find_map(|layer| if let Layer::Adapted(adapted) = layer { Some(adapted.scale) } else { None }),
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
    let with_trained = |all: Inputs, layer| match layer {
        Layer::Whole(weights_oi) => all.and(weights_oi),
        Layer::Adapted(Adapted { a_ri, b_or, .. }) => all.and(a_ri).and(b_or),
    };
    run(operation, layers.into_iter().fold(all, with_trained))
}

/// The weights of a group as the fused form multiplies with them, made where they are not yet.
pub(crate) fn prepare(prepared: &OnceLock<Arc<Weights>>, layers: &[Layer], precision: Precision) -> Arc<Weights> {
    let make = || {
        let masters = layers.iter().map(|layer| (layer.values(), layer.outputs())).collect();
        Arc::new(Weights::prepare(masters, layers[0].inputs(), precision, Tiles::detect()))
    };
    prepared.get_or_init(make).clone()
}

#[cfg(test)]
mod tests {
    use model::{integer, ternary};

    use super::*;
    use crate::{
        device,
        operation::check::{same_and_smooth, sample},
    };

    #[test]
    fn both_forms_are_the_same_in_full_precision() {
        let precision = Precision { quant: Quant::None, scale: Scale::Row, largest_input: None, share: 1.0, norm_epsilon: 1e-5 };
        for (n, i, outputs) in [(1, 1, vec![1]), (5, 7, vec![3, 2, 4]), (150, 34, vec![20, 17])] {
            for (normed, residual) in [(true, true), (true, false), (false, true), (false, false)] {
                let mut inputs = vec![(sample(n * i, 1), n)];
                inputs.extend(normed.then(|| (sample(i, 2), 1)));
                inputs.extend(residual.then(|| (sample(n * outputs.iter().sum::<usize>(), 3), n)));
                inputs.extend(outputs.iter().map(|o| (sample(o * i, 4 + *o as u64), *o)));
                same_and_smooth(&inputs, |path, inputs| {
                    let (prepared, mut inputs) = (OnceLock::new(), inputs.into_iter());
                    let x_ni = inputs.next().unwrap();
                    let gain_i = normed.then(|| inputs.next().unwrap().reshape([i]));
                    let residual_no = residual.then(|| inputs.next().unwrap());
                    let layers = inputs.map(Layer::Whole).collect();
                    linear(path, Group { x_ni, gain_i, layers, residual_no, prepared: &prepared }, precision)
                });
            }
        }
    }

    #[test]
    fn the_fused_form_is_the_reference_to_the_last_bit() {
        let (n, i, outputs) = (70, 2 * ternary::GROUP, [17, 5]);
        let device = device::cpu();
        let tensor = |values: &[f32], rows: usize| {
            Tensor::<2>::from_data(burn::tensor::TensorData::new(values.to_vec(), [rows, values.len() / rows]), &device)
        };
        let x = sample(n * i, 1);
        let weights = outputs.map(|o| sample(o * i, o as u64));
        let kinds = [
            (Quant::Ternary, Scale::Tensor, 127),
            (Quant::Ternary, Scale::Row, 127),
            (Quant::Ternary, Scale::Group, 7),
            (Quant::Int8, Scale::Row, 127),
            (Quant::Int4, Scale::Row, 127),
            (Quant::Int4, Scale::Row, 7),
        ];
        for (quant, scale, largest) in kinds {
            let prepared = OnceLock::new();
            let layers = weights.iter().zip(outputs).map(|(values, o)| Layer::Whole(tensor(values, o))).collect();
            let group = Group { x_ni: tensor(&x, n), gain_i: None, layers, residual_no: None, prepared: &prepared };
            let precision = Precision { quant, scale, largest_input: Some(largest), share: 1.0, norm_epsilon: 1e-5 };
            let found: Vec<f32> = linear(Path::Fused, group, precision).try_into_vec_as().unwrap();
            let product = |(values, o): (&Vec<f32>, usize), codes: &[i8], activation_scale| match quant.grid() {
                None => ternary::multiply(&ternary::quantize(values, o, i, scale), codes, activation_scale),
                Some(grid) => integer::multiply(&integer::quantize(values, o, i, grid), codes, activation_scale),
            };
            for (x, found) in x.chunks(i).zip(found.chunks(outputs.iter().sum())) {
                let mut codes = vec![0; i];
                let activation_scale = ternary::quantize_activations_to(largest, x, &mut codes);
                let expected: Vec<f32> = weights.iter().zip(outputs).flat_map(|layer| product(layer, &codes, activation_scale)).collect();
                assert_eq!(found, expected, "{quant:?} {scale:?} {largest}");
            }
        }
    }
}
