//! The integer formats: blocks of small integers that share a scale. Q8_0 and Q4_0 are written and read, the others are read.
//!
//! Source: ggml's `ggml-common.h` and `ggml-quants.c`.

use half::f16;

use super::{Q4_BLOCK, Q8_BLOCK};
use crate::integer::{BLOCK, Grid, Integers};

const _: () = assert!(Q8_BLOCK == BLOCK && Q4_BLOCK == BLOCK);

/// A matrix of integers as Q8_0 or Q4_0, row by row.
pub fn encode_integers(matrix: &Integers) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(matrix.scales.len() * matrix.grid.format().block().1);
    for (codes, scale) in matrix.codes.chunks_exact(BLOCK).zip(&matrix.scales) {
        bytes.extend(scale.to_le_bytes());
        match matrix.grid {
            Grid::Eight => bytes.extend(codes.iter().map(|code| *code as u8)),
            Grid::Four => {
                let (low, high) = codes.split_at(BLOCK / 2);
                bytes.extend(low.iter().zip(high).map(|(low, high)| (low + 8) as u8 | ((high + 8) as u8) << 4));
            }
        }
    }
    bytes
}

/// One row as Q8_0: for each 32 weights the scale max|x| / 127 in f16, then round(x / scale) with the unrounded scale, halves
/// away from zero, as ggml's reference does it.
pub fn encode_q8(row: &[f32], bytes: &mut Vec<u8>) {
    for block in row.chunks_exact(Q8_BLOCK) {
        let largest = block.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        bytes.extend(f16::from_f32(scale).to_le_bytes());
        bytes.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
    }
}

/// Scale, then 32 signed bytes.
pub(super) fn decode_q8(block: &[u8], row: &mut [f32]) {
    let scale = scale_at(block, 0);
    row.iter_mut().zip(&block[2..]).for_each(|(x, code)| *x = f32::from(*code as i8) * scale);
}

/// Scale, then 16 bytes; byte m holds weight m in its low half and weight m + 16 in its high half, as code + 8.
pub(super) fn decode_q4(block: &[u8], row: &mut [f32]) {
    let scale = scale_at(block, 0);
    let (low, high) = row.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = f32::from((byte & 15) as i8 - 8) * scale;
        *high = f32::from((byte >> 4) as i8 - 8) * scale;
    }
}

/// Scale, then 16 bytes of four weights each, the first in the lowest bits, as code + 1: -1, 0, 1 and 2.
pub(super) fn decode_q2(block: &[u8], row: &mut [f32]) {
    let scale = scale_at(block, 0);
    for (four, byte) in row.as_chunks_mut::<4>().0.iter_mut().zip(&block[2..]) {
        for (at, x) in four.iter_mut().enumerate() {
            *x = f32::from((byte >> (2 * at) & 3) as i8 - 1) * scale;
        }
    }
}

/// Two halves of 128 weights: 64 bytes each with the low four bits, 32 bytes each with the high two; then a signed byte of scale
/// for each 16 weights and the scale of them all. In a half, low byte m holds weight m in its low bits and weight m + 64 in its
/// high ones; high byte m holds weights m, m + 32, m + 64 and m + 96 from the low bits up. A weight is stored as code + 32.
pub(super) fn decode_q6(block: &[u8], row: &mut [f32]) {
    let (low, high, scales, shared) = (&block[..128], &block[128..192], &block[192..208], scale_at(block, 208));
    for (at, x) in row.iter_mut().enumerate() {
        let (half, place) = (at / 128, at % 128);
        let low = low[64 * half + place % 64] >> (place / 64 * 4) & 15;
        let high = high[32 * half + place % 32] >> (place / 32 * 2) & 3;
        let code = (low | high << 4) as i8 - 32;
        *x = shared * f32::from(scales[at / 16] as i8) * f32::from(code);
    }
}

fn scale_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
