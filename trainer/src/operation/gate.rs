//! The gate of the feed-forward block: SwiGLU silu(g) * u, arXiv:2002.05202, or squared ReLU relu(g)^2 * u as BitNet b1.58 2B4T.

use burn::tensor::{
    Tensor,
    activation::{relu, silu},
};
use model::Activation;
use rayon::prelude::*;

use super::{
    buffer,
    fused::{Fused, Inputs, Values, run},
    simd::{for_each_isa, sigmoid},
};
use crate::device::{Path, Storage};

/// The gated activation of `gate_up_n2f`, each token's gate and up values side by side; gives [n, f].
pub(crate) fn gate(path: Path, gate_up_n2f: Tensor<2>, activation: Activation) -> Tensor<2> {
    match path {
        Path::Composed(storage) => Storage::F32.keep(composed(storage.keep(gate_up_n2f), activation)),
        Path::Fused => {
            let [_, both] = gate_up_n2f.dims();
            run(FusedGate { activation, width: both / 2 }, Inputs::default().and(gate_up_n2f))
        }
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

/// Input: [n, 2f].
#[derive(Clone, Debug)]
struct FusedGate {
    activation: Activation,
    /// f.
    width: usize,
}

impl Fused for FusedGate {
    type Saved = Values;

    fn forward(&self, inputs: Vec<Values>) -> (Values, Values) {
        let [gate_up_n2f] = inputs.try_into().expect("one input");
        let f = self.width;
        let n = gate_up_n2f.len() / (2 * f);
        let mut out_nf = buffer::take(n * f);
        out_nf.par_chunks_mut(f).zip(gate_up_n2f.par_chunks(2 * f)).for_each(|(out, gate_up)| {
            let (gate, up) = gate_up.split_at(f);
            match self.activation {
                Activation::Silu => silu_row(gate, up, out),
                Activation::Relu2 => relu2_row(gate, up, out),
            }
        });
        (Values::new(out_nf, [n, f]), gate_up_n2f)
    }

    fn backward(&self, gate_up_n2f: Values, gradient_nf: Values) -> Vec<Values> {
        let f = self.width;
        let n = gradient_nf.len() / f;
        let mut out_n2f = buffer::take(n * 2 * f);
        let rows = out_n2f.par_chunks_mut(2 * f).zip(gate_up_n2f.par_chunks(2 * f)).zip(gradient_nf.par_chunks(f));
        rows.for_each(|((out, gate_up), gradient)| {
            let ((gate, up), (dgate, dup)) = (gate_up.split_at(f), out.split_at_mut(f));
            match self.activation {
                Activation::Silu => silu_row_backward(gate, up, gradient, dgate, dup),
                Activation::Relu2 => relu2_row_backward(gate, up, gradient, dgate, dup),
            }
        });
        vec![Values::new(out_n2f, [n, 2 * f])]
    }
}

for_each_isa! {
    fn silu_row(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid(*gate) * up;
        }
    }
}

for_each_isa! {
    /// d silu(g) / dg = s (1 + g (1 - s)) with s = sigmoid(g).
    fn silu_row_backward(gate: &[f32], up: &[f32], gradient: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for ((((gate, up), gradient), dgate), dup) in gate.iter().zip(up).zip(gradient).zip(dgate).zip(dup) {
            let s = sigmoid(*gate);
            *dup = gradient * gate * s;
            *dgate = gradient * up * s * (1.0 + gate * (1.0 - s));
        }
    }
}

for_each_isa! {
    fn relu2_row(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            let positive = if *gate < 0.0 { 0.0 } else { *gate };
            *out = positive * positive * up;
        }
    }
}

for_each_isa! {
    fn relu2_row_backward(gate: &[f32], up: &[f32], gradient: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for ((((gate, up), gradient), dgate), dup) in gate.iter().zip(up).zip(gradient).zip(dgate).zip(dup) {
            let positive = if *gate < 0.0 { 0.0 } else { *gate };
            *dup = gradient * positive * positive;
            *dgate = gradient * up * 2.0 * positive;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::check::{same_and_smooth, sample};

    #[test]
    fn both_forms_are_the_same() {
        for (n, f) in [(1, 1), (3, 7), (70, 33)] {
            let gate_up: Vec<f32> = sample(n * 2 * f, 5).into_iter().map(|x| 6.0 * x).collect();
            for activation in [Activation::Silu, Activation::Relu2] {
                same_and_smooth(&[(gate_up.clone(), n)], |path, mut inputs| gate(path, inputs.remove(0), activation));
            }
        }
    }
}
