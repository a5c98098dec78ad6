//! A ternary matrix laid out for the kernels.
//!
//! Sixteen rows make a block. A line of 64 bytes holds sixteen inputs of each of a block's rows: the four bytes of row r are at
//! 4r, and byte b of them holds the weights of inputs b, 4 + b, 8 + b and 12 + b in bits 0-1, 2-3, 4-5 and 6-7, each as w + 1. So one
//! 32-bit lane of a vector belongs to one row, four activations are broadcast to all lanes, and nothing is summed across lanes.
//! The layout is the same for every instruction set.

use half::f16;
use model::{Scale, Ternary, ternary::GROUP};

use super::{Pool, memory::Lines};
use crate::random::Random;

/// Rows that share a line.
pub(super) const ROWS: usize = 16;
/// Inputs in a line.
pub(crate) const STEP: usize = 16;
/// The widest matrix. Kernels that do not shift the fourth weight of a byte down add 128 x 127 for every fourth input.
pub const MAX_COLUMNS: usize = 1 << 19;
const _: () = assert!((MAX_COLUMNS / 4) as i64 * 2 * 64 * 127 <= i32::MAX as i64);

/// Sixteen inputs of sixteen rows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u8; 64]);

impl Line {
    /// Set one row's four bytes.
    #[inline]
    pub(super) fn put(&mut self, lane: usize, step: u32) {
        self.0[4 * lane..4 * lane + 4].copy_from_slice(&step.to_le_bytes());
    }
}

/// A ternary matrix that a kernel can multiply with.
#[derive(Clone, Debug)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    /// Inputs that share a scale within a row: all of them, or [`GROUP`].
    span: usize,
    /// `[blocks, lines of a block]`.
    lines: Lines,
    /// `[blocks, groups, ROWS]`; a tensor's one scale stands in every row.
    scales: Vec<f32>,
}

impl Matrix {
    /// Lay a matrix out.
    pub fn new(ternary: &Ternary) -> Matrix {
        Matrix::from_codes(&ternary.codes, ternary.rows, ternary.columns, ternary.scale, &ternary.scales)
    }

    /// Lay out row-major codes, each -1, 0 or 1, with the scales of [`Ternary::scales`].
    ///
    /// # Panics
    /// If the lengths do not fit together, a scale by group has columns that do not divide, or there are more than
    /// [`MAX_COLUMNS`] columns.
    pub fn from_codes(codes: &[i8], rows: usize, columns: usize, scale: Scale, scales: &[f16]) -> Matrix {
        let mut matrix = Matrix { rows: 0, columns: 0, span: 0, lines: Lines::zeroed(0), scales: Vec::new() };
        matrix.set(codes, rows, columns, scale, scales);
        matrix
    }

    /// As [`Matrix::from_codes`], into this matrix's memory.
    pub fn set(&mut self, codes: &[i8], rows: usize, columns: usize, scale: Scale, scales: &[f16]) {
        assert_eq!(codes.len(), rows * columns, "a {rows} x {columns} matrix has another number of codes");
        assert!(columns <= MAX_COLUMNS, "a matrix of {columns} columns: the kernels' sums hold at most {MAX_COLUMNS}");
        assert!(scale != Scale::Group || columns.is_multiple_of(GROUP), "{columns} columns do not divide into groups of {GROUP}");
        assert_eq!(scales.len(), scale.count(rows, columns), "a {rows} x {columns} matrix has another number of scales");
        (self.rows, self.columns, self.span) = (rows, columns, scale.span(columns));
        if self.lines.len() != self.blocks() * self.block_lines() {
            self.lines = Lines::zeroed(self.blocks() * self.block_lines());
        }
        let block_lines = self.block_lines();
        for (row, codes) in codes.chunks_exact(columns.max(1)).enumerate() {
            let lines = &mut self.lines[row / ROWS * block_lines..][..block_lines];
            let steps = codes.chunks(STEP).map(pack_step);
            lines.iter_mut().zip(steps).for_each(|(line, step)| line.put(row % ROWS, step));
        }
        let groups = self.groups();
        self.scales.resize(self.blocks() * groups * ROWS, 0.0);
        for row in 0..rows {
            for group in 0..groups {
                let shared = scales[scale.index(columns, row, group * self.span)];
                self.scales[(row / ROWS * groups + group) * ROWS + row % ROWS] = shared.to_f32();
            }
        }
    }

