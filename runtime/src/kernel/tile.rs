//! The one way through a multiply that all instruction sets share: row blocks, tiles of tokens, groups, scales.
//!
//! An instruction set brings a [`Vector`]; everything here is inlined into the one function of that set, so that the compiler may
//! use its registers throughout. The integer sums are exact; the scales follow in the order of `model::ternary::multiply`.

use std::ops::Range;

use super::{
    Activations, Matrix,
    matrix::{Line, ROWS},
};

/// The rows that all the vectors of a tile may cover together.
const TILE_ROWS: usize = 64;
/// The most tokens of a tile.
pub(super) const TILE_TOKENS: usize = 12;

/// A vector of 32-bit lanes, one for each of [`Vector::ROWS`] rows.
///
/// # Safety
/// Every function needs a CPU with the instruction set of its implementation and pointers to that many readable bytes.
pub(super) trait Vector: Copy {
    /// Rows, and so lanes, of a vector.
    const ROWS: usize;
    /// What the sums of one row vector and one token are kept in while a single token is multiplied.
    type Sums: Copy;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut i32);
    unsafe fn prefetch(from: *const u8);

    /// Add the products of one line's sixteen inputs with those of `N` tokens that lie `stride` apart.
    unsafe fn add_line<const M: usize, const N: usize>(sums: &mut [[Self; N]; M], line: [Self; M], tokens: *const i8, stride: usize);

    /// Bring a tile's sums into the order of rows and tokens, where they were added in another.
    #[inline(always)]
    unsafe fn settle<const M: usize, const N: usize>(_sums: &mut [[Self; N]; M]) {}

    unsafe fn zero_sums() -> Self::Sums;
    /// As [`Vector::add_line`] for a single token.
    unsafe fn add_single<const M: usize>(sums: &mut [Self::Sums; M], line: [Self; M], token: *const i8);
    unsafe fn total(sums: Self::Sums) -> Self;

    /// What [`Vector::dot_bytes`] multiplies with is a weight plus this.
    const BYTE_OFFSET: i32;
    unsafe fn splat(number: i32) -> Self;
    /// sum + the products of four bytes a lane, stored as w + 128, with four activations.
    unsafe fn dot_bytes(sum: Self, weights: Self, four: *const i8) -> Self;
    /// sum + the products of four unsigned bytes a lane, each at most 63, with four activations.
    unsafe fn dot_small(sum: Self, weights: Self, four: *const i8) -> Self;
    unsafe fn times_128(self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// Of every byte the bits of the mask.
    unsafe fn and(self, mask: u8) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    /// Bits moved up or down; those that cross into another byte are for [`Vector::and`] to take away.
    unsafe fn left(self, by: i32) -> Self;
    unsafe fn right(self, by: i32) -> Self;
}

/// Where results go: `[tokens, stride]`, of which a kernel writes rows of its own only.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub start: *mut f32,
    pub stride: usize,
}

impl Output {
    /// The place of a result. A method, so that closures hold the whole output, which is `Sync`, and not its pointer.
    pub(super) fn at(&self, index: usize) -> *mut f32 {
        self.start.wrapping_add(index)
    }
}

// SAFETY: the threads that share an output write different rows of it.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// Multiply the rows of `blocks` with every token. `WIDE` row vectors at a time for a single token, `TALL` for several.
///
/// # Safety
/// The CPU has `V`'s instruction set, `output` has room for all tokens and rows, and no one else writes these blocks' rows.
#[inline(always)]
pub(super) unsafe fn multiply_blocks<V: Vector, const WIDE: usize, const TALL: usize>(
    matrix: &Matrix,
    activations: &Activations,
    blocks: Range<usize>,
    output: Output,
) {
    let (mut row, end) = (blocks.start * ROWS, blocks.end * ROWS);
    // SAFETY: passed on from the caller; rows and tokens stay within the matrix's blocks and the activations.
    unsafe {
        if activations.tokens() == 1 {
            while row + WIDE * V::ROWS <= end {
                tile_single::<V, WIDE>(matrix, activations, row, output);
                row += WIDE * V::ROWS;
            }
            while row < end {
                tile_single::<V, 1>(matrix, activations, row, output);
                row += V::ROWS;
            }
        } else {
            while row + TALL * V::ROWS <= end {
                tile_all::<V, TALL>(matrix, activations, row, output);
                row += TALL * V::ROWS;
            }
            while row < end {
                tile_all::<V, 1>(matrix, activations, row, output);
                row += V::ROWS;
            }
        }
    }
}

/// All tokens with `M` row vectors, so that the weights stay in the cache from one tile of tokens to the next.
#[inline(always)]
unsafe fn tile_all<V: Vector, const M: usize>(matrix: &Matrix, activations: &Activations, row: usize, output: Output) {
    let mut token = 0;
    // SAFETY: as in `multiply_blocks`.
    unsafe {
        loop {
            match activations.tokens() - token {
                0 => break,
                TILE_TOKENS.. => token += tile::<V, M, TILE_TOKENS>(matrix, activations, row, token, output),
                8..TILE_TOKENS => token += tile::<V, M, 8>(matrix, activations, row, token, output),
                4..8 => token += tile::<V, M, 4>(matrix, activations, row, token, output),
                2..4 => token += tile::<V, M, 2>(matrix, activations, row, token, output),
                1 => token += tile::<V, M, 1>(matrix, activations, row, token, output),
            }
        }
    }
}

