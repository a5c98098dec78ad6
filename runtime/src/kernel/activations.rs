//! The other side of a multiply: tokens as 8-bit integers with a scale each, as `model::ternary::quantize_activations` makes
//! them, and the sums that the kernels need because they store a weight as w + 1.

use std::cell::RefCell;

use model::ternary::{ACTIVATION_MAX, GROUP, MIN_ACTIVATION};

use super::{
    Isa, Pool,
    codes::{Codes, LINE},
    elementary::to_whole,
    matrix::Packing,
    pool::Chunks,
    vectorise::vectorised,
};

/// Tokens of a matrix tile, which reads memory of so many.
pub(super) const TILE_TOKENS: usize = 16;
/// A token's numbers are padded to lines of every packing.
const STEP: usize = 80;
const _: () = assert!(STEP.is_multiple_of(Packing::Four.step()) && STEP.is_multiple_of(Packing::Five.step()));
/// With fewer tokens matrix tiles are not used.
pub(super) const LEAST_TILE_TOKENS: usize = 6;

thread_local! {
    /// A token's numbers before they are quantised: one a thread, so that it stays in the cache.
    static TOKEN: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Some tokens' activations, quantised. The same memory serves again and again.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    width: usize,
    tokens: usize,
    /// Numbers from one token to the next, those beyond `width` zero: an odd number of cache lines, so that the same inputs of many tokens
    /// lie in different parts of a cache.
    stride: usize,
    codes: Codes,
    scales: Vec<f32>,
    /// For each token, the sum of each [`GROUP`] codes.
    sums: Vec<i32>,
}

impl Activations {
    /// No tokens yet.
    pub fn new() -> Activations {
        Activations::default()
    }

    /// Quantise tokens of `width` numbers each, in place of those that were here.
    ///
    /// # Panics
    /// If the length is not a multiple of `width`.
    pub fn quantize(&mut self, isa: Isa, activations: &[f32], width: usize) {
        self.quantize_to(isa, ACTIVATION_MAX, activations, width);
    }

    /// As [`Activations::quantize`], to the codes from `-largest` to `largest`.
    ///
    /// # Panics
    /// As there.
    pub fn quantize_to(&mut self, isa: Isa, largest: i8, activations: &[f32], width: usize) {
        assert!(width > 0 && largest > 0, "tokens of width {width} in codes up to {largest}");
        self.resize(activations.len() / width, width);
        assert_eq!(activations.len(), self.tokens * width, "{} activations are not tokens of width {width}", activations.len());
        let groups = self.groups();
        for (token, activations) in activations.chunks_exact(width).enumerate() {
            let codes = &mut self.codes[token * self.stride..][..width];
            self.scales[token] = quantize_activations_to(isa, largest, activations, codes);
            sum_groups(isa, codes, &mut self.sums[token * groups..(token + 1) * groups]);
        }
    }

    /// Make room for `tokens` of `width` numbers each.
    fn resize(&mut self, tokens: usize, width: usize) {
        let stride = LINE * (width.next_multiple_of(STEP).div_ceil(LINE) | 1);
        if self.width != width {
            self.codes.clear(); // The padding has to be zero.
        }
        (self.tokens, self.width, self.stride) = (tokens, width, stride);
        // Tiles of tokens are read whole.
        let rows = if tokens < LEAST_TILE_TOKENS { tokens } else { tokens.next_multiple_of(TILE_TOKENS) };
        self.codes.reserve(rows * stride);
        self.scales.resize(tokens, 0.0);
        self.sums.resize(tokens * self.groups(), 0);
    }

