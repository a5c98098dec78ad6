//! A ternary matrix laid out for the kernels.
//!
//! Sixteen rows make a block. A line of 64 bytes holds some inputs of each of a block's rows: the four bytes of row r are at 4r. So one
//! 32-bit lane of a vector belongs to one row, four activations are broadcast to all lanes, and nothing is summed across lanes.
//! How many weights a byte holds is the matrix's [`Packing`].

use std::ops::Range;

use half::f16;
use model::{Scale, Ternary, ternary::GROUP};

use super::{
    Pool, digits,
    memory::{Lines, Memory},
};
use crate::random::Random;

/// Rows that share a line.
pub(crate) const ROWS: usize = 16;
/// The widest matrix. Kernels that do not shift the fourth weight of a byte down add 128 x 127 for every fourth input.
pub const MAX_COLUMNS: usize = 1 << 19;
const _: () = assert!((MAX_COLUMNS / 4) as i64 * 2 * 64 * 127 <= i32::MAX as i64);

/// How weights lie in a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Byte b of a row's four in a line holds the weights of inputs b, 4 + b, 8 + b and 12 + b in bits 0-1, 2-3, 4-5 and 6-7, each as
    /// w + 1: what every instruction set unpacks fast.
    Four,
    /// 1.6 bits a weight: byte b holds the weights of inputs b, 4 + b, 8 + b, 12 + b and 16 + b as the digits of a number; `digits.rs`
    /// says how. Where memory is what limits, it is a fifth less to read. Scales by group do not divide into its lines.
    Five,
}

impl Packing {
    /// Weights in a byte. Those at one place of a line's bytes are a plane: four inputs of each row.
    pub(crate) const fn planes(self) -> usize {
        match self {
            Packing::Four => 4,
            Packing::Five => 5,
        }
    }

    /// Inputs in a line.
    pub(crate) const fn step(self) -> usize {
        4 * self.planes()
    }

    /// A row's four bytes of a line from its words, each the codes of four inputs as w + 1; what is missing is 0.
    #[inline(always)]
    fn pack(self, words: &[u32]) -> u32 {
        let word = |at: usize| words.get(at).copied().unwrap_or(0);
        match self {
            Packing::Four => word(0) | word(1) << 2 | word(2) << 4 | word(3) << 6,
            Packing::Five => digits::pack(word(0) + word(1) * 3 + word(2) * 9 + word(3) * 27, word(4)),
        }
    }
}

