//! Gradients summed over microbatches.

use burn::tensor::Tensor;

use super::update::{add, in_place, sum_of_squares};
use crate::{device::Path, operation::fused::Values, student::Student};

/// The gradient of the summed loss of some batches, for each tensor of a student.
#[derive(Debug, Default)]
pub struct Gradients {
    /// Flat, in the order of the inventory; empty before the first batch. `None` where no batch touched a tensor.
    pub(super) sums: Vec<Option<Tensor<1>>>,
    /// Supervised targets in the loss.
    pub(super) tokens: usize,
    /// Of the student.
    pub(super) path: Option<Path>,
}

impl Gradients {
    /// No batch yet.
    pub fn new() -> Gradients {
        Gradients::default()
    }

    /// The gradient of a loss as [`Student::loss`] gives it, with the number of its targets. The loss's graph is used up.
    pub fn of(student: &Student, loss: &Tensor<1>, tokens: usize) -> Gradients {
        if tokens == 0 {
            return Gradients::new();
        }
        let mut gradients = loss.backward();
        let sums = student.parameters().iter().map(|parameter| parameter.take_gradient(&mut gradients)).collect();
        Gradients { sums, tokens, path: Some(student.path()) }
    }

    /// Add those of further batches.
    pub fn add(&mut self, more: Gradients) {
        self.tokens += more.tokens;
        if self.sums.is_empty() {
            (self.sums, self.path) = (more.sums, more.path);
            return;
        }
        let path = self.path.expect("gradients have a path");
        for (sum, more) in self.sums.iter_mut().zip(more.sums) {
            *sum = plus(path, sum.take(), more);
        }
    }

    /// Supervised targets so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The sum of squares of each tensor's gradient, 0 where no batch touched it.
    pub(crate) fn squares(&self, path: Path) -> Vec<f64> {
        self.sums.iter().map(|sum| sum.as_ref().map_or(0.0, |sum| sum_of_squares(path, sum))).collect()
    }

    pub(crate) fn into_tensors(self) -> Vec<Option<Tensor<1>>> {
        self.sums
    }
}

/// One tensor's gradients added up.
pub(super) fn plus(path: Path, sum: Option<Tensor<1>>, more: Option<Tensor<1>>) -> Option<Tensor<1>> {
    match (sum, more) {
        (Some(sum), Some(more)) => Some(match path {
            Path::Fused => in_place(sum, |sum| add(sum, &Values::of(more))),
            Path::Composed(_) => sum + more,
        }),
        (sum, more) => sum.or(more),
    }
}
