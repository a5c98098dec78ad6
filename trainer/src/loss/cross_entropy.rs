//! Cross-entropy of the next token under the head: -sum_k log softmax(x_k E^T)[target_k], in nats, over supervised positions
//! only.

use burn::tensor::{Tensor, activation::log_softmax};

use crate::{device::Path, operation::embed};

/// The loss of `hidden_kd` (already normed) under `head_vd`, summed over its rows; one target for each row.
pub(crate) fn cross_entropy(path: Path, hidden_kd: Tensor<2>, head_vd: Tensor<2>, targets_k: &[u32]) -> Tensor<1> {
    match path {
        Path::Composed | Path::Fused => composed(hidden_kd, head_vd, targets_k),
    }
}

fn composed(hidden_kd: Tensor<2>, head_vd: Tensor<2>, targets_k: &[u32]) -> Tensor<1> {
    let device = hidden_kd.device();
    let [k, _] = hidden_kd.dims();
    let log_probabilities_kv = log_softmax(hidden_kd.matmul(head_vd.transpose()), 1);
    let targets_k1 = embed::indices(targets_k, &device).reshape([k, 1]);
    log_probabilities_kv.gather(1, targets_k1).sum().neg()
}
