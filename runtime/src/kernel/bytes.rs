//! The embedding and head: 8-bit weights with a scale for each 32, times activations of 15 bits.
//!
//! Activations of 8 bits would add about 1 % of noise to every logit, more than the weights' rounding. So an activation is
//! 128 * high + low, both signed bytes, and a weight that was read once is multiplied with both: exact enough that a greedy token does
//! not depend on it, and free where memory is what limits.

use std::ops::Range;

use model::block::{Q8_BLOCK, Q8_BYTES};

use super::{
    Isa, Pool,
    elementary::widen,
    isa::Kind,
    matrix::ROWS,
    memory::Lines,
    scalar, share,
    tile::{Output, Vector},
    vectorise::vectorised,
};
use crate::random::Random;

/// Inputs in a line: the four bytes of row r are at 4r.
const STEP: usize = 4;
/// Lines of a block of [`Q8_BLOCK`] inputs.
const GROUP_LINES: usize = Q8_BLOCK / STEP;
/// The largest activation code, 127 * 128.
const LARGEST: f32 = 16_256.0;
// high and low in one 32-bit sum, and each with weights stored as w + 128.
const _: () = assert!(Q8_BLOCK as i64 * 128 * 16_256 <= i32::MAX as i64);

/// A Q8_0 matrix laid out for the kernels: sixteen rows to a block, as in a ternary one.
#[derive(Clone, Debug)]
pub(crate) struct ByteMatrix {
    rows: usize,
    columns: usize,
    /// `[blocks, columns / 4]`, each byte as w + 128.
    lines: Lines,
    /// `[blocks, columns / 32, ROWS]`.
    scales: Vec<u16>,
}

impl ByteMatrix {
    /// From Q8_0 rows.
    ///
    /// # Panics
    /// If the columns are no whole blocks or the bytes are another number than they need.
    pub(crate) fn new(pool: &Pool, bytes: &[u8], rows: usize, columns: usize) -> ByteMatrix {
        assert!(columns.is_multiple_of(Q8_BLOCK), "{columns} columns are no whole number of blocks of {Q8_BLOCK}");
        let (blocks, groups) = (rows.div_ceil(ROWS), columns / Q8_BLOCK);
        assert_eq!(bytes.len(), rows * groups * Q8_BYTES, "a {rows} x {columns} matrix has another number of bytes");
        let mut lines = Lines::zeroed(blocks * groups * GROUP_LINES);
        let mut scales = vec![0u16; blocks * groups * ROWS];
        pool.for_each_pair((&mut lines, groups * GROUP_LINES), (&mut scales, groups * ROWS), |block, lines, scales| {
            for lane in 0..ROWS.min(rows - block * ROWS) {
                let row = &bytes[(block * ROWS + lane) * groups * Q8_BYTES..][..groups * Q8_BYTES];
                for (group, packed) in row.chunks_exact(Q8_BYTES).enumerate() {
                    scales[group * ROWS + lane] = u16::from_le_bytes([packed[0], packed[1]]);
                    for (line, four) in lines[group * GROUP_LINES..].iter_mut().zip(packed[2..].as_chunks::<STEP>().0) {
                        line.0[4 * lane..4 * lane + 4].copy_from_slice(&four.map(|byte| byte ^ 0x80));
                    }
                }
            }
        });
        ByteMatrix { rows, columns, lines, scales }
    }

    /// Random weights, every row's squares summing to about one.
    pub(crate) fn random(pool: &Pool, rows: usize, columns: usize, seed: u64) -> ByteMatrix {
        let (blocks, groups) = (rows.div_ceil(ROWS), columns / Q8_BLOCK);
        let scale = half::f16::from_f32((3.0 / columns as f32).sqrt() / 128.0).to_bits();
        let mut lines = Lines::zeroed(blocks * groups * GROUP_LINES);
        let mut scales = vec![scale; blocks * groups * ROWS];
        pool.for_each_pair((&mut lines, groups * GROUP_LINES), (&mut scales, groups * ROWS), |block, lines, _| {
            let mut random = Random::new(seed, block);
            for bytes in lines.iter_mut().flat_map(|line| line.0.as_chunks_mut::<8>().0) {
                *bytes = random.next().to_le_bytes();
            }
        });
        ByteMatrix { rows, columns, lines, scales }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// One row's weights.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let lines = &self.lines[row / ROWS * (self.columns / STEP)..];
        let scales = &self.scales[row / ROWS * self.groups() * ROWS..];
        let lane = row % ROWS;
        for (at, (four, line)) in out.as_chunks_mut::<STEP>().0.iter_mut().zip(lines).enumerate() {
            let scale = widen(scales[at / GROUP_LINES * ROWS + lane]);
            for (out, byte) in four.iter_mut().zip(&line.0[4 * lane..]) {
                *out = f32::from((byte ^ 0x80) as i8) * scale;
            }
        }
    }

