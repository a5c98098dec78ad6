//! A matrix of integers of 8 bits with many tokens. Its lines are planes as they are, so that weights go from memory into tiles; a tile of
//! codes is the high and the low ones of eight tokens. A group of inputs has scales of its own, so every product leaves its tile at once:
//! two blocks take turns, and while one's tile multiplies, the other's sums are scaled.

use std::{
    arch::{asm, x86_64::*},
    cell::RefCell,
    ops::Range,
};

use super::{
    super::{
        FineActivations,
        fine::TILE_TOKENS as TOKENS,
        integers::{Bits, IntegerMatrix},
        matrix::{Line, ROWS},
        tile::Output,
    },
    with_tiles,
};

/// With fewer tokens tiles are not used.
const LEAST_TOKENS: usize = 3;
/// Blocks that take turns.
const BLOCKS: usize = 2;
const INPUTS: usize = Bits::Eight.group();
/// What is multiplied is a weight plus this.
const OFFSET: i32 = 128;

/// High and low sums of each token with a block's rows.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Sums([[[i32; ROWS]; 2]; TOKENS]);

/// A tile's scaled sums.
type Totals = [[__m512; BLOCKS]; TOKENS];

thread_local! {
    /// What each token's sums of a group have too much, `[tiles, groups]`.
    static EXCESS: RefCell<Vec<[i32; TOKENS]>> = const { RefCell::new(Vec::new()) };
}

/// Whether a multiply goes through the tiles.
pub(in super::super) fn fits_integers(matrix: &IntegerMatrix, activations: &FineActivations) -> bool {
    matrix.bits() == Bits::Eight && activations.tokens() >= LEAST_TOKENS
}

/// Multiply the rows of `blocks` with every token.
///
/// # Safety
/// [`super::is_permitted`] and [`fits_integers`] hold, the CPU has AVX-512 F and BW, `output` has room for all tokens and rows, and no
/// one else writes these blocks' rows.
pub(in super::super) unsafe fn multiply_integer_blocks(
    matrix: &IntegerMatrix,
    activations: &FineActivations,
    blocks: Range<usize>,
    output: Output,
) {
    let (tokens, groups) = (activations.tokens(), matrix.groups());
    EXCESS.with_borrow_mut(|excess| {
        excess.clear();
        for first in (0..tokens).step_by(TOKENS) {
            excess.extend((0..groups).map(|group| {
                std::array::from_fn(|at| {
                    // Of tokens that there are not, sums are not used.
                    let token = (first + at).min(tokens - 1);
                    OFFSET * activations.sum(token, group * INPUTS, INPUTS)
                })
            }));
        }
        let task = || {
            for first in blocks.clone().step_by(BLOCKS) {
                for (tile, excess) in excess.chunks_exact(groups).enumerate() {
                    let panel = Panel { matrix, activations, first, end: blocks.end, token: tile * TOKENS, excess, output };
                    // SAFETY: passed on from the caller.
                    unsafe { panel.multiply() };
                }
            }
        };
        // SAFETY: passed on from the caller.
        unsafe { with_tiles(2 * TOKENS, INPUTS, task) };
    });
}

/// Rows that are multiplied with a tile of tokens.
struct Panel<'a> {
    matrix: &'a IntegerMatrix,
    activations: &'a FineActivations,
    /// The first block, and the end of those that are to be written.
    first: usize,
    end: usize,
    /// The first token.
    token: usize,
    excess: &'a [[i32; TOKENS]],
    output: Output,
}

