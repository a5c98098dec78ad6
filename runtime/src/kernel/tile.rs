//! The one way through a multiply that all instruction sets share: row blocks, tiles of tokens, groups, scales.
//!
//! An instruction set brings a [`Vector`]; everything here is inlined into the one function of that set, so that the compiler may
//! use its registers throughout. The integer sums are exact; the scales follow in the order of `model::ternary::multiply`.

use std::ops::Range;

use super::{
    Activations, Matrix,
    matrix::{Line, ROWS},
};

/// A vector of 32-bit lanes, one for each of [`Vector::ROWS`] rows.
///
/// # Safety
/// Every function needs a CPU with the instruction set of its implementation and pointers to that many readable bytes.
pub(super) trait Vector: Copy {
    /// Rows, and so lanes, of a vector.
    const ROWS: usize;
    /// Inputs of a line, those of the matrix's packing.
    const STEP: usize;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn prefetch(from: *const u8);

    /// The lines that [`Vector::add_line`] may add up before [`Vector::settle`].
    const LINES: usize;
    /// Add the products of one line's inputs with those of `N` tokens that lie `stride` apart.
    unsafe fn add_line<const M: usize, const N: usize>(sums: &mut [[Self; N]; M], line: [Self; M], tokens: *const i8, stride: usize);
    /// Bring a tile's sums into 32-bit lanes in the order of rows and tokens, where they were added up in another form.
    #[inline(always)]
    unsafe fn settle<const M: usize, const N: usize>(_sums: &mut [[Self; N]; M]) {}

    /// What the sums of one row vector and one token are kept in while few tokens are multiplied.
    type Sums: Copy;
    /// The lines that [`Vector::add_few`] may add up before [`Vector::total`].
    const FEW_LINES: usize;
    unsafe fn zero_sums() -> Self::Sums;
    /// As [`Vector::add_line`] for few tokens.
    unsafe fn add_few<const M: usize, const N: usize>(sums: &mut [[Self::Sums; N]; M], line: [Self; M], tokens: *const i8, stride: usize);
    unsafe fn total(sums: Self::Sums) -> Self;

