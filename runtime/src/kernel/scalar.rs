//! The kernel in plain Rust: what the others must equal, and what runs where there is no better.

use super::{integer_tile::Halves, tile::Vector};

/// Sixteen lanes, each the four bytes of a row in a line or a row's sum.
#[derive(Clone, Copy)]
pub(super) struct Plain([u32; 16]);

impl Plain {
    /// A function of every byte.
    #[inline(always)]
    pub(super) fn map_bytes(self, function: impl Fn(u8) -> u8) -> Plain {
        Plain(self.0.map(|lane| u32::from_le_bytes(lane.to_le_bytes().map(&function))))
    }
}

impl Vector for Plain {
    const ROWS: usize = 16;
    const STEP: usize = 16;
    const LINES: usize = usize::MAX;
    type Sums = Plain;
    const FEW_LINES: usize = usize::MAX;

    #[inline(always)]
    unsafe fn zero() -> Plain {
        Plain([0; 16])
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Plain {
        // SAFETY: the caller has 64 bytes there.
        let bytes = unsafe { from.cast::<[[u8; 4]; 16]>().read_unaligned() };
        Plain(bytes.map(u32::from_le_bytes))
    }

    #[inline(always)]
    unsafe fn prefetch(_from: *const u8) {}

    #[inline(always)]
    unsafe fn add_line<const M: usize, const N: usize>(sums: &mut [[Plain; N]; M], line: [Plain; M], tokens: *const i8, stride: usize) {
        for (sums, line) in sums.iter_mut().zip(line) {
            for (token, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller has sixteen codes of each token there.
                let codes = unsafe { tokens.add(token * stride).cast::<[i8; 16]>().read() };
                for (sum, weights) in sums.0.iter_mut().zip(line.0) {
                    let products = (0..16).map(|input| {
                        let weight = weights >> (8 * (input % 4) + input / 4 * 2) & 3;
                        weight as i32 * i32::from(codes[input])
                    });
                    *sum = sum.wrapping_add_signed(products.sum());
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn zero_sums() -> Plain {
        Plain([0; 16])
    }

    #[inline(always)]
    unsafe fn add_few<const M: usize, const N: usize>(sums: &mut [[Plain; N]; M], line: [Plain; M], tokens: *const i8, stride: usize) {
        // SAFETY: passed on from the caller.
        unsafe { Plain::add_line(sums, line, tokens, stride) }
    }

    #[inline(always)]
    unsafe fn total(sums: Plain) -> Plain {
        sums
    }

    #[inline(always)]
    unsafe fn splat(number: i32) -> Plain {
        Plain([number as u32; 16])
    }

    #[inline(always)]
    unsafe fn times_128(self) -> Plain {
        Plain(self.0.map(|sum| sum << 7))
    }

    #[inline(always)]
    unsafe fn add(self, other: Plain) -> Plain {
        Plain(std::array::from_fn(|lane| self.0[lane].wrapping_add(other.0[lane])))
    }

    #[inline(always)]
    unsafe fn and(self, mask: u8) -> Plain {
        Plain(self.0.map(|lane| lane & u32::from_le_bytes([mask; 4])))
    }

    #[inline(always)]
    unsafe fn or(self, other: Plain) -> Plain {
        Plain(std::array::from_fn(|lane| self.0[lane] | other.0[lane]))
    }

    #[inline(always)]
    unsafe fn left(self, by: i32) -> Plain {
        Plain(self.0.map(|lane| lane << by))
    }

    #[inline(always)]
    unsafe fn right(self, by: i32) -> Plain {
        Plain(self.0.map(|lane| lane >> by))
    }

    type Floats = [f32; 16];

    #[inline(always)]
    unsafe fn zero_floats() -> [f32; 16] {
        [0.0; 16]
    }

    #[inline(always)]
    unsafe fn add_scaled(self, total: [f32; 16], scales: *const f32) -> [f32; 16] {
        // SAFETY: the caller has sixteen scales there.
        let scales = unsafe { scales.cast::<[f32; 16]>().read() };
        std::array::from_fn(|lane| total[lane] + self.0[lane] as i32 as f32 * scales[lane])
    }

    #[inline(always)]
    unsafe fn store_times(total: [f32; 16], factor: f32, to: *mut f32) {
        // SAFETY: the caller has room for sixteen numbers there.
        unsafe { to.cast::<[f32; 16]>().write(total.map(|total| total * factor)) }
    }
}

impl Halves for Plain {
    const BYTE_OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn dot_bytes(sum: Plain, weights: Plain, four: *const i8) -> Plain {
        // SAFETY: the caller has four codes there.
        let four = unsafe { four.cast::<[i8; 4]>().read() };
        let mut sum = sum;
        for (sum, weights) in sum.0.iter_mut().zip(weights.0) {
            for (byte, code) in weights.to_le_bytes().into_iter().zip(four) {
                *sum = sum.wrapping_add_signed(i32::from((byte ^ 0x80) as i8) * i32::from(code));
            }
        }
        sum
    }

    #[inline(always)]
    unsafe fn dot_small(sum: Plain, weights: Plain, four: *const i8) -> Plain {
        // SAFETY: the caller has four codes there.
        let four = unsafe { four.cast::<[i8; 4]>().read() };
        let mut sum = sum;
        for (sum, weights) in sum.0.iter_mut().zip(weights.0) {
            for (byte, code) in weights.to_le_bytes().into_iter().zip(four) {
                *sum = sum.wrapping_add_signed(i32::from(byte) * i32::from(code));
            }
        }
        sum
    }
}
