//! The other side of the head: activations in 15 bits.
//!
//! Activations of 8 bits would add about 1 % of noise to every logit, more than the weights' rounding. So an activation is
//! 128 * high + low, both signed bytes, and a weight that was read once is multiplied with both: exact enough that a greedy token does
//! not depend on it, and free where memory is what limits.

use super::{Isa, elementary::to_whole, vectorise::vectorised};

/// The largest activation code, 127 * 128.
pub(super) const LARGEST: f32 = 16_256.0;
/// Inputs of which the codes' sum is known.
pub(super) const SPAN: usize = 16;

/// Some tokens' activations in 15 bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct FineActivations {
    tokens: usize,
    width: usize,
    /// `[tokens, 2, width]`: the high bytes, then the low ones.
    codes: Vec<i8>,
    scales: Vec<f32>,
    /// The sums of each [`SPAN`] codes, `[tokens, width / SPAN]`.
    sums: Vec<i32>,
}

impl FineActivations {
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// One token's high codes from an input on; the low ones are [`FineActivations::width`] further.
    pub(super) fn codes(&self, token: usize, input: usize) -> *const i8 {
        self.codes[token * 2 * self.width + input..].as_ptr()
    }

    /// The sum of one token's codes of an input and those after it.
    #[inline(always)]
    pub(super) fn sum(&self, token: usize, input: usize, inputs: usize) -> i32 {
        self.sums[(token * self.width + input) / SPAN..][..inputs / SPAN].iter().sum()
    }

    pub(super) fn scale(&self, token: usize) -> f32 {
        self.scales[token]
    }

    /// Quantise tokens of `width` numbers each, in place of those that were here.
    pub(crate) fn quantize(&mut self, isa: Isa, activations: &[f32], width: usize) {
        (self.tokens, self.width) = (activations.len() / width, width);
        self.codes.resize(self.tokens * 2 * width, 0);
        self.scales.resize(self.tokens, 0.0);
        self.sums.resize(self.tokens * (width / SPAN), 0);
        let each = self.codes.chunks_exact_mut(2 * width).zip(self.sums.chunks_exact_mut(width / SPAN));
        for ((activations, scale), (codes, sums)) in activations.chunks_exact(width).zip(&mut self.scales).zip(each) {
            let (high, low) = codes.split_at_mut(width);
            *scale = quantize_fine(isa, activations, high, low);
            for ((sums, high), low) in sums.iter_mut().zip(high.chunks_exact(SPAN)).zip(low.chunks_exact(SPAN)) {
                *sums = high.iter().zip(low).map(|(high, low)| 128 * i32::from(*high) + i32::from(*low)).sum();
            }
        }
    }
}

vectorised! {
    /// q = round_half_even(x / s) with s = max|x| / 16256, as 128 * high + low; returns s.
    fn quantize_fine(activations: &[f32], high: &mut [i8], low: &mut [i8]) -> f32 {
        let mut lanes = [0.0f32; 16];
        let (whole, rest) = activations.as_chunks::<16>();
        for chunk in whole {
            for (lane, activation) in lanes.iter_mut().zip(chunk) {
                let size = activation.abs();
                *lane = if size > *lane { size } else { *lane };
            }
        }
        let largest = lanes.iter().chain(rest).fold(0.0f32, |largest, x| largest.max(x.abs()));
        let scale = (largest / LARGEST).max(f32::MIN_POSITIVE);
        for ((high, low), activation) in high.iter_mut().zip(low.iter_mut()).zip(activations) {
            let code = to_whole(activation / scale, LARGEST);
            let upper = (code + 64) >> 7;
            *high = upper as i8;
            *low = (code - (upper << 7)) as i8;
        }
        scale
    }
}
