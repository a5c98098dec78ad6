//! The other side of a matrix of integers: activations in 15 bits for the head, and in 8 or fewer for linear layers.
//!
//! Activations of 8 bits would add about 1 % of noise to every logit, more than the weights' rounding. So an activation is
//! 128 * high + low, both signed bytes, and a weight that was read once is multiplied with both: exact enough that a greedy token does
//! not depend on it, and free where memory is what limits. Where there is no instruction that adds up products of bytes in 32 bits, one of
//! 16 bits multiplies with the whole activation.

use super::{Activations, Isa, codes::Codes, elementary::to_whole, isa::Kind, vectorise::vectorised};

/// The largest activation code, 127 * 128.
pub(super) const LARGEST: f32 = 16_256.0;
/// Tokens of a matrix tile, which reads memory of so many.
pub(super) const TILE_TOKENS: usize = 8;
/// Inputs of which the codes' sum is known.
pub(super) const SPAN: usize = 16;

/// How a token's activations lie, which are two bytes each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Layout {
    /// The high bytes, then the low ones.
    #[default]
    Halves,
    /// In 16 bits; of every four the first, the third, the second and the fourth, as the bytes of 16 bits come apart.
    #[cfg(target_arch = "x86_64")]
    Whole,
}

impl Layout {
    /// What an instruction set multiplies with.
    pub(super) fn of(isa: Isa) -> Layout {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => Layout::Whole,
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni | Kind::Avx512Vnni | Kind::Avx512Vbmi | Kind::Amx => Layout::Halves,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon | Kind::Dotprod | Kind::I8mm => Layout::Halves,
            Kind::Scalar => Layout::Halves,
        }
    }
}

/// Some tokens' activations in 15 bits. The same memory serves again and again.
#[derive(Clone, Debug, Default)]
pub struct FineActivations {
    tokens: usize,
    width: usize,
    layout: Layout,
    /// `[tokens, 2 * width]` bytes.
    codes: Codes,
    /// One token's.
    token: Vec<i16>,
    scales: Vec<f32>,
    /// The sums of each [`SPAN`] codes, `[tokens, width / SPAN]`.
    sums: Vec<i32>,
    /// The same of the high bytes, while they are alone.
    high_sums: Vec<i32>,
    high_alone: bool,
}

impl FineActivations {
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// One token's bytes, as the layout says.
    pub(super) fn codes(&self, token: usize) -> *const i8 {
        self.codes[token * 2 * self.width..].as_ptr()
    }

    /// The sum of one token's codes of an input and those after it, as they are multiplied.
    #[inline(always)]
    pub(super) fn sum(&self, token: usize, input: usize, inputs: usize) -> i32 {
        let sums = if self.high_alone { &self.high_sums } else { &self.sums };
        sums[(token * self.width + input) / SPAN..][..inputs / SPAN].iter().sum()
    }

