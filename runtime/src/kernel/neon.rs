//! The kernels for 64-bit ARM: registers of 128 bits, plain, with the dot product (sdot) and with the matrix product (smmla).
//!
//! A line's sixteen activations are one register, so that a dot product takes its four from it by number and nothing is broadcast.
//! sdot and smmla are inline assembly, because the intrinsics are not stable.

use std::{
    arch::{aarch64::*, asm},
    mem::transmute,
};

use super::{integer_tile::Halves, tile::Vector};

/// Plain: products of 8 bits in 16, a line's four planes added before they are widened.
#[derive(Clone, Copy)]
pub(super) struct Neon(int32x4_t);

/// With sdot: four products of 8 bits in each lane.
#[derive(Clone, Copy)]
pub(super) struct Dotprod(int32x4_t);

/// With smmla: two rows times two tokens, eight products each, in one instruction.
#[derive(Clone, Copy)]
pub(super) struct I8mm(int32x4_t);

// A lane of 16 bits holds a byte's products of four planes, then those of two bytes; or the products of one or two 8-bit weights.
const _: () = assert!(2 * 4 * 2 * 127 <= i16::MAX as i32);
const _: () = assert!(128 * 127 <= i16::MAX as i32);

// SAFETY (of every `unsafe` below): these functions have the safety conditions of `Vector`, which are those of the intrinsics,
// instructions and pointer reads that they consist of.

/// The four weights of every byte of a line, each as w + 1.
#[inline(always)]
unsafe fn planes(line: int32x4_t) -> [int8x16_t; 4] {
    unsafe {
        let (line, mask) = (vreinterpretq_u8_s32(line), vdupq_n_u8(3));
        [
            vreinterpretq_s8_u8(vandq_u8(line, mask)),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<2>(line), mask)),
            vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8::<4>(line), mask)),
            vreinterpretq_s8_u8(vshrq_n_u8::<6>(line)),
        ]
    }
}

/// Bytes stored as w + 128, as signed ones.
#[inline(always)]
unsafe fn flip(weights: int32x4_t) -> int8x16_t {
    unsafe { vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s32(weights), vdupq_n_u8(0x80))) }
}

/// The same four activations in every lane.
#[inline(always)]
unsafe fn splat(four: *const i8) -> int8x16_t {
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(four.cast::<i32>().read_unaligned())) }
}

