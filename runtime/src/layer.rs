//! The plain layers between the matrices, in f32 and in one fixed order: sixteen running sums, no multiplication fused with an
//! addition. So the compiler may use vectors of any width, and the bits stay the same.

use model::Activation;

use crate::kernel::vectorised;

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

/// Positions whose keys are interleaved, so that one vector holds the scores of sixteen positions.
pub(crate) const KEYS: usize = 16;
/// Positions in a page of the cache.
pub(crate) const PAGE: usize = 64;

/// The softmax of one head as far as it has come: the largest score, the sum of e^(score - largest).
#[derive(Clone, Copy)]
pub(crate) struct Softmax {
    largest: f32,
    sum: f32,
}

impl Softmax {
    pub(crate) fn new() -> Softmax {
        Softmax { largest: f32::NEG_INFINITY, sum: 0.0 }
    }
}

vectorised! {
    /// Add one page's first `count` positions to a head's attention. `keys` are `[PAGE / KEYS, head width, KEYS]`, `values`
    /// `[PAGE, head width]`; `out` holds the values weighted by e^(score - largest) so far. The query comes already divided by the
    /// square root of the head's width. Source of the running softmax: arXiv:1805.02867.
    pub(crate) fn attend(query: &[f32], keys: &[f32], values: &[f32], count: usize, softmax: &mut Softmax, out: &mut [f32]) {
        let width = query.len();
        let mut scores = [0.0f32; PAGE];
        for (scores, keys) in scores.as_chunks_mut::<KEYS>().0.iter_mut().zip(keys.chunks_exact(width * KEYS)).take(count.div_ceil(KEYS)) {
            let mut sums = [0.0f32; KEYS];
            for (query, keys) in query.iter().zip(keys.as_chunks::<KEYS>().0) {
                for (sum, key) in sums.iter_mut().zip(keys) {
                    *sum += query * key;
                }
            }
            *scores = sums;
        }
        let scores = &mut scores[..count];
        let largest = scores.iter().fold(softmax.largest, |largest, score| if *score > largest { *score } else { largest });
        if largest > softmax.largest {
            let shrink = exp(softmax.largest - largest);
            softmax.sum *= shrink;
            out.iter_mut().for_each(|out| *out *= shrink);
            softmax.largest = largest;
        }
        for score in scores.iter_mut() {
            *score = exp(*score - largest);
        }
        softmax.sum += scores.iter().sum::<f32>();
        for (at, out) in out.chunks_mut(LANES).enumerate() {
            let mut sums = [0.0f32; LANES];
            sums[..out.len()].copy_from_slice(out);
            if out.len() == LANES {
                for (score, values) in scores.iter().zip(values.chunks_exact(width)) {
                    for (sum, value) in sums.iter_mut().zip(&values[at * LANES..(at + 1) * LANES]) {
                        *sum += score * value;
                    }
                }
            } else {
                for (score, values) in scores.iter().zip(values.chunks_exact(width)) {
                    for (sum, value) in sums.iter_mut().zip(&values[at * LANES..]) {
                        *sum += score * value;
                    }
                }
            }
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}

vectorised! {
    /// Divide by the softmax's sum, at the end of a head's attention.
    pub(crate) fn finish(softmax: Softmax, out: &mut [f32]) {
        let inverse = 1.0 / softmax.sum;
        for out in out.iter_mut() {
            *out *= inverse;
        }
    }
}

/// 1.5 * 2^23: adding it rounds a small number to a whole one, which then stands in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;

/// e^x within 2 units in the last place between -87.3 and 88.7, constant beyond. Our own because a library's differs from one
/// platform to the next. Cephes' expf: 2^n times a polynomial in the rest.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = if x < -87.336_54 { -87.336_54 } else { x };
    let x = if x > 88.722_83 { 88.722_83 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    // The logarithm of 2 in two parts, the first with few enough bits that n times it is exact.
    let rest = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut polynomial = 1.987_569_2e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        polynomial = polynomial * rest + coefficient;
    }
    let power = polynomial * rest * rest + rest + 1.0;
    // 2^n in two factors, because 2^128 alone would be infinite.
    let n = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()) as i32;
    let half = n >> 1;
    let two_to = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    power * two_to(half) * two_to(n - half)
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

    #[test]
    fn attention_over_pages_is_softmax_attention() {
        for (width, count) in [(16, 1), (32, 64), (6, 17), (40, 150)] {
            let query = numbers(width, 6);
            let keys: Vec<Vec<f32>> = (0..count).map(|at| numbers(width, at * 31)).collect();
            let values: Vec<Vec<f32>> = (0..count).map(|at| numbers(width, at * 17 + 5)).collect();
            let found = same(|isa| {
                let (mut softmax, mut out) = (Softmax::new(), vec![0.0; width]);
                for (keys, values) in keys.chunks(PAGE).zip(values.chunks(PAGE)) {
                    let (mut laid_out, mut flat) = (vec![f32::NAN; PAGE * width], vec![f32::NAN; PAGE * width]);
                    for (at, (key, value)) in keys.iter().zip(values).enumerate() {
                        flat[at * width..(at + 1) * width].copy_from_slice(value);
                        for (i, key) in key.iter().enumerate() {
                            laid_out[(at / KEYS * width + i) * KEYS + at % KEYS] = *key;
                        }
                    }
                    attend(isa, &query, &laid_out, &flat, keys.len(), &mut softmax, &mut out);
                }
                finish(isa, softmax, &mut out);
                out
            });
            let scores: Vec<f64> =
                keys.iter().map(|key| key.iter().zip(&query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum::<f64>()).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            let expected: Vec<f64> = (0..width)
                .map(|i| weights.iter().zip(&values).map(|(weight, value)| weight * f64::from(value[i])).sum::<f64>() / total)
                .collect();
            for (found, expected) in found.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 2e-3, "{found} {expected}");
            }
        }
    }

    #[test]
    fn the_exponential_is_that_of_f64() {
        for i in -8700..=8800 {
            let x = i as f32 * 0.01;
            assert!((f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs() < 3e-7, "{x}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1.2e-38 && exp(1000.0) > 3.4e38);
    }
}