    /// Whether an instruction set multiplies with the high bytes alone in less time than with both; matrix tiles have time for both.
    pub(crate) fn high_is_cheaper(isa: Isa) -> bool {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => false,
            _ => Layout::of(isa) == Layout::Halves,
        }
    }

    /// Have kernels take the low bytes for 0, or not.
    ///
    /// # Panics
    /// If the activations are whole.
    pub(crate) fn set_high_alone(&mut self, high_alone: bool) {
        assert!(!high_alone || self.layout == Layout::Halves, "whole activations have no high bytes");
        self.high_alone = high_alone;
        self.high_sums.clear();
        if high_alone {
            for bytes in self.codes[..self.tokens * 2 * self.width].chunks_exact(2 * self.width) {
                let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>();
                self.high_sums.extend(bytes[..self.width].chunks_exact(SPAN).map(sum));
            }
        }
    }

    pub(super) fn is_high_alone(&self) -> bool {
        self.high_alone
    }

    /// The length of a token's vector of activations, and that of what the low bytes add to it.
    pub(crate) fn lengths(&self, token: usize) -> (f64, f64) {
        let (high, low) = self.codes[token * 2 * self.width..][..2 * self.width].split_at(self.width);
        let (mut all, mut small) = (0, 0);
        for (high, low) in high.iter().zip(low) {
            let (low, code) = (i64::from(*low), 128 * i64::from(*high) + i64::from(*low));
            (all, small) = (all + code * code, small + low * low);
        }
        let length = |squares: i64| f64::from(self.scales[token]) * (squares as f64).sqrt();
        (length(all), length(small))
    }

    /// What a token's codes are worth, as they are multiplied.
    pub(super) fn scale(&self, token: usize) -> f32 {
        if self.high_alone { 128.0 * self.scales[token] } else { self.scales[token] }
    }

    /// Quantise tokens of `width` numbers each, in place of those that were here.
    pub(crate) fn quantize(&mut self, isa: Isa, activations: &[f32], width: usize) {
        self.fill(isa, activations.len() / width, width, |token, codes| {
            quantize_fine(isa, &activations[token * width..(token + 1) * width], codes)
        });
    }

    /// The same codes and scales as those of `activations`, in place of what was here.
    pub fn widen(&mut self, isa: Isa, activations: &Activations) {
        self.fill(isa, activations.tokens(), activations.width(), |token, codes| {
            codes.iter_mut().zip(activations.codes(token)).for_each(|(wide, code)| *wide = i16::from(*code));
            activations.scales()[token]
        });
    }

    /// `codes` writes a token's codes and gives its scale.
    fn fill(&mut self, isa: Isa, tokens: usize, width: usize, codes: impl Fn(usize, &mut [i16]) -> f32) {
        (self.tokens, self.width, self.layout) = (tokens, width, Layout::of(isa));
        self.codes.reserve(tokens.next_multiple_of(TILE_TOKENS) * 2 * width);
        self.token.resize(width, 0);
        self.scales.resize(tokens, 0.0);
        self.sums.resize(tokens * (width / SPAN), 0);
        self.high_alone = false;
        let each = self.codes.chunks_exact_mut(2 * width).zip(self.sums.chunks_exact_mut(width / SPAN));
        for (token, (scale, (bytes, sums))) in self.scales.iter_mut().zip(each).enumerate() {
            *scale = codes(token, &mut self.token);
            lay_out(isa, self.layout, &self.token, bytes);
            for (sum, codes) in sums.iter_mut().zip(self.token.chunks_exact(SPAN)) {
                *sum = codes.iter().map(|code| i32::from(*code)).sum();
            }
        }
    }
}

vectorised! {
    /// A token's codes as bytes.
    fn lay_out(layout: Layout, codes: &[i16], bytes: &mut [i8]) {
        match layout {
            Layout::Halves => {
                let (high, low) = bytes.split_at_mut(codes.len());
                for ((high, low), code) in high.iter_mut().zip(low).zip(codes) {
                    let upper = (code + 64) >> 7;
                    *high = upper as i8;
                    *low = (code - (upper << 7)) as i8;
                }
            }
            #[cfg(target_arch = "x86_64")]
            Layout::Whole => {
                for (bytes, [one, two, three, four]) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(codes.as_chunks::<4>().0) {
                    for (bytes, code) in bytes.as_chunks_mut::<2>().0.iter_mut().zip([one, three, two, four]) {
                        *bytes = code.to_le_bytes().map(|byte| byte as i8);
                    }
                }
            }
        }
    }
}

vectorised! {
    /// q = round_half_even(x / s) with s = max|x| / 16256; returns s.
    fn quantize_fine(activations: &[f32], codes: &mut [i16]) -> f32 {
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
        for (code, activation) in codes.iter_mut().zip(activations) {
            *code = to_whole(activation / scale, LARGEST) as i16;
        }
        scale
    }
}
