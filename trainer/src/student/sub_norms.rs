//! The gains of sub-norms (SubLN) that are added to a student that was trained without.
//!
//! The norm divides each token's x by its root mean square r; with a gain of 1 that changes how much every block adds to the residual
//! stream, which destroys the student. So each gain starts where it changes least, in the sense of least squares over some tokens t: with
//! z_ti = x_ti / r_t, g_i = sum_t(x_ti z_ti) / sum_t(z_ti^2). That is a mean of the r_t, weighted with z_ti^2, and is x_ti / z_ti
//! wherever all tokens have the same r.

use burn::tensor::Tensor;
use model::{Role, TensorSpec};

use super::{Batch, DOWN, OUTPUT, Student};

/// The gains of each block's two sub-norms.
#[derive(Debug)]
pub(super) struct Gains(Vec<[Vec<f32>; 2]>);

impl Gains {
    /// Those that fit a student without sub-norms on the tokens of a batch that its supervised targets see.
    pub(super) fn fitted(student: &Student, batch: &Batch) -> Gains {
        let epsilon = student.config().norm_epsilon;
        let mut gains = vec![[Vec::new(), Vec::new()]; student.config().layers];
        student.hidden_seen(&batch.needed(), None, None, &mut |layer, group, x_ni| match group {
            OUTPUT => gains[layer][0] = fitted(x_ni, epsilon),
            DOWN => gains[layer][1] = fitted(x_ni, epsilon),
            _ => (),
        });
        Gains(gains)
    }

    /// Those of a tensor, where it is one of the sub-norms.
    pub(super) fn of(&self, spec: &TensorSpec) -> Option<Vec<f32>> {
        let norm = match spec.role {
            Role::AttentionSubNorm => 0,
            Role::FeedForwardSubNorm => 1,
            _ => return None,
        };
        Some(self.0[spec.layer?][norm].clone())
    }
}

/// The gains of a norm of `x_ni` that change it least.
fn fitted(x_ni: &Tensor<2>, epsilon: f32) -> Vec<f32> {
    let [n, i] = x_ni.dims();
    let values: Vec<f32> = x_ni.clone().try_into_vec_as().expect("inputs are f32");
    // Sums of x z and of z^2, for each input and for all of them together.
    let (mut kept, mut squares, mut mean) = (vec![0.0f64; i], vec![0.0f64; i], 0.0);
    for x in values.chunks(i) {
        let mean_square = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / i as f64;
        let rms = (mean_square + f64::from(epsilon)).sqrt();
        mean += rms / n as f64;
        for ((kept, square), x) in kept.iter_mut().zip(&mut squares).zip(x) {
            let z = f64::from(*x) / rms;
            *kept += f64::from(*x) * z;
            *square += z * z;
        }
    }
    // An input that is always 0 says nothing.
    kept.iter().zip(&squares).map(|(kept, square)| if *square > 0.0 { (kept / square) as f32 } else { mean as f32 }).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::device;

    #[test]
    fn a_gain_is_the_mean_of_the_sizes_of_the_tokens_that_use_it() {
        let fit =
            |x: &[f32], rows: usize| fitted(&Tensor::from_data(TensorData::new(x.to_vec(), [rows, x.len() / rows]), &device::cpu()), 0.0);
        // Tokens of one size: the norm with these gains changes nothing.
        let same = fit(&[3.0, 4.0, -4.0, 3.0, 5.0, 0.0], 3);
        assert!(same.iter().all(|gain| (gain - 12.5f32.sqrt()).abs() < 1e-5), "{same:?}");
        // The first input is used by the first token alone, of size 2 / sqrt(3), and the last by none.
        let apart = fit(&[2.0, 0.0, 0.0, 0.0, 6.0, 0.0], 2);
        let sizes = [2.0f32 / 3.0f32.sqrt(), 6.0 / 3.0f32.sqrt()];
        for (gain, expected) in apart.iter().zip([sizes[0], sizes[1], (sizes[0] + sizes[1]) / 2.0]) {
            assert!((gain - expected).abs() < 1e-5, "{apart:?}");
        }
    }
}