    unsafe fn splat(number: i32) -> Self;
    unsafe fn times_128(self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// Of every byte the bits of the mask.
    unsafe fn and(self, mask: u8) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    /// Bits moved up or down; those that cross into another byte are for [`Vector::and`] to take away.
    unsafe fn left(self, by: i32) -> Self;
    unsafe fn right(self, by: i32) -> Self;

    /// As many lanes of f32, in which scaled sums are added up.
    type Floats: Copy;
    unsafe fn zero_floats() -> Self::Floats;
    /// total + self as f32 * scale in each lane, rounded after the multiplication and after the addition.
    unsafe fn add_scaled(self, total: Self::Floats, scales: *const f32) -> Self::Floats;
    /// Each lane times a number.
    unsafe fn store_times(total: Self::Floats, factor: f32, to: *mut f32);
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

/// Multiply the rows of `blocks` with the tokens from `first` on. For a single one `WIDE` row vectors are read side by side, `DEEP` lines of
/// each at a time; for several a tile has `TALL` row vectors and `TOKENS` tokens.
///
/// # Safety
/// The CPU has `V`'s instruction set, `output` has room for all tokens and rows, and no one else writes these blocks' rows.
#[inline(always)]
pub(super) unsafe fn multiply_blocks<V: Vector, const WIDE: usize, const DEEP: usize, const TALL: usize, const TOKENS: usize>(
    matrix: &Matrix,
    (activations, first): (&Activations, usize),
    blocks: Range<usize>,
    output: Output,
) {
    let (mut row, end) = (blocks.start * ROWS, blocks.end * ROWS);
    // SAFETY: passed on from the caller; rows and tokens stay within the matrix's blocks and the activations.
    unsafe {
        if activations.tokens() - first == 1 {
            while row + WIDE * V::ROWS <= end {
                tile_few::<V, WIDE, 1, DEEP>(matrix, activations, row, first, output);
                row += WIDE * V::ROWS;
            }
            while row < end {
                tile_few::<V, 1, 1, DEEP>(matrix, activations, row, first, output);
                row += V::ROWS;
            }
        } else {
            while row + TALL * V::ROWS <= end {
                tile_all::<V, TALL, TOKENS>(matrix, (activations, first), row, output);
                row += TALL * V::ROWS;
            }
            while row < end {
                tile_all::<V, 1, TOKENS>(matrix, (activations, first), row, output);
                row += V::ROWS;
            }
        }
    }
}

/// All those tokens with `M` row vectors, so that the weights stay in the cache from one tile of tokens to the next.
#[inline(always)]
unsafe fn tile_all<V: Vector, const M: usize, const TOKENS: usize>(
    matrix: &Matrix,
    (activations, first): (&Activations, usize),
    row: usize,
    output: Output,
) {
    let (mut token, tokens) = (first, activations.tokens());
    // SAFETY: as in `multiply_blocks`.
    unsafe {
        while token + TOKENS <= tokens {
            tile::<V, M, TOKENS>(matrix, activations, row, token, output);
            token += TOKENS;
        }
        while token + 4 <= tokens {
            tile::<V, M, 4>(matrix, activations, row, token, output);
            token += 4;
        }
        for row in (row..row + M * V::ROWS).step_by(V::ROWS) {
            match tokens - token {
                3 => tile_few::<V, 1, 3, 1>(matrix, activations, row, token, output),
                2 => tile_few::<V, 1, 2, 1>(matrix, activations, row, token, output),
                1 => tile_few::<V, 1, 1, 2>(matrix, activations, row, token, output),
                _ => {}
            }
        }
    }
}

/// `M` row vectors with `N` tokens.
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize, const N: usize>(
    matrix: &Matrix,
    activations: &Activations,
    row: usize,
    token: usize,
    output: Output,
) {
    // SAFETY: passed on from the caller, whose CPU has `V`'s instruction set.
    unsafe {
        let mut totals = [[V::zero_floats(); N]; M];
        // Apart, so that one group's sums have all registers to themselves.
        if matrix.groups() == 1 {
            let sums = group_sums::<V, M, N>(matrix, activations, (row, token), 0);
            add_scaled(matrix, activations, (row, token), 0, &sums, &mut totals);
        } else {
            for group in 0..matrix.groups() {
                let sums = group_sums::<V, M, N>(matrix, activations, (row, token), group);
                add_scaled(matrix, activations, (row, token), group, &sums, &mut totals);
            }
        }
        write::<V, M, N>(matrix, activations, (row, token), &totals, output);
    }
}

/// The sums of one group.
#[inline(always)]
unsafe fn group_sums<V: Vector, const M: usize, const N: usize>(
    matrix: &Matrix,
    activations: &Activations,
    (row, token): (usize, usize),
    group: usize,
) -> [[V; N]; M] {
    let (stride, lines) = (activations.stride(), matrix.lines_of(group));
    // SAFETY: `lines` are lines of the blocks that `row` and the next rows belong to, and a token has as many steps.
    unsafe {
        let weights = Streams::<M>::new::<V>(matrix, row, lines.start);
        let codes = activations.padded().as_ptr().add(token * stride + lines.start * V::STEP);
        if lines.len() <= V::LINES {
            return add_lines::<V, M, N>(&weights, codes, stride, 0..lines.len());
        }
        let mut all = [[V::zero(); N]; M];
        for start in (0..lines.len()).step_by(V::LINES) {
            let sums = add_lines::<V, M, N>(&weights, codes, stride, start..lines.len().min(start + V::LINES));
            for m in 0..M {
                for n in 0..N {
                    all[m][n] = V::add(all[m][n], sums[m][n]);
                }
            }
        }
        all
    }
}

/// The sums of at most [`Vector::LINES`] lines.
#[inline(always)]
unsafe fn add_lines<V: Vector, const M: usize, const N: usize>(
    weights: &Streams<M>,
    codes: *const i8,
    stride: usize,
    lines: Range<usize>,
) -> [[V; N]; M] {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut vectors = [[V::zero(); N]; M];
        for line in lines {
            V::add_line(&mut vectors, weights.load::<V>(line), codes.add(line * V::STEP), stride);
        }
        V::settle(&mut vectors);
        vectors
    }
}

/// `M` row vectors with `N` tokens, so few that reading the weights is what limits: every line is unpacked in the cheapest way and added
/// to sums of its own.
#[inline(always)]
unsafe fn tile_few<V: Vector, const M: usize, const N: usize, const DEEP: usize>(
    matrix: &Matrix,
    activations: &Activations,
    row: usize,
    token: usize,
    output: Output,
) {
    let stride = activations.stride();
    // SAFETY: as in `tile`.
    let mut totals = [[unsafe { V::zero_floats() }; N]; M];
    for group in 0..matrix.groups() {
        let lines = matrix.lines_of(group);
        // SAFETY: as in `tile`.
        unsafe {
            let weights = Streams::<M>::new::<V>(matrix, row, lines.start);
            let codes = activations.padded().as_ptr().add(token * stride + lines.start * V::STEP);
            let mut all = [[V::zero(); N]; M];
            for start in (0..lines.len()).step_by(V::FEW_LINES) {
                let end = lines.len().min(start + V::FEW_LINES);
                let mut vectors = [[[V::zero_sums(); N]; M]; DEEP];
                let mut line = start;
                while line + DEEP <= end {
                    for deep in 0..DEEP {
                        V::add_few(&mut vectors[deep], weights.load::<V>(line + deep), codes.add((line + deep) * V::STEP), stride);
                    }
                    line += DEEP;
                }
                while line < end {
                    V::add_few(&mut vectors[0], weights.load::<V>(line), codes.add(line * V::STEP), stride);
                    line += 1;
                }
                for m in 0..M {
                    for n in 0..N {
                        for deep in 0..DEEP {
                            all[m][n] = V::add(all[m][n], V::total(vectors[deep][m][n]));
                        }
                    }
                }
            }
            add_scaled(matrix, activations, (row, token), group, &all, &mut totals);
        }
    }
    // SAFETY: passed on from the caller.
    unsafe { write::<V, M, N>(matrix, activations, (row, token), &totals, output) };
}

/// Where the lanes of `M` row vectors are in their blocks' lines, from one line on.
struct Streams<const M: usize> {
    start: [*const u8; M],
    /// Lines of the blocks that are left.
    left: usize,
    /// Lines between the end of a block and its successor of the next tile.
    skipped: usize,
}

/// How far ahead weights are asked for.
const PREFETCH_LINES: usize = 64;

impl<const M: usize> Streams<M> {
    #[inline(always)]
    fn new<V: Vector>(matrix: &Matrix, row: usize, line: usize) -> Streams<M> {
        let mut start = [std::ptr::null(); M];
        for m in 0..M {
            let row = row + m * V::ROWS;
            start[m] = matrix.lines()[row / ROWS * matrix.block_lines() + line].0[4 * (row % ROWS)..].as_ptr();
        }
        let blocks = (M * V::ROWS).div_ceil(ROWS);
        Streams { start, left: matrix.block_lines() - line, skipped: (blocks - 1) * matrix.block_lines() }
    }

