//! Registers of 256 and 512 bits: the operations that the kernels need of both, under one name each.

use std::arch::x86_64::*;

/// The operations that both widths have. A `plane` is one of the four weights that a byte of a line holds.
///
/// # Safety
/// The CPU has the register's instruction set, and [`Register::dot`] VNNI as well.
pub(in crate::kernel) trait Register: Copy {
    const ROWS: usize;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const u8) -> Self;
    /// The same four activations in every lane.
    unsafe fn splat(four: i32) -> Self;
    /// Of every byte the bits of the mask.
    unsafe fn and(self, mask: i8) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    /// Lanes of 16 bits shifted; bits that cross into another byte are for `and` to take away.
    unsafe fn left16(self, by: i32) -> Self;
    unsafe fn right16(self, by: i32) -> Self;
    /// Lanes of 32 bits divided by 4, signed.
    unsafe fn quarter(self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn add16(self, other: Self) -> Self;
    /// Unsigned bytes times signed ones, two products added in 16 bits.
    unsafe fn pairs(self, signed: Self) -> Self;
    /// Neighbours of 16 bits added in 32.
    unsafe fn widen(self) -> Self;
    /// Signed numbers of 16 bits times others, two products added in 32.
    unsafe fn pairs16(self, other: Self) -> Self;
    /// Of every 16 bits the lower byte.
    unsafe fn low_bytes(self) -> Self;
    /// self + the four products of unsigned and signed bytes in each lane.
    unsafe fn dot(self, unsigned: Self, signed: Self) -> Self;
    unsafe fn times_128(self) -> Self;
    /// As many lanes of f32.
    type Floats: Copy;
    unsafe fn zero_floats() -> Self::Floats;
    unsafe fn add_scaled(self, total: Self::Floats, scales: *const f32) -> Self::Floats;
    unsafe fn store_times(total: Self::Floats, factor: f32, to: *mut f32);
}

// SAFETY (of every `unsafe` below): these functions have the safety conditions of `Register`, which are those of the intrinsics that they
// consist of.

macro_rules! register {
    ($register:ty, $rows:literal, $zero:ident, $load:ident, $splat32:ident, $splat8:ident, $splat16:ident, $and:ident,
     $or:ident, $left16:ident, $right16:ident, $shift32:ident, $add:ident, $add16:ident, $pairs:ident, $pairs16:ident, $dot:ident,
     $left:ident, $floats:ty, $zero_floats:ident, $to_floats:ident, $load_floats:ident, $store_floats:ident,
     $splat_float:ident, $multiply:ident, $add_floats:ident) => {
        impl Register for $register {
            const ROWS: usize = $rows;

            #[inline(always)]
            unsafe fn zero() -> Self {
                unsafe { $zero() }
            }

            #[inline(always)]
            unsafe fn load(from: *const u8) -> Self {
                unsafe { $load(from.cast()) }
            }

            #[inline(always)]
            unsafe fn splat(four: i32) -> Self {
                unsafe { $splat32(four) }
            }

            #[inline(always)]
            unsafe fn and(self, mask: i8) -> Self {
                unsafe { $and(self, $splat8(mask)) }
            }

            #[inline(always)]
            unsafe fn or(self, other: Self) -> Self {
                unsafe { $or(self, other) }
            }

            #[inline(always)]
            unsafe fn left16(self, by: i32) -> Self {
                unsafe { $left16(self, _mm_cvtsi32_si128(by)) }
            }

            #[inline(always)]
            unsafe fn right16(self, by: i32) -> Self {
                unsafe { $right16(self, _mm_cvtsi32_si128(by)) }
            }

            #[inline(always)]
            unsafe fn quarter(self) -> Self {
                unsafe { $shift32::<2>(self) }
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { $add(self, other) }
            }

            #[inline(always)]
            unsafe fn add16(self, other: Self) -> Self {
                unsafe { $add16(self, other) }
            }

            #[inline(always)]
            unsafe fn pairs(self, signed: Self) -> Self {
                unsafe { $pairs(self, signed) }
            }

            #[inline(always)]
            unsafe fn widen(self) -> Self {
                unsafe { self.pairs16($splat16(1)) }
            }

            #[inline(always)]
            unsafe fn pairs16(self, other: Self) -> Self {
                unsafe { $pairs16(self, other) }
            }

            #[inline(always)]
            unsafe fn low_bytes(self) -> Self {
                unsafe { $and(self, $splat16(255)) }
            }

            #[inline(always)]
            unsafe fn dot(self, unsigned: Self, signed: Self) -> Self {
                unsafe { $dot(self, unsigned, signed) }
            }

            #[inline(always)]
            unsafe fn times_128(self) -> Self {
                unsafe { $left::<7>(self) }
            }

            type Floats = $floats;

            #[inline(always)]
            unsafe fn zero_floats() -> $floats {
                unsafe { $zero_floats() }
            }

            #[inline(always)]
            unsafe fn add_scaled(self, total: $floats, scales: *const f32) -> $floats {
                unsafe { $add_floats(total, $multiply($to_floats(self), $load_floats(scales))) }
            }

            #[inline(always)]
            unsafe fn store_times(total: $floats, factor: f32, to: *mut f32) {
                unsafe { $store_floats(to, $multiply(total, $splat_float(factor))) }
            }
        }
    };
}

register!(
    __m256i,
    8,
    _mm256_setzero_si256,
    _mm256_loadu_si256,
    _mm256_set1_epi32,
    _mm256_set1_epi8,
    _mm256_set1_epi16,
    _mm256_and_si256,
    _mm256_or_si256,
    _mm256_sll_epi16,
    _mm256_srl_epi16,
    _mm256_srai_epi32,
    _mm256_add_epi32,
    _mm256_add_epi16,
    _mm256_maddubs_epi16,
    _mm256_madd_epi16,
    _mm256_dpbusd_avx_epi32,
    _mm256_slli_epi32,
    __m256,
    _mm256_setzero_ps,
    _mm256_cvtepi32_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_mul_ps,
    _mm256_add_ps
);
register!(
    __m512i,
    16,
    _mm512_setzero_si512,
    _mm512_loadu_si512,
    _mm512_set1_epi32,
    _mm512_set1_epi8,
    _mm512_set1_epi16,
    _mm512_and_si512,
    _mm512_or_si512,
    _mm512_sll_epi16,
    _mm512_srl_epi16,
    _mm512_srai_epi32,
    _mm512_add_epi32,
    _mm512_add_epi16,
    _mm512_maddubs_epi16,
    _mm512_madd_epi16,
    _mm512_dpbusd_epi32,
    _mm512_slli_epi32,
    __m512,
    _mm512_setzero_ps,
    _mm512_cvtepi32_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_mul_ps,
    _mm512_add_ps
);