    /// Compute tokens of `width` numbers each from the `source`'s and quantise them to the codes from `-largest` to `largest`, spread
    /// over the pool's threads. `compute` may change its part of the source.
    #[allow(clippy::type_complexity)]
    pub(crate) fn fill(
        &mut self,
        (isa, pool): (Isa, &Pool),
        largest: i8,
        source: (&mut [f32], usize),
        width: usize,
        compute: &(dyn Fn(usize, &mut [f32], &mut [f32]) + Sync),
    ) {
        let tokens = source.0.len() / source.1;
        self.resize(tokens, width);
        let (stride, groups) = (self.stride, self.groups());
        let codes = Chunks::new(&mut self.codes[..tokens * stride], stride);
        let (scales, sums) = (Chunks::new(&mut self.scales, 1), Chunks::new(&mut self.sums, groups));
        assert!(scales.count(tokens) && sums.count(tokens), "the activations are of another number of tokens");
        pool.for_each_pair(source, (&mut [], 0), |token, source, _: &mut [()]| {
            // SAFETY: there are as many chunks of each, and no two calls are for the same token.
            let (codes, scale, sums) = unsafe { (&mut codes.get(token)[..width], scales.get(token), sums.get(token)) };
            TOKEN.with_borrow_mut(|floats| {
                floats.resize(floats.len().max(width), 0.0);
                let floats = &mut floats[..width];
                compute(token, source, floats);
                scale[0] = quantize_activations_to(isa, largest, floats, codes);
            });
            sum_groups(isa, codes, sums);
        });
    }

    /// Take over codes and scales that were quantised elsewhere; `codes` are row-major, `[tokens, width]`.
    ///
    /// # Panics
    /// If the lengths do not fit together, or a code is -128, which no quantiser gives and not every kernel can multiply.
    pub fn from_codes(isa: Isa, codes: &[i8], scales: &[f32], width: usize) -> Activations {
        assert!(!codes.contains(&i8::MIN), "a code of -128: codes lie between -127 and 127");
        assert_eq!(codes.len(), scales.len() * width, "{} codes are not {} tokens of width {width}", codes.len(), scales.len());
        let mut found = Activations::default();
        found.resize(scales.len(), width);
        found.scales.copy_from_slice(scales);
        let groups = found.groups();
        for (token, codes) in codes.chunks_exact(width).enumerate() {
            found.codes[token * found.stride..][..width].copy_from_slice(codes);
            sum_groups(isa, codes, &mut found.sums[token * groups..(token + 1) * groups]);
        }
        found
    }

    /// How many tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// How many numbers each has.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One token's codes.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn codes(&self, token: usize) -> &[i8] {
        assert!(token < self.tokens, "token {token} of {}", self.tokens);
        &self.codes[token * self.stride..][..self.width]
    }

    /// Each token's scale.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    pub(super) fn padded(&self) -> &[i8] {
        &self.codes
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    pub(super) fn sums(&self, token: usize) -> &[i32] {
        let groups = self.groups();
        &self.sums[token * groups..(token + 1) * groups]
    }

    /// The sum of a token's codes in one of a matrix's `groups`.
    pub(super) fn group_sum(&self, token: usize, group: usize, groups: usize) -> i32 {
        let sums = self.sums(token);
        if groups == 1 { sums.iter().sum() } else { sums[group] }
    }

    /// The sum of a token's numbers as they are quantised.
    pub(super) fn sum(&self, token: usize) -> f32 {
        self.sums(token).iter().sum::<i32>() as f32 * self.scales[token]
    }

    fn groups(&self) -> usize {
        self.width.div_ceil(GROUP)
    }
}

/// `model::ternary::quantize_activations` in vectors: quantise one token, return its scale.
pub fn quantize_activations(isa: Isa, activations: &[f32], codes: &mut [i8]) -> f32 {
    quantize_activations_to(isa, ACTIVATION_MAX, activations, codes)
}

