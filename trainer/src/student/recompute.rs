//! Gradient checkpointing: a block that keeps only its input for the backward pass and is computed again there. No bit differs.
//!
//! Training deep nets with sublinear memory cost, arXiv:1604.06174.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Layout, Parameter, Student};
use crate::operation::fused::{Fused, Inputs, Values, run};

/// Inputs: the residual stream before a block, [n, d], and the block's trained parameters, in their order.
#[derive(Clone, Debug)]
struct Recomputed {
    /// Without derivatives.
    student: Student,
    layer: usize,
    layout: Arc<Layout>,
}

/// The residual stream after a block, [n, d].
pub(super) fn block(student: &Student, layer: usize, hidden_nd: Tensor<2>, layout: &Arc<Layout>) -> Tensor<2> {
    let inputs = student.trained_of(layer).fold(Inputs::default().and(hidden_nd), |inputs, parameter| match parameter {
        Parameter::Vector(vector) => inputs.and(vector.clone()),
        Parameter::Matrix(matrix) => inputs.and(matrix.clone()),
    });
    run(Recomputed { student: student.clone().frozen(), layer, layout: layout.clone() }, inputs)
}

impl Fused for Recomputed {
    /// The residual stream before the block.
    type Saved = Values;

    fn forward(&self, inputs: Vec<Values>) -> (Values, Values) {
        let hidden_nd = inputs.into_iter().next().expect("the first input is the residual stream");
        let after_nd = self.pass(&self.student, Tensor::from_inner(hidden_nd.clone().into_matrix()));
        (Values::of(after_nd), hidden_nd)
    }

    fn backward(&self, hidden_nd: Values, gradient_nd: Values) -> Vec<Values> {
        let student = self.student.fork();
        let hidden_nd = Tensor::from_inner(hidden_nd.into_matrix()).require_grad();
        let after_nd = self.pass(&student, hidden_nd.clone());
        // The gradient of <x, g> by x is g.
        let mut gradients = (after_nd * Tensor::from_inner(gradient_nd.into_matrix())).sum().backward();
        let of_hidden = hidden_nd.grad_remove(&mut gradients).expect("a block depends on its input");
        let of_parameters = student.trained_of(self.layer).map(|parameter| {
            let gradient = match parameter {
                Parameter::Vector(vector) => vector.grad_remove(&mut gradients).map(Values::of),
                Parameter::Matrix(matrix) => matrix.grad_remove(&mut gradients).map(Values::of),
            };
            gradient.expect("a block depends on each of its parameters")
        });
        [Values::of(of_hidden)].into_iter().chain(of_parameters).collect()
    }
}

impl Recomputed {
    fn pass(&self, student: &Student, hidden_nd: Tensor<2>) -> Tensor<2> {
        student.block(self.layer, hidden_nd, &self.layout, None, &mut |_, _, _| ()).0
    }
}
