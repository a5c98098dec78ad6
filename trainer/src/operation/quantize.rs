//! Quantisation while training, composed: what a forward pass sees is the quantised value; the backward pass treats the
//! quantiser as the identity (straight-through, arXiv:1308.3432). The codes and scales are those of `model::ternary`
//! and `model::integer`.

use burn::tensor::{FloatDType, Tensor, TensorData};
use half::f16;
use model::{
    integer::{BLOCK, Grid},
    ternary::{GROUP, MIN_ACTIVATION, MIN_WEIGHT_SCALE, Scale},
};

/// Ternary codes times their scales, with the shape of `weights_oi`.
pub(crate) fn ternary_weights(weights_oi: Tensor<2>, scale: Scale) -> Tensor<2> {
    let [o, i] = weights_oi.dims();
    let master = weights_oi.clone().detach();
    // One row for each scale.
    let spans = match scale {
        Scale::Tensor => master.reshape([1, o * i]),
        Scale::Row => master,
        Scale::Group => master.reshape([o * i / GROUP, GROUP]),
    };
    let means = spans.clone().abs().mean_dim(1).clamp(MIN_WEIGHT_SCALE, f16::MAX.to_f32());
    let scales = rounded_to_f16(means);
    let codes = (spans / scales.clone()).round().clamp(-1.0, 1.0);
    straight_through(weights_oi, (codes * scales).reshape([o, i]))
}

/// Codes of several bits times their scales, with the shape of `weights_oi`.
pub(crate) fn integer_weights(weights_oi: Tensor<2>, grid: Grid) -> Tensor<2> {
    let [o, i] = weights_oi.dims();
    let blocks = weights_oi.clone().detach().reshape([o * i / BLOCK, BLOCK]);
    let (low, high) = (blocks.clone().min_dim(1).clamp_max(0.0), blocks.clone().max_dim(1).clamp_min(0.0));
    let is_low = low.clone().neg().greater(high.clone());
    let largest = high.mask_where(is_low, low);
    let scales = match grid {
        Grid::Eight => largest.abs().div_scalar(127.0),
        Grid::Four => largest.div_scalar(-8.0),
    };
    let scales = rounded_to_f16(scales.clamp(-f16::MAX.to_f32(), f16::MAX.to_f32()));
    // Weights whose scale is 0 are so small that by 1 they become 0 too.
    let divisors = scales.clone().mask_fill(scales.clone().equal_elem(0.0), 1.0);
    let (least, largest) = grid.limits();
    let codes = (blocks / divisors).round().clamp(f32::from(least), f32::from(largest));
    straight_through(weights_oi, (codes * scales).reshape([o, i]))
}

/// Scales as they are in a file. There are few, so that a device that has no such numbers can leave them to the processor.
fn rounded_to_f16(scales: Tensor<2>) -> Tensor<2> {
    let (device, shape) = (scales.device(), scales.dims());
    if device.supports_dtype(FloatDType::F16) {
        return scales.cast(FloatDType::F16).cast(FloatDType::F32);
    }
    let values: Vec<f32> = scales.try_into_vec_as().expect("scales are f32");
    let rounded = values.into_iter().map(|scale| f16::from_f32(scale).to_f32()).collect();
    Tensor::from_data(TensorData::new(rounded, shape), &device)
}

/// Codes from `-largest` to `largest` times their scale, one scale for each row of `x_nd`.
pub(crate) fn activations(x_nd: Tensor<2>, largest: i8) -> Tensor<2> {
    let values = x_nd.clone().detach();
    let limit = f32::from(largest);
    let scales_n1 = values.clone().abs().max_dim(1).div_scalar(limit).clamp_min(MIN_ACTIVATION / limit);
    let codes = (values / scales_n1.clone()).round().clamp(-limit, limit);
    straight_through(x_nd, codes * scales_n1)
}