/// `M` row vectors with `N` tokens; returns `N`.
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize, const N: usize>(
    matrix: &Matrix,
    activations: &Activations,
    row: usize,
    token: usize,
    output: Output,
) -> usize {
    let stride = activations.stride();
    let mut totals = [[0.0f32; TILE_ROWS]; N];
    let mut sums = [[0i32; TILE_ROWS]; N];
    for group in 0..matrix.groups() {
        let lines = group * matrix.group_lines()..matrix.block_lines().min((group + 1) * matrix.group_lines());
        // SAFETY: `lines` are lines of the blocks that `row` and the next rows belong to, and a token has as many steps.
        unsafe {
            let mut weights = [std::ptr::null(); M];
            for m in 0..M {
                weights[m] = line_start(matrix, row + m * V::ROWS, lines.start);
            }
            let mut vectors = [[V::zero(); N]; M];
            let mut codes = activations.padded().as_ptr().add(token * stride + lines.start * 16);
            for line in 0..lines.len() {
                let mut loaded = [V::zero(); M];
                for m in 0..M {
                    loaded[m] = V::load(weights[m].add(line * size_of::<Line>()));
                }
                V::add_line(&mut vectors, loaded, codes, stride);
                codes = codes.add(16);
            }
            V::settle(&mut vectors);
            for m in 0..M {
                for n in 0..N {
                    vectors[m][n].store(sums[n].as_mut_ptr().add(m * V::ROWS));
                }
            }
        }
        for n in 0..N {
            add_scaled::<V, M>(matrix, activations, row, token + n, group, &sums[n], &mut totals[n]);
        }
    }
    for n in 0..N {
        // SAFETY: passed on from the caller.
        unsafe { write::<V, M>(matrix, activations, row, token + n, &totals[n], output) };
    }
    N
}

/// `M` row vectors with the only token: weights are read once, so that memory is what limits.
#[inline(always)]
unsafe fn tile_single<V: Vector, const M: usize>(matrix: &Matrix, activations: &Activations, row: usize, output: Output) {
    let mut totals = [0.0f32; TILE_ROWS];
    let mut sums = [0i32; TILE_ROWS];
    for group in 0..matrix.groups() {
        let lines = group * matrix.group_lines()..matrix.block_lines().min((group + 1) * matrix.group_lines());
        // SAFETY: as in `tile`; a prefetch may name any address.
        unsafe {
            let mut weights = [std::ptr::null(); M];
            for m in 0..M {
                weights[m] = line_start(matrix, row + m * V::ROWS, lines.start);
            }
            let mut vectors = [V::zero_sums(); M];
            let mut codes = activations.padded().as_ptr().add(lines.start * 16);
            for line in 0..lines.len() {
                let mut loaded = [V::zero(); M];
                for m in 0..M {
                    let from = weights[m].wrapping_add(line * size_of::<Line>());
                    V::prefetch(from.wrapping_add(PREFETCH_LINES * size_of::<Line>()));
                    loaded[m] = V::load(from);
                }
                V::add_single(&mut vectors, loaded, codes);
                codes = codes.add(16);
            }
            for m in 0..M {
                V::total(vectors[m]).store(sums.as_mut_ptr().add(m * V::ROWS));
            }
        }
        add_scaled::<V, M>(matrix, activations, row, 0, group, &sums, &mut totals);
    }
    // SAFETY: passed on from the caller.
    unsafe { write::<V, M>(matrix, activations, row, 0, &totals, output) };
}

/// How far ahead weights are asked for.
const PREFETCH_LINES: usize = 16;

/// Where the lanes of `row` and the next rows are in a line of their block.
#[inline(always)]
fn line_start(matrix: &Matrix, row: usize, line: usize) -> *const u8 {
    let line = &matrix.lines()[row / ROWS * matrix.block_lines() + line];
    line.0[4 * (row % ROWS)..].as_ptr()
}

/// totals += sum as f32 * scale for one token and one group. The kernel summed (w + 1) x, so the sum of x is taken off.
#[inline(always)]
fn add_scaled<V: Vector, const M: usize>(
    matrix: &Matrix,
    activations: &Activations,
    row: usize,
    token: usize,
    group: usize,
    sums: &[i32; TILE_ROWS],
    totals: &mut [f32; TILE_ROWS],
) {
    let parts = activations.sums(token);
    let excess = if matrix.groups() == 1 { parts.iter().sum() } else { parts[group] };
    for m in 0..M {
        let row = row + m * V::ROWS;
        let scales = &matrix.scales()[(row / ROWS * matrix.groups() + group) * ROWS + row % ROWS..][..V::ROWS];
        for (lane, scale) in scales.iter().enumerate() {
            totals[m * V::ROWS + lane] += (sums[m * V::ROWS + lane] - excess) as f32 * scale;
        }
    }
}

/// Scale one token's totals and write those of rows that exist.
#[inline(always)]
unsafe fn write<V: Vector, const M: usize>(
    matrix: &Matrix,
    activations: &Activations,
    row: usize,
    token: usize,
    totals: &[f32; TILE_ROWS],
    output: Output,
) {
    let scale = activations.scales()[token];
    let count = (M * V::ROWS).min(matrix.rows() - row.min(matrix.rows()));
    // SAFETY: rows below `matrix.rows()` of an existing token lie in the output, and this thread alone writes them.
    let out = unsafe { std::slice::from_raw_parts_mut(output.at(token * output.stride + row), count) };
    for (out, total) in out.iter_mut().zip(totals) {
        *out = total * scale;
    }
}
