//! The embedding and head in 4, 6 or 8 bits a weight, laid out for the kernels; `integer_tile.rs` multiplies with them.
//!
//! Sixteen rows make a block, and a line of 64 bytes holds four bytes of each, as in a ternary matrix. Every weight is stored as an
//! unsigned number, which is the weight plus half the numbers that there are.

use model::{
    block::{Format, encode_integers},
    integer::{Grid, Integers},
};

use super::{
    Pool,
    elementary::widen,
    matrix::{Line, Matrix, Packing, ROWS},
    memory::Lines,
    pool::Chunks,
};
use crate::random::Random;

/// Bits of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// Q4_0: a scale for each 32 weights. A line holds four inputs in the low halves of its bytes and in the high ones those that
    /// come sixteen later.
    Four,
    /// Q6_K: a scale for each 16 weights. Two lines hold the low four bits of eight inputs each, four in the low halves and the next
    /// four in the high ones; a third the high two bits of all sixteen, four in the bits 0 and 1 of each byte and so on.
    Six,
    /// Q8_0: a scale for each 32 weights. A line holds four inputs.
    Eight,
    /// Q8_0 with the high two bits of every weight apart, in a matrix like a ternary one ([`IntegerMatrix::high`]). Three lines hold the low
    /// six bits of sixteen inputs, four in the bits 0 to 5 of each; of the last four two bits each in the bits 6 and 7, from the low up.
    Apart,
}

impl Bits {
    /// Those of a format of the file, if it is kept in integers.
    pub(crate) fn of(format: Format) -> Option<Bits> {
        match format {
            Format::Q4_0 => Some(Bits::Four),
            Format::Q6K => Some(Bits::Six),
            Format::Q8_0 => Some(Bits::Eight),
            Format::F32 | Format::F16 | Format::Bf16 => None,
            Format::Tq1_0 | Format::Tq2_0 | Format::I2sX86 | Format::I2sArm | Format::Q2_0 => None,
        }
    }

    fn format(self) -> Format {
        match self {
            Bits::Four => Format::Q4_0,
            Bits::Six => Format::Q6K,
            Bits::Eight | Bits::Apart => Format::Q8_0,
        }
    }

    /// Inputs that share a scale.
    pub(super) const fn group(self) -> usize {
        match self {
            Bits::Four | Bits::Eight | Bits::Apart => 32,
            Bits::Six => 16,
        }
    }

    /// Lines of a group.
    pub(super) const fn lines(self) -> usize {
        match self {
            Bits::Four => 4,
            Bits::Six => 3,
            Bits::Eight => 8,
            Bits::Apart => 6,
        }
    }

    /// Lines of a group's high bits, where those are apart.
    pub(super) const fn high_lines(self) -> usize {
        match self {
            Bits::Four | Bits::Six | Bits::Eight => 0,
            Bits::Apart => 2,
        }
    }

    /// Inputs of a block of the file, of which the columns are a multiple.
    pub(crate) fn block(self) -> usize {
        self.format().block().0
    }
}

/// Planes of the largest group.
pub(super) const MOST_PLANES: usize = Bits::Eight.group() / 4;

/// Groups of a Q6_K block, which have an f16 scale together and a factor of 8 bits each.
const SIX_GROUPS: usize = 16;

/// What a step of [`Bits::Apart`]'s high bits is worth.
const HIGH_STEP: f32 = 64.0;
/// The largest activation code for high bits: a ternary matrix has sums of codes up to 2 and activations up to 127.
pub(crate) const HIGH_ACTIVATION: i8 = 84;
const _: () = assert!(3 * HIGH_ACTIVATION as i32 <= 2 * 127);

/// A matrix of small integers.
#[derive(Debug)]
pub struct IntegerMatrix {
    bits: Bits,
    rows: usize,
    columns: usize,
    /// `[blocks, groups, lines of a group]`.
    lines: Lines,
    /// f16, `[blocks, groups, ROWS]`; for Q6_K one for [`SIX_GROUPS`] groups.
    scales: Vec<u16>,
    /// Q6_K's factors, `[blocks, groups, ROWS]`.
    factors: Vec<i8>,
    /// The high bits that are apart.
    high: Option<Matrix>,
}

