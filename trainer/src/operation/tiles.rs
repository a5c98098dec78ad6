//! The tile unit (AMX) of recent Intel CPUs: products of 16-bit floats with f32 sums, several times as fast as vectors.
//!
//! The products here have one factor of small whole numbers, ternary weights or 8-bit activations, which a 16-bit float holds
//! exactly. The other one, a gradient, is split into two 16-bit floats that together hold 16 of its 24 bits; so the result is as
//! near the true one as that of an f32 product, whose sums round too (tested). Source of the instructions: Intel 64 and IA-32
//! Architectures Software Developer's Manual, volume 1, chapter 18.

use std::{cell::RefCell, sync::LazyLock};

/// The proof that this CPU has a tile unit and that the system lets this process use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles(());

/// Rows of a first factor or columns of a second one that share a tile.
pub(crate) const SIDE: usize = 16;
/// Terms of a sum that share a tile.
pub(crate) const DEPTH: usize = 32;
/// Rows and columns of the product that [`Tiles`] computes at once: two tiles each way.
pub(crate) const BLOCK: usize = 2 * SIDE;

/// 16-bit floats as the unit takes them. For a first factor: `SIDE` rows of `DEPTH` terms. For a second one: `DEPTH` / 2 pairs of
/// terms, each with its two numbers for each of `SIDE` columns.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Tile(pub(crate) [u16; SIDE * DEPTH]);

impl Tile {
    pub(crate) const ZERO: Tile = Tile([0; SIDE * DEPTH]);
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
        static FOUND: LazyLock<bool> = LazyLock::new(unit::usable);
        FOUND.then_some(Tiles(()))
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

/// The bits of x as two 16-bit floats whose sum is x to 16 bits; not a number stays so.
#[inline(always)]
pub(crate) fn split(x: f32) -> (u16, u16) {
    let high = to_half(x);
    (high, to_half(x - f32::from_bits(u32::from(high) << 16)))
}

/// The nearest 16-bit float, half to even.
#[inline(always)]
fn to_half(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
    // Rounding could carry a not-a-number over into a number.
    (if x.is_nan() { 0x7FC0 } else { rounded }) as u16
}

/// The bits of a whole number of at most 8 bits as a 16-bit float.
#[inline(always)]
pub(crate) fn whole(code: i8) -> u16 {
    (f32::from(code).to_bits() >> 16) as u16
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod unit {
    use std::arch::{asm, x86_64::__cpuid_count};

    use super::{Block, Tile};

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
    use super::{Block, Tile};

    pub(super) fn usable() -> bool {
        false
    }

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
