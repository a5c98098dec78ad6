//! The kernels for five weights to a byte, [`Packing::Five`](super::Packing): in plain Rust for any CPU, and for those with AVX-512-VNNI
//! and VBMI, whose lookup of a byte in 128 bytes makes four digits two bits each at once.

use super::{digits, integer_tile::Halves, scalar::Plain, tile::Vector};

/// As [`Plain`], digit by digit.
#[derive(Clone, Copy)]
pub(super) struct PlainDense(Plain);

/// What a vector for this packing has from the one that it is made of.
macro_rules! as_inner {
    ($inner:ty) => {
        const ROWS: usize = <$inner>::ROWS;
        const STEP: usize = 20;
        const LINES: usize = usize::MAX;
        const FEW_LINES: usize = usize::MAX;

        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self(<$inner>::zero()) }
        }

        #[inline(always)]
        unsafe fn load(from: *const u8) -> Self {
            unsafe { Self(<$inner>::load(from)) }
        }

        #[inline(always)]
        unsafe fn prefetch(from: *const u8) {
            unsafe { <$inner>::prefetch(from) }
        }

        #[inline(always)]
        unsafe fn splat(number: i32) -> Self {
            unsafe { Self(<$inner>::splat(number)) }
        }

        #[inline(always)]
        unsafe fn times_128(self) -> Self {
            unsafe { Self(self.0.times_128()) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(self.0.add(other.0)) }
        }

        #[inline(always)]
        unsafe fn and(self, mask: u8) -> Self {
            unsafe { Self(self.0.and(mask)) }
        }

        #[inline(always)]
        unsafe fn or(self, other: Self) -> Self {
            unsafe { Self(self.0.or(other.0)) }
        }

        #[inline(always)]
        unsafe fn left(self, by: i32) -> Self {
            unsafe { Self(self.0.left(by)) }
        }

        #[inline(always)]
        unsafe fn right(self, by: i32) -> Self {
            unsafe { Self(self.0.right(by)) }
        }

        type Floats = <$inner as Vector>::Floats;

        #[inline(always)]
        unsafe fn zero_floats() -> Self::Floats {
            unsafe { <$inner>::zero_floats() }
        }

        #[inline(always)]
        unsafe fn add_scaled(self, total: Self::Floats, scales: *const f32) -> Self::Floats {
            unsafe { self.0.add_scaled(total, scales) }
        }

        #[inline(always)]
        unsafe fn store_times(total: Self::Floats, factor: f32, to: *mut f32) {
            unsafe { <$inner>::store_times(total, factor, to) }
        }
    };
}

// SAFETY (of every `unsafe` below and above): these functions have the safety conditions of `Vector`, which are those of the functions
// and intrinsics that they consist of.

impl Vector for PlainDense {
    as_inner!(Plain);

    #[inline(always)]
    unsafe fn add_line<const M: usize, const N: usize>(
        sums: &mut [[PlainDense; N]; M],
        line: [PlainDense; M],
        tokens: *const i8,
        stride: usize,
    ) {
        for plane in 0..5 {
            for m in 0..M {
                let digit = line[m]
                    .0
                    .map_bytes(|byte| if plane == 4 { digits::last(byte) } else { digits::first_four(byte) / [1, 3, 9, 27][plane] % 3 });
                for n in 0..N {
                    sums[m][n].0 = unsafe { Plain::dot_small(sums[m][n].0, digit, tokens.add(n * stride + 4 * plane)) };
                }
            }
        }
    }

    type Sums = PlainDense;

    #[inline(always)]
    unsafe fn zero_sums() -> PlainDense {
        unsafe { PlainDense::zero() }
    }

    #[inline(always)]
    unsafe fn add_few<const M: usize, const N: usize>(
        sums: &mut [[PlainDense; N]; M],
        line: [PlainDense; M],
        tokens: *const i8,
        stride: usize,
    ) {
        unsafe { PlainDense::add_line(sums, line, tokens, stride) }
    }

