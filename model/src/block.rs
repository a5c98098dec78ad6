//! How packed weights lie in a file: the block formats of ggml and its forks, encoded and decoded row by row.
//!
//! `ternary.rs` holds the ternary formats, `integer.rs` those of more bits. A ternary matrix that is written here stores its scale in
//! every block, so that any reader of the format gets it right whatever the scale contract is.

mod integer;
mod ternary;

use half::{bf16, f16};

use crate::ternary::GROUP;

pub use integer::{encode_integers, encode_q8};
pub use ternary::{decode_ternary, encode_ternary};

/// A tensor format of ggml, by its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// 4-bit integers, an f16 scale for each 32.
    Q4_0,
    /// 8-bit integers, an f16 scale for each 32.
    Q8_0,
    /// 6-bit integers, an 8-bit scale for each 16, an f16 scale for each 256.
    Q6K,
    /// Ternary, base 3: five codes in a byte, an f16 scale for each 256.
    Tq1_0,
    /// Ternary, two bits a code, an f16 scale for each 256.
    Tq2_0,
    /// bitnet.cpp's ternary with two bits a code and one f32 scale for the tensor, as written on x86: in runs of 128.
    I2sX86,
    /// The same as written on ARM: in runs of 64. Both have one number in the file, and nothing there tells them apart.
    I2sArm,
    /// 2-bit integers from -1 to 2, an f16 scale for each 64. Ternary rows are stored so that are no whole number of 256.
    Q2_0,
}

/// Weights in a Q8_0 block.
pub const Q8_BLOCK: usize = 32;
/// Bytes of a Q8_0 block: f16 scale, then the codes.
pub const Q8_BYTES: usize = 2 + Q8_BLOCK;
/// Weights in a Q4_0 block, which have 16 bytes of codes behind the f16 scale.
const Q4_BLOCK: usize = 32;
/// Weights in a Q2_0 block, which have 16 bytes of codes behind the f16 scale.
pub(crate) const Q2_BLOCK: usize = 64;
/// Weights in a Q6_K block.
const Q6_BLOCK: usize = 256;
/// Bytes of a Q6_K block: 128 of low and 64 of high bits, 16 scales, then the f16 scale.
const Q6_BYTES: usize = 128 + 64 + 16 + 2;
/// What stands behind an I2_S tensor's codes: its f32 scale, then nothing of meaning.
const I2S_TAIL: usize = 32;
/// Bytes of a TQ2_0 block: 64 bytes of codes, then the f16 scale.
pub const TQ2_BYTES: usize = 64 + 2;
/// Bytes of a TQ1_0 block: 48 bytes of five codes, 4 bytes of four, then the f16 scale.
pub const TQ1_BYTES: usize = 48 + 4 + 2;

impl Format {
    /// Every format, for tables and tests.
    pub const ALL: [Format; 11] = [
        Format::F32,
        Format::F16,
        Format::Bf16,
        Format::Q4_0,
        Format::Q8_0,
        Format::Q6K,
        Format::Tq1_0,
        Format::Tq2_0,
        Format::I2sX86,
        Format::I2sArm,
        Format::Q2_0,
    ];

    /// Its number in a GGUF file.
    pub fn id(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::Q4_0 => 2,
            Format::Q8_0 => 8,
            Format::Q6K => 14,
            Format::Bf16 => 30,
            Format::Tq1_0 => 34,
            Format::Tq2_0 => 35,
            Format::I2sX86 | Format::I2sArm => 36,
            Format::Q2_0 => 42,
        }
    }

    /// Its name in ggml's tools.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::Bf16 => "BF16",
            Format::Q4_0 => "Q4_0",
            Format::Q8_0 => "Q8_0",
            Format::Q6K => "Q6_K",
            Format::Tq1_0 => "TQ1_0",
            Format::Tq2_0 => "TQ2_0",
            Format::I2sX86 | Format::I2sArm => "I2_S",
            Format::Q2_0 => "Q2_0",
        }
    }

    /// The format with this number; for I2_S as written on x86.
    pub fn from_id(id: u32) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.id() == id)
    }

    /// Weights in a block, and its bytes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Format::F32 => (1, 4),
            Format::F16 | Format::Bf16 => (1, 2),
            Format::Q4_0 => (Q4_BLOCK, 2 + 16),
            Format::Q8_0 => (Q8_BLOCK, Q8_BYTES),
            Format::Q6K => (Q6_BLOCK, Q6_BYTES),
            Format::Tq1_0 => (GROUP, TQ1_BYTES),
            Format::Tq2_0 => (GROUP, TQ2_BYTES),
            // Two runs of 128 or four of 64, so that a block is one of the ternary formats'.
            Format::I2sX86 | Format::I2sArm => (GROUP, GROUP / 4),
            Format::Q2_0 => (Q2_BLOCK, 2 + 16),
        }
    }

    /// Bytes of `columns` weights, or `None` if they are no whole number of blocks.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let (weights, bytes) = self.block();
        if columns.is_multiple_of(weights) { (columns / weights).checked_mul(bytes) } else { None }
    }

    /// Bytes of a whole tensor of `rows` rows, or `None` if that is more than there can be or no whole number of blocks.
    pub fn tensor_bytes(self, rows: usize, columns: usize) -> Option<usize> {
        rows.checked_mul(self.row_bytes(columns)?)?.checked_add(if self.is_i2s() { I2S_TAIL } else { 0 })
    }

    /// The scale of a whole tensor that stands in its bytes beside those of its blocks: 1 but for I2_S.
    ///
    /// # Panics
    /// If `bytes` is shorter than the format says.
    pub fn scale_of(self, bytes: &[u8]) -> f32 {
        if !self.is_i2s() {
            return 1.0;
        }
        let tail = &bytes[bytes.len() - I2S_TAIL..];
        f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]])
    }

    /// Whether it holds ternary codes.
    pub fn is_ternary(self) -> bool {
        matches!(self, Format::Tq1_0 | Format::Tq2_0) || self.is_i2s()
    }

    /// Whether it is I2_S, in either order.
    pub fn is_i2s(self) -> bool {
        matches!(self, Format::I2sX86 | Format::I2sArm)
    }
}