/// Some inputs of sixteen rows.
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
    packing: Packing,
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

    /// As [`Matrix::new`] in 1.6 bits a weight.
    ///
    /// # Panics
    /// If the scale is by group.
    pub fn dense(ternary: &Ternary) -> Matrix {
        let mut matrix = Matrix::zeros(Packing::Five, 0, 0, ternary.scale);
        matrix.set(&ternary.codes, ternary.rows, ternary.columns, ternary.scale, &ternary.scales);
        matrix
    }

    /// Lay out row-major codes, each -1, 0 or 1, with the scales of [`Ternary::scales`].
    ///
    /// # Panics
    /// If the lengths do not fit together, a scale by group has columns that do not divide, or there are more than
    /// [`MAX_COLUMNS`] columns.
    pub fn from_codes(codes: &[i8], rows: usize, columns: usize, scale: Scale, scales: &[f16]) -> Matrix {
        let mut matrix = Matrix::zeros(Packing::Four, 0, 0, scale);
        matrix.set(codes, rows, columns, scale, scales);
        matrix
    }

    /// As [`Matrix::from_codes`], into this matrix's memory.
    pub fn set(&mut self, codes: &[i8], rows: usize, columns: usize, scale: Scale, scales: &[f16]) {
        assert_eq!(Some(codes.len()), rows.checked_mul(columns), "a {rows} x {columns} matrix has another number of codes");
        assert_eq!(scales.len(), scale.count(rows, columns), "a {rows} x {columns} matrix has another number of scales");
        self.resize(rows, columns, scale);
        let (block_lines, packing) = (self.block_lines(), self.packing);
        for (row, codes) in codes.chunks_exact(columns.max(1)).enumerate() {
            let lines = &mut self.lines[row / ROWS * block_lines..][..block_lines];
            for (line, codes) in lines.iter_mut().zip(codes.chunks(packing.step())) {
                line.put(row % ROWS, pack_codes(packing, codes));
            }
        }
        let groups = self.groups();
        for row in 0..rows {
            for group in 0..groups {
                let shared = scales[scale.index(columns, row, group * self.span)];
                self.scales[(row / ROWS * groups + group) * ROWS + row % ROWS] = shared.to_f32();
            }
        }
    }

    /// Lay out a matrix of which `read` gives a row: its codes, each four of them the bytes of a word as w + 1, and its scales: one, or
    /// one for each [`GROUP`] codes. Spread over the pool's threads. A scale by group is never packed denser than four.
    pub(crate) fn read<E, Read>(
        (pool, memory): (&Pool, &Memory),
        packing: Packing,
        (rows, columns): (usize, usize),
        scale: Scale,
        read: Read,
    ) -> Result<Matrix, E>
    where
        E: Send,
        Read: Fn(usize, &mut [u32], &mut [f32]) -> Result<(), E> + Sync,
    {
        let packing = if scale == Scale::Group { Packing::Four } else { packing };
        let mut matrix = Matrix::zeros(packing, 0, 0, scale);
        matrix.lines = memory.lines(rows.div_ceil(ROWS) * columns.div_ceil(packing.step()));
        matrix.resize(rows, columns, scale);
        let (block_lines, groups) = (matrix.block_lines(), matrix.groups());
        pool.try_for_each_pair((&mut matrix.lines, block_lines), (&mut matrix.scales, groups * ROWS), |block, lines, scales| {
            let (mut words, mut row_scales) = (vec![0; columns.div_ceil(4)], vec![0.0; groups]);
            for lane in 0..ROWS.min(rows - block * ROWS) {
                read(block * ROWS + lane, &mut words, &mut row_scales)?;
                for (line, words) in lines.iter_mut().zip(words.chunks(packing.step() / 4)) {
                    line.put(lane, packing.pack(words));
                }
                for (scales, scale) in scales.chunks_exact_mut(ROWS).zip(&row_scales) {
                    scales[lane] = *scale;
                }
            }
            Ok(())
        })?;
        Ok(matrix)
    }

    /// Lay out a matrix with a scale a row of which `read` gives a block: its planes of four inputs each, whose codes lie as in a line, as
    /// w + 1, and its rows' scales. Spread over the pool's threads.
    pub(crate) fn from_planes(
        pool: &Pool,
        packing: Packing,
        (rows, columns): (usize, usize),
        read: impl Fn(usize, &mut [[u8; 64]], &mut [f32]) + Sync,
    ) -> Matrix {
        let mut matrix = Matrix::zeros(packing, rows, columns, Scale::Row);
        let block_lines = matrix.block_lines();
        pool.for_each_pair((&mut matrix.lines, block_lines), (&mut matrix.scales, ROWS), |block, lines, scales| {
            let mut planes = vec![[0; 64]; columns.div_ceil(4)];
            read(block, &mut planes, scales);
            for (line, planes) in lines.iter_mut().zip(planes.chunks(packing.planes())) {
                for lane in 0..ROWS {
                    let mut words = [0; Packing::Five.planes()];
                    for (word, plane) in words.iter_mut().zip(planes) {
                        *word = u32::from_le_bytes(plane.as_chunks().0[lane]);
                    }
                    line.put(lane, packing.pack(&words[..planes.len()]));
                }
            }
        });
        matrix
    }

    /// Random codes, every row's squares summing to about one.
    pub(crate) fn random(place: (&Pool, &Memory), packing: Packing, (rows, columns): (usize, usize), scale: Scale, seed: u64) -> Matrix {
        let number = f16::from_f32((1.5 / columns as f32).sqrt()).to_f32();
        let Ok(matrix) = Matrix::read(place, packing, (rows, columns), scale, |row, words, scales| {
            let mut random = Random::new(seed, row);
            for word in words {
                // Four numbers below three from 32 random bits.
                let random = random.next() as u32;
                *word = u32::from_le_bytes(random.to_le_bytes().map(|byte| ((u16::from(byte) * 3) >> 8) as u8));
            }
            scales.fill(number);
            Ok::<(), std::convert::Infallible>(())
        });
        matrix
    }

    /// Room for a matrix.
    fn zeros(packing: Packing, rows: usize, columns: usize, scale: Scale) -> Matrix {
        let mut matrix = Matrix { packing, rows: 0, columns: 0, span: 0, lines: Lines::zeroed(0), scales: Vec::new() };
        matrix.resize(rows, columns, scale);
        matrix
    }

    /// Make this room for a matrix of another size.
    fn resize(&mut self, rows: usize, columns: usize, scale: Scale) {
        assert!(columns <= MAX_COLUMNS, "a matrix of {columns} columns: the kernels' sums hold at most {MAX_COLUMNS}");
        assert!(scale != Scale::Group || columns.is_multiple_of(GROUP), "{columns} columns do not divide into groups of {GROUP}");
        assert!(scale != Scale::Group || self.packing == Packing::Four, "groups of {GROUP} do not divide into lines of five to a byte");
        (self.rows, self.columns, self.span) = (rows, columns, scale.span(columns));
        let lines = self.blocks() * self.block_lines();
        if self.lines.len() != lines {
            self.lines = Lines::zeroed(lines);
        }
        self.scales.resize(self.blocks() * self.groups() * ROWS, 0.0);
    }

    /// How its weights lie in a byte.
    pub fn packing(&self) -> Packing {
        self.packing
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
        self.columns.div_ceil(self.packing.step())
    }

    /// Groups of a row that have a scale of their own.
    pub(super) fn groups(&self) -> usize {
        self.columns.div_ceil(self.span.max(1))
    }

    /// Which of a block's lines a group has.
    pub(super) fn lines_of(&self, group: usize) -> Range<usize> {
        group * self.group_lines()..self.block_lines().min((group + 1) * self.group_lines())
    }

    /// Lines of one group.
    pub(super) fn group_lines(&self) -> usize {
        self.span.div_ceil(self.packing.step())
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(super) fn scales(&self) -> &[f32] {
        &self.scales
    }
}

