//! The plain layers between the matrices, in f32 and in one fixed order: sixteen running sums, no multiplication fused with an
//! addition. So the compiler may use vectors of any width, and the bits stay the same.

use model::Activation;

use crate::kernel::{exp, vectorised};

/// Running sums of a reduction.
const LANES: usize = 16;

vectorised! {
    /// RMSNorm of one token: x / sqrt(mean(x^2) + epsilon) * weight. Source: arXiv:1910.07467, eq. 4.
    pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let inverse = inverse_rms(x, epsilon);
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * inverse * weight;
        }
    }
}

vectorised! {
    /// As [`rms_norm`], in place.
    pub(crate) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], epsilon: f32) {
        let inverse = inverse_rms(x, epsilon);
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = *x * inverse * weight;
        }
    }
}

/// 1 / sqrt(mean(x^2) + epsilon).
#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x * x;
    }
    1.0 / (lanes.iter().sum::<f32>() / x.len() as f32 + epsilon).sqrt()
}

vectorised! {
    /// x += y.
    pub(crate) fn add(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
}

vectorised! {
    /// Turn one head by its position's angles, element i with element i + half. Source: arXiv:2104.09864, eq. 34.
    pub(crate) fn rotate(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
        let (low, high) = head.split_at_mut(cosines.len());
        for (((low, high), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
            (*low, *high) = (*low * cosine - *high * sine, *high * cosine + *low * sine);
        }
    }
}

vectorised! {
    /// The gated activation of one token: silu(gate) * up (arXiv:2002.05202) or relu(gate)^2 * up (BitNet b1.58 2B4T).
    pub(crate) fn gate(gate: &[f32], up: &[f32], activation: Activation, out: &mut [f32]) {
        match activation {
            Activation::Silu => {
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    *out = gate * (1.0 / (1.0 + exp(-gate))) * up;
                }
            }
            Activation::Relu2 => {
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    let positive = if *gate > 0.0 { *gate } else { 0.0 };
                    *out = positive * positive * up;
                }
            }
        }
    }
}

/// ln(sum of e^x), in f64.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(exp(logit - largest))).sum();
    f64::from(largest) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Isa;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 7919 % 1009) as f32 - 504.0) * 0.01).collect()
    }

    /// The same bits from every instruction set.
    fn same(run: impl Fn(Isa) -> Vec<f32>) -> Vec<f32> {
        let expected = run(Isa::SCALAR);
        for isa in Isa::supported() {
            let found = run(isa);
            assert!(found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa}: {found:?} {expected:?}");
        }
        expected
    }

    fn close(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{found} {expected}");
        }
    }

    #[test]
    fn the_norm_is_that_of_f64_on_every_isa() {
        for length in [1, 15, 16, 100, 257] {
            let (x, weight) = (numbers(length, 1), numbers(length, 2));
            let found = same(|isa| {
                let mut out = vec![0.0; length];
                rms_norm(isa, &x, &weight, 1e-5, &mut out);
                let mut again = x.clone();
                rms_norm_in_place(isa, &mut again, &weight, 1e-5);
                assert_eq!(out, again);
                out
            });
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / length as f64;
            let expected: Vec<f64> = x.iter().zip(&weight).map(|(x, w)| f64::from(*x) / (mean + 1e-5).sqrt() * f64::from(*w)).collect();
            close(&found, &expected);
        }
    }

    #[test]
    fn gates_are_those_of_f64_on_every_isa() {
        let (g, u) = (numbers(131, 3), numbers(131, 4));
        for activation in [Activation::Silu, Activation::Relu2] {
            let found = same(|isa| {
                let mut out = vec![0.0; g.len()];
                gate(isa, &g, &u, activation, &mut out);
                out
            });
            let of = |g: f64| match activation {
                Activation::Silu => g / (1.0 + (-g).exp()),
                Activation::Relu2 => g.max(0.0).powi(2),
            };
            close(&found, &g.iter().zip(&u).map(|(g, u)| of(f64::from(*g)) * f64::from(*u)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rotation_keeps_lengths() {
        let (cosines, sines): (Vec<f32>, Vec<f32>) = (0..5).map(|i| ((i as f32).cos(), (i as f32).sin())).unzip();
        let head = numbers(10, 5);
        let turned = same(|isa| {
            let mut turned = head.clone();
            rotate(isa, &mut turned, &cosines, &sines);
            turned
        });
        for i in 0..5 {
            assert!((head[i].hypot(head[i + 5]) - turned[i].hypot(turned[i + 5])).abs() < 1e-5);
        }
        assert!((turned[6] - (head[6] * 1f32.cos() + head[1] * 1f32.sin())).abs() < 1e-5);
    }
}
