//! What a matrix of integers' products are roughly, from a fifth of its bytes: the high bits of its weights, where those are apart, or a
//! ternary matrix that is made of it.

use super::{
    Activations, Isa, Pool,
    integers::IntegerMatrix,
    matrix::{Matrix, Packing, ROWS},
    multiply,
    vectorise::vectorised,
};

/// Weights up to this share of their row's mean size become 0. Of normally distributed weights, 0.61 standard deviations, which are 0.77
/// of the mean size, lose least. Source: J. Max, Quantizing for Minimum Distortion, IRE Transactions on Information Theory 6, 1960.
const ZERO: f32 = 0.75;

/// Multiply tokens of codes up to [`super::HIGH_ACTIVATION`] with the high bits of a matrix: `out` is `[tokens, rows]`. A weight counts as
/// the middle of all that have its high bits.
pub(crate) fn multiply_high(isa: Isa, pool: &Pool, high: &Matrix, activations: &Activations, out: &mut [f32]) {
    multiply(isa, pool, high, activations, out);
    for (token, out) in out.chunks_exact_mut(high.rows()).enumerate() {
        // Of every code 1 is taken off by now, as of ternary weights, and not 1.5.
        let half = 0.5 * activations.sum(token);
        out.iter_mut().zip(high.scales()).for_each(|(out, scale)| *out -= half * scale);
    }
}

/// The ternary matrix that is close to one of integers: each row's scale is the mean size of its weights that are not 0.
pub(crate) fn coarse(isa: Isa, pool: &Pool, packing: Packing, matrix: &IntegerMatrix) -> Matrix {
    Matrix::from_planes(pool, packing, (matrix.rows(), matrix.columns()), |block, planes, scales| {
        coarse_block(isa, matrix, block, planes, scales);
    })
}

vectorised! {
    /// One block's codes as w + 1, and its rows' scales.
    fn coarse_block(matrix: &IntegerMatrix, block: usize, planes: &mut [[u8; 64]], scales: &mut [f32]) {
        let group_planes = matrix.bits().group() / 4;
        let scales_of = |group: usize| matrix.scales::<ROWS>(block * ROWS, group);
        let mut sizes = [0.0f32; ROWS];
        for group in 0..matrix.groups() {
            let mut sums = [0u16; 64];
            for plane in &matrix.planes(block, group)[..group_planes] {
                for (sum, weight) in sums.iter_mut().zip(plane) {
                    *sum += u16::from(weight.unsigned_abs());
                }
            }
            add_scaled(&mut sizes, &sums, &scales_of(group));
        }
        let (mut kept, mut counts) = ([0.0f32; ROWS], [0.0f32; ROWS]);
        for (group, planes) in planes.chunks_mut(group_planes).enumerate() {
            let row_scales = scales_of(group);
            let (mut limits, mut signs) = ([0u8; 64], [1i8; 64]);
            for lane in 0..64 {
                let scale = row_scales[lane / 4];
                // Weights of a scale of 0 are not larger than what this becomes, which is 0 or the largest byte.
                limits[lane] = (ZERO * sizes[lane / 4] / matrix.columns() as f32 / scale.abs()) as u8;
                signs[lane] = if scale < 0.0 { -1 } else { 1 };
            }
            let (mut kept_sums, mut kept_counts) = ([0u16; 64], [0u16; 64]);
            for (codes, weights) in planes.iter_mut().zip(&matrix.planes(block, group)) {
                // Masks, not branches: of those the compiler made no vectors for AVX2.
                for lane in 0..64 {
                    let (weight, size) = (weights[lane], weights[lane].unsigned_abs());
                    let keep = u8::from(size > limits[lane]);
                    let (mask, negative) = (keep.wrapping_neg(), weight >> 7);
                    let sign = (signs[lane] ^ negative).wrapping_sub(negative);
                    codes[lane] = (sign as u8 & mask).wrapping_add(1);
                    kept_sums[lane] += u16::from(size & mask);
                    kept_counts[lane] += u16::from(keep);
                }
            }
            add_scaled(&mut kept, &kept_sums, &row_scales);
            add_scaled(&mut counts, &kept_counts, &[1.0; ROWS]);
        }
        for ((scale, kept), count) in scales.iter_mut().zip(kept).zip(counts) {
            *scale = kept / count.max(1.0);
        }
    }
}

