//! RMSNorm: y = x / sqrt(mean(x^2) + epsilon) * gain. Source: arXiv:1910.07467, eq. 4.

use burn::tensor::Tensor;

/// The norm of each row of `x_nd`, composed.
pub(crate) fn rms_norm(x_nd: Tensor<2>, gain_d: Tensor<1>, epsilon: f32) -> Tensor<2> {
    let mean_square_n1 = x_nd.clone().square().mean_dim(1);
    let inverse_n1 = mean_square_n1.add_scalar(epsilon).sqrt().recip();
    x_nd * inverse_n1 * gain_d.unsqueeze()
}