vectorised! {
    /// `model::ternary::quantize_activations_to` in vectors: quantise one token, return its scale.
    pub fn quantize_activations_to(largest: i8, activations: &[f32], codes: &mut [i8]) -> f32 {
        let mut lanes = [0.0f32; 16];
        let (whole, rest) = activations.as_chunks::<16>();
        for chunk in whole {
            for (lane, activation) in lanes.iter_mut().zip(chunk) {
                let size = activation.abs();
                // Written so that a number that is not one is passed over, as `f32::max` does.
                *lane = if size > *lane { size } else { *lane };
            }
        }
        let size = lanes.iter().chain(rest).fold(0.0f32, |size, x| size.max(x.abs()));
        let limit = f32::from(largest);
        let scale = (size / limit).max(MIN_ACTIVATION / limit);
        for (code, activation) in codes.iter_mut().zip(activations) {
            *code = to_whole(activation / scale, limit) as i8;
        }
        scale
    }
}

vectorised! {
    /// `model::ternary::quantize_span` in vectors: the codes of weights that share `scale`.
    pub fn quantize_weights(weights: &[f32], scale: half::f16, codes: &mut [i8]) {
        let scale = scale.to_f32();
        for (code, weight) in codes.iter_mut().zip(weights) {
            *code = to_whole(weight / scale, 1.0) as i8;
        }
    }
}

vectorised! {
    /// The sum of each [`GROUP`] codes; the last may be of fewer.
    fn sum_groups(codes: &[i8], sums: &mut [i32]) {
        for (sum, codes) in sums.iter_mut().zip(codes.chunks(GROUP)) {
            *sum = codes.iter().map(|code| i32::from(*code)).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_isa_quantises_as_the_reference(
            mut activations in prop::collection::vec(-1e3f32..1e3, 0..300),
            exponent in -40i32..30,
            odd in prop::sample::select(vec![0.0, f32::NAN, f32::INFINITY, -0.0, 1e-30]),
        ) {
            for activation in &mut activations {
                *activation *= 2.0f32.powi(exponent);
            }
            if let Some(first) = activations.first_mut() {
                *first += odd;
            }
            let mut expected = vec![0; activations.len()];
            for largest in [ACTIVATION_MAX, 7] {
                let scale = model::ternary::quantize_activations_to(largest, &activations, &mut expected);
                for isa in Isa::supported() {
                    let mut codes = vec![99; activations.len()];
                    let found = quantize_activations_to(isa, largest, &activations, &mut codes);
                    prop_assert_eq!(found.to_bits(), scale.to_bits(), "{}", isa);
                    prop_assert_eq!(&codes, &expected, "{}", isa);
                }
            }
        }

        #[test]
        fn every_isa_quantises_weights_as_the_reference(weights in prop::collection::vec(-3.0f32..3.0, 0..100), scale in 1e-5f32..2.0) {
            let scale = half::f16::from_f32(scale);
            let mut expected = vec![0; weights.len()];
            model::ternary::quantize_span(&weights, scale, &mut expected);
            for isa in Isa::supported() {
                let mut codes = vec![99; weights.len()];
                quantize_weights(isa, &weights, scale, &mut codes);
                prop_assert_eq!(&codes, &expected, "{}", isa);
            }
        }
    }

    #[test]
    fn halves_round_to_even() {
        // The largest is 127, so that the scale is 1.
        let activations: Vec<f32> = (-127..=127).map(|x| x as f32).chain((-126..126).map(|x| x as f32 + 0.5)).collect();
        let mut expected = vec![0; activations.len()];
        model::ternary::quantize_activations(&activations, &mut expected);
        for isa in Isa::supported() {
            let mut codes = vec![0; activations.len()];
            assert_eq!(quantize_activations(isa, &activations, &mut codes), 1.0);
            assert_eq!(codes, expected, "{isa}");
        }
    }

    #[test]
    fn memory_serves_again_for_another_width() {
        let mut activations = Activations::new();
        activations.quantize(Isa::SCALAR, &[5.0; 60], 30);
        activations.quantize(Isa::SCALAR, &[1.0; 21], 7);
        assert_eq!((activations.tokens(), activations.codes(2)), (3, [127; 7].as_slice()));
        assert_eq!(activations.sums(1), [7 * 127]);
        assert!(activations.padded()[7..STEP].iter().all(|code| *code == 0));
    }
}