impl IntegerMatrix {
    /// From codes and scales, as they would come from a file.
    pub fn from_codes(pool: &Pool, matrix: &Integers) -> IntegerMatrix {
        let bits = match matrix.grid {
            Grid::Eight => Bits::Eight,
            Grid::Four => Bits::Four,
        };
        IntegerMatrix::new(pool, bits, &encode_integers(matrix), matrix.rows, matrix.columns)
    }

    /// From the rows of a file's tensor.
    ///
    /// # Panics
    /// If the columns are no whole blocks or the bytes are another number than they need.
    pub(crate) fn new(pool: &Pool, bits: Bits, bytes: &[u8], rows: usize, columns: usize) -> IntegerMatrix {
        let mut matrix = IntegerMatrix::zeros(bits, rows, columns);
        let (block_inputs, block_bytes) = bits.format().block();
        let row_bytes = columns / block_inputs * block_bytes;
        assert_eq!(bytes.len(), rows * row_bytes, "a {rows} x {columns} matrix has another number of bytes");
        let (line_count, scale_count, factor_count) = matrix.block_lengths();
        let scales = Chunks::new(&mut matrix.scales, scale_count);
        let factors = Chunks::new(&mut matrix.factors, factor_count);
        pool.for_each_pair((&mut matrix.lines, line_count), (&mut [], 0), |block, lines, _: &mut [()]| {
            // SAFETY: there are as many chunks of each, and no two calls are for the same block.
            let (scales, factors) = unsafe { (scales.get(block), factors.get(block)) };
            for lane in 0..ROWS.min(rows - block * ROWS) {
                let row = &bytes[(block * ROWS + lane) * row_bytes..][..row_bytes];
                let mut lines = lines.chunks_exact_mut(bits.lines());
                for (at, packed) in row.chunks_exact(block_bytes).enumerate() {
                    let put = |four: &[u8; 4], line: &mut Line| line.0[4 * lane..4 * lane + 4].copy_from_slice(four);
                    let mut group = || lines.next().expect("a group for each scale of the row");
                    let scale = match bits {
                        Bits::Four => {
                            packed[2..].as_chunks().0.iter().zip(group()).for_each(|(four, line)| put(four, line));
                            &packed[..2]
                        }
                        Bits::Eight => {
                            packed[2..].as_chunks().0.iter().zip(group()).for_each(|(four, line)| put(&four.map(|byte| byte ^ 0x80), line));
                            &packed[..2]
                        }
                        Bits::Apart => {
                            for (sixteen, lines) in packed[2..].as_chunks::<16>().0.iter().zip(group().as_chunks_mut::<3>().0) {
                                low_bits(sixteen).iter().zip(lines).for_each(|(four, line)| put(four, line));
                            }
                            &packed[..2]
                        }
                        Bits::Six => {
                            for (place, factor) in packed[192..208].iter().enumerate() {
                                six_group(packed, place).iter().zip(group()).for_each(|(four, line)| put(four, line));
                                factors[(at * SIX_GROUPS + place) * ROWS + lane] = *factor as i8;
                            }
                            &packed[208..]
                        }
                    };
                    scales[at * ROWS + lane] = u16::from_le_bytes([scale[0], scale[1]]);
                }
            }
        });
        matrix.high = (bits == Bits::Apart).then(|| high_matrix(pool, bytes, rows, columns));
        matrix
    }

