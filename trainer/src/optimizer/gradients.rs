//! Gradients summed over microbatches.

use burn::tensor::Tensor;

use crate::student::Student;

/// The gradient of the summed loss of some batches, for each tensor of a student.
#[derive(Debug, Default)]
pub struct Gradients {
    /// Flat, in the order of the inventory; empty before the first batch. `None` where no batch touched a tensor.
    sums: Vec<Option<Tensor<1>>>,
    /// Supervised targets in the loss.
    tokens: usize,
}

impl Gradients {
    /// No batch yet.
    pub fn new() -> Gradients {
        Gradients::default()
    }

    /// Add the gradient of a loss as [`Student::loss`] gives it, with the number of its targets. The loss's graph is used up.
    pub fn add(&mut self, student: &Student, loss: &Tensor<1>, tokens: usize) {
        if tokens == 0 {
            return;
        }
        self.tokens += tokens;
        let mut gradients = loss.backward();
        let new: Vec<_> = student.parameters().iter().map(|parameter| parameter.take_gradient(&mut gradients)).collect();
        if self.sums.is_empty() {
            self.sums = new;
            return;
        }
        for (sum, new) in self.sums.iter_mut().zip(new) {
            *sum = match (sum.take(), new) {
                (Some(sum), Some(new)) => Some(sum + new),
                (sum, new) => sum.or(new),
            };
        }
    }

    /// Supervised targets so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    pub(super) fn into_tensors(self) -> Vec<Option<Tensor<1>>> {
        self.sums
    }
}
