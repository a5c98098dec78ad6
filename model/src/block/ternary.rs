//! The ternary formats: ggml's TQ1_0 and TQ2_0, and bitnet.cpp's I2_S; and ternary codes in ggml's Q2_0, which has room for a fourth.
//!
//! Sources: ggml's `ggml-quants.c`; bitnet.cpp's `ggml-bitnet-mad.cpp` for I2_S.

use half::f16;

use super::Format;
use crate::{Ternary, ternary::GROUP};

/// The bytes of a ternary matrix in `Tq1_0`, `Tq2_0` or `Q2_0`, row by row.
///
/// # Panics
/// If the format is none of these or the columns are no whole number of its blocks.
pub fn encode_ternary(matrix: &Ternary, format: Format) -> Vec<u8> {
    let (length, block_bytes) = format.block();
    assert!(matrix.columns.is_multiple_of(length), "{} columns are no whole number of blocks", matrix.columns);
    let mut bytes = Vec::with_capacity(matrix.rows * matrix.columns / length * block_bytes);
    for (index, block) in matrix.codes.chunks_exact(length).enumerate() {
        let first = index * length;
        let scale = matrix.scales[matrix.scale.index(matrix.columns, first / matrix.columns, first % matrix.columns)].to_le_bytes();
        match format {
            Format::Tq2_0 => {
                encode_tq2(block, &mut bytes);
                bytes.extend(scale);
            }
            Format::Tq1_0 => {
                encode_tq1(block, &mut bytes);
                bytes.extend(scale);
            }
            Format::Q2_0 => {
                bytes.extend(scale);
                encode_q2(block, &mut bytes);
            }
            other => panic!("{} is not a ternary format", other.name()),
        }
    }
    bytes
}

/// The codes and the scale of one ternary block, or `None` if a byte stands for no three-valued code. I2_S keeps its one scale
/// behind the tensor's last row ([`Format::scale_of`]); its blocks have the scale 1.
///
/// # Panics
/// If the format is not ternary or the block has another length.
pub fn decode_ternary(block: &[u8], format: Format, codes: &mut [i8; GROUP]) -> Option<f16> {
    let (packed, scale) = block.split_at(block.len() - 2);
    let valid = match format {
        Format::Tq2_0 => decode_tq2(packed, codes),
        Format::Tq1_0 => decode_tq1(packed, codes),
        Format::I2sX86 => return decode_i2s(block, 32, codes).then_some(f16::ONE),
        Format::I2sArm => return decode_i2s(block, 16, codes).then_some(f16::ONE),
        other => panic!("{} is not a ternary format", other.name()),
    };
    valid.then(|| f16::from_le_bytes([scale[0], scale[1]]))
}

/// Two halves of 128 codes; in each, byte m holds codes m, m + 32, m + 64 and m + 96 from the low bits up, as code + 1.
fn encode_tq2(codes: &[i8], bytes: &mut Vec<u8>) {
    for half in codes.chunks_exact(128) {
        bytes.extend((0..32).map(|m| (0..4).map(|quarter| ((half[m + 32 * quarter] + 1) as u8) << (2 * quarter)).sum::<u8>()));
    }
}

/// Byte m holds codes 4m to 4m + 3 from the low bits up, as code + 1.
fn encode_q2(codes: &[i8], bytes: &mut Vec<u8>) {
    bytes.extend(codes.as_chunks::<4>().0.iter().map(|four| (0..4).map(|at| ((four[at] + 1) as u8) << (2 * at)).sum::<u8>()));
}

fn decode_tq2(packed: &[u8], codes: &mut [i8; GROUP]) -> bool {
    let mut valid = true;
    for (half, packed) in codes.chunks_exact_mut(128).zip(packed.chunks_exact(32)) {
        for (m, byte) in packed.iter().enumerate() {
            for quarter in 0..4 {
                let code = (byte >> (2 * quarter)) & 3;
                valid &= code < 3;
                half[m + 32 * quarter] = code as i8 - 1;
            }
        }
    }
    valid
}

/// The three runs of a TQ1_0 block: bytes in the run, codes in a byte. Byte m, digit n of a run is its code n * bytes + m.
const TQ1_RUNS: [(usize, usize); 3] = [(32, 5), (16, 5), (4, 4)];

/// Base 3, first code in the highest of five digits; the byte is the number as a fraction of 243, rounded up, in 256ths, so that
/// a reader takes a digit with one multiplication.
fn encode_tq1(codes: &[i8], bytes: &mut Vec<u8>) {
    let mut first = 0;
    for (count, digits) in TQ1_RUNS {
        for m in 0..count {
            let number = (0..5).fold(0u16, |number, digit| {
                let code = if digit < digits { (codes[first + digit * count + m] + 1) as u16 } else { 0 };
                number * 3 + code
            });
            bytes.push((number * 256).div_ceil(243) as u8);
        }
        first += count * digits;
    }
}

fn decode_tq1(packed: &[u8], codes: &mut [i8; GROUP]) -> bool {
    let mut first = 0;
    let mut packed = packed.iter();
    for (count, digits) in TQ1_RUNS {
        for (m, byte) in packed.by_ref().take(count).enumerate() {
            let mut fraction = u16::from(*byte);
            for digit in 0..digits {
                fraction *= 3;
                codes[first + digit * count + m] = (fraction >> 8) as i8 - 1;
                fraction &= 0xff;
            }
        }
        first += count * digits;
    }
    // Every byte reads as digits between 0 and 2, so there is none that stands for no code.
    true
}

/// Runs of `lanes` bytes; in each, byte m holds codes m, m + lanes, m + 2 lanes and m + 3 lanes from the high bits down, as code + 1.
fn decode_i2s(packed: &[u8], lanes: usize, codes: &mut [i8; GROUP]) -> bool {
    let mut valid = true;
    for (codes, packed) in codes.chunks_exact_mut(4 * lanes).zip(packed.chunks_exact(lanes)) {
        for (m, byte) in packed.iter().enumerate() {
            for quarter in 0..4 {
                let code = (byte >> (6 - 2 * quarter)) & 3;
                valid &= code < 3;
                codes[m + lanes * quarter] = code as i8 - 1;
            }
        }
    }
    valid
}