    /// Bytes that a multiply reads.
    pub(crate) fn len_bytes(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.scales[..])
    }

    /// Whether every scale is a number.
    pub(crate) fn is_finite(&self) -> bool {
        self.scales.iter().all(|scale| half::f16::from_bits(*scale).is_finite())
    }

    fn groups(&self) -> usize {
        self.columns / Q8_BLOCK
    }
}

/// Some tokens' activations in 15 bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct FineActivations {
    tokens: usize,
    width: usize,
    /// `[tokens, 2, width]`: the high bytes, then the low ones.
    codes: Vec<i8>,
    scales: Vec<f32>,
    /// `[tokens, width / 32, 2]`.
    sums: Vec<[i32; 2]>,
}

impl FineActivations {
    /// Quantise tokens of `width` numbers each, in place of those that were here.
    pub(crate) fn quantize(&mut self, isa: Isa, activations: &[f32], width: usize) {
        (self.tokens, self.width) = (activations.len() / width, width);
        self.codes.resize(self.tokens * 2 * width, 0);
        self.scales.resize(self.tokens, 0.0);
        self.sums.resize(self.tokens * (width / Q8_BLOCK), [0; 2]);
        let each = self.codes.chunks_exact_mut(2 * width).zip(self.sums.chunks_exact_mut(width / Q8_BLOCK));
        for ((activations, scale), (codes, sums)) in activations.chunks_exact(width).zip(&mut self.scales).zip(each) {
            let (high, low) = codes.split_at_mut(width);
            *scale = quantize_fine(isa, activations, high, low);
            for ((sums, high), low) in sums.iter_mut().zip(high.chunks_exact(Q8_BLOCK)).zip(low.chunks_exact(Q8_BLOCK)) {
                *sums = [high, low].map(|codes| codes.iter().map(|code| i32::from(*code)).sum());
            }
        }
    }
}

