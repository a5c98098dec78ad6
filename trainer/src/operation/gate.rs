//! The gate of the feed-forward block: SwiGLU silu(g) * u, arXiv:2002.05202, or squared ReLU relu(g)^2 * u as BitNet b1.58 2B4T.

use burn::tensor::{
    Tensor,
    activation::{relu, silu},
};
use model::Activation;

use crate::device::Path;

/// The gated activation of `gate_up_n2f`, each token's gate and up values side by side; gives [n, f].
pub(crate) fn gate(path: Path, gate_up_n2f: Tensor<2>, activation: Activation) -> Tensor<2> {
    match path {
        Path::Composed | Path::Fused => composed(gate_up_n2f, activation),
    }
}

fn composed(gate_up_n2f: Tensor<2>, activation: Activation) -> Tensor<2> {
    let [n, both] = gate_up_n2f.dims();
    let f = both / 2;
    let gate = gate_up_n2f.clone().slice([0..n, 0..f]);
    let up = gate_up_n2f.slice([0..n, f..both]);
    match activation {
        Activation::Silu => silu(gate) * up,
        Activation::Relu2 => relu(gate).square() * up,
    }
}
