//! Whole-number weights of 8 and 4 bits: the one place that says how a block of weights becomes integers with a scale.
//!
//! The numbers are those of ggml's blocks Q8_0 and Q4_0, so that the file holds exactly what was trained with. As with ternary codes
//! a weight is divided by the scale that the file stores and rounded half to even; ggml's own tools divide by the unrounded one.
//! This is the plain reference. The trainer's layer, the exporter and every kernel are tested equal to it, bit for bit.
//! Source of the scales: ggml's `ggml-quants.c`.

use half::f16;

use crate::block::Format;

/// Weights that share a scale.
pub const BLOCK: usize = 32;

/// The numbers that a weight can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// -127 to 127 times max|w| / 127: Q8_0.
    Eight,
    /// -8 to 7 times w / -8, where w is the weight of largest size (the positive one of two), which is met exactly: Q4_0.
    Four,
}

/// A matrix of codes with its scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Integers {
    /// Output features.
    pub rows: usize,
    /// Input features, a multiple of [`BLOCK`].
    pub columns: usize,
    /// What the codes can be.
    pub grid: Grid,
    /// Row-major, `rows * columns`.
    pub codes: Vec<i8>,
    /// `columns / BLOCK` a row, row-major.
    pub scales: Vec<f16>,
}

impl Grid {
    /// The blocks of the file that hold it.
    #[inline]
    pub fn format(self) -> Format {
        match self {
            Grid::Eight => Format::Q8_0,
            Grid::Four => Format::Q4_0,
        }
    }

    /// The least and the largest code.
    #[inline]
    pub fn limits(self) -> (i8, i8) {
        match self {
            Grid::Eight => (-127, 127),
            Grid::Four => (-8, 7),
        }
    }

    /// The scale of a block's weights as the file stores it. Beyond f16's range it is the largest f16. It is 0 where all weights
    /// are, or nearly: then so are the codes.
    #[inline]
    pub fn scale(self, weights: &[f32]) -> f16 {
        let (low, high) = weights.iter().fold((0.0f32, 0.0f32), |(low, high), weight| (low.min(*weight), high.max(*weight)));
        let scale = match self {
            Grid::Eight => high.max(-low) / 127.0,
            Grid::Four if -low > high => low / -8.0,
            Grid::Four => high / -8.0,
        };
        f16::from_f32(scale.clamp(-f16::MAX.to_f32(), f16::MAX.to_f32()))
    }

    /// The codes of weights that share `scale`: clamp(round_half_even(w / s)), and 0 where the scale is.
    #[inline]
    pub fn quantize_block(self, weights: &[f32], scale: f16, codes: &mut [i8]) {
        let (scale, (least, largest)) = (scale.to_f32(), self.limits());
        for (code, weight) in codes.iter_mut().zip(weights) {
            *code = if scale == 0.0 { 0 } else { (weight / scale).round_ties_even().clamp(f32::from(least), f32::from(largest)) as i8 };
        }
    }
}

/// Quantise a row-major matrix of `rows * columns` weights.
///
/// # Panics
/// If the length is not `rows * columns`, or `columns` is not a multiple of [`BLOCK`].
pub fn quantize(weights: &[f32], rows: usize, columns: usize, grid: Grid) -> Integers {
    assert_eq!(weights.len(), rows * columns, "a {rows} x {columns} matrix has another number of weights");
    assert!(columns.is_multiple_of(BLOCK), "{columns} columns do not divide into blocks of {BLOCK}");
    let scales: Vec<f16> = weights.chunks(BLOCK).map(|block| grid.scale(block)).collect();
    let mut codes = vec![0; weights.len()];
    for ((codes, weights), scale) in codes.chunks_mut(BLOCK).zip(weights.chunks(BLOCK)).zip(&scales) {
        grid.quantize_block(weights, *scale, codes);
    }
    Integers { rows, columns, grid, codes, scales }
}