/// (1 - share) x + share Q(x), whose gradient is that of x too. Nothing is computed where the share is all.
pub(crate) fn in_part(share: f32, x: Tensor<2>, quantise: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
    if share == 1.0 {
        return quantise(x);
    }
    x.clone().mul_scalar(1.0 - share) + quantise(x).mul_scalar(share)
}

/// The value of `quantised` with the gradient of `master`: the difference added is exactly zero.
fn straight_through(master: Tensor<2>, quantised: Tensor<2>) -> Tensor<2> {
    quantised + (master.clone() - master.detach())
}

#[cfg(test)]
mod tests {
    use model::{integer, ternary};

    use super::*;
    use crate::device;

    /// Values of every size and both signs, in no order.
    fn sample(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 % 2003) as f32 / 1000.0 - 1.0) * 0.05 * (1 + i % 7) as f32).collect()
    }

    #[test]
    fn weights_are_those_of_the_reference() {
        let (o, i) = (6, 2 * GROUP);
        let weights = sample(o * i);
        let tensor = Tensor::<2>::from_data(TensorData::new(weights.clone(), [o, i]), &device::cpu());
        for scale in [Scale::Tensor, Scale::Row, Scale::Group] {
            let reference = ternary::quantize(&weights, o, i, scale);
            let expected: Vec<f32> =
                (0..o * i).map(|at| f32::from(reference.codes[at]) * reference.scales[scale.index(i, at / i, at % i)].to_f32()).collect();
            let found: Vec<f32> = ternary_weights(tensor.clone(), scale).try_into_vec_as().unwrap();
            assert_eq!(found, expected, "{scale:?}");
        }
    }

    #[test]
    fn integer_weights_are_those_of_the_reference() {
        let (o, i) = (6, 3 * BLOCK);
        let mut weights = sample(o * i);
        weights[..BLOCK].fill(0.0);
        weights[BLOCK..2 * BLOCK].fill(1e-9);
        // Two largest of either sign.
        (weights[2 * BLOCK], weights[2 * BLOCK + 1]) = (-9.0, 9.0);
        let tensor = Tensor::<2>::from_data(TensorData::new(weights.clone(), [o, i]), &device::cpu());
        for grid in [Grid::Eight, Grid::Four] {
            let reference = integer::quantize(&weights, o, i, grid);
            let value = |at: usize| f32::from(reference.codes[at]) * reference.scales[at / BLOCK].to_f32();
            let found: Vec<f32> = integer_weights(tensor.clone(), grid).try_into_vec_as().unwrap();
            assert_eq!(found, (0..o * i).map(value).collect::<Vec<f32>>(), "{grid:?}");
        }
    }

    #[test]
    fn activations_are_those_of_the_reference() {
        let (n, d) = (5, 37);
        let values = sample(n * d);
        let tensor = Tensor::<2>::from_data(TensorData::new(values.clone(), [n, d]), &device::cpu());
        for largest in [ternary::ACTIVATION_MAX, 7] {
            let found: Vec<f32> = activations(tensor.clone(), largest).try_into_vec_as().unwrap();
            for (row, found) in values.chunks(d).zip(found.chunks(d)) {
                let mut codes = vec![0i8; d];
                let scale = ternary::quantize_activations_to(largest, row, &mut codes);
                let expected: Vec<f32> = codes.iter().map(|code| f32::from(*code) * scale).collect();
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn gradients_pass_straight_through() {
        let device = device::cpu();
        let weights = Tensor::<2>::from_data(TensorData::new(sample(4 * GROUP), [4, GROUP]), &device).require_grad();
        let factor = Tensor::<2>::from_data(TensorData::new(sample(4 * GROUP), [4, GROUP]), &device).flip([0, 1]);
        let loss = (activations(integer_weights(ternary_weights(weights.clone(), Scale::Row), Grid::Four), 127) * factor.clone()).sum();
        let gradient = weights.grad(&loss.backward()).unwrap();
        assert_eq!(gradient.try_into_vec_as::<f32>().unwrap(), factor.try_into_vec_as::<f32>().unwrap());
    }
}