/// A line's codes of one row; where there are fewer, the rest are zero.
#[inline]
fn pack_codes(packing: Packing, codes: &[i8]) -> u32 {
    let mut words = [0x0101_0101; Packing::Five.step() / 4];
    for (word, codes) in words.iter_mut().zip(codes.chunks(4)) {
        let mut four = [0; 4];
        four[..codes.len()].copy_from_slice(codes);
        *word = to_word(four);
    }
    packing.pack(&words)
}

/// Four codes as w + 1.
#[inline]
pub(crate) fn to_word(codes: [i8; 4]) -> u32 {
    // Without a carry into the next byte: -1 is 3 in two bits, and 3 + 1 is 0 in two bits.
    ((u32::from_le_bytes(codes.map(|code| code as u8)) & 0x0303_0303) + 0x0101_0101) & 0x0303_0303
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_weight_is_where_the_layout_says() {
        let (rows, columns) = (21, 37);
        let codes: Vec<i8> = (0..rows * columns).map(|i| (i * 7 % 3) as i8 - 1).collect();
        let scales: Vec<f16> = (0..rows).map(|row| f16::from_f32(row as f32)).collect();
        let ternary = Ternary { rows, columns, codes, scale: Scale::Row, scales };
        for matrix in [Matrix::new(&ternary), Matrix::dense(&ternary)] {
            let step = matrix.packing.step();
            for row in 0..rows {
                for column in 0..columns {
                    let line = matrix.lines[row / ROWS * columns.div_ceil(step) + column / step];
                    let (byte, plane) = (line.0[4 * (row % ROWS) + column % 4], column % step / 4);
                    let found = match matrix.packing {
                        Packing::Four => byte >> (2 * plane) & 3,
                        Packing::Five if plane == 4 => digits::last(byte),
                        Packing::Five => digits::first_four(byte) / 3u8.pow(plane as u32) % 3,
                    };
                    assert_eq!(found as i8 - 1, ternary.codes[row * columns + column], "row {row} column {column}");
                }
                assert_eq!(matrix.scales[row], row as f32);
            }
            assert_eq!(matrix.lines.len(), 2 * columns.div_ceil(step));
        }
    }

    #[test]
    fn a_row_read_is_a_row_set() {
        let (rows, columns) = (18, 52);
        let codes: Vec<i8> = (0..rows * columns).map(|i| (i * 5 % 3) as i8 - 1).collect();
        let ternary = Ternary { rows, columns, codes, scale: Scale::Tensor, scales: vec![f16::ONE] };
        for expected in [Matrix::new(&ternary), Matrix::dense(&ternary)] {
            let block_lines = expected.block_lines();
            let found = Matrix::read(
                (&Pool::new(2), &Memory::of(0, expected.packing)),
                expected.packing,
                (rows, columns),
                Scale::Tensor,
                |row, words, scales| {
                    for (word, codes) in words.iter_mut().zip(ternary.codes[row * columns..].as_chunks::<4>().0) {
                        *word = to_word(*codes);
                    }
                    scales[0] = 1.0;
                    Ok::<(), ()>(())
                },
            );
            let found = found.unwrap();
            // What is beyond the columns or rows is multiplied with zero or not written.
            for (at, (found, expected)) in found.lines.iter().zip(&expected.lines[..]).enumerate() {
                let last = (at + 1).is_multiple_of(block_lines);
                assert!(last || found.0[..8] == expected.0[..8], "line {at}");
            }
            assert_eq!(found.scales[..rows], expected.scales[..rows]);
        }
    }
}
