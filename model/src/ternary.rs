//! The ternary codes: the one place that says how a weight becomes -1, 0 or 1 and an activation becomes an 8-bit integer.
//!
//! This is the plain reference. The trainer's layer, the exporter and every kernel are tested equal to it, bit for bit.
//! Source: absmean weights and per-token absmax activations of BitNet b1.58, arXiv:2402.17764, eq. 1 to 3.

use half::f16;
use serde::{Deserialize, Serialize};

/// How many weights share one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// One scale for the whole matrix, as BitNet checkpoints have it.
    Tensor,
    /// One scale for each output row.
    Row,
    /// One scale for each [`GROUP`] weights of a row, the most that a TQ block can hold.
    Group,
}

/// Weights per group, which is also the block length of the packed formats.
pub const GROUP: usize = 256;

/// The smallest weight scale, so that a matrix of zeros has one too.
pub const MIN_WEIGHT_SCALE: f32 = 1e-5;

/// The largest activation code; -128 is not used, so that the range is symmetric.
pub const ACTIVATION_MAX: i8 = 127;

/// A token whose activations are all smaller is quantised as if one had this size.
pub const MIN_ACTIVATION: f32 = 1e-5;

/// The smallest scale of 8-bit activations.
pub const MIN_ACTIVATION_SCALE: f32 = MIN_ACTIVATION / 127.0;

/// A matrix of codes with its scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Ternary {
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
    /// Row-major, `rows * columns`, each -1, 0 or 1.
    pub codes: Vec<i8>,
    /// Which weights share a scale.
    pub scale: Scale,
    /// `Tensor`: one; `Row`: one a row; `Group`: `columns / GROUP` a row, row-major.
    pub scales: Vec<f16>,
}

impl Scale {
    /// How many weights of a row share a scale, which for [`Scale::Tensor`] is the whole row.
    pub fn span(self, columns: usize) -> usize {
        match self {
            Scale::Tensor | Scale::Row => columns,
            Scale::Group => GROUP,
        }
    }

    /// How many scales a matrix has.
    pub fn count(self, rows: usize, columns: usize) -> usize {
        match self {
            Scale::Tensor => 1,
            Scale::Row => rows,
            Scale::Group => rows * (columns / GROUP),
        }
    }

    /// Where in [`Ternary::scales`] the scale of a weight is.
    pub fn index(self, columns: usize, row: usize, column: usize) -> usize {
        match self {
            Scale::Tensor => 0,
            Scale::Row => row,
            Scale::Group => row * (columns / GROUP) + column / GROUP,
        }
    }
}

/// Quantise a row-major matrix of `rows * columns` weights.
///
/// # Panics
/// If the length is not `rows * columns`, or the scale is by group and `columns` is not a multiple of [`GROUP`].
pub fn quantize(weights: &[f32], rows: usize, columns: usize, scale: Scale) -> Ternary {
    let scales = weight_scales(weights, rows, columns, scale);
    let mut codes = vec![0; weights.len()];
    let span = scale.span(columns);
    for (index, (codes, weights)) in codes.chunks_mut(span).zip(weights.chunks(span)).enumerate() {
        let shared = if scale == Scale::Tensor { 0 } else { index };
        quantize_span(weights, scales[shared], codes);
    }
    Ternary { rows, columns, codes, scale, scales }
}

/// The scales of a row-major matrix: mean |w| over the weights that share one, at least [`MIN_WEIGHT_SCALE`], then rounded to
/// f16, because that is what the file stores.
///
/// # Panics
/// As [`quantize`].
pub fn weight_scales(weights: &[f32], rows: usize, columns: usize, scale: Scale) -> Vec<f16> {
    assert_eq!(weights.len(), rows * columns, "a {rows} x {columns} matrix has another number of weights");
    assert!(scale != Scale::Group || columns.is_multiple_of(GROUP), "{columns} columns do not divide into groups of {GROUP}");
    match scale {
        Scale::Tensor => {
            let total: f32 = weights.chunks(columns.max(1)).map(sum_abs).sum();
            vec![to_scale(total, weights.len())]
        }
        Scale::Row | Scale::Group => weights.chunks(scale.span(columns)).map(|span| to_scale(sum_abs(span), span.len())).collect(),
    }
}

