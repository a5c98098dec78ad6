//! The tile unit (AMX) of recent Intel CPUs: products of 16-bit floats with f32 sums, several times as fast as vectors.
//!
//! The products here have one factor of small whole numbers, ternary weights or 8-bit activations, which a 16-bit float holds
//! exactly. The other one, a gradient, is split into two 16-bit floats that together hold 16 of its 24 bits; so the result is as
//! near the true one as that of an f32 product, whose sums round too (tested). Source of the instructions: Intel 64 and IA-32
//! Architectures Software Developer's Manual, volume 1, chapter 18.

use std::{cell::RefCell, sync::LazyLock};

use super::simd::{Isa, isa};

/// The proof that this CPU has a tile unit and that the system lets this process use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles(());

/// Rows of a first factor or columns of a second one that share a tile.
pub(crate) const SIDE: usize = 16;
/// Terms of a sum that share a tile.
pub(crate) const DEPTH: usize = 32;
/// Rows and columns of the product that [`Tiles`] computes at once: two tiles each way.
pub(crate) const BLOCK: usize = 2 * SIDE;

/// 16-bit floats as the unit takes them, two neighbouring terms of a sum in each number, the first in the low half. For a first
/// factor: `SIDE` rows of `DEPTH` terms. For a second one: `DEPTH` / 2 pairs of terms, each for `SIDE` columns. So one is the
/// other transposed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Tile(pub(crate) [[u32; SIDE]; SIDE]);

impl Tile {
    pub(crate) const ZERO: Tile = Tile([[0; SIDE]; SIDE]);
}

/// A block of a product.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Block(pub(crate) [f32; BLOCK * BLOCK]);

/// Two neighbouring rows, or columns, of tiles of one factor.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) tiles: [&'a [Tile]; 2],
    /// Tiles from one step along the sum to the next.
    pub(crate) stride: usize,
}

/// Which factor is the split one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    First,
    Second,
}

impl Tiles {
    /// The tile unit, if there is one to use.
    pub(crate) fn detect() -> Option<Tiles> {
        static FOUND: LazyLock<bool> = LazyLock::new(|| isa() == Isa::Avx512 && unit::usable());
        FOUND.then_some(Tiles(()))
    }

    /// Exchange rows and columns.
    pub(crate) fn transpose(self, numbers: &mut [[u32; SIDE]; SIDE]) {
        // SAFETY: a `Tiles` exists, so the CPU has AVX-512.
        unsafe { unit::transpose(numbers) }
    }

    /// Run `work` with the unit set up on this thread.
    pub(crate) fn with<T>(self, work: impl FnOnce(Unit) -> T) -> T {
        struct Release;
        impl Drop for Release {
            fn drop(&mut self) {
                // SAFETY: only a thread that set the unit up comes here.
                unsafe { unit::release() }
            }
        }
        // SAFETY: a `Tiles` exists, so the unit may be used.
        unsafe { unit::set_up() };
        let _release = Release;
        work(Unit(std::marker::PhantomData))
    }
}

/// A unit that is set up on this thread, which it cannot leave.
#[derive(Clone, Copy)]
pub(crate) struct Unit(std::marker::PhantomData<*const ()>);

impl Unit {
    /// The product of `steps` tiles of the exact factor with the high and low parts of the split one.
    ///
    /// # Panics
    /// If a pair has too few tiles.
    pub(crate) fn multiply(self, split: Split, exact: Pair, high: Pair, low: Pair, steps: usize, out: &mut Block) {
        assert_eq!(high.stride, low.stride, "the parts of the split factor lie alike");
        for pair in [exact, high, low] {
            let last = steps.saturating_sub(1) * pair.stride;
            assert!(pair.tiles.iter().all(|tiles| last < tiles.len()), "{steps} steps reach beyond the tiles");
        }
        if steps == 0 {
            out.0.fill(0.0);
            return;
        }
        let multiply = match split {
            Split::First => unit::split_first,
            Split::Second => unit::split_second,
        };
        let start = |pair: Pair| pair.tiles.map(|tiles| tiles.as_ptr());
        // SAFETY: the unit is set up on this thread, and every tile that is read lies in its slice, as asserted.
        unsafe { multiply(start(exact), exact.stride, start(high), start(low), high.stride, steps, out) }
    }
}

/// `count` tiles of any content to work in, which are this thread's again afterwards.
pub(crate) fn with_scratch<T>(count: usize, work: impl FnOnce(&mut [Tile]) -> T) -> T {
    thread_local! {
        /// More than one, because the work may wait for tasks that need some too.
        static FREE: RefCell<Vec<Vec<Tile>>> = const { RefCell::new(Vec::new()) };
    }
    let mut tiles = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if tiles.len() < count {
        tiles.resize(count, Tile::ZERO);
    }
    let result = work(&mut tiles[..count]);
    FREE.with_borrow_mut(|free| free.push(tiles));
    result
}

