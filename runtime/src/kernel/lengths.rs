//! How long the rows of a matrix of integers are, as vectors: times the length of a token's, what their product is at most.

use super::{Isa, Pool, integers::IntegerMatrix, matrix::ROWS, vectorise::vectorised};

/// The length of the longest row of each block, rounded up.
pub(crate) fn lengths(isa: Isa, pool: &Pool, matrix: &IntegerMatrix) -> Vec<f32> {
    let mut lengths = vec![0.0; matrix.rows().div_ceil(ROWS)];
    pool.for_each_pair((&mut lengths, 1), (&mut [], 0), |block, length, _: &mut [()]| length[0] = longest(isa, matrix, block));
    lengths
}

vectorised! {
    /// The length of the longest row of one block.
    fn longest(matrix: &IntegerMatrix, block: usize) -> f32 {
        let group_planes = matrix.bits().group() / 4;
        let mut squares = [0.0f64; ROWS];
        for group in 0..matrix.groups() {
            let mut sums = [0i32; 64];
            for plane in &matrix.planes(block, group)[..group_planes] {
                for (sum, weight) in sums.iter_mut().zip(plane) {
                    *sum += i32::from(*weight) * i32::from(*weight);
                }
            }
            for ((squares, sums), scale) in squares.iter_mut().zip(sums.as_chunks::<4>().0).zip(matrix.scales::<ROWS>(block * ROWS, group)) {
                *squares += f64::from(sums[0] + sums[1] + sums[2] + sums[3]) * f64::from(scale) * f64::from(scale);
            }
        }
        (squares.into_iter().fold(0.0, f64::max).sqrt() * 1.000_001) as f32
    }
}