/// sum + the four products of each lane of `weights` with four activations, which are lane `LANE` of `codes`.
#[inline(always)]
unsafe fn sdot<const LANE: usize>(sum: int32x4_t, weights: int8x16_t, codes: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {codes:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            weights = in(vreg) weights,
            codes = in(vreg) codes,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// sum + the eight products of each of two rows with each of two tokens: row 0 with token 0, row 0 with token 1, row 1 with token 0,
/// row 1 with token 1.
#[inline(always)]
unsafe fn smmla(sum: int32x4_t, rows: int8x16_t, tokens: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {rows:v}.16b, {tokens:v}.16b",
            sum = inout(vreg) sum,
            rows = in(vreg) rows,
            tokens = in(vreg) tokens,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// sum + a line's products with one token.
#[inline(always)]
unsafe fn dot_line(sum: int32x4_t, planes: [int8x16_t; 4], codes: int8x16_t) -> int32x4_t {
    unsafe {
        let sum = sdot::<0>(sum, planes[0], codes);
        let sum = sdot::<1>(sum, planes[1], codes);
        let sum = sdot::<2>(sum, planes[2], codes);
        sdot::<3>(sum, planes[3], codes)
    }
}

/// Add a line's products to a sum for each plane: four independent chains of additions. The second and third planes are not
/// shifted, so that their sums are 4 and 16 times too large; the fourth would be negative where it is not shifted.
#[inline(always)]
unsafe fn dot_line_apart(sums: &mut [int32x4_t; 4], line: int32x4_t, codes: int8x16_t) {
    unsafe {
        let line = vreinterpretq_u8_s32(line);
        let plane = |mask| vreinterpretq_s8_u8(vandq_u8(line, vdupq_n_u8(mask)));
        sums[0] = sdot::<0>(sums[0], plane(0x03), codes);
        sums[1] = sdot::<1>(sums[1], plane(0x0c), codes);
        sums[2] = sdot::<2>(sums[2], plane(0x30), codes);
        sums[3] = sdot::<3>(sums[3], vreinterpretq_s8_u8(vshrq_n_u8::<6>(line)), codes);
    }
}

#[inline(always)]
unsafe fn total([first, second, third, fourth]: [int32x4_t; 4]) -> int32x4_t {
    unsafe { vaddq_s32(vaddq_s32(first, fourth), vaddq_s32(vshrq_n_s32::<2>(second), vshrq_n_s32::<4>(third))) }
}

/// What the three have in common.
macro_rules! shared {
    () => {
        const ROWS: usize = 4;
        const STEP: usize = 16;
        const LINES: usize = usize::MAX;
        const FEW_LINES: usize = usize::MAX;

        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self(vdupq_n_s32(0)) }
        }

        #[inline(always)]
        unsafe fn load(from: *const u8) -> Self {
            unsafe { Self(vreinterpretq_s32_u8(vld1q_u8(from))) }
        }

        /// These cores see by themselves that lines are read one after the other.
        #[inline(always)]
        unsafe fn prefetch(_from: *const u8) {}

        #[inline(always)]
        unsafe fn splat(number: i32) -> Self {
            unsafe { Self(vdupq_n_s32(number)) }
        }

        #[inline(always)]
        unsafe fn times_128(self) -> Self {
            unsafe { Self(vshlq_n_s32::<7>(self.0)) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(vaddq_s32(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn and(self, mask: u8) -> Self {
            unsafe { Self(vandq_s32(self.0, vreinterpretq_s32_u8(vdupq_n_u8(mask)))) }
        }

        #[inline(always)]
        unsafe fn or(self, other: Self) -> Self {
            unsafe { Self(vorrq_s32(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn left(self, by: i32) -> Self {
            unsafe { Self(vreinterpretq_s32_u8(vshlq_u8(vreinterpretq_u8_s32(self.0), vdupq_n_s8(by as i8)))) }
        }

        #[inline(always)]
        unsafe fn right(self, by: i32) -> Self {
            unsafe { self.left(-by) }
        }

        type Floats = float32x4_t;

        #[inline(always)]
        unsafe fn zero_floats() -> float32x4_t {
            unsafe { vdupq_n_f32(0.0) }
        }

        #[inline(always)]
        unsafe fn add_scaled(self, total: float32x4_t, scales: *const f32) -> float32x4_t {
            unsafe { vaddq_f32(total, vmulq_f32(vcvtq_f32_s32(self.0), vld1q_f32(scales))) }
        }

        #[inline(always)]
        unsafe fn store_times(total: float32x4_t, factor: f32, to: *mut f32) {
            unsafe { vst1q_f32(to, vmulq_n_f32(total, factor)) }
        }
    };
}

/// What sdot and smmla have in common: one token goes through sdot.
macro_rules! with_sdot {
    () => {
        type Sums = [int32x4_t; 4];

        #[inline(always)]
        unsafe fn zero_sums() -> [int32x4_t; 4] {
            unsafe { [vdupq_n_s32(0); 4] }
        }

        #[inline(always)]
        unsafe fn add_few<const M: usize, const N: usize>(
            sums: &mut [[[int32x4_t; 4]; N]; M],
            line: [Self; M],
            tokens: *const i8,
            stride: usize,
        ) {
            unsafe {
                for n in 0..N {
                    let codes = vld1q_s8(tokens.add(n * stride));
                    for m in 0..M {
                        dot_line_apart(&mut sums[m][n], line[m].0, codes);
                    }
                }
            }
        }

        #[inline(always)]
        unsafe fn total(sums: [int32x4_t; 4]) -> Self {
            unsafe { Self(total(sums)) }
        }
    };
}

impl Vector for Neon {
    shared!();
    type Sums = Self;

    #[inline(always)]
    unsafe fn add_line<const M: usize, const N: usize>(sums: &mut [[Self; N]; M], line: [Self; M], tokens: *const i8, stride: usize) {
        unsafe {
            for n in 0..N {
                let four = [0, 4, 8, 12].map(|plane| tokens.add(n * stride + plane));
                let codes = [splat(four[0]), splat(four[1]), splat(four[2]), splat(four[3])];
                for m in 0..M {
                    let weights = planes(line[m].0);
                    let mut front = vmull_s8(vget_low_s8(weights[0]), vget_low_s8(codes[0]));
                    let mut back = vmull_high_s8(weights[0], codes[0]);
                    for plane in 1..4 {
                        front = vmlal_s8(front, vget_low_s8(weights[plane]), vget_low_s8(codes[plane]));
                        back = vmlal_high_s8(back, weights[plane], codes[plane]);
                    }
                    sums[m][n].0 = vpadalq_s16(sums[m][n].0, vpaddq_s16(front, back));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn zero_sums() -> Self {
        unsafe { Self::zero() }
    }

    #[inline(always)]
    unsafe fn add_few<const M: usize, const N: usize>(sums: &mut [[Self; N]; M], line: [Self; M], tokens: *const i8, stride: usize) {
        unsafe { Self::add_line(sums, line, tokens, stride) }
    }

    #[inline(always)]
    unsafe fn total(sums: Self) -> Self {
        sums
    }
}

impl Halves for Neon {
    const BYTE_OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn dot_bytes(sum: Self, weights: Self, four: *const i8) -> Self {
        unsafe { Self(dot_plain(sum.0, flip(weights.0), splat(four))) }
    }

    #[inline(always)]
    unsafe fn dot_small(sum: Self, weights: Self, four: *const i8) -> Self {
        unsafe { Self(dot_plain(sum.0, vreinterpretq_s8_s32(weights.0), splat(four))) }
    }
}

/// sum + the four products of each lane.
#[inline(always)]
unsafe fn dot_plain(sum: int32x4_t, weights: int8x16_t, codes: int8x16_t) -> int32x4_t {
    unsafe {
        let front = vpaddlq_s16(vmull_s8(vget_low_s8(weights), vget_low_s8(codes)));
        let back = vpaddlq_s16(vmull_high_s8(weights, codes));
        vaddq_s32(sum, vpaddq_s32(front, back))
    }
}

impl Vector for Dotprod {
    shared!();
    with_sdot!();

    #[inline(always)]
    unsafe fn add_line<const M: usize, const N: usize>(sums: &mut [[Self; N]; M], line: [Self; M], tokens: *const i8, stride: usize) {
        unsafe {
            for m in 0..M {
                let weights = planes(line[m].0);
                for n in 0..N {
                    sums[m][n].0 = dot_line(sums[m][n].0, weights, vld1q_s8(tokens.add(n * stride)));
                }
            }
        }
    }
}

impl Vector for I8mm {
    shared!();
    with_sdot!();

    /// For an even number of tokens the sums of two neighbours hold both tokens' rows: the first those of rows 0 and 1, the second
    /// those of rows 2 and 3, until [`Vector::settle`].
    #[inline(always)]
    unsafe fn add_line<const M: usize, const N: usize>(sums: &mut [[Self; N]; M], line: [Self; M], tokens: *const i8, stride: usize) {
        unsafe {
            if N == 1 {
                for m in 0..M {
                    sums[m][0].0 = dot_line(sums[m][0].0, planes(line[m].0), vld1q_s8(tokens));
                }
                return;
            }
            // Eight inputs at a time: two planes side by side for each row.
            for half in 0..2 {
                let mut rows = [[vdupq_n_s8(0); 2]; M];
                for m in 0..M {
                    let weights: [int32x4_t; 4] = transmute::<[int8x16_t; 4], _>(planes(line[m].0));
                    let (first, second) = (weights[2 * half], weights[2 * half + 1]);
                    rows[m] = [vreinterpretq_s8_s32(vzip1q_s32(first, second)), vreinterpretq_s8_s32(vzip2q_s32(first, second))];
                }
                for pair in 0..N / 2 {
                    let token = tokens.add(2 * pair * stride + 8 * half);
                    let codes = vcombine_s8(vld1_s8(token), vld1_s8(token.add(stride)));
                    for m in 0..M {
                        sums[m][2 * pair].0 = smmla(sums[m][2 * pair].0, rows[m][0], codes);
                        sums[m][2 * pair + 1].0 = smmla(sums[m][2 * pair + 1].0, rows[m][1], codes);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn settle<const M: usize, const N: usize>(sums: &mut [[Self; N]; M]) {
        for m in 0..M {
            for pair in 0..N / 2 {
                let (front, back) = (sums[m][2 * pair].0, sums[m][2 * pair + 1].0);
                unsafe {
                    sums[m][2 * pair].0 = vuzp1q_s32(front, back);
                    sums[m][2 * pair + 1].0 = vuzp2q_s32(front, back);
                }
            }
        }
    }
}

/// Bytes go through sdot in both.
macro_rules! halves_with_sdot {
    ($vector:ty) => {
        impl Halves for $vector {
            const BYTE_OFFSET: i32 = 0;

            #[inline(always)]
            unsafe fn dot_bytes(sum: Self, weights: Self, four: *const i8) -> Self {
                unsafe { Self(sdot::<0>(sum.0, flip(weights.0), splat(four))) }
            }

            #[inline(always)]
            unsafe fn dot_small(sum: Self, weights: Self, four: *const i8) -> Self {
                unsafe { Self(sdot::<0>(sum.0, vreinterpretq_s8_s32(weights.0), splat(four))) }
            }
        }
    };
}

halves_with_sdot!(Dotprod);
halves_with_sdot!(I8mm);