/// Weights that [`quantize`] turns into these codes with this scale in every span that has a code other than 0, so that a student
/// can start from codes alone. In a span they are all 0 or of one size, whose mean is the scale.
///
/// # Panics
/// As [`quantize`].
pub fn weights_of(codes: &[i8], value: f16, rows: usize, columns: usize, scale: Scale) -> Vec<f32> {
    assert_eq!(codes.len(), rows * columns, "a {rows} x {columns} matrix has another number of codes");
    let (span_rows, span) = if scale == Scale::Tensor { (rows, columns) } else { (1, scale.span(columns)) };
    let mut weights = vec![0.0; codes.len()];
    for (weights, codes) in weights.chunks_mut(span_rows * span).zip(codes.chunks(span_rows * span)) {
        let nonzero = codes.iter().filter(|code| **code != 0).count();
        let mut size = value.to_f32() * (codes.len() as f64 / nonzero.max(1) as f64) as f32;
        // Sums of very many weights are rounded, and their mean must come out as exactly this scale: a few turns are enough.
        for _ in 0..8 {
            weights.iter_mut().zip(codes).for_each(|(weight, code)| *weight = f32::from(*code) * size);
            match weight_scales(weights, span_rows, span, Scale::Tensor)[0] {
                found if found == value || nonzero == 0 => break,
                found => size *= value.to_f32() / found.to_f32(),
            }
        }
    }
    weights
}

/// The codes of weights that share `scale`: clamp(round_half_even(w / s), -1, 1).
pub fn quantize_span(weights: &[f32], scale: f16, codes: &mut [i8]) {
    let scale = scale.to_f32();
    for (code, weight) in codes.iter_mut().zip(weights) {
        *code = (weight / scale).round_ties_even().clamp(-1.0, 1.0) as i8;
    }
}

/// Quantise one token's activations to [-127, 127]; returns their scale.
pub fn quantize_activations(activations: &[f32], codes: &mut [i8]) -> f32 {
    quantize_activations_to(ACTIVATION_MAX, activations, codes)
}

/// As [`quantize_activations`], to the codes from `-largest` to `largest`. The scale is max|x| / largest, with max|x| at least
/// [`MIN_ACTIVATION`].
pub fn quantize_activations_to(largest: i8, activations: &[f32], codes: &mut [i8]) -> f32 {
    let limit = f32::from(largest);
    let size = activations.iter().fold(0.0f32, |size, x| size.max(x.abs()));
    let scale = (size / limit).max(MIN_ACTIVATION / limit);
    for (code, activation) in codes.iter_mut().zip(activations) {
        *code = (activation / scale).round_ties_even().clamp(-limit, limit) as i8;
    }
    scale
}

/// The product of a quantised matrix and one token: integer sums, then the scales in one fixed order, so that every kernel can
/// be equal to the last bit. For each output: total = 0; for each group in order: total += sum as f32 * s_w; y = total * s_x.
/// A tensor or row scale is one group. No multiplication is fused with an addition.
pub fn multiply(matrix: &Ternary, codes: &[i8], activation_scale: f32) -> Vec<f32> {
    let span = matrix.scale.span(matrix.columns);
    let multiply_row = |row: usize| {
        let weights = &matrix.codes[row * matrix.columns..(row + 1) * matrix.columns];
        let mut total = 0.0f32;
        for (group, (weights, codes)) in weights.chunks(span).zip(codes.chunks(span)).enumerate() {
            let sum: i32 = weights.iter().zip(codes).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
            total += sum as f32 * matrix.scales[matrix.scale.index(matrix.columns, row, group * span)].to_f32();
        }
        total * activation_scale
    };
    (0..matrix.rows).map(multiply_row).collect()
}

/// The sum of |w| in f32 over 16 running sums, added up in order at the end. Sixteen, so that the compiler may use vectors of
/// any width without changing the result.
fn sum_abs(weights: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let whole = weights.chunks_exact(16);
    let rest = whole.remainder();
    for chunk in whole {
        for (lane, weight) in lanes.iter_mut().zip(chunk) {
            *lane += weight.abs();
        }
    }
    for (lane, weight) in lanes.iter_mut().zip(rest) {
        *lane += weight.abs();
    }
    lanes.iter().sum()
}

