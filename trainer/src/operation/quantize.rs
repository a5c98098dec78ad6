//! Quantisation while training, composed: what a forward pass sees is the quantised value; the backward pass treats the
//! quantiser as the identity (straight-through, arXiv:1308.3432). The codes and scales are those of `model::ternary`.

use burn::tensor::{FloatDType, Tensor};
use half::f16;
use model::ternary::{ACTIVATION_MAX, GROUP, MIN_ACTIVATION_SCALE, MIN_WEIGHT_SCALE, Scale};

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
    let scales = means.cast(FloatDType::F16).cast(FloatDType::F32);
    let codes = (spans / scales.clone()).round().clamp(-1.0, 1.0);
    straight_through(weights_oi, (codes * scales).reshape([o, i]))
}

/// Eight-bit codes times their scale, one scale for each row of `x_nd`.
pub(crate) fn int8_activations(x_nd: Tensor<2>) -> Tensor<2> {
    let values = x_nd.clone().detach();
    let limit = f32::from(ACTIVATION_MAX);
    let scales_n1 = values.clone().abs().max_dim(1).div_scalar(limit).clamp_min(MIN_ACTIVATION_SCALE);
    let codes = (values / scales_n1.clone()).round().clamp(-limit, limit);
    straight_through(x_nd, codes * scales_n1)
}

/// The value of `quantised` with the gradient of `master`: the difference added is exactly zero.
fn straight_through(master: Tensor<2>, quantised: Tensor<2>) -> Tensor<2> {
    quantised + (master.clone() - master.detach())
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use model::ternary;

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
    fn activations_are_those_of_the_reference() {
        let (n, d) = (5, 37);
        let values = sample(n * d);
        let tensor = Tensor::<2>::from_data(TensorData::new(values.clone(), [n, d]), &device::cpu());
        let found: Vec<f32> = int8_activations(tensor).try_into_vec_as().unwrap();
        for (row, found) in values.chunks(d).zip(found.chunks(d)) {
            let mut codes = vec![0i8; d];
            let scale = ternary::quantize_activations(row, &mut codes);
            let expected: Vec<f32> = codes.iter().map(|code| f32::from(*code) * scale).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn gradients_pass_straight_through() {
        let device = device::cpu();
        let weights = Tensor::<2>::from_data(TensorData::new(sample(4 * GROUP), [4, GROUP]), &device).require_grad();
        let factor = Tensor::<2>::from_data(TensorData::new(sample(4 * GROUP), [4, GROUP]), &device).flip([0, 1]);
        let loss = (int8_activations(ternary_weights(weights.clone(), Scale::Row)) * factor.clone()).sum();
        let gradient = weights.grad(&loss.backward()).unwrap();
        assert_eq!(gradient.try_into_vec_as::<f32>().unwrap(), factor.try_into_vec_as::<f32>().unwrap());
    }
}