    /// Random weights, every row's squares summing to about one.
    pub(crate) fn random(pool: &Pool, bits: Bits, rows: usize, columns: usize, seed: u64) -> IntegerMatrix {
        let mut matrix = IntegerMatrix::zeros(bits, rows, columns);
        let (largest, factor): (f32, i8) = match bits {
            Bits::Four => (8.0, 1),
            Bits::Six => (32.0, 16),
            Bits::Eight | Bits::Apart => (128.0, 1),
        };
        let scale = (3.0 / columns as f32).sqrt() / (largest * f32::from(factor));
        matrix.scales.fill(half::f16::from_f32(scale).to_bits());
        matrix.factors.fill(factor);
        let (line_count, ..) = matrix.block_lengths();
        pool.for_each_pair((&mut matrix.lines, line_count), (&mut [], 0), |block, lines, _: &mut [()]| {
            let mut random = Random::new(seed, block);
            for bytes in lines.iter_mut().flat_map(|line| line.0.as_chunks_mut::<8>().0) {
                *bytes = random.next().to_le_bytes();
            }
        });
        matrix.high = (bits == Bits::Apart).then(|| {
            Matrix::from_planes(pool, Packing::Four, (rows, columns), |block, planes, scales| {
                let mut random = Random::new(seed + 1, block);
                for bytes in planes.iter_mut().flat_map(|plane| plane.as_chunks_mut::<8>().0) {
                    *bytes = random.next().to_le_bytes().map(high_bits);
                }
                scales.fill(HIGH_STEP * scale);
            })
        });
        matrix
    }

    fn zeros(bits: Bits, rows: usize, columns: usize) -> IntegerMatrix {
        assert!(columns.is_multiple_of(bits.block()), "{columns} columns are no whole number of blocks of {}", bits.block());
        let lines = Lines::zeroed(0);
        let mut matrix = IntegerMatrix { bits, rows, columns, lines, scales: Vec::new(), factors: Vec::new(), high: None };
        let (lines, scales, factors) = matrix.block_lengths();
        matrix.lines = Lines::zeroed(matrix.blocks() * lines);
        matrix.scales = vec![0; matrix.blocks() * scales];
        matrix.factors = vec![0; matrix.blocks() * factors];
        matrix
    }