    /// One line of each row vector. Those to come are asked for, towards the end of the blocks those of the next tile's.
    #[inline(always)]
    unsafe fn load<V: Vector>(&self, line: usize) -> [V; M] {
        let ahead = PREFETCH_LINES + if line + PREFETCH_LINES < self.left { 0 } else { self.skipped };
        let mut loaded = [unsafe { V::zero() }; M];
        for m in 0..M {
            // SAFETY: the caller has such a line; a prefetch may name any address.
            unsafe {
                let from = self.start[m].add(line * size_of::<Line>());
                V::prefetch(from.wrapping_add(ahead * size_of::<Line>()));
                loaded[m] = V::load(from);
            }
        }
        loaded
    }
}

/// totals += sum as f32 * scale for one group. The kernel summed (w + 1) x, so the sum of x is taken off.
#[inline(always)]
unsafe fn add_scaled<V: Vector, const M: usize, const N: usize>(
    matrix: &Matrix,
    activations: &Activations,
    (row, token): (usize, usize),
    group: usize,
    sums: &[[V; N]; M],
    totals: &mut [[V::Floats; N]; M],
) {
    for n in 0..N {
        let excess = activations.group_sum(token + n, group, matrix.groups());
        for m in 0..M {
            let row = row + m * V::ROWS;
            let scales = &matrix.scales()[(row / ROWS * matrix.groups() + group) * ROWS + row % ROWS..][..V::ROWS];
            // SAFETY: the caller's CPU has `V`'s instruction set, and there are as many scales as lanes.
            unsafe { totals[m][n] = sums[m][n].add(V::splat(-excess)).add_scaled(totals[m][n], scales.as_ptr()) };
        }
    }
}

/// Scale the totals and write those of rows that exist.
#[inline(always)]
unsafe fn write<V: Vector, const M: usize, const N: usize>(
    matrix: &Matrix,
    activations: &Activations,
    (row, token): (usize, usize),
    totals: &[[V::Floats; N]; M],
    output: Output,
) {
    for n in 0..N {
        // SAFETY: passed on from the caller; the token exists.
        unsafe { store_rows::<V, M, N>(matrix.rows(), row, activations.scales()[token + n], (totals, n), output, token + n) };
    }
}

/// Write the `n`-th of a tile's tokens' totals times its scale, those of rows below `rows`.
///
/// # Safety
/// The CPU has `V`'s instruction set, the output has the token and room for so many rows, and no one else writes these.
#[inline(always)]
pub(super) unsafe fn store_rows<V: Vector, const M: usize, const N: usize>(
    rows: usize,
    row: usize,
    scale: f32,
    (totals, n): (&[[V::Floats; N]; M], usize),
    output: Output,
    token: usize,
) {
    for m in 0..M {
        let row = row + m * V::ROWS;
        let to = output.at(token * output.stride + row);
        // SAFETY: rows below `rows` of an existing token lie in the output, and this thread alone writes them.
        unsafe {
            if row + V::ROWS <= rows {
                V::store_times(totals[m][n], scale, to);
            } else if row < rows {
                let mut all = [0.0; ROWS];
                V::store_times(totals[m][n], scale, all.as_mut_ptr());
                to.copy_from_nonoverlapping(all.as_ptr(), rows - row);
            }
        }
    }
}
