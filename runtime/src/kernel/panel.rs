//! What the kernels for many tokens share that unpack weights first: the panel, some blocks of rows of which a span of planes at a time is
//! unpacked to the first cache and serves every token, and the scales that follow.

use std::{arch::x86_64::*, ops::Range};

use super::{
    Activations, Matrix, dense,
    matrix::{Line, Packing, ROWS},
    tile::Output,
    x86,
};

/// A token's sums with a panel's rows.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums<const BLOCKS: usize>(pub [[i32; ROWS]; BLOCKS]);

/// The same times their scales.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Totals<const BLOCKS: usize>([[f32; ROWS]; BLOCKS]);

/// What a thread has beside it.
#[derive(Default)]
pub(super) struct Work<const BLOCKS: usize> {
    /// `[BLOCKS, planes of a span]`.
    pub weights: Vec<Line>,
    /// Every token's.
    pub sums: Vec<Sums<BLOCKS>>,
    totals: Vec<Totals<BLOCKS>>,
}

impl<const BLOCKS: usize> Work<BLOCKS> {
    /// Room for so many planes and tokens. None ever shrinks, because growing again would fill it with zeros each time.
    pub(super) fn reserve(&mut self, planes: usize, tokens: usize) {
        self.weights.resize(self.weights.len().max(BLOCKS * planes), Line([0; 64]));
        self.sums.resize(self.sums.len().max(tokens), Sums([[0; ROWS]; BLOCKS]));
        self.totals.resize(self.totals.len().max(tokens), Totals([[0.0; ROWS]; BLOCKS]));
    }
}

/// Blocks of rows that are multiplied together.
pub(super) struct Panel<'a, const BLOCKS: usize> {
    pub matrix: &'a Matrix,
    pub activations: &'a Activations,
    /// Those from the panel's first to the last that may be written.
    rows: Range<usize>,
    /// Where there are fewer, the last is multiplied again.
    blocks: [usize; BLOCKS],
    output: Output,
}

impl<'a, const BLOCKS: usize> Panel<'a, BLOCKS> {
    /// Those of `blocks` that are to be multiplied.
    pub(super) fn all(
        matrix: &'a Matrix,
        activations: &'a Activations,
        blocks: Range<usize>,
        output: Output,
    ) -> impl Iterator<Item = Self> {
        blocks.clone().step_by(BLOCKS).map(move |first| Panel {
            matrix,
            activations,
            rows: first * ROWS..matrix.rows().min(blocks.end * ROWS),
            blocks: std::array::from_fn(|block| (first + block).min(blocks.end - 1)),
            output,
        })
    }

    fn lines_of_block(&self, block: usize) -> &[Line] {
        &self.matrix.lines()[block * self.matrix.block_lines()..][..self.matrix.block_lines()]
    }

    /// Unpack a span of lines, the planes of each block `planes` apart.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn unpack(&self, span: &Range<usize>, planes: usize, weights: &mut [Line]) {
        for (block, weights) in self.blocks.into_iter().zip(weights.chunks_exact_mut(planes)) {
            let lines = &self.lines_of_block(block)[span.clone()];
            match self.matrix.packing() {
                Packing::Four => x86::unpack(lines, weights),
                // SAFETY: such a matrix is multiplied by those who have VBMI.
                Packing::Five => unsafe { dense::unpack(lines, weights) },
            }
        }
    }

    /// Ask for the weights of the next span, towards the end of the rows those of the next panel; one of so many parts.
    #[inline(always)]
    pub(super) fn ask_ahead(&self, span: &Range<usize>, part: usize, parts: usize) {
        let block_lines = self.matrix.block_lines();
        let ahead = if span.end < block_lines { span.end } else { BLOCKS * block_lines };
        let ahead = self.blocks.map(|block| self.lines_of_block(block).as_ptr().wrapping_add(ahead));
        let lines = span.len().div_ceil(parts);
        for line in (part * lines..).take(lines).take_while(|line| *line < span.len()) {
            // SAFETY: a prefetch may name any address.
            ahead.iter().for_each(|ahead| unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line).cast()) });
        }
    }

    /// Scale the sums of a section, which is what shares a scale: a row or a group of its inputs. Write what all sections come to after the
    /// last. What a sum has too much depends on its row (`excess`) and its token (`excess_of`).
    ///
    /// # Safety
    /// The panel's output has its rows of the tokens of `tile`, and no one else writes them.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn scale(
        &self,
        section: usize,
        excess: &[__m512i; BLOCKS],
        excess_of: &impl Fn(usize) -> i32,
        tile: Range<usize>,
        work: &mut Work<BLOCKS>,
    ) {
        let (matrix, sections) = (self.matrix, self.matrix.groups());
        let (mut scales, mut exist) = ([_mm512_setzero_ps(); BLOCKS], [0; BLOCKS]);
        for block in 0..BLOCKS {
            let of_rows = &matrix.scales()[(self.blocks[block] * sections + section) * ROWS..][..ROWS];
            // SAFETY: these are sixteen.
            scales[block] = unsafe { _mm512_loadu_ps(of_rows.as_ptr()) };
            exist[block] = ((1u32 << self.rows.len().saturating_sub(block * ROWS).min(ROWS)) - 1) as __mmask16;
        }
        let whole = BLOCKS * ROWS <= self.rows.len();
        for token in tile {
            let scale = _mm512_set1_ps(self.activations.scales()[token]);
            let token_excess = _mm512_set1_epi32(excess_of(token));
            let out = self.output.at(token * self.output.stride + self.rows.start);
            for block in 0..BLOCKS {
                // SAFETY: each is sixteen numbers; the panel's rows of an existing token lie in the output, and this thread alone
                // writes them.
                unsafe {
                    let sum = _mm512_load_si512(work.sums[token].0[block].as_ptr().cast());
                    let sum = _mm512_sub_epi32(sum, _mm512_add_epi32(excess[block], token_excess));
                    let so_far = work.totals[token].0[block].as_mut_ptr();
                    let total = if section == 0 { _mm512_setzero_ps() } else { _mm512_load_ps(so_far) };
                    let total = _mm512_add_ps(total, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales[block]));
                    if section + 1 < sections {
                        _mm512_store_ps(so_far, total);
                    } else {
                        let (out, scaled) = (out.wrapping_add(block * ROWS), _mm512_mul_ps(total, scale));
                        if whole { _mm512_storeu_ps(out, scaled) } else { _mm512_mask_storeu_ps(out, exist[block], scaled) }
                    }
                }
            }
        }
    }
}
