//! The other side of a matrix of integers: activations in 15 bits for the head, and in 8 or fewer for linear layers.
//!
//! Activations of 8 bits would add about 1 % of noise to every logit, more than the weights' rounding. So an activation is
//! 128 * high + low, both signed bytes, and a weight that was read once is multiplied with both: exact enough that a greedy token does
//! not depend on it, and free where memory is what limits.

use super::{Activations, Isa, codes::Codes, elementary::to_whole, vectorise::vectorised};

/// The largest activation code, 127 * 128.
pub(super) const LARGEST: f32 = 16_256.0;
/// Tokens of a matrix tile, which reads memory of so many.
pub(super) const TILE_TOKENS: usize = 8;
/// Inputs of which the codes' sum is known.
pub(super) const SPAN: usize = 16;

/// Some tokens' activations in 15 bits. The same memory serves again and again.
#[derive(Clone, Debug, Default)]
pub struct FineActivations {
    tokens: usize,
    width: usize,
    /// `[tokens, 2, width]`: the high bytes, then the low ones.
    codes: Codes,
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
        self.fill(activations.len() / width, width, |token, high, low| {
            quantize_fine(isa, &activations[token * width..(token + 1) * width], high, low)
        });
    }

    /// The same codes and scales as those of `activations`, in place of what was here.
    pub fn widen(&mut self, isa: Isa, activations: &Activations) {
        self.fill(activations.tokens(), activations.width(), |token, high, low| {
            split(isa, activations.codes(token), high, low);
            activations.scales()[token]
        });
    }

    /// `codes` writes a token's high and low codes and gives its scale.
    fn fill(&mut self, tokens: usize, width: usize, codes: impl Fn(usize, &mut [i8], &mut [i8]) -> f32) {
        (self.tokens, self.width) = (tokens, width);
        self.codes.reserve(tokens.next_multiple_of(TILE_TOKENS) * 2 * width);
        self.scales.resize(tokens, 0.0);
        self.sums.resize(tokens * (width / SPAN), 0);
        let each = self.codes.chunks_exact_mut(2 * width).zip(self.sums.chunks_exact_mut(width / SPAN));
        for (token, (scale, (both, sums))) in self.scales.iter_mut().zip(each).enumerate() {
            let (high, low) = both.split_at_mut(width);
            *scale = codes(token, high, low);
            for ((sums, high), low) in sums.iter_mut().zip(high.chunks_exact(SPAN)).zip(low.chunks_exact(SPAN)) {
                *sums = high.iter().zip(low).map(|(high, low)| 128 * i32::from(*high) + i32::from(*low)).sum();
            }
        }
    }
}

vectorised! {
    /// Codes of 8 bits as 128 * high + low.
    fn split(codes: &[i8], high: &mut [i8], low: &mut [i8]) {
        for ((high, low), code) in high.iter_mut().zip(low.iter_mut()).zip(codes) {
            let upper = (i16::from(*code) + 64) >> 7;
            *high = upper as i8;
            *low = (i16::from(*code) - (upper << 7)) as i8;
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
