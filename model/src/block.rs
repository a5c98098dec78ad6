//! How packed weights lie in a file: the block formats that ggml defines, encoded and decoded row by row.
//!
//! Sources: ggml's `ggml-common.h` and `ggml-quants.c` for the layouts. A ternary matrix stores its scale in every block, so
//! that any reader of the format gets it right whatever the scale contract is.

use half::{bf16, f16};

use crate::{Ternary, ternary::GROUP};

/// A tensor format of ggml, by its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// 8-bit integers, an f16 scale for each 32.
    Q8_0,
    /// Ternary, base 3: five codes in a byte, an f16 scale for each 256.
    Tq1_0,
    /// Ternary, two bits a code, an f16 scale for each 256.
    Tq2_0,
}

/// Weights in a Q8_0 block.
pub const Q8_BLOCK: usize = 32;
/// Bytes of a Q8_0 block: f16 scale, then the codes.
pub const Q8_BYTES: usize = 2 + Q8_BLOCK;
/// Bytes of a TQ2_0 block: 64 bytes of codes, then the f16 scale.
pub const TQ2_BYTES: usize = 64 + 2;
/// Bytes of a TQ1_0 block: 48 bytes of five codes, 4 bytes of four, then the f16 scale.
pub const TQ1_BYTES: usize = 48 + 4 + 2;

impl Format {
    /// Every format, for tables and tests.
    pub const ALL: [Format; 6] = [Format::F32, Format::F16, Format::Bf16, Format::Q8_0, Format::Tq1_0, Format::Tq2_0];

    /// Its number in a GGUF file.
    pub fn id(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::Q8_0 => 8,
            Format::Bf16 => 30,
            Format::Tq1_0 => 34,
            Format::Tq2_0 => 35,
        }
    }

    /// Its name in ggml's tools.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::Bf16 => "BF16",
            Format::Q8_0 => "Q8_0",
            Format::Tq1_0 => "TQ1_0",
            Format::Tq2_0 => "TQ2_0",
        }
    }

    /// The format with this number.
    pub fn from_id(id: u32) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.id() == id)
    }

    /// Weights in a block, and its bytes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Format::F32 => (1, 4),
            Format::F16 | Format::Bf16 => (1, 2),
            Format::Q8_0 => (Q8_BLOCK, Q8_BYTES),
            Format::Tq1_0 => (GROUP, TQ1_BYTES),
            Format::Tq2_0 => (GROUP, TQ2_BYTES),
        }
    }

    /// Bytes of `columns` weights, or `None` if they are no whole number of blocks.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let (weights, bytes) = self.block();
        if columns.is_multiple_of(weights) { (columns / weights).checked_mul(bytes) } else { None }
    }

    /// Whether it holds ternary codes.
    pub fn is_ternary(self) -> bool {
        matches!(self, Format::Tq1_0 | Format::Tq2_0)
    }
}

/// The bytes of a ternary matrix in `Tq1_0` or `Tq2_0`, row by row.
///
/// # Panics
/// If the format is not ternary or the columns are not a multiple of [`GROUP`].
pub fn encode_ternary(matrix: &Ternary, format: Format) -> Vec<u8> {
    assert!(matrix.columns.is_multiple_of(GROUP), "{} columns are no whole number of blocks", matrix.columns);
    let mut bytes = Vec::with_capacity(matrix.rows * matrix.columns / GROUP * format.block().1);
    for (index, block) in matrix.codes.chunks_exact(GROUP).enumerate() {
        let first = index * GROUP;
        let scale = matrix.scales[matrix.scale.index(matrix.columns, first / matrix.columns, first % matrix.columns)];
        match format {
            Format::Tq2_0 => encode_tq2(block, &mut bytes),
            Format::Tq1_0 => encode_tq1(block, &mut bytes),
            other => panic!("{} is not a ternary format", other.name()),
        }
        bytes.extend(scale.to_le_bytes());
    }
    bytes
}