/// One row of any format as f32, or `None` if a ternary block is malformed. The scale of the whole tensor, [`Format::scale_of`], is
/// not in it.
///
/// # Panics
/// If `bytes` is not as long as the format says for `row.len()` weights.
pub fn decode_row(format: Format, bytes: &[u8], row: &mut [f32]) -> Option<()> {
    assert_eq!(Some(bytes.len()), format.row_bytes(row.len()), "a {} row of {} weights", format.name(), row.len());
    match format {
        Format::F32 => row.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(x, b)| *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Format::F16 => row.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(x, b)| *x = f16::from_le_bytes([b[0], b[1]]).to_f32()),
        Format::Bf16 => row.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(x, b)| *x = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        Format::Q4_0 => each_block(format, bytes, row, integer::decode_q4),
        Format::Q8_0 => each_block(format, bytes, row, integer::decode_q8),
        Format::Q6K => each_block(format, bytes, row, integer::decode_q6),
        Format::Q2_0 => each_block(format, bytes, row, integer::decode_q2),
        Format::Tq1_0 | Format::Tq2_0 | Format::I2sX86 | Format::I2sArm => {
            let mut codes = [0; GROUP];
            for (row, block) in row.chunks_exact_mut(GROUP).zip(bytes.chunks_exact(format.block().1)) {
                let scale = decode_ternary(block, format, &mut codes)?.to_f32();
                row.iter_mut().zip(codes).for_each(|(x, code)| *x = f32::from(code) * scale);
            }
        }
    }
    Some(())
}

fn each_block(format: Format, bytes: &[u8], row: &mut [f32], decode: fn(&[u8], &mut [f32])) {
    let (weights, block_bytes) = format.block();
    for (row, block) in row.chunks_exact_mut(weights).zip(bytes.chunks_exact(block_bytes)) {
        decode(block, row);
    }
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
    use crate::{Scale, Ternary, ternary::quantize};

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
    fn ternary_codes_are_read_as_integers_of_two_bits() {
        for scale in [Scale::Tensor, Scale::Row, Scale::Group] {
            let matrix = matrix(scale);
            let bytes = encode_ternary(&matrix, Format::Q2_0);
            for (row, bytes) in bytes.chunks_exact(Format::Q2_0.row_bytes(512).unwrap()).enumerate() {
                let mut weights = [0.0; 512];
                decode_row(Format::Q2_0, bytes, &mut weights).unwrap();
                for (column, weight) in weights.iter().enumerate() {
                    let scale = matrix.scales[scale.index(512, row, column)].to_f32();
                    assert_eq!(*weight, f32::from(matrix.codes[row * 512 + column]) * scale);
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
    fn i2s_weights_are_where_each_machine_puts_them() {
        // Byte 1 of the first run: weights 1, 1 + lanes, 1 + 2 lanes and 1 + 3 lanes are 1, 0, -1 and 1; all others are -1.
        let mut block = [0u8; GROUP / 4];
        block[1] = 0b10_01_00_10;
        for (format, lanes) in [(Format::I2sX86, 32), (Format::I2sArm, 16)] {
            let mut expected = [-1i8; GROUP];
            (expected[1], expected[1 + lanes], expected[1 + 3 * lanes]) = (1, 0, 1);
            let mut codes = [0; GROUP];
            assert_eq!(decode_ternary(&block, format, &mut codes), Some(f16::ONE));
            assert_eq!(codes, expected, "{format:?}");
            let tensor = [&block[..], &0.75f32.to_le_bytes(), &[0; 28]].concat();
            assert_eq!(format.tensor_bytes(1, GROUP), Some(tensor.len()));
            assert_eq!(format.scale_of(&tensor), 0.75);
        }
        block[63] = 0b11;
        assert_eq!(decode_ternary(&block, Format::I2sX86, &mut [0; GROUP]), None);
    }

    #[test]
    fn q2_weights_are_four_to_a_byte() {
        let mut block = vec![0x55; 18];
        block[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        block[3] = 0b11_10_01_00;
        let mut row = [9.0; 64];
        decode_row(Format::Q2_0, &block, &mut row).unwrap();
        assert_eq!(row[4..8], [-0.5, 0.0, 0.5, 1.0]);
        assert!(row[..4].iter().chain(&row[8..]).all(|x| *x == 0.0));
    }

    #[test]
    fn formats_have_distinct_numbers() {
        for format in Format::ALL {
            let expected = if format.is_i2s() { Format::I2sX86 } else { format };
            assert_eq!(Format::from_id(format.id()), Some(expected));
        }
    }
}
