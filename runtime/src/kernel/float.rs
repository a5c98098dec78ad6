//! A full-precision matrix, for students that were trained without quantisation: the twin that a ternary student is compared with.

use super::{Isa, Pool, matrix::ROWS, piece, tile::Output, vectorise::vectorised};

/// A matrix of f32, sixteen rows to a block.
#[derive(Clone, Debug)]
pub(crate) struct FloatMatrix {
    rows: usize,
    columns: usize,
    /// `[blocks, columns, ROWS]`.
    weights: Vec<[f32; ROWS]>,
}

/// Tokens that are multiplied at once.
const TOKENS: usize = 4;

impl FloatMatrix {
    /// Lay out a matrix of which `read` gives a row.
    pub(crate) fn new<E, Read>(pool: &Pool, rows: usize, columns: usize, read: Read) -> Result<FloatMatrix, E>
    where
        E: Send,
        Read: Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    {
        let mut weights = vec![[0.0; ROWS]; rows.div_ceil(ROWS) * columns];
        pool.try_for_each_pair((&mut weights, columns), (&mut [], 0), |block, weights, _: &mut [()]| {
            let mut row = vec![0.0; columns];
            for lane in 0..ROWS.min(rows - block * ROWS) {
                read(block * ROWS + lane, &mut row)?;
                for (weights, weight) in weights.iter_mut().zip(&row) {
                    weights[lane] = *weight;
                }
            }
            Ok(())
        })?;
        Ok(FloatMatrix { rows, columns, weights })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// One row's weights.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        for (out, weights) in out.iter_mut().zip(&self.weights[row / ROWS * self.columns..]) {
            *out = weights[row % ROWS];
        }
    }

    /// Bytes that a multiply reads.
    pub(crate) fn len_bytes(&self) -> usize {
        size_of_val(&self.weights[..])
    }
}

/// Multiply every token with the matrix: `activations` are `[tokens, columns]`, `out` is `[tokens, rows]`. Products are added in the
/// order of the columns.
pub(crate) fn multiply_floats(isa: Isa, pool: &Pool, matrix: &FloatMatrix, activations: &[f32], out: &mut [f32]) {
    let tokens = activations.len() / matrix.columns;
    assert_eq!(activations.len(), tokens * matrix.columns, "the activations' width is not the matrix's columns");
    assert_eq!(out.len(), tokens * matrix.rows, "the output is not tokens x rows");
    let output = Output { start: out.as_mut_ptr(), stride: matrix.rows };
    pool.for_each_range(matrix.rows.div_ceil(ROWS), piece(matrix.columns, tokens), &|blocks| {
        for block in blocks {
            let weights = &matrix.weights[block * matrix.columns..(block + 1) * matrix.columns];
            let count = ROWS.min(matrix.rows - block * ROWS);
            for first in (0..tokens).step_by(TOKENS) {
                // A tile that reaches past the last token multiplies that one again.
                let token = |n: usize| (first + n).min(tokens - 1);
                let codes: [&[f32]; TOKENS] = std::array::from_fn(|n| &activations[token(n) * matrix.columns..][..matrix.columns]);
                let mut totals = [[0.0; ROWS]; TOKENS];
                if first + 1 == tokens {
                    multiply_one(isa, weights, codes[0], &mut totals[0]);
                } else {
                    multiply_tile(isa, weights, codes, &mut totals);
                }
                for (n, totals) in totals.iter().enumerate().take(tokens - first) {
                    // SAFETY: these rows of an existing token lie in the output, and the block is in this range alone.
                    let out = unsafe { std::slice::from_raw_parts_mut(output.at((first + n) * matrix.rows + block * ROWS), count) };
                    out.copy_from_slice(&totals[..count]);
                }
            }
        }
    });
}

vectorised! {
    fn multiply_tile(weights: &[[f32; ROWS]], activations: [&[f32]; TOKENS], totals: &mut [[f32; ROWS]; TOKENS]) {
        let [a, b, c, d] = activations.map(|activations| &activations[..weights.len()]);
        let mut sums = *totals;
        for (at, weights) in weights.iter().enumerate() {
            for lane in 0..ROWS {
                sums[0][lane] += weights[lane] * a[at];
                sums[1][lane] += weights[lane] * b[at];
                sums[2][lane] += weights[lane] * c[at];
                sums[3][lane] += weights[lane] * d[at];
            }
        }
        *totals = sums;
    }
}

vectorised! {
    fn multiply_one(weights: &[[f32; ROWS]], activations: &[f32], totals: &mut [f32; ROWS]) {
        let mut sums = *totals;
        for (weights, activation) in weights.iter().zip(activations) {
            for lane in 0..ROWS {
                sums[lane] += weights[lane] * activation;
            }
        }
        *totals = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_isa_adds_in_the_order_of_the_columns() {
        for (rows, columns, tokens) in [(1, 1, 1), (15, 33, 2), (40, 100, 5), (16, 7, 8)] {
            let weight = |row: usize, column: usize| ((row * 31 + column * 17) % 23) as f32 * 0.37 - 3.0;
            let activations: Vec<f32> = (0..tokens * columns).map(|i| (i * 7 % 29) as f32 * 0.11 - 1.5).collect();
            let mut expected = Vec::new();
            for token in activations.chunks(columns) {
                for row in 0..rows {
                    let sum = token.iter().enumerate().fold(0.0f32, |sum, (column, x)| sum + weight(row, column) * x);
                    expected.push(sum.to_bits());
                }
            }
            for isa in Isa::supported() {
                let pool = Pool::new(2);
                let matrix = FloatMatrix::new(&pool, rows, columns, |row, out| {
                    out.iter_mut().enumerate().for_each(|(column, out)| *out = weight(row, column));
                    Ok::<(), ()>(())
                })
                .unwrap();
                let mut out = vec![f32::NAN; expected.len()];
                multiply_floats(isa, &pool, &matrix, &activations, &mut out);
                assert_eq!(out.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), expected, "{isa}");
                let mut row = vec![0.0; columns];
                matrix.row(rows - 1, &mut row);
                assert_eq!(row[columns - 1], weight(rows - 1, columns - 1));
            }
        }
    }
}