/// A sum of `count` weights' sizes as their stored scale. Beyond f16's range it is the largest f16: an infinite scale would
/// make every code zero.
fn to_scale(sum: f32, count: usize) -> f16 {
    let mean = (sum / count.max(1) as f32).max(MIN_WEIGHT_SCALE);
    f16::from_f32(mean).min(f16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_half_to_even_and_clamp() {
        // Mean |w| of this row is exactly 1, so that w / s = w.
        let weights = [0.5, -0.5, 1.5, -1.5, 0.51, -0.49, 2.0, 1.0];
        let matrix = quantize(&weights, 1, 8, Scale::Row);
        assert_eq!(matrix.scales, [f16::ONE]);
        assert_eq!(matrix.codes, [0, 0, 1, -1, 1, 0, 1, 1]);
    }

    #[test]
    fn a_scale_is_what_the_file_can_store() {
        let weights = [0.1, 0.2, 0.3, 0.4005];
        let [scale] = weight_scales(&weights, 1, 4, Scale::Tensor)[..] else { panic!("one scale") };
        assert_eq!(scale, f16::from_f32(0.250_125));
    }

    #[test]
    fn zeros_and_giants_have_a_usable_scale() {
        assert_eq!(weight_scales(&[0.0; 4], 1, 4, Scale::Row), [f16::from_f32(1e-5)]);
        assert_eq!(weight_scales(&[1e9; 4], 1, 4, Scale::Row), [f16::MAX]);
        let mut codes = [9i8; 3];
        assert_eq!(quantize_activations(&[0.0; 3], &mut codes), MIN_ACTIVATION_SCALE);
        assert_eq!(codes, [0; 3]);
    }

    #[test]
    fn activations_reach_both_ends() {
        let mut codes = [0i8; 4];
        let scale = quantize_activations(&[-254.0, 254.0, 1.0, 3.0], &mut codes);
        assert_eq!(scale, 2.0);
        assert_eq!(codes, [-127, 127, 0, 2]);
    }

    #[test]
    fn four_bits_have_fifteen_steps() {
        let mut codes = [0i8; 5];
        let scale = quantize_activations_to(7, &[-14.0, 14.0, 1.0, 3.0, 7.1], &mut codes);
        assert_eq!((scale, codes), (2.0, [-7, 7, 0, 2, 4]));
        assert_eq!(quantize_activations_to(7, &[0.0; 5], &mut codes), 1e-5 / 7.0);
    }

    #[test]
    fn weights_made_of_codes_quantise_to_them() {
        let (rows, columns) = (48, 2 * GROUP);
        let mut codes: Vec<i8> = (0..rows * columns).map(|i| (i * i / 7 % 3) as i8 - 1).collect();
        // A row and a group without a code, and a row with a single one.
        codes[..columns + GROUP].fill(0);
        codes[2 * columns..3 * columns].fill(0);
        codes[2 * columns + 5] = -1;
        for scale in [Scale::Tensor, Scale::Row, Scale::Group] {
            for value in [0.0123, 1e-5, 3.5].map(f16::from_f32) {
                let made = quantize(&weights_of(&codes, value, rows, columns, scale), rows, columns, scale);
                assert_eq!(made.codes, codes, "{scale:?}");
                let is_empty = |index: usize| codes[index * scale.span(columns)..][..scale.span(columns)].iter().all(|code| *code == 0);
                for (index, found) in made.scales.iter().enumerate().filter(|(index, _)| scale == Scale::Tensor || !is_empty(*index)) {
                    assert_eq!(*found, value, "{scale:?} {index}");
                }
            }
        }
    }

    #[test]
    fn the_scale_of_a_large_matrix_comes_out_exactly() {
        let (rows, columns) = (2560, 6912);
        let codes: Vec<i8> = (0..rows * columns).map(|i| ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as i8 % 2).collect();
        for value in [1.2168, 0.000_731].map(f16::from_f32) {
            let made = quantize(&weights_of(&codes, value, rows, columns, Scale::Tensor), rows, columns, Scale::Tensor);
            assert!(made.scales == [value] && made.codes == codes, "{value} {:?}", made.scales);
        }
    }

    #[test]
    fn each_scale_kind_multiplies_as_its_dequantised_matrix() {
        let columns = 2 * GROUP;
        let weights: Vec<f32> = (0..3 * columns).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01 * (1 + i / 300) as f32).collect();
        let codes: Vec<i8> = (0..columns).map(|i| ((i * 91) % 255) as i8).collect();
        for scale in [Scale::Tensor, Scale::Row, Scale::Group] {
            let matrix = quantize(&weights, 3, columns, scale);
            assert_eq!(matrix.scales.len(), scale.count(3, columns));
            let product = multiply(&matrix, &codes, 0.5);
            for (row, found) in product.iter().enumerate() {
                let expected: f64 = (0..columns)
                    .map(|column| {
                        let weight_scale = matrix.scales[scale.index(columns, row, column)].to_f64();
                        f64::from(matrix.codes[row * columns + column]) * weight_scale * f64::from(codes[column]) * 0.5
                    })
                    .sum();
                assert!((f64::from(*found) - expected).abs() <= expected.abs() * 1e-5 + 1e-3, "{scale:?} row {row}: {found} {expected}");
            }
        }
    }
}