    /// Lines, scales and factors of a block.
    fn block_lengths(&self) -> (usize, usize, usize) {
        let groups = self.groups();
        match self.bits {
            Bits::Four | Bits::Eight | Bits::Apart => (groups * self.bits.lines(), groups * ROWS, 0),
            Bits::Six => (groups * self.bits.lines(), groups / SIX_GROUPS * ROWS, groups * ROWS),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn bits(&self) -> Bits {
        self.bits
    }

    pub(super) fn blocks(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    pub(crate) fn groups(&self) -> usize {
        self.columns / self.bits.group()
    }

    /// Where the lanes of `row` and the next rows are in a group's first line.
    #[inline(always)]
    pub(super) fn group_start(&self, row: usize, group: usize) -> *const u8 {
        let line = &self.lines[(row / ROWS * self.groups() + group) * self.bits.lines()];
        line.0[4 * (row % ROWS)..].as_ptr()
    }

    /// Where the high bits of the same lanes and inputs are, if they are apart.
    #[inline(always)]
    pub(super) fn high_start(&self, row: usize, group: usize) -> *const u8 {
        match &self.high {
            Some(high) => high.lines()[row / ROWS * high.block_lines() + group * self.bits.high_lines()].0[4 * (row % ROWS)..].as_ptr(),
            None => std::ptr::null(),
        }
    }

    /// The high bits h = (w + 128) / 64 of each weight w, where they are apart, as a ternary matrix' w + 1, with 64 times a row's mean scale:
    /// w is about 64 (h - 1.5). They are codes up to 3, so that activations are to be at most [`HIGH_ACTIVATION`]. A negative scale, which
    /// a file may have though who writes Q8_0 makes none, only has them tell less.
    pub(crate) fn high(&self) -> Option<&Matrix> {
        self.high.as_ref()
    }

    /// The scales of a group in `row` and the next rows of its block.
    #[inline(always)]
    pub(super) fn scales<const COUNT: usize>(&self, row: usize, group: usize) -> [f32; COUNT] {
        let mut scales = [0.0; COUNT];
        self.write_scales(row, group, &mut scales);
        scales
    }

    /// The same of as many rows as there is room for.
    #[inline(always)]
    pub(super) fn write_scales(&self, row: usize, group: usize, scales: &mut [f32]) {
        let (block, lane, groups) = (row / ROWS, row % ROWS, self.groups());
        // Loops, not closures: those lack the instruction set of the function that this becomes a part of.
        let at = if self.bits == Bits::Six { block * (groups / SIX_GROUPS) + group / SIX_GROUPS } else { block * groups + group };
        let count = scales.len();
        for (scale, bits) in scales.iter_mut().zip(&self.scales[at * ROWS + lane..][..count]) {
            *scale = widen(*bits);
        }
        if self.bits == Bits::Six {
            for (scale, factor) in scales.iter_mut().zip(&self.factors[(block * groups + group) * ROWS + lane..][..count]) {
                *scale *= f32::from(*factor); // Exact: 11 bits times 8.
            }
        }
    }

    /// Where a group's scales are in the block of `row`, which may be one beyond the last; to ask for them.
    #[inline(always)]
    pub(super) fn scale_start(&self, row: usize, group: usize) -> *const u8 {
        let groups = self.groups();
        match self.bits {
            Bits::Four | Bits::Eight | Bits::Apart => self.scales.as_ptr().wrapping_add((row / ROWS * groups + group) * ROWS).cast(),
            Bits::Six => self.factors.as_ptr().wrapping_add((row / ROWS * groups + group) * ROWS).cast(),
        }
    }

    /// Bytes of one block's lines, and of its high bits'.
    #[inline(always)]
    pub(super) fn block_bytes(&self) -> (usize, usize) {
        let groups_bytes = self.groups() * size_of::<Line>();
        (groups_bytes * self.bits.lines(), groups_bytes * self.bits.high_lines())
    }

    /// One row's weights.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        for (group, out) in out.chunks_exact_mut(self.bits.group()).enumerate() {
            let [scale] = self.scales::<1>(row, group);
            let lines = &self.lines[(row / ROWS * self.groups() + group) * self.bits.lines()..];
            let high = self.high.as_ref().map_or(&[][..], |high| &high.lines()[row / ROWS * high.block_lines()..]);
            let byte = |line: usize, at: usize| lines[line].0[4 * (row % ROWS) + at];
            for (at, out) in out.iter_mut().enumerate() {
                let weight = match self.bits {
                    Bits::Four => i16::from(byte(at % 16 / 4, at % 4) >> (at / 16 * 4) & 15) - 8,
                    Bits::Six => {
                        let low = byte(at / 8, at % 4) >> (at / 4 % 2 * 4) & 15;
                        i16::from(low | (byte(2, at % 4) >> (at / 4 * 2) & 3) << 4) - 32
                    }
                    Bits::Eight => i16::from(byte(at / 4, at % 4)) - 128,
                    Bits::Apart => {
                        let (half, plane) = (at / 16, at / 4 % 4);
                        let low = match plane {
                            3 => (0..3).fold(0, |low, line| low | byte(3 * half + line, at % 4) >> 6 << (2 * line)),
                            _ => byte(3 * half + plane, at % 4) & 63,
                        };
                        let high = &high[group * self.bits.high_lines() + half];
                        i16::from(low | high.0[4 * (row % ROWS) + at % 4] >> (2 * plane) << 6) - 128
                    }
                };
                *out = f32::from(weight) * scale;
            }
        }
    }

    /// A group's weights of all rows of a block: planes of four inputs, each line by line as the matrix's are.
    #[inline(always)]
    pub(super) fn planes(&self, block: usize, group: usize) -> [[i8; 64]; MOST_PLANES] {
        let lines = &self.lines[(block * self.groups() + group) * self.bits.lines()..][..self.bits.lines()];
        let mut planes = [[0; 64]; MOST_PLANES];
        match self.bits {
            Bits::Four => {
                for (at, line) in lines.iter().enumerate() {
                    planes[at] = line.0.map(|byte| (byte & 15) as i8 - 8);
                    planes[at + 4] = line.0.map(|byte| (byte >> 4) as i8 - 8);
                }
            }
            Bits::Six => {
                for (at, plane) in planes[..4].iter_mut().enumerate() {
                    for (i, weight) in plane.iter_mut().enumerate() {
                        let (low, high) = (lines[at / 2].0[i] >> (4 * (at % 2)) & 15, lines[2].0[i] >> (2 * at) & 3);
                        *weight = (low | high << 4) as i8 - 32;
                    }
                }
            }
            Bits::Eight => planes.iter_mut().zip(lines).for_each(|(plane, line)| *plane = line.0.map(|byte| (byte ^ 0x80) as i8)),
            Bits::Apart => {
                let high = self.high.as_ref().expect("high bits that are apart");
                let high_lines = &high.lines()[block * high.block_lines() + group * self.bits.high_lines()..];
                for (planes, (lines, high)) in planes.as_chunks_mut::<4>().0.iter_mut().zip(lines.as_chunks::<3>().0.iter().zip(high_lines))
                {
                    for (i, high) in high.0.iter().enumerate() {
                        let low = lines.map(|line| line.0[i]);
                        let last = low[0] >> 6 | low[1] >> 6 << 2 | low[2] >> 6 << 4;
                        for (at, low) in [low[0] & 63, low[1] & 63, low[2] & 63, last].into_iter().enumerate() {
                            planes[at][i] = ((low | high >> (2 * at) << 6) ^ 0x80) as i8;
                        }
                    }
                }
            }
        }
        planes
    }

    /// Bytes that a multiply reads.
    pub(crate) fn len_bytes(&self) -> usize {
        let high = self.high.as_ref().map_or(0, Matrix::len_bytes);
        size_of_val(&self.lines[..]) + size_of_val(&self.scales[..]) + size_of_val(&self.factors[..]) + high
    }

    /// Whether every scale is a number.
    pub(crate) fn is_finite(&self) -> bool {
        self.scales.iter().all(|scale| half::f16::from_bits(*scale).is_finite())
    }
}

/// The high bits of a file's rows of Q8_0.
fn high_matrix(pool: &Pool, bytes: &[u8], rows: usize, columns: usize) -> Matrix {
    let (block_inputs, block_bytes) = Format::Q8_0.block();
    let blocks = columns / block_inputs;
    Matrix::from_planes(pool, Packing::Four, (rows, columns), |block, planes, scales| {
        for (lane, scale) in scales.iter_mut().enumerate().take(rows - block * ROWS) {
            let row = &bytes[(block * ROWS + lane) * blocks * block_bytes..][..blocks * block_bytes];
            for (packed, planes) in row.chunks_exact(block_bytes).zip(planes.chunks_exact_mut(block_inputs / 4)) {
                *scale += widen(u16::from_le_bytes([packed[0], packed[1]]));
                for (four, plane) in packed[2..].as_chunks::<4>().0.iter().zip(planes) {
                    plane[4 * lane..4 * lane + 4].copy_from_slice(&four.map(high_bits));
                }
            }
            *scale *= HIGH_STEP / blocks as f32;
        }
    })
}

/// The high bits of a weight.
fn high_bits(weight: u8) -> u8 {
    (weight ^ 0x80) >> 6
}

/// One row's bytes of the three lines of sixteen inputs of [`Bits::Apart`].
fn low_bits(weights: &[u8; 16]) -> [[u8; 4]; 3] {
    let mut lines = [[0; 4]; 3];
    let (planes, last) = weights.split_at(12);
    for (at, (line, plane)) in lines.iter_mut().zip(planes.as_chunks::<4>().0).enumerate() {
        for ((byte, weight), last) in line.iter_mut().zip(plane).zip(last) {
            *byte = weight & 63 | last >> (2 * at) << 6;
        }
    }
    lines
}

/// One row's bytes of the three lines of a Q6_K block's group. In a half of the block, low byte m holds weight m in its low bits and
/// weight m + 64 in its high ones, high byte m the weights m, m + 32, m + 64 and m + 96 from the low bits up.
fn six_group(packed: &[u8], group: usize) -> [[u8; 4]; 3] {
    let (half, first) = (group / 8, group % 8 * 16);
    let mut lines = [[0; 4]; 3];
    for at in 0..16 {
        let place = first + at;
        let low = packed[64 * half + place % 64] >> (place / 64 * 4) & 15;
        let high = packed[128 + 32 * half + place % 32] >> (place / 32 * 2) & 3;
        lines[at / 8][at % 4] |= low << (at / 4 % 2 * 4);
        lines[2][at % 4] |= high << (at / 4 * 2);
    }
    lines
}

#[cfg(test)]
mod tests;