    /// Lay out a matrix of which `read` gives a row: its codes, each [`STEP`] of them packed by [`pack_step`], and its scales: one, or
    /// one for each [`GROUP`] codes. Spread over the pool's threads.
    pub(crate) fn read<E, Read>(pool: &Pool, (rows, columns): (usize, usize), scale: Scale, read: Read) -> Result<Matrix, E>
    where
        E: Send,
        Read: Fn(usize, &mut [u32], &mut [f32]) -> Result<(), E> + Sync,
    {
        let mut matrix = Matrix::zeros(rows, columns, scale);
        let (block_lines, groups) = (matrix.block_lines(), matrix.groups());
        pool.try_for_each_pair((&mut matrix.lines, block_lines), (&mut matrix.scales, groups * ROWS), |block, lines, scales| {
            let (mut steps, mut row_scales) = (vec![0; block_lines], vec![0.0; groups]);
            for lane in 0..ROWS.min(rows - block * ROWS) {
                read(block * ROWS + lane, &mut steps, &mut row_scales)?;
                lines.iter_mut().zip(&steps).for_each(|(line, step)| line.put(lane, *step));
                for (scales, scale) in scales.chunks_exact_mut(ROWS).zip(&row_scales) {
                    scales[lane] = *scale;
                }
            }
            Ok(())
        })?;
        Ok(matrix)
    }

    /// Random codes, every row's squares summing to about one.
    pub(crate) fn random(pool: &Pool, (rows, columns): (usize, usize), scale: Scale, seed: u64) -> Matrix {
        let mut matrix = Matrix::zeros(rows, columns, scale);
        let (block_lines, groups) = (matrix.block_lines(), matrix.groups());
        matrix.scales.fill(f16::from_f32((1.5 / columns as f32).sqrt()).to_f32());
        let four_codes: [u8; 81] = std::array::from_fn(|n| (n % 3 + 4 * (n / 3 % 3) + 16 * (n / 9 % 3) + 64 * (n / 27)) as u8);
        pool.for_each_pair((&mut matrix.lines, block_lines), (&mut matrix.scales, groups * ROWS), |block, lines, _| {
            let mut random = Random::new(seed, block);
            for bytes in lines.iter_mut().flat_map(|line| line.0.as_chunks_mut::<8>().0) {
                *bytes = random.next().to_le_bytes().map(|byte| four_codes[usize::from(byte) * 81 / 256]);
            }
        });
        matrix
    }

    /// Room for a matrix.
    fn zeros(rows: usize, columns: usize, scale: Scale) -> Matrix {
        assert!(columns <= MAX_COLUMNS, "a matrix of {columns} columns: the kernels' sums hold at most {MAX_COLUMNS}");
        let mut matrix = Matrix { rows, columns, span: scale.span(columns), lines: Lines::zeroed(0), scales: Vec::new() };
        matrix.lines = Lines::zeroed(matrix.blocks() * matrix.block_lines());
        matrix.scales.resize(matrix.blocks() * matrix.groups() * ROWS, 0.0);
        matrix
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes that a multiply reads.
    pub fn len_bytes(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.scales[..])
    }

    pub(super) fn blocks(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Lines of one block.
    pub(super) fn block_lines(&self) -> usize {
        self.columns.div_ceil(STEP)
    }

    /// Groups of a row that have a scale of their own.
    pub(super) fn groups(&self) -> usize {
        self.columns.div_ceil(self.span.max(1))
    }

    /// Lines of one group.
    pub(super) fn group_lines(&self) -> usize {
        self.span.div_ceil(STEP)
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(super) fn scales(&self) -> &[f32] {
        &self.scales
    }
}

/// Sixteen codes in 32 bits; where there are fewer, the rest are zero.
#[inline]
pub(crate) fn pack_step(codes: &[i8]) -> u32 {
    let mut all = [0; STEP];
    all[..codes.len()].copy_from_slice(codes);
    let plane = |first: usize| {
        let four = u32::from_le_bytes([0, 1, 2, 3].map(|byte| all[first + byte] as u8));
        // w + 1 in each byte without a carry into the next: -1 is 3 in two bits, and 3 + 1 is 0 in two bits.
        ((four & 0x0303_0303) + 0x0101_0101) & 0x0303_0303
    };
    plane(0) | plane(4) << 2 | plane(8) << 4 | plane(12) << 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_weight_is_where_the_layout_says() {
        let (rows, columns) = (21, 37);
        let codes: Vec<i8> = (0..rows * columns).map(|i| (i * 7 % 3) as i8 - 1).collect();
        let scales: Vec<f16> = (0..rows).map(|row| f16::from_f32(row as f32)).collect();
        let matrix = Matrix::from_codes(&codes, rows, columns, Scale::Row, &scales);
        for row in 0..rows {
            for column in 0..columns {
                let line = matrix.lines[row / ROWS * 3 + column / STEP];
                let byte = line.0[4 * (row % ROWS) + column % 4];
                let found = (byte >> (column % STEP / 4 * 2) & 3) as i8 - 1;
                assert_eq!(found, codes[row * columns + column], "row {row} column {column}");
            }
            assert_eq!(matrix.scales[row], row as f32);
        }
        assert_eq!(matrix.lines.len(), 6);
    }
}
