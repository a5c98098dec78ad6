//! The embedding: one row of the table for each token. Its gradient adds up the rows of each token, in the order of the tokens.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{
    buffer,
    fused::{Fused, Inputs, Values, run},
};
use crate::device::Path;

/// The rows of `table_vd` that `tokens_n` name, [n, d].
///
/// # Panics
/// If a token is not below v.
pub(crate) fn embed(path: Path, table_vd: Tensor<2>, tokens_n: &[u32], device: &Device) -> Tensor<2> {
    let [v, d] = table_vd.dims();
    assert!(tokens_n.iter().all(|token| (*token as usize) < v), "a token is not below the vocabulary of {v}");
    match path {
        Path::Composed(_) => select_rows(table_vd, tokens_n, device),
        Path::Fused => run(FusedEmbed { tokens: tokens_n.into(), vocab: v, width: d }, Inputs::default().and(table_vd)),
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

/// Input: the table, [v, d].
#[derive(Clone, Debug)]
struct FusedEmbed {
    tokens: Arc<[u32]>,
    vocab: usize,
    width: usize,
}

impl Fused for FusedEmbed {
    type Saved = ();

    fn forward(&self, inputs: Vec<Values>) -> (Values, ()) {
        let [table_vd] = inputs.try_into().expect("one input");
        let d = self.width;
        let mut out_nd = buffer::take(self.tokens.len() * d);
        for (out, token) in out_nd.chunks_mut(d).zip(self.tokens.iter()) {
            out.copy_from_slice(&table_vd[*token as usize * d..][..d]);
        }
        (Values::new(out_nd, [self.tokens.len(), d]), ())
    }

    fn backward(&self, (): (), gradient_nd: Values) -> Vec<Values> {
        let d = self.width;
        let mut out_vd = buffer::zeros(self.vocab * d);
        for (token, gradient) in self.tokens.iter().zip(gradient_nd.chunks(d)) {
            for (out, gradient) in out_vd[*token as usize * d..][..d].iter_mut().zip(gradient) {
                *out += gradient;
            }
        }
        vec![Values::new(out_vd, [self.vocab, d])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::check::{same_and_smooth, sample};

    #[test]
    fn both_forms_are_the_same() {
        let device = crate::device::cpu();
        let tokens = [4, 0, 4, 4, 2];
        same_and_smooth(&[(sample(5 * 3, 1), 5)], |path, mut inputs| embed(path, inputs.remove(0), &tokens, &device));
    }
}