    #[inline(always)]
    unsafe fn total(sums: PlainDense) -> PlainDense {
        sums
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use vbmi::{Dense, unpack};

#[cfg(target_arch = "x86_64")]
mod vbmi {
    use std::arch::x86_64::*;

    use super::{
        super::{
            digits,
            matrix::Line,
            x86::{Register, Vnni, planes, splat},
        },
        Vector,
    };

    /// As [`Vnni`] over 512 bits.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Dense(Vnni<__m512i>);

    #[repr(align(64))]
    struct Table<const N: usize>([u8; N]);

    /// For a quarter of a byte, its last digit.
    static LAST: Table<64> = {
        let mut table = [0; 64];
        let mut quarter = 0;
        while quarter < 64 {
            table[quarter] = digits::last(4 * quarter as u8);
            quarter += 1;
        }
        Table(table)
    };

    /// For a byte without its highest bit, its first four digits in two bits each.
    static FIRST_FOUR: Table<128> = {
        let mut table = [0; 128];
        let mut byte = 0;
        while byte < 128 {
            let number = digits::first_four(byte as u8);
            table[byte] = (number % 3) | ((number / 3 % 3) << 2) | ((number / 9 % 3) << 4) | ((number / 27 % 3) << 6);
            byte += 1;
        }
        Table(table)
    };

    impl Dense {
        /// The last digit of each byte, and the first four in two bits each.
        #[inline(always)]
        unsafe fn unpack(self) -> (__m512i, __m512i) {
            let (last, first_four): (*const __m512i, *const __m512i) = (LAST.0.as_ptr().cast(), FIRST_FOUR.0.as_ptr().cast());
            unsafe {
                let (bytes, last) = (self.0.0, _mm512_load_si512(last));
                let (low, high) = (_mm512_load_si512(first_four), _mm512_load_si512(first_four.add(1)));
                // A lookup takes no heed of an index's upper bits, where the shift leaves some of its neighbour's.
                let last = _mm512_permutexvar_epi8(_mm512_srli_epi16::<2>(bytes), last);
                let index = _mm512_min_epu8(bytes, _mm512_sub_epi8(bytes, _mm512_set1_epi8(digits::HIGH as i8)));
                (last, _mm512_permutex2var_epi8(low, index, high))
            }
        }
    }

    /// A block's lines, each of their five planes by itself.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(in super::super) fn unpack(lines: &[Line], planes: &mut [Line]) {
        for (line, planes) in lines.iter().zip(planes.as_chunks_mut::<5>().0) {
            // SAFETY: a line is 64 bytes, and the CPU has what is enabled here.
            unsafe {
                let (last, first_four) = Dense::load(line.0.as_ptr()).unpack();
                _mm512_store_si512(planes[0].0.as_mut_ptr().cast(), first_four.and(3));
                _mm512_store_si512(planes[1].0.as_mut_ptr().cast(), first_four.right16(2).and(3));
                _mm512_store_si512(planes[2].0.as_mut_ptr().cast(), first_four.right16(4).and(3));
                _mm512_store_si512(planes[3].0.as_mut_ptr().cast(), first_four.right16(6).and(3));
                _mm512_store_si512(planes[4].0.as_mut_ptr().cast(), last);
            }
        }
    }

    /// Add the products of four inputs of each row vector with those of every token.
    #[inline(always)]
    unsafe fn add_plane<const M: usize, const N: usize>(
        sums: &mut [[Dense; N]; M],
        weights: [__m512i; M],
        codes: *const i8,
        stride: usize,
    ) {
        for n in 0..N {
            unsafe {
                let codes = splat::<__m512i>(codes.add(n * stride), 0);
                for m in 0..M {
                    sums[m][n].0.0 = sums[m][n].0.0.dot(weights[m], codes);
                }
            }
        }
    }

    impl Vector for Dense {
        as_inner!(Vnni<__m512i>);

        #[inline(always)]
        unsafe fn add_line<const M: usize, const N: usize>(sums: &mut [[Dense; N]; M], line: [Dense; M], tokens: *const i8, stride: usize) {
            unsafe {
                let (mut last, mut first_four) = ([__m512i::zero(); M], [__m512i::zero(); M]);
                for m in 0..M {
                    (last[m], first_four[m]) = line[m].unpack();
                }
                add_plane(sums, last, tokens.add(16), stride);
                for plane in 0..planes(4) {
                    let mut weights = first_four;
                    for m in 0..M {
                        weights[m] = first_four[m].and(3);
                        first_four[m] = first_four[m].right16(2);
                    }
                    add_plane(sums, weights, tokens.add(4 * plane), stride);
                }
            }
        }

        /// As those of [`Vnni`], and one for the last digit.
        type Sums = [__m512i; 5];

        #[inline(always)]
        unsafe fn zero_sums() -> [__m512i; 5] {
            unsafe { [__m512i::zero(); 5] }
        }

        #[inline(always)]
        unsafe fn add_few<const M: usize, const N: usize>(
            sums: &mut [[[__m512i; 5]; N]; M],
            line: [Dense; M],
            tokens: *const i8,
            stride: usize,
        ) {
            unsafe {
                for m in 0..M {
                    let (last, first_four) = line[m].unpack();
                    for plane in 0..5 {
                        let weights = if plane == 4 { last } else { first_four.and((3u8 << (2 * plane)) as i8) };
                        for n in 0..N {
                            let codes = splat::<__m512i>(tokens.add(n * stride), plane);
                            sums[m][n][plane] = sums[m][n][plane].dot(weights, codes);
                        }
                    }
                }
            }
        }

        #[inline(always)]
        unsafe fn total([first, second, third, fourth, last]: [__m512i; 5]) -> Dense {
            unsafe { Dense(Vnni::add(Vnni::total([first, second, third, fourth]), Vnni(last))) }
        }
    }
}