/// The product of a quantised matrix and one token, as of a ternary matrix with a scale for each block. For each output: total = 0;
/// for each block in order: total += sum as f32 * s_w; y = total * s_x. No multiplication is fused with an addition.
pub fn multiply(matrix: &Integers, codes: &[i8], activation_scale: f32) -> Vec<f32> {
    let blocks = matrix.columns / BLOCK;
    let multiply_row = |(weights, scales): (&[i8], &[f16])| {
        let mut total = 0.0f32;
        for ((weights, codes), scale) in weights.chunks(BLOCK).zip(codes.chunks(BLOCK)).zip(scales) {
            let sum: i32 = weights.iter().zip(codes).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
            total += sum as f32 * scale.to_f32();
        }
        total * activation_scale
    };
    matrix.codes.chunks(matrix.columns).zip(matrix.scales.chunks(blocks)).map(multiply_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{decode_row, encode_integers};

    fn sample(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 % 2003) as f32 / 1000.0 - 1.0) * 0.05 * (1 + i / BLOCK % 7) as f32).collect()
    }

    #[test]
    fn a_block_is_within_half_a_step_and_its_largest_weight_is_met() {
        let weights = sample(9 * BLOCK);
        for grid in [Grid::Eight, Grid::Four] {
            let matrix = quantize(&weights, 3, 3 * BLOCK, grid);
            for ((block, codes), scale) in weights.chunks(BLOCK).zip(matrix.codes.chunks(BLOCK)).zip(&matrix.scales) {
                let step = scale.to_f32().abs();
                for (weight, code) in block.iter().zip(codes) {
                    // With four bits the side opposite to the largest weight ends one step early.
                    let reach = if *code == 7 { 1.0 } else { 0.5 };
                    let found = f32::from(*code) * scale.to_f32();
                    assert!((found - weight).abs() <= reach * step + weight.abs() / 1000.0, "{grid:?}: {weight} {found}");
                }
                let largest = (0..BLOCK).fold(0, |best, at| if block[at].abs() > block[best].abs() { at } else { best });
                assert_eq!(codes[largest].unsigned_abs(), if grid == Grid::Eight { 127 } else { 8 });
            }
        }
    }

    #[test]
    fn what_the_file_holds_is_what_was_quantised() {
        let weights = sample(6 * BLOCK);
        for grid in [Grid::Eight, Grid::Four] {
            let matrix = quantize(&weights, 2, 3 * BLOCK, grid);
            let bytes = encode_integers(&matrix);
            assert_eq!(bytes.len(), 2 * grid.format().row_bytes(3 * BLOCK).unwrap());
            for (row, bytes) in bytes.chunks(bytes.len() / 2).enumerate() {
                let mut decoded = vec![f32::NAN; 3 * BLOCK];
                decode_row(grid.format(), bytes, &mut decoded).unwrap();
                for (at, found) in decoded.iter().enumerate() {
                    let place = row * 3 * BLOCK + at;
                    assert_eq!(*found, f32::from(matrix.codes[place]) * matrix.scales[place / BLOCK].to_f32(), "{grid:?}");
                }
            }
        }
    }

    #[test]
    fn zeros_and_giants_have_usable_codes() {
        for grid in [Grid::Eight, Grid::Four] {
            for tiny in [0.0, 1e-12] {
                let matrix = quantize(&[tiny; BLOCK], 1, BLOCK, grid);
                assert!(matrix.scales[0].to_f32() == 0.0 && matrix.codes.iter().all(|code| *code == 0));
            }
            let matrix = quantize(&[1e9; BLOCK], 1, BLOCK, grid);
            assert_eq!(matrix.scales[0].to_f32().abs(), f16::MAX.to_f32());
            assert!(matrix.codes.iter().all(|code| code.unsigned_abs() >= 7), "{:?}", matrix.codes);
        }
    }

    #[test]
    fn halves_round_to_even() {
        // The largest weight is met by a scale of exactly 1.
        let mut weights = [0.0; BLOCK];
        weights[..6].copy_from_slice(&[-8.0, 0.5, 1.5, -0.5, 7.5, 6.5]);
        let matrix = quantize(&weights, 1, BLOCK, Grid::Four);
        assert_eq!((matrix.scales[0], &matrix.codes[..6]), (f16::ONE, &[-8i8, 0, 2, 0, 7, 6][..]));
    }

    #[test]
    fn the_product_is_that_of_the_dequantised_matrix() {
        let weights = sample(4 * BLOCK);
        let codes: Vec<i8> = (0..2 * BLOCK).map(|i| ((i * 91) % 255) as u8 as i8).map(|code| code.max(-127)).collect();
        for grid in [Grid::Eight, Grid::Four] {
            let matrix = quantize(&weights, 2, 2 * BLOCK, grid);
            for (row, found) in multiply(&matrix, &codes, 0.5).into_iter().enumerate() {
                let weight =
                    |at: usize| f64::from(matrix.codes[row * 2 * BLOCK + at]) * matrix.scales[(row * 2 * BLOCK + at) / BLOCK].to_f64();
                let expected: f64 = codes.iter().enumerate().map(|(at, code)| weight(at) * f64::from(*code) * 0.5).sum();
                assert!((f64::from(found) - expected).abs() <= expected.abs() * 1e-5 + 1e-3, "{grid:?} row {row}: {found} {expected}");
            }
        }
    }
}