/// The codes and the scale of one ternary block, or `None` if a byte stands for no three-valued code.
///
/// # Panics
/// If the format is not ternary or the block has another length.
pub fn decode_ternary(block: &[u8], format: Format, codes: &mut [i8; GROUP]) -> Option<f16> {
    let (packed, scale) = block.split_at(block.len() - 2);
    let valid = match format {
        Format::Tq2_0 => decode_tq2(packed, codes),
        Format::Tq1_0 => decode_tq1(packed, codes),
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

/// One row of any format as f32, or `None` if a ternary block is malformed.
///
/// # Panics
/// If `bytes` is not as long as the format says for `row.len()` weights.
pub fn decode_row(format: Format, bytes: &[u8], row: &mut [f32]) -> Option<()> {
    assert_eq!(Some(bytes.len()), format.row_bytes(row.len()), "a {} row of {} weights", format.name(), row.len());
    match format {
        Format::F32 => row.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(x, b)| *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Format::F16 => row.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(x, b)| *x = f16::from_le_bytes([b[0], b[1]]).to_f32()),
        Format::Bf16 => row.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(x, b)| *x = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        Format::Q8_0 => {
            for (row, block) in row.chunks_exact_mut(Q8_BLOCK).zip(bytes.chunks_exact(Q8_BYTES)) {
                let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                row.iter_mut().zip(&block[2..]).for_each(|(x, code)| *x = f32::from(*code as i8) * scale);
            }
        }
        Format::Tq1_0 | Format::Tq2_0 => {
            let mut codes = [0; GROUP];
            for (row, block) in row.chunks_exact_mut(GROUP).zip(bytes.chunks_exact(format.block().1)) {
                let scale = decode_ternary(block, format, &mut codes)?.to_f32();
                row.iter_mut().zip(codes).for_each(|(x, code)| *x = f32::from(code) * scale);
            }
        }
    }
    Some(())
}

/// Weights as the bytes of a plain float format.
///
/// # Panics
/// If the format is not F32, F16 or BF16.
pub fn encode_float(weights: &[f32], format: Format) -> Vec<u8> {
    match format {
        Format::F32 => weights.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Format::F16 => weights.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        Format::Bf16 => weights.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        other => panic!("{} is not a plain float format", other.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scale, ternary::quantize};

    fn matrix(scale: Scale) -> Ternary {
        let weights: Vec<f32> = (0..3 * 512).map(|i| ((i * 7919 % 257) as f32 - 128.0) * 0.003 * (1 + i / 256) as f32).collect();
        quantize(&weights, 3, 512, scale)
    }

    #[test]
    fn ternary_blocks_come_back() {
        for format in [Format::Tq1_0, Format::Tq2_0] {
            for scale in [Scale::Tensor, Scale::Row, Scale::Group] {
                let matrix = matrix(scale);
                let bytes = encode_ternary(&matrix, format);
                assert_eq!(bytes.len(), 3 * format.row_bytes(512).unwrap());
                for (index, block) in bytes.chunks_exact(format.block().1).enumerate() {
                    let mut codes = [0; GROUP];
                    let found = decode_ternary(block, format, &mut codes).unwrap();
                    assert_eq!(codes, matrix.codes[index * GROUP..(index + 1) * GROUP], "{format:?} {scale:?} block {index}");
                    assert_eq!(found, matrix.scales[scale.index(512, index / 2, index % 2 * GROUP)]);
                }
            }
        }
    }

    #[test]
    fn the_fourth_two_bit_code_is_refused() {
        let mut block = [0u8; TQ2_BYTES];
        block[17] = 0b11_00_01_10;
        assert_eq!(decode_ternary(&block, Format::Tq2_0, &mut [0; GROUP]), None);
    }

    #[test]
    fn q8_is_within_half_a_step() {
        let row: Vec<f32> = (0..64).map(|i| (i as f32 - 31.0) * 0.37).collect();
        let mut bytes = Vec::new();
        encode_q8(&row, &mut bytes);
        let mut back = vec![0.0; 64];
        decode_row(Format::Q8_0, &bytes, &mut back).unwrap();
        let step = 32.0 * 0.37 / 127.0;
        for (found, expected) in back.iter().zip(&row) {
            // Half a step from rounding the weight, and half a unit in the last place of an f16 from rounding the scale.
            assert!((found - expected).abs() <= step * 0.5 + expected.abs() / 2048.0 + 1e-6, "{found} {expected}");
        }
        encode_q8(&[0.0; 32], &mut bytes);
        assert!(bytes[bytes.len() - Q8_BYTES..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn floats_come_back() {
        let row = [1.0f32, -0.5, 0.0, 65504.0];
        for format in [Format::F32, Format::F16] {
            let mut back = [0.0; 4];
            decode_row(format, &encode_float(&row, format), &mut back).unwrap();
            assert_eq!(back, row);
        }
    }

    #[test]
    fn formats_have_distinct_numbers() {
        for format in Format::ALL {
            assert_eq!(Format::from_id(format.id()), Some(format));
        }
    }
}