impl Panel<'_> {
    /// A block by its place. Where there are fewer, the last is multiplied again.
    fn block(&self, place: usize) -> usize {
        (self.first + place).min(self.end - 1)
    }

    /// # Safety
    /// As [`multiply_integer_blocks`], for the panel's rows and tokens; there are tiles.
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn multiply(&self) {
        let mut sums = [Sums::default(); BLOCKS];
        let mut totals = [[_mm512_setzero_ps(); BLOCKS]; TOKENS];
        let groups = self.matrix.groups();
        for group in 0..groups + 2 {
            // SAFETY: passed on from the caller. A block's sums of a group are stored at its next turn, and scaled at the other block's.
            unsafe {
                self.turn::<0>(group, &mut sums[0]);
                if group >= 2 {
                    self.scale(group - 2, 1, &sums[1], &mut totals);
                }
                self.turn::<1>(group, &mut sums[1]);
                if (1..=groups).contains(&group) {
                    self.scale(group - 1, 0, &sums[0], &mut totals);
                }
            }
        }
        // SAFETY: passed on from the caller.
        unsafe { self.write(&totals) };
    }

    /// Store a block's sums of the group before, and have its tile multiply this one.
    ///
    /// # Safety
    /// As [`Panel::multiply`].
    #[inline(always)]
    unsafe fn turn<const PLACE: usize>(&self, group: usize, sums: &mut Sums) {
        let groups = self.matrix.groups();
        // SAFETY: a tile of tokens has codes, though tokens may be missing, and a group's lines follow each other. Source of the
        // instructions: as in `ternary.rs`.
        unsafe {
            if (1..=groups).contains(&group) {
                asm!(
                    "tilestored [{sums} + {line}], tmm{place}",
                    sums = in(reg) std::ptr::from_mut(sums),
                    line = in(reg) size_of::<Line>(),
                    place = const PLACE,
                    options(nostack),
                );
            }
            if group < groups {
                if PLACE == 0 {
                    asm!(
                        "tileloadd tmm4, [{codes} + {width}]",
                        codes = in(reg) self.activations.codes(self.token).wrapping_add(group * INPUTS),
                        width = in(reg) self.activations.width(),
                        options(nostack, readonly),
                    );
                }
                let weights = self.matrix.group_start(self.block(PLACE) * ROWS, group);
                self.ask_ahead(weights, PLACE, group);
                asm!(
                    "tileloadd tmm5, [{weights} + {line}]",
                    "tilezero tmm{place}",
                    "tdpbsud tmm{place}, tmm4, tmm5",
                    weights = in(reg) weights,
                    line = in(reg) size_of::<Line>(),
                    place = const PLACE,
                    options(nostack, readonly),
                );
            }
        }
    }

    /// Ask for the next panel's weights of a group.
    #[inline(always)]
    fn ask_ahead(&self, weights: *const u8, place: usize, group: usize) {
        if self.token == 0 {
            let from = weights.wrapping_add(BLOCKS * self.matrix.block_bytes().0);
            let scales = self.matrix.scale_start((self.first + BLOCKS + place) * ROWS, group);
            // SAFETY: a prefetch may name any address.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(scales.cast());
                (0..Bits::Eight.lines()).for_each(|line| _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line * size_of::<Line>()).cast()));
            }
        }
    }

    /// Add a group's sums with one of the blocks, times their scales.
    #[inline(always)]
    unsafe fn scale(&self, group: usize, place: usize, sums: &Sums, totals: &mut Totals) {
        // SAFETY: the caller has the instructions; each is sixteen numbers.
        unsafe {
            let scales = self.matrix.scale_start(self.block(place) * ROWS, group).cast::<__m256i>();
            let scales = _mm512_cvtph_ps(_mm256_loadu_si256(scales));
            for ((totals, [high, low]), excess) in totals.iter_mut().zip(&sums.0).zip(&self.excess[group]) {
                let (high, low) = (_mm512_load_si512(high.as_ptr().cast()), _mm512_load_si512(low.as_ptr().cast()));
                let sum = _mm512_add_epi32(_mm512_slli_epi32::<7>(high), low);
                let sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(*excess)));
                totals[place] = _mm512_add_ps(totals[place], _mm512_mul_ps(sum, scales));
            }
        }
    }

    /// # Safety
    /// As [`Panel::multiply`].
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn write(&self, totals: &Totals) {
        let rows = self.matrix.rows().min(self.end * ROWS);
        for (token, totals) in (self.token..self.activations.tokens()).zip(totals) {
            let scale = _mm512_set1_ps(self.activations.scale(token));
            for (place, total) in totals.iter().enumerate() {
                let row = (self.first + place) * ROWS;
                let exist = ((1u32 << rows.saturating_sub(row).min(ROWS)) - 1) as __mmask16;
                // SAFETY: these rows of an existing token lie in the output, and this thread alone writes them.
                unsafe { _mm512_mask_storeu_ps(self.output.at(token * self.output.stride + row), exist, _mm512_mul_ps(*total, scale)) };
            }
        }
    }
}
