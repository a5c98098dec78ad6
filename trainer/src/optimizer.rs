//! AdamW over a whole student, with the norm of all gradients together clipped.
//!
//! Weight decay is decoupled (arXiv:1711.05101), times the rate as in PyTorch's `AdamW`, and holds for matrices, the embedding among
//! them; gains and biases have none.

mod gradients;
mod ordered_sum;
mod update;

pub use gradients::Gradients;
pub(crate) use ordered_sum::OrderedSum;

use burn::tensor::Tensor;
use model::{Kind, TensorSpec};

use crate::{device::Path, student::Student};
use update::Update;

/// How AdamW weighs what it has seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Betas {
    /// Share of the first moment that a step keeps.
    pub first: f64,
    /// Share of the second moment that a step keeps.
    pub second: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

/// The values of BitNet b1.58's training and of most language models.
pub const BETAS: Betas = Betas { first: 0.9, second: 0.95, epsilon: 1e-8 };

/// The optimizer and its state: two moments for each trained number, and the number of steps taken.
#[derive(Debug)]
pub struct AdamW {
    betas: Betas,
    steps: u64,
    /// In the order of the inventory.
    moments: Vec<Moments>,
}

/// The moments of one tensor, flat.
#[derive(Clone, Debug)]
struct Moments {
    first: Tensor<1>,
    second: Tensor<1>,
}

/// Which moment of a tensor is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The running mean of the gradient.
    First,
    /// The running mean of its square.
    Second,
}

/// What one step saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// The norm of the mean gradient of a supervised token, over all tensors, before clipping. If it is not finite, the student
    /// and the optimizer are as they were.
    pub gradient_norm: f32,
}

impl AdamW {
    /// An optimizer that has seen nothing.
    pub fn new(student: &Student, betas: Betas) -> AdamW {
        let zeros = |spec: &TensorSpec, _| Ok::<_, std::convert::Infallible>(vec![0.0; spec.len()]);
        let Ok(optimizer) = AdamW::from_state(student, betas, 0, zeros);
        optimizer
    }

    /// An optimizer that has taken `steps` steps, with the moments that `values` gives, asked for in the order of the inventory.
    ///
    /// # Panics
    /// If a tensor has another number of values than its spec says.
    pub fn from_state<E>(
        student: &Student,
        betas: Betas,
        steps: u64,
        mut values: impl FnMut(&TensorSpec, Moment) -> Result<Vec<f32>, E>,
    ) -> Result<AdamW, E> {
        let device = student.device().clone().inner();
        let mut moment = |spec: &TensorSpec, which| {
            let values = values(spec, which)?;
            assert_eq!(values.len(), spec.len(), "moments of {}", spec.name);
            Ok(Tensor::<1>::from_floats(values.as_slice(), &device))
        };
        let mut both = |spec| Ok(Moments { first: moment(spec, Moment::First)?, second: moment(spec, Moment::Second)? });
        let moments = student.specs().iter().map(&mut both).collect::<Result<_, E>>()?;
        Ok(AdamW { betas, steps, moments })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One moment of every tensor, in the order of the inventory.
    pub fn moments(&self, which: Moment) -> Vec<Vec<f32>> {
        (0..self.moments.len()).map(|place| self.values(which, place)).collect()
    }

    /// One moment of one tensor.
    pub(crate) fn values(&self, which: Moment, place: usize) -> Vec<f32> {
        let moments = &self.moments[place];
        let tensor = match which {
            Moment::First => moments.first.clone(),
            Moment::Second => moments.second.clone(),
        };
        tensor.try_into_vec_as().expect("moments are f32")
    }

    /// Move the student against the mean gradient of a supervised token, scaled down where its norm is above `clip`.
    ///
    /// # Panics
    /// If `gradients` are of another student or of no token.
    pub fn step(&mut self, student: &mut Student, gradients: Gradients, rate: f64, weight_decay: f64, clip: f64) -> Stats {
        let path = student.path();
        let tokens = gradients.tokens();
        assert!(tokens > 0, "gradients of no token");
        let gradients = gradients.into_tensors();
        assert_eq!(gradients.len(), self.moments.len(), "gradients of another student");

        let squares: f64 = gradients.iter().flatten().map(|gradient| update::sum_of_squares(path, gradient)).sum();
        let norm = squares.sqrt() / tokens as f64;
        let stats = Stats { gradient_norm: norm as f32 };
        if !norm.is_finite() {
            return stats;
        }
        self.steps += 1;
        let scale = if norm > clip { clip / norm } else { 1.0 } / tokens as f64;
        let kinds: Vec<Kind> = student.specs().iter().map(TensorSpec::kind).collect();
        let mut parts = gradients.into_iter().zip(&mut self.moments).zip(kinds);
        student.update(|parameter| {
            let ((gradient, moments), kind) = parts.next().expect("as many gradients as parameters");
            let Some(gradient) = gradient else { return parameter };
            let decay = match kind {
                Kind::Vector => 0.0,
                Kind::Linear | Kind::Embedding => weight_decay,
            };
            let update = Update::new(self.betas, self.steps, rate, decay, scale);
            match path {
                Path::Composed(_) => update.composed(parameter, gradient, moments),
                Path::Fused => update.fused(parameter, gradient, moments),
            }
        });
        stats
    }
}

#[cfg(test)]
pub(crate) mod tests;