vectorised! {
    /// q = round_half_even(x / s) with s = max|x| / 16256, as 128 * high + low; returns s.
    fn quantize_fine(activations: &[f32], high: &mut [i8], low: &mut [i8]) -> f32 {
        let mut lanes = [0.0f32; 16];
        let (whole, rest) = activations.as_chunks::<16>();
        for chunk in whole {
            for (lane, activation) in lanes.iter_mut().zip(chunk) {
                let size = activation.abs();
                *lane = if size > *lane { size } else { *lane };
            }
        }
        let largest = lanes.iter().chain(rest).fold(0.0f32, |largest, x| largest.max(x.abs()));
        let scale = (largest / LARGEST).max(f32::MIN_POSITIVE);
        for ((high, low), activation) in high.iter_mut().zip(low.iter_mut()).zip(activations) {
            let code = (activation / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i32;
            let upper = (code + 64) >> 7;
            *high = upper as i8;
            *low = (code - (upper << 7)) as i8;
        }
        scale
    }
}

/// Multiply every token with the matrix: `out` is `[tokens, rows]`. For each output: total = 0; for each 32 inputs in order:
/// total += sum as f32 * s_w; y = total * s_x.
pub(crate) fn multiply_bytes(isa: Isa, pool: &Pool, matrix: &ByteMatrix, activations: &FineActivations, out: &mut [f32]) {
    assert_eq!(activations.width, matrix.columns, "the activations' width is not the matrix's columns");
    assert_eq!(out.len(), activations.tokens * matrix.rows, "the output is not tokens x rows");
    let output = Output { start: out.as_mut_ptr(), stride: matrix.rows };
    let parts = pool.threads();
    pool.run(&|part| {
        let blocks = share(matrix.rows.div_ceil(ROWS), part, parts);
        match isa.0 {
            // SAFETY: the sizes were checked above, the parts' blocks are disjoint, `out` stays borrowed until all are done, and the
            // `Isa` is the proof that the CPU has the instructions; so for the others.
            Kind::Scalar => unsafe { multiply_blocks::<scalar::Plain, 1>(matrix, activations, blocks, output) },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2(matrix, activations, blocks, output) },
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => unsafe { avxvnni(matrix, activations, blocks, output) },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512(matrix, activations, blocks, output) },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni | Kind::Amx => unsafe { avx512vnni(matrix, activations, blocks, output) },
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { neon(matrix, activations, blocks, output) },
            #[cfg(target_arch = "aarch64")]
            Kind::Dotprod => unsafe { dotprod(matrix, activations, blocks, output) },
            #[cfg(target_arch = "aarch64")]
            Kind::I8mm => unsafe { i8mm(matrix, activations, blocks, output) },
        }
    });
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compiled {
    ($name:ident, $features:literal, $vector:ty, $wide:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn $name(matrix: &ByteMatrix, activations: &FineActivations, blocks: Range<usize>, output: Output) {
            // SAFETY: passed on from the caller; the features are those of the vector.
            unsafe { multiply_blocks::<$vector, $wide>(matrix, activations, blocks, output) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(avx2, "avx2", super::x86::Maddubs<std::arch::x86_64::__m256i>, 2);
#[cfg(target_arch = "x86_64")]
compiled!(avxvnni, "avx2,avxvnni", super::x86::Vnni<std::arch::x86_64::__m256i>, 4);
#[cfg(target_arch = "x86_64")]
compiled!(avx512, "avx2,avx512f,avx512bw", super::x86::Maddubs<std::arch::x86_64::__m512i>, 4);
#[cfg(target_arch = "x86_64")]
compiled!(avx512vnni, "avx2,avx512f,avx512bw,avx512vnni", super::x86::Vnni<std::arch::x86_64::__m512i>, 4);
#[cfg(target_arch = "aarch64")]
compiled!(neon, "neon", super::neon::Neon, 4);
#[cfg(target_arch = "aarch64")]
compiled!(dotprod, "neon,dotprod", super::neon::Dotprod, 4);
#[cfg(target_arch = "aarch64")]
compiled!(i8mm, "neon,dotprod,i8mm", super::neon::I8mm, 4);

/// # Safety
/// The CPU has `V`'s instruction set, `output` has room for all tokens and rows, and no one else writes these blocks' rows.
#[inline(always)]
unsafe fn multiply_blocks<V: Vector, const WIDE: usize>(
    matrix: &ByteMatrix,
    activations: &FineActivations,
    blocks: Range<usize>,
    output: Output,
) {
    let (mut row, end) = (blocks.start * ROWS, blocks.end * ROWS);
    // SAFETY: passed on from the caller; rows and tokens stay within the matrix's blocks and the activations.
    unsafe {
        if activations.tokens < 4 {
            while row + WIDE * V::ROWS <= end {
                for token in 0..activations.tokens {
                    tile::<V, WIDE, 1>(matrix, activations, row, token, output);
                }
                row += WIDE * V::ROWS;
            }
        }
        while row < end {
            let mut token = 0;
            while token + 4 <= activations.tokens {
                tile::<V, 1, 4>(matrix, activations, row, token, output);
                token += 4;
            }
            while token < activations.tokens {
                tile::<V, 1, 1>(matrix, activations, row, token, output);
                token += 1;
            }
            row += V::ROWS;
        }
    }
}

/// The most rows of a tile.
const TILE_ROWS: usize = 64;

/// `M` row vectors with `N` tokens.
///
/// # Safety
/// As [`multiply_blocks`].
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize, const N: usize>(
    matrix: &ByteMatrix,
    activations: &FineActivations,
    row: usize,
    token: usize,
    output: Output,
) {
    let (groups, width) = (matrix.groups(), matrix.columns);
    let mut totals = [[0.0f32; TILE_ROWS]; N];
    for group in 0..groups {
        let mut sums = [[0i32; TILE_ROWS]; N];
        // SAFETY: `row` and the next rows belong to blocks of `groups * GROUP_LINES` lines, and a token has 32 codes a group; a
        // prefetch may name any address.
        unsafe {
            let mut high = [[V::zero(); N]; M];
            let mut low = [[V::zero(); N]; M];
            for n in 0..N {
                let [sum_high, sum_low] = activations.sums[(token + n) * groups + group];
                for m in 0..M {
                    high[m][n] = V::splat(-V::BYTE_OFFSET * sum_high);
                    low[m][n] = V::splat(-V::BYTE_OFFSET * sum_low);
                }
            }
            let codes = activations.codes.as_ptr().add(token * 2 * width + group * Q8_BLOCK);
            for line in 0..GROUP_LINES {
                for m in 0..M {
                    let at = row + m * V::ROWS;
                    let from = &matrix.lines[(at / ROWS * groups + group) * GROUP_LINES + line].0[4 * (at % ROWS)];
                    let from = std::ptr::from_ref(from);
                    if N == 1 {
                        V::prefetch(from.wrapping_add(PREFETCH_BYTES));
                    }
                    let weights = V::load(from);
                    for n in 0..N {
                        let codes = codes.add(n * 2 * width + line * STEP);
                        high[m][n] = V::dot_bytes(high[m][n], weights, codes);
                        low[m][n] = V::dot_bytes(low[m][n], weights, codes.add(width));
                    }
                }
            }
            for n in 0..N {
                for m in 0..M {
                    V::add(V::times_128(high[m][n]), low[m][n]).store(sums[n].as_mut_ptr().add(m * V::ROWS));
                }
            }
        }
        for m in 0..M {
            let at = row + m * V::ROWS;
            let scales = &matrix.scales[(at / ROWS * groups + group) * ROWS + at % ROWS..][..V::ROWS];
            for n in 0..N {
                for (lane, scale) in scales.iter().enumerate() {
                    totals[n][m * V::ROWS + lane] += sums[n][m * V::ROWS + lane] as f32 * widen(*scale);
                }
            }
        }
    }
    for n in 0..N {
        let scale = activations.scales[token + n];
        let count = (M * V::ROWS).min(matrix.rows - row.min(matrix.rows));
        // SAFETY: rows below `matrix.rows` of an existing token lie in the output, and this thread alone writes them.
        let out = unsafe { std::slice::from_raw_parts_mut(output.at((token + n) * output.stride + row), count) };
        for (out, total) in out.iter_mut().zip(&totals[n]) {
            *out = total * scale;
        }
    }
}

/// How far ahead weights are asked for.
const PREFETCH_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    /// The order that the kernels keep, in plain loops.
    fn reference(weights: &[(f16, [i8; 32])], activations: &[f32]) -> f32 {
        let largest = activations.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let scale = (largest / LARGEST).max(f32::MIN_POSITIVE);
        let mut total = 0.0f32;
        for ((weight_scale, codes), activations) in weights.iter().zip(activations.chunks(32)) {
            let sum: i32 = codes.iter().zip(activations).map(|(w, x)| i32::from(*w) * (x / scale).round_ties_even() as i32).sum();
            total += sum as f32 * weight_scale.to_f32();
        }
        total * scale
    }

    #[test]
    fn every_isa_equals_plain_loops_at_every_tail_and_extreme() {
        for (rows, columns, fixed) in
            [(1, 32, None), (17, 64, None), (63, 96, None), (150, 256, None), (40, 64, Some(-128)), (33, 32, Some(127))]
        {
            let weight = |row: usize, at: usize| fixed.unwrap_or(((row * 131 + at * 71) % 256) as u8 as i8);
            let matrix: Vec<Vec<(f16, [i8; 32])>> = (0..rows)
                .map(|row| {
                    let block = |group: usize| {
                        (f16::from_f32((row % 7 + group) as f32 * 0.013 - 0.02), std::array::from_fn(|i| weight(row, group * 32 + i)))
                    };
                    (0..columns / 32).map(block).collect()
                })
                .collect();
            let bytes: Vec<u8> = matrix
                .iter()
                .flatten()
                .flat_map(|(scale, codes)| scale.to_le_bytes().into_iter().chain(codes.iter().map(|code| *code as u8)))
                .collect();
            for tokens in 1..=9 {
                let activation = |at: usize| if fixed.is_some() { 1.0 } else { ((at * 37 % 211) as f32 - 100.0) * 0.01 };
                let activations: Vec<f32> = (0..tokens * columns).map(activation).collect();
                let expected: Vec<u32> = activations
                    .chunks(columns)
                    .flat_map(|activations| matrix.iter().map(|row| reference(row, activations).to_bits()).collect::<Vec<_>>())
                    .collect();
                for isa in Isa::supported() {
                    for threads in [1, 3] {
                        let pool = Pool::new(threads);
                        let laid_out = ByteMatrix::new(&pool, &bytes, rows, columns);
                        let mut fine = FineActivations::default();
                        fine.quantize(isa, &activations, columns);
                        let mut out = vec![f32::NAN; tokens * rows];
                        multiply_bytes(isa, &pool, &laid_out, &fine, &mut out);
                        let found: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                        assert_eq!(found, expected, "{isa}, {rows} x {columns}, {tokens} tokens, {threads} threads");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_comes_back() {
        let row: Vec<f32> = (0..64).map(|i| (i as f32 - 31.0) * 0.37).collect();
        let mut bytes = Vec::new();
        for _ in 0..19 {
            model::block::encode_q8(&row, &mut bytes);
        }
        let mut expected = vec![0.0; 64];
        model::block::decode_row(model::block::Format::Q8_0, &bytes[..68], &mut expected).unwrap();
        let matrix = ByteMatrix::new(&Pool::new(1), &bytes, 19, 64);
        let mut found = vec![0.0; 64];
        matrix.row(18, &mut found);
        assert_eq!(found, expected);
    }
}
