//! A ternary matrix with many tokens: a span of a panel's weights is unpacked and then serves every token.

use std::{
    arch::{asm, x86_64::_mm512_setzero_si512},
    cell::RefCell,
    ops::Range,
};

use super::{
    super::{
        Activations, Matrix,
        activations::{LEAST_TILE_TOKENS, TILE_TOKENS as TOKENS},
        matrix::{Line, MAX_COLUMNS, Packing},
        panel::{Panel, Sums, Work},
        tile::Output,
    },
    with_tiles,
};

/// Blocks of a panel.
const BLOCKS: usize = 2;
/// Inputs that one instruction multiplies, and the planes that have them.
const STEP: usize = 64;
const STEP_PLANES: usize = STEP / 4;
/// Planes of a span: the least that are whole steps and whole lines of every packing.
const SPAN: usize = STEP_PLANES * Packing::Five.planes();
const _: () = assert!(SPAN.is_multiple_of(Packing::Four.planes()));

const _: () = assert!(BLOCKS == 2 && MAX_COLUMNS as i64 * 2 * 127 <= i32::MAX as i64);

/// Whether a multiply goes through the tiles.
pub(in super::super) fn fits(matrix: &Matrix, activations: &Activations) -> bool {
    matrix.columns().is_multiple_of(STEP) && activations.tokens() >= LEAST_TILE_TOKENS
}

thread_local! {
    static WORK: RefCell<Work<BLOCKS>> = RefCell::default();
}

/// Multiply the rows of `blocks` with every token.
///
/// # Safety
/// [`super::is_permitted`] and [`fits`] hold, the CPU has AVX-512 F, BW and VBMI, `output` has room for all tokens and rows, and no one
/// else writes these blocks' rows.
pub(in super::super) unsafe fn multiply_blocks(matrix: &Matrix, activations: &Activations, blocks: Range<usize>, output: Output) {
    let tokens = activations.tokens();
    // Tiles of as many tokens each, as nearly as it goes; the last may have rows of the activations' padding.
    let tile = tokens.div_ceil(tokens.div_ceil(TOKENS));
    WORK.with_borrow_mut(|work| {
        work.reserve(SPAN, tokens.next_multiple_of(TOKENS));
        // SAFETY: passed on from the caller.
        unsafe {
            with_tiles(tile, STEP, || {
                Panel::all(matrix, activations, blocks, output).for_each(|panel| multiply_panel(&panel, tile, work));
            });
        }
    });
}

/// # Safety
/// As [`multiply_blocks`], for the panel's rows; there are tiles of `tile` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn multiply_panel(panel: &Panel<BLOCKS>, tile: usize, work: &mut Work<BLOCKS>) {
    let Panel { matrix, activations, .. } = panel;
    let (tokens, stride, step) = (activations.tokens(), activations.stride(), matrix.packing().step());
    // The sums of a single tile of tokens stay in the registers from span to span.
    let is_alone = tile == tokens;
    let lines_of_span = SPAN / matrix.packing().planes();
    for group in 0..matrix.groups() {
        let lines = matrix.lines_of(group);
        for start in lines.clone().step_by(lines_of_span) {
            let span = start..lines.end.min(start + lines_of_span);
            let (is_first, is_last) = (start == lines.start, span.end == lines.end);
            panel.unpack(&span, SPAN, &mut work.weights);
            // The last line may have more inputs than there are.
            let steps = (span.len() * step).min(matrix.columns() - start * step) / STEP;
            for first in (0..tokens).step_by(tile) {
                panel.ask_ahead(&span, first / tile, tokens.div_ceil(tile));
                let codes = activations.padded()[first * stride + start * step..].as_ptr();
                // SAFETY: the activations' memory reaches to a whole tile of tokens, and so do the sums.
                unsafe {
                    begin_span(&work.sums[first..], is_first, is_alone);
                    multiply_steps(codes, stride, work.weights.as_ptr(), steps);
                    end_span(&mut work.sums[first..], is_alone && !is_last);
                }
                if is_last {
                    let excess_of = |token: usize| activations.group_sum(token, group, matrix.groups());
                    // SAFETY: passed on from the caller.
                    unsafe {
                        panel.scale(group, &[_mm512_setzero_si512(); BLOCKS], &excess_of, first..tokens.min(first + tile), work);
                    }
                }
            }
        }
    }
}

/// Have a tile's sums in the registers.
///
/// # Safety
/// The tiles are configured, and there are as many sums as a tile has tokens.
unsafe fn begin_span(sums: &[Sums<BLOCKS>], is_first: bool, is_kept: bool) {
    // SAFETY: passed on from the caller.
    unsafe {
        if is_first {
            asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem));
        } else if !is_kept {
            asm!(
                "tileloadd tmm0, [{sums} + {apart}]",
                "tileloadd tmm1, [{sums} + {apart} + 64]",
                sums = in(reg) sums.as_ptr(),
                apart = in(reg) size_of::<Sums<BLOCKS>>(),
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
unsafe fn end_span(sums: &mut [Sums<BLOCKS>], is_kept: bool) {
    if !is_kept {
        // SAFETY: passed on from the caller.
        unsafe {
            asm!(
                "tilestored [{sums} + {apart}], tmm0",
                "tilestored [{sums} + {apart} + 64], tmm1",
                sums = in(reg) sums.as_mut_ptr(),
                apart = in(reg) size_of::<Sums<BLOCKS>>(),
                options(nostack),
            );
        }
    }
}
