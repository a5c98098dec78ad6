//! One tensor of a student, whatever its rank.

use burn::tensor::{Device, GradientCheckpointingStrategy, Gradients, Tensor, TensorData};
use model::{Kind, TensorSpec};

/// One tensor, a leaf of burn's graph where it is trained.
#[derive(Clone, Debug)]
pub(crate) enum Parameter {
    /// Gains and biases.
    Vector(Tensor<1>),
    /// Everything else.
    Matrix(Tensor<2>),
}

impl Parameter {
    pub(super) fn new(spec: &TensorSpec, values: Vec<f32>, device: &Device) -> Parameter {
        assert_eq!(values.len(), spec.len(), "values of {}", spec.name);
        let data = TensorData::new(values, spec.shape.clone());
        match spec.kind() {
            Kind::Vector => Parameter::Vector(Tensor::from_data(data, device).require_grad()),
            Kind::Linear | Kind::Embedding => Parameter::Matrix(Tensor::from_data(data, device).require_grad()),
        }
    }

    /// The same values as a node of its own.
    pub(super) fn fork(&self) -> Parameter {
        match self {
            Parameter::Vector(vector) => Parameter::Vector(node(vector.clone(), |values| values).require_grad()),
            Parameter::Matrix(matrix) => Parameter::Matrix(node(matrix.clone(), |values| values).require_grad()),
        }
    }

    /// The same values without derivatives.
    pub(super) fn frozen(&self) -> Parameter {
        match self {
            Parameter::Vector(vector) => Parameter::Vector(node(vector.clone(), |values| values)),
            Parameter::Matrix(matrix) => Parameter::Matrix(node(matrix.clone(), |values| values)),
        }
    }

    /// Take this parameter's gradient out, flat and without derivatives.
    pub(crate) fn take_gradient(&self, gradients: &mut Gradients) -> Option<Tensor<1>> {
        match self {
            Parameter::Vector(vector) => vector.grad_remove(gradients),
            Parameter::Matrix(matrix) => matrix.grad_remove(gradients).map(|gradient| gradient.flatten(0, 1)),
        }
    }

    /// The same parameter with its values changed; `change` sees them flat and without derivatives.
    pub(crate) fn map_flat(self, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Parameter {
        match self {
            Parameter::Vector(vector) => Parameter::Vector(node(vector, change).require_grad()),
            Parameter::Matrix(matrix) => {
                let shape = matrix.dims();
                let change = |matrix: Tensor<2>| change(matrix.flatten(0, 1)).reshape(shape);
                Parameter::Matrix(node(matrix, change).require_grad())
            }
        }
    }

    /// Its values, row by row.
    pub(crate) fn values(&self) -> Vec<f32> {
        let data = match self {
            Parameter::Vector(vector) => vector.to_data(),
            Parameter::Matrix(matrix) => matrix.to_data(),
        };
        data.try_into_vec().expect("parameters are f32")
    }
}

/// What becomes of values without derivatives, as a node of its own.
fn node<const D: usize>(old: Tensor<D>, change: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Tensor<D> {
    // All tensors of a graph must agree on what is kept for the backward pass, and those without derivatives do not know.
    let kept = old.gradient_checkpointing_strategy().unwrap_or(GradientCheckpointingStrategy::Disabled);
    Tensor::from_inner(change(old.inner())).with_gradient_checkpointing_strategy(kept)
}
