//! The embedding: one row of the table for each token.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::device::Path;

/// The rows of `table_vd` that `tokens_n` name, [n, d].
pub(crate) fn embed(path: Path, table_vd: Tensor<2>, tokens_n: &[u32], device: &Device) -> Tensor<2> {
    match path {
        Path::Composed | Path::Fused => select_rows(table_vd, tokens_n, device),
    }
}

/// The rows of a matrix that `rows` name, in that order; composed.
pub(crate) fn select_rows(matrix: Tensor<2>, rows: &[u32], device: &Device) -> Tensor<2> {
    matrix.select(0, indices(rows, device))
}

/// Whole numbers on a device.
pub(crate) fn indices(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|value| *value as i32).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}
