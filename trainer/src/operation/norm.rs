//! RMSNorm: y = x / sqrt(mean(x^2) + epsilon) * gain. Source: arXiv:1910.07467, eq. 4.

use burn::tensor::Tensor;

use super::simd::{for_each_isa, sum};

/// The norm of each row of `x_nd`, composed.
pub(crate) fn rms_norm(x_nd: Tensor<2>, gain_d: Tensor<1>, epsilon: f32) -> Tensor<2> {
    let mean_square_n1 = x_nd.clone().square().mean_dim(1);
    let inverse_n1 = mean_square_n1.add_scalar(epsilon).sqrt().recip();
    x_nd * inverse_n1 * gain_d.unsqueeze()
}

for_each_isa! {
    /// The norm of one row; returns 1 / sqrt(mean(x^2) + epsilon).
    pub(crate) fn norm_row(x: &[f32], gain: &[f32], epsilon: f32, normed: &mut [f32]) -> f32 {
        let inverse = 1.0 / (sum([x], |[x]| x * x) / x.len() as f32 + epsilon).sqrt();
        for ((normed, x), gain) in normed.iter_mut().zip(x).zip(gain) {
            *normed = x * inverse * gain;
        }
        inverse
    }
}

for_each_isa! {
    /// The gradient of one row, in place of that of its norm; adds the row's part of the gain's. With z = x * inverse and
    /// a = gradient * gain: dgain = gradient * z, dx = inverse * (a - z * mean(a z)).
    pub(crate) fn norm_row_backward(x: &[f32], gain: &[f32], inverse: f32, gradient: &mut [f32], of_gain: &mut [f32]) {
        let (x, gain, of_gain) = (&x[..gradient.len()], &gain[..gradient.len()], &mut of_gain[..gradient.len()]);
        let mean = sum([gradient, gain, x], |[gradient, gain, x]| gradient * gain * (x * inverse)) / x.len() as f32;
        for (((gradient, x), gain), of_gain) in gradient.iter_mut().zip(x).zip(gain).zip(of_gain) {
            let z = x * inverse;
            *of_gain += *gradient * z;
            *gradient = inverse * (*gradient * gain - z * mean);
        }
    }
}
