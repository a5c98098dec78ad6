//! Intel's matrix tiles (AMX) for many tokens at once: one instruction multiplies up to sixteen tokens with sixteen rows over 64 inputs.
//!
//! Sixteen planes of the layout, each of which has four bytes for each of sixteen matrix rows, are exactly the second operand. So a span of
//! a panel's weights is unpacked to the first cache and then serves every token. Written in assembly because Rust's intrinsics for tiles
//! are not stable.
//!
//! There are eight tiles. A panel's four blocks take four for their sums, and both operands one each, so that two are never written: where
//! two threads share a core, a tile that is overwritten while it is still needed waits, unless others are free. Measured on Emerald
//! Rapids, four products with their loads: 27 ns and with a busy neighbour 64; of two times two tiles, which need all eight, 28 and 107.

use std::{
    arch::{asm, x86_64::*},
    cell::RefCell,
    ops::Range,
    sync::OnceLock,
};

use super::{
    Activations, Matrix,
    activations::{LEAST_TILE_TOKENS, TILE_TOKENS as TOKENS},
    matrix::{Line, MAX_COLUMNS, Packing},
    panel::{BLOCKS, Panel, Sums, Work},
    tile::Output,
};

/// Inputs that one instruction multiplies, and the planes that have them.
const STEP: usize = 64;
const STEP_PLANES: usize = STEP / 4;
/// Planes of a span, which are whole steps and whole lines of every packing: 80 KB of a panel's weights, so that sums seldom leave their
/// tiles. Those of a single tile of tokens never leave them, and a span is so short that it stays in the first cache.
const SPAN: usize = 320;
const SHORT_SPAN: usize = 80;
const _: () = assert!(SHORT_SPAN.is_multiple_of(STEP_PLANES * Packing::Five.planes()) && STEP_PLANES.is_multiple_of(Packing::Four.planes()));
const _: () = assert!(SPAN.is_multiple_of(SHORT_SPAN));

const _: () = assert!(BLOCKS == 4 && MAX_COLUMNS as i64 * 2 * 127 <= i32::MAX as i64);

/// Whether this CPU has the tiles and the system lets this process use them, for which it has to be asked.
pub(super) fn is_permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| {
        // CPUID leaf 7: AMX-TILE and AMX-INT8. Source: Intel's instruction set reference, CPUID.
        let has = __cpuid_count(7, 0).edx & (3 << 24) == 3 << 24;
        has && cfg!(target_os = "linux") && ask_linux()
    })
}

/// arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA). Source: the kernel's Documentation/arch/x86/xstate.rst.
fn ask_linux() -> bool {
    const ARCH_PRCTL: isize = 158;
    let mut result = ARCH_PRCTL;
    // SAFETY: the call changes nothing but which registers this process may use.
    unsafe {
        asm!("syscall", inlateout("rax") result, in("rdi") 0x1023, in("rsi") 18, out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

/// Whether a multiply goes through the tiles.
pub(super) fn fits(matrix: &Matrix, activations: &Activations) -> bool {
    matrix.columns().is_multiple_of(STEP) && activations.tokens() >= LEAST_TILE_TOKENS
}

/// What `ldtilecfg` reads: palette 1, and of every tile the rows and their bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    /// For so many tokens: tiles 0 to 3 are sums, 4 is of tokens, 5 of weights.
    fn new(tokens: usize) -> Configuration {
        let mut rows = [0; 16];
        rows[..5].fill(tokens as u8);
        rows[5] = STEP_PLANES as u8;
        let mut row_bytes = [0; 16];
        row_bytes[..6].fill(64);
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

/// Multiply the rows of `blocks` with every token.
///
/// # Safety
/// [`is_permitted`] and [`fits`] hold, the CPU has AVX-512 F, BW and VBMI, `output` has room for all tokens and rows, and no one else
/// writes these blocks' rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) unsafe fn multiply_blocks(matrix: &Matrix, activations: &Activations, blocks: Range<usize>, output: Output) {
    let (tokens, stride) = (activations.tokens(), activations.stride());
    let tiles = tokens.div_ceil(TOKENS);
    // Tiles of tokens that are as many each, as nearly as it goes; the last may have rows of the activations' padding.
    let tile_tokens = tokens.div_ceil(tiles);
    let lines_of_span = if tiles == 1 { SHORT_SPAN } else { SPAN } / matrix.packing().planes();
    WORK.with_borrow_mut(|work| {
        work.reserve(SPAN, tokens.next_multiple_of(TOKENS));
        let configuration = Configuration::new(tile_tokens);
        // SAFETY: between the two instructions no one else uses this thread's tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) };
        for panel in Panel::all(matrix, activations, blocks, output) {
            for group in 0..matrix.groups() {
                let lines = matrix.lines_of(group);
                for start in lines.clone().step_by(lines_of_span) {
                    let span = start..lines.end.min(start + lines_of_span);
                    panel.unpack(&span, SPAN, &mut work.weights);
                    let input = start * matrix.packing().step();
                    // Of the last line there may be less.
                    let steps = (span.len() * matrix.packing().step()).min(matrix.columns() - input) / STEP;
                    for first in (0..tokens).step_by(tile_tokens) {
                        panel.ask_ahead(&span, first / tile_tokens, tiles);
                        let codes = activations.padded()[first * stride + input..].as_ptr();
                        let (is_first, is_last) = (start == lines.start, span.end == lines.end);
                        let sums = &mut work.sums[first..];
                        // SAFETY: the activations' memory reaches to a whole tile of tokens, and so do the sums.
                        unsafe {
                            begin_span(sums, is_first, tiles == 1);
                            multiply_steps(codes, stride, work.weights.as_ptr(), steps);
                            end_span(sums, tiles == 1 && !is_last);
                        }
                        if is_last {
                            let excess_of = |token: usize| activations.group_sum(token, group, matrix.groups());
                            // SAFETY: passed on from the caller.
                            unsafe { panel.scale(group, &[_mm512_setzero_si512(); BLOCKS], &excess_of, first..tokens.min(first + tile_tokens), work) };
                        }
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    });
}

/// Have a tile's sums in the registers.
///
/// # Safety
/// The tiles are configured, and there are as many sums as a tile has tokens.
unsafe fn begin_span(sums: &[Sums], is_first: bool, is_kept: bool) {
    // SAFETY: passed on from the caller.
    unsafe {
        if is_first {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
        } else if !is_kept {
            asm!(
                "tileloadd tmm0, [{sums} + {apart}]",
                "tileloadd tmm1, [{sums} + {apart} + 64]",
                "tileloadd tmm2, [{sums} + {apart} + 128]",
                "tileloadd tmm3, [{sums} + {apart} + 192]",
                sums = in(reg) sums.as_ptr(),
                apart = in(reg) size_of::<Sums>(),
                options(nostack, readonly),
            );
        }
    }
}

/// Add the products of a tile of tokens with a panel's blocks to the sums in the registers.
///
/// # Safety
/// The tiles are configured; there are `64 * steps` codes of each token of the tile, `stride` apart, and `16 * steps` planes of each
/// block, [`SPAN`] apart.
unsafe fn multiply_steps(codes: *const i8, stride: usize, weights: *const Line, steps: usize) {
    // SAFETY: passed on from the caller. Source of the instructions: Intel's instruction set reference, TDPBSUD: signed bytes of the
    // second operand times unsigned bytes of the third, added to the first.
    unsafe {
        asm!(
            "2:",
            "tileloadd tmm4, [{codes} + {stride}]",
            "tileloadd tmm5, [{weights} + {line}]",
            "tdpbsud tmm0, tmm4, tmm5",
            "tileloadd tmm5, [{weights} + {line} + {block}]",
            "tdpbsud tmm1, tmm4, tmm5",
            "tileloadd tmm5, [{weights} + {line} + 2 * {block}]",
            "tdpbsud tmm2, tmm4, tmm5",
            "tileloadd tmm5, [{weights} + {line} + 3 * {block}]",
            "tdpbsud tmm3, tmm4, tmm5",
            "add {codes}, 64",
            "add {weights}, 1024",
            "dec {steps}",
            "jnz 2b",
            codes = inout(reg) codes => _,
            weights = inout(reg) weights => _,
            steps = inout(reg) steps => _,
            stride = in(reg) stride,
            line = in(reg) size_of::<Line>(),
            block = const SPAN * size_of::<Line>(),
            options(nostack, readonly),
        );
    }
}

/// Bring a tile's sums from the registers to memory, unless they are kept.
///
/// # Safety
/// As [`begin_span`].
unsafe fn end_span(sums: &mut [Sums], is_kept: bool) {
    if !is_kept {
        // SAFETY: passed on from the caller.
        unsafe {
            asm!(
                "tilestored [{sums} + {apart}], tmm0",
                "tilestored [{sums} + {apart} + 64], tmm1",
                "tilestored [{sums} + {apart} + 128], tmm2",
                "tilestored [{sums} + {apart} + 192], tmm3",
                sums = in(reg) sums.as_mut_ptr(),
                apart = in(reg) size_of::<Sums>(),
                options(nostack),
            );
        }
    }
}