/// To each row's total, the sum of its four numbers times the size of its scale.
#[inline(always)]
fn add_scaled(totals: &mut [f32; ROWS], sums: &[u16; 64], scales: &[f32; ROWS]) {
    for ((total, sums), scale) in totals.iter_mut().zip(sums.as_chunks::<4>().0).zip(scales) {
        *total += f32::from(sums[0] + sums[1] + sums[2] + sums[3]) * scale.abs();
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use model::{
        Scale, Ternary,
        block::encode_integers,
        integer::{Grid, Integers},
    };

    use super::*;
    use crate::kernel::{Bits, HIGH_ACTIVATION};

    /// What the weights are, decoded one row at a time, and what the formula makes of them.
    fn reference(matrix: &IntegerMatrix) -> Ternary {
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let mut weights = vec![0.0; columns];
            matrix.row(row, &mut weights);
            let limit = ZERO * weights.iter().map(|weight| weight.abs()).sum::<f32>() / columns as f32;
            let kept: Vec<f32> = weights.iter().filter(|weight| weight.abs() > limit).map(|weight| weight.abs()).collect();
            scales.push(f16::from_f32(kept.iter().sum::<f32>() / kept.len().max(1) as f32));
            codes.extend(weights.iter().map(|weight| if weight.abs() > limit { weight.signum() as i8 } else { 0 }));
        }
        Ternary { rows, columns, codes, scale: Scale::Row, scales }
    }

    #[test]
    fn high_bits_multiply_as_the_middle_of_their_weights() {
        let (rows, columns) = (37, 1280);
        // Any weights and activations, and the largest, of which sums of 16 bits are nearly full.
        for largest in [false, true] {
            let code = |at: usize| if largest { 127 } else { (at * 7919 % 255) as i32 - 127 };
            let codes = (0..rows * columns).map(|at| code(at) as i8).collect();
            let scales = vec![f16::from_f32(0.01); rows * columns / 32];
            let bytes = encode_integers(&Integers { rows, columns, grid: Grid::Eight, codes, scales });
            let matrix = IntegerMatrix::new(&Pool::new(2), Bits::Apart, &bytes, rows, columns);
            let x: Vec<i8> =
                (0..columns).map(|at| if largest { HIGH_ACTIVATION } else { (at * 37 % 169) as i8 - HIGH_ACTIVATION }).collect();
            for x in [x.clone(), x.iter().map(|x| -x).collect()] {
                for isa in Isa::supported() {
                    let mut found = vec![f32::NAN; rows];
                    let activations = Activations::from_codes(isa, &x, &[0.5], columns);
                    multiply_high(isa, &Pool::new(2), matrix.high().unwrap(), &activations, &mut found);
                    for (row, found) in found.iter().enumerate() {
                        let middle = |at: usize| ((code(row * columns + at) + 128) / 64 * 64 - 96) as f32;
                        let sum: f32 = x.iter().enumerate().map(|(at, x)| middle(at) * f32::from(*x)).sum();
                        let expected = sum * 0.5 * f16::from_f32(0.01).to_f32();
                        assert!((found - expected).abs() <= 1e-5 * expected.abs() + 1e-2, "{isa}, row {row}: {found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn codes_and_scales_are_those_of_the_formula() {
        let (rows, columns) = (37, 256);
        let codes = |largest: i32| (0..rows * columns).map(|at| ((at * 7919 % 1009) as i32 % (2 * largest + 1) - largest) as i8).collect();
        let integers = |grid, largest| {
            // Scales of either sign, and none.
            let scales = (0..rows * columns / 32).map(|at| f16::from_f32((at % 9) as f32 * 0.01 - 0.03)).collect();
            let codes: Vec<i8> = codes(largest);
            IntegerMatrix::from_codes(&Pool::new(1), &Integers { rows, columns, grid, codes, scales })
        };
        let six = IntegerMatrix::random(&Pool::new(1), Bits::Six, rows, columns, 5);
        for matrix in [integers(Grid::Eight, 127), integers(Grid::Four, 7), six] {
            let expected = reference(&matrix);
            let x: Vec<i8> = (0..columns).map(|at| (at * 37 % 255) as u8 as i8).map(|code| code.max(-127)).collect();
            for isa in Isa::supported() {
                let activations = Activations::from_codes(isa, &x, &[1.0], columns);
                let (mut found, mut wanted) = (vec![0.0; rows], vec![0.0; rows]);
                multiply(isa, &Pool::new(2), &coarse(isa, &Pool::new(2), Packing::Five, &matrix), &activations, &mut found);
                multiply(isa, &Pool::new(1), &Matrix::new(&expected), &activations, &mut wanted);
                for (found, wanted) in found.iter().zip(&wanted) {
                    // The scale is not rounded to f16 here.
                    assert!((found - wanted).abs() <= 1e-3 * wanted.abs() + 1e-6, "{isa}: {found} {wanted}");
                }
            }
        }
    }
}