/// Two neighbouring terms, each as two 16-bit floats whose sum is it to 16 bits: the high parts and the low parts. Not a number
/// stays so.
#[inline(always)]
pub(crate) fn split(first: f32, second: f32) -> (u32, u32) {
    let high = [nearest_half(first), nearest_half(second)];
    let low = [nearest_half(first - f32::from_bits(high[0])), nearest_half(second - f32::from_bits(high[1]))];
    (high[0] >> 16 | high[1], low[0] >> 16 | low[1])
}

/// Two neighbouring terms that are whole numbers of at most 8 bits.
#[inline(always)]
pub(crate) fn whole(first: i8, second: i8) -> u32 {
    f32::from(first).to_bits() >> 16 | f32::from(second).to_bits()
}

/// The nearest 16-bit float, half to even, in the high half.
#[inline(always)]
fn nearest_half(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
    // Rounding could carry a not-a-number over into a number.
    if x.is_nan() { 0x7FC0_0000 } else { rounded }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod unit {
    use std::arch::{asm, x86_64::*};

    use super::{Block, SIDE, Tile};

    /// `arch_prctl`, and what it is asked for: leave to use the tiles' state (Documentation/arch/x86/xstate.rst of Linux).
    const ARCH_PRCTL: isize = 158;
    const REQUEST_PERMISSION: usize = 0x1023;
    const TILE_DATA: usize = 18;

    pub(super) fn usable() -> bool {
        let (amx_bf16, amx_tile) = (1 << 22, 1 << 24);
        let has = |features: u32| __cpuid_count(7, 0).edx & features == features;
        has(amx_bf16 | amx_tile) && permitted()
    }

    fn permitted() -> bool {
        let result: isize;
        // SAFETY: the call changes nothing but which instructions this process may use.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") REQUEST_PERMISSION,
                in("rsi") TILE_DATA,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        result == 0
    }

    /// Palette 1; all eight tiles have 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Config([u8; 64]);

    static CONFIG: Config = {
        let mut config = [0; 64];
        config[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            config[16 + 2 * tile] = 64;
            config[48 + tile] = 16;
            tile += 1;
        }
        Config(config)
    };

    /// # Safety
    /// The unit is usable.
    pub(super) unsafe fn set_up() {
        // SAFETY: passed on from the caller.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, readonly)) }
    }

    /// # Safety
    /// The unit is usable.
    pub(super) unsafe fn release() {
        // SAFETY: passed on from the caller.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }

    /// Rows of four numbers are brought together in two steps of interleaving, then their quarters in two steps of choosing.
    #[target_feature(enable = "avx512f")]
    pub(super) fn transpose(numbers: &mut [[u32; SIDE]; SIDE]) {
        // SAFETY: a row is as long as a vector; so below.
        let rows = numbers.each_ref().map(|row| unsafe { _mm512_loadu_si512(row.as_ptr().cast()) });
        let mut fours = [_mm512_setzero_si512(); SIDE];
        for (fours, rows) in fours.as_chunks_mut::<4>().0.iter_mut().zip(rows.as_chunks::<4>().0) {
            let low = [_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3])];
            let high = [_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3])];
            *fours = [
                _mm512_unpacklo_epi64(low[0], low[1]),
                _mm512_unpackhi_epi64(low[0], low[1]),
                _mm512_unpacklo_epi64(high[0], high[1]),
                _mm512_unpackhi_epi64(high[0], high[1]),
            ];
        }
        for column in 0..4 {
            let [a, b, c, d] = [0, 4, 8, 12].map(|row| fours[row + column]);
            let even = [_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d)];
            let odd = [_mm512_shuffle_i32x4::<0xDD>(a, b), _mm512_shuffle_i32x4::<0xDD>(c, d)];
            let columns = [
                _mm512_shuffle_i32x4::<0x88>(even[0], even[1]),
                _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]),
                _mm512_shuffle_i32x4::<0xDD>(even[0], even[1]),
                _mm512_shuffle_i32x4::<0xDD>(odd[0], odd[1]),
            ];
            for (quarter, values) in columns.into_iter().enumerate() {
                // SAFETY: as above.
                unsafe { _mm512_storeu_si512(numbers[4 * quarter + column].as_mut_ptr().cast(), values) }
            }
        }
    }

    /// The product of a block: tiles 0 to 3 are the sums, 4 and 5 hold the exact factor, 6 and 7 a part of the split one.
    macro_rules! product {
        ($name:ident, $into0:literal, $into1:literal, $into2:literal, $into3:literal) => {
            /// # Safety
            /// The unit is set up on this thread; `steps` is not 0, and that many tiles can be read at each stride.
            pub(super) unsafe fn $name(
                exact: [*const Tile; 2],
                exact_stride: usize,
                high: [*const Tile; 2],
                low: [*const Tile; 2],
                split_stride: usize,
                steps: usize,
                out: &mut Block,
            ) {
                // SAFETY: passed on from the caller.
                unsafe {
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "2:",
                        "tileloadd tmm4, [{exact0} + {row}]",
                        "tileloadd tmm5, [{exact1} + {row}]",
                        "tileloadd tmm6, [{high0} + {row}]",
                        $into0,
                        "tileloadd tmm7, [{high1} + {row}]",
                        $into1,
                        $into2,
                        $into3,
                        "tileloadd tmm6, [{low0} + {row}]",
                        $into0,
                        "tileloadd tmm7, [{low1} + {row}]",
                        $into1,
                        $into2,
                        $into3,
                        "add {exact0}, {exact_stride}",
                        "add {exact1}, {exact_stride}",
                        "add {high0}, {split_stride}",
                        "add {high1}, {split_stride}",
                        "add {low0}, {split_stride}",
                        "add {low1}, {split_stride}",
                        "dec {steps}",
                        "jnz 2b",
                        "mov {row:e}, 128",
                        "tilestored [{out} + {row}], tmm0",
                        "tilestored [{out} + {row} + 64], tmm1",
                        "tilestored [{out} + {row} + 2048], tmm2",
                        "tilestored [{out} + {row} + 2112], tmm3",
                        exact0 = inout(reg) exact[0] => _,
                        exact1 = inout(reg) exact[1] => _,
                        high0 = inout(reg) high[0] => _,
                        high1 = inout(reg) high[1] => _,
                        low0 = inout(reg) low[0] => _,
                        low1 = inout(reg) low[1] => _,
                        exact_stride = in(reg) exact_stride * size_of::<Tile>(),
                        split_stride = in(reg) split_stride * size_of::<Tile>(),
                        steps = inout(reg) steps => _,
                        row = inout(reg) 64usize => _,
                        out = in(reg) out.0.as_mut_ptr(),
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        };
    }
    product!(
        split_first,
        "tdpbf16ps tmm0, tmm6, tmm4",
        "tdpbf16ps tmm1, tmm6, tmm5",
        "tdpbf16ps tmm2, tmm7, tmm4",
        "tdpbf16ps tmm3, tmm7, tmm5"
    );
    product!(
        split_second,
        "tdpbf16ps tmm0, tmm4, tmm6",
        "tdpbf16ps tmm1, tmm4, tmm7",
        "tdpbf16ps tmm2, tmm5, tmm6",
        "tdpbf16ps tmm3, tmm5, tmm7"
    );
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod unit {
    use super::{Block, SIDE, Tile};

    pub(super) fn usable() -> bool {
        false
    }

    pub(super) unsafe fn transpose(_: &mut [[u32; SIDE]; SIDE]) {}

    pub(super) unsafe fn set_up() {}

    pub(super) unsafe fn release() {}

    pub(super) unsafe fn split_first(
        _: [*const Tile; 2],
        _: usize,
        _: [*const Tile; 2],
        _: [*const Tile; 2],
        _: usize,
        _: usize,
        _: &mut Block,
    ) {
        unreachable!("there is no tile unit");
    }

    pub(super) use split_first as split_second;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let Some(tiles) = Tiles::detect() else { return };
        let mut numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map(|row| [row * 100; SIDE]);
        numbers.iter_mut().for_each(|row| row.iter_mut().enumerate().for_each(|(column, number)| *number += column as u32));
        tiles.transpose(&mut numbers);
        for (row, numbers) in numbers.iter().enumerate() {
            for (column, number) in numbers.iter().enumerate() {
                assert_eq!(*number, (column * 100 + row) as u32);
            }
        }
    }

    #[test]
    fn a_split_number_is_whole_to_sixteen_bits() {
        let half = |bits: u32| f32::from_bits(bits << 16);
        for x in [0.0, -0.0, 1.0, 3.999_999, -1e-20, 1.234_567_8e30, f32::MAX / 2.0] {
            let (high, low) = split(x, 1.0);
            let sum = f64::from(half(high)) + f64::from(half(low));
            assert!((sum - f64::from(x)).abs() <= f64::from(x.abs()) * 2f64.powi(-17), "{x}: {sum}");
            assert_eq!((high >> 16, low >> 16), (1f32.to_bits() >> 16, 0));
        }
        for code in i8::MIN..=i8::MAX {
            assert_eq!(half(whole(code, 3)), f32::from(code));
            assert_eq!(f32::from_bits(whole(3, code) & 0xFFFF_0000), f32::from(code));
        }
        for bits in [0x7FC0_0000, 0x7FFF_FFFF, 0xFF80_0001] {
            assert!(half(split(f32::from_bits(bits), 0.0).0).is_nan());
        }
    }
}
