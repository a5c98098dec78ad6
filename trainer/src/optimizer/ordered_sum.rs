//! The gradients of a step's microbatches, which run side by side, in one sum: tensor by tensor and in the order of the microbatches,
//! so that the bits do not depend on which one is ready first.
//!
//! That of a linear layer is added as soon as the backward pass has it, so that no microbatch holds gradients of the whole student.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use burn::tensor::Tensor;
use model::Kind;

use super::{Gradients, gradients::plus};
use crate::{
    device::Path,
    operation::fused,
    student::{Parameter, Student},
};

/// A sum in the making.
#[derive(Debug)]
pub(crate) struct OrderedSum {
    /// In the order of the inventory.
    tensors: Vec<Mutex<OfTensor>>,
    /// Supervised targets in the losses.
    tokens: AtomicUsize,
    path: Path,
}

/// The sum of one tensor's gradients.
#[derive(Debug, Default)]
struct OfTensor {
    sum: Option<Tensor<1>>,
    /// Microbatches that are in the sum.
    added: usize,
    /// From microbatches that were quicker than one before them.
    early: BTreeMap<usize, Option<Tensor<1>>>,
}

impl OrderedSum {
    pub(crate) fn of(student: &Student) -> Arc<OrderedSum> {
        let tensors = student.specs().iter().map(|_| Mutex::default()).collect();
        Arc::new(OrderedSum { tensors, tokens: AtomicUsize::new(0), path: student.path() })
    }

    /// Add the gradient of a microbatch's loss, as [`Student::loss`] gives it, with the number of its targets. The student is one of
    /// its own, and the loss's graph is used up. Every microbatch from the first on is to be added once.
    pub(crate) fn add(self: &Arc<OrderedSum>, microbatch: usize, student: &Student, loss: &Tensor<1>, tokens: usize) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        if tokens == 0 {
            return (0..self.tensors.len()).for_each(|place| self.add_tensor(place, microbatch, None));
        }
        let parts = || student.specs().iter().zip(student.parameters()).enumerate();
        let linear = parts().filter_map(|(place, (spec, parameter))| match parameter {
            Parameter::Matrix(matrix) if self.path == Path::Fused && spec.kind() == Kind::Linear => Some((fused::leaf(matrix), place)),
            _ => None,
        });
        let linear: HashMap<_, _> = linear.collect();
        let mut is_left = vec![true; self.tensors.len()];
        linear.values().for_each(|place| is_left[*place] = false);
        let sum = self.clone();
        let (mut gradients, untouched) =
            fused::backward(loss, linear, move |place, dw| sum.add_tensor(place, microbatch, Some(dw.into_matrix().flatten(0, 1))));
        untouched.for_each(|place| is_left[place] = true);
        for (place, (_, parameter)) in parts().filter(|(place, _)| is_left[*place]) {
            self.add_tensor(place, microbatch, parameter.take_gradient(&mut gradients));
        }
    }

    fn add_tensor(&self, place: usize, microbatch: usize, gradient: Option<Tensor<1>>) {
        let mut tensor = self.tensors[place].lock().expect("no worker panics while it adds");
        let OfTensor { sum, added, early } = &mut *tensor;
        early.insert(microbatch, gradient);
        while let Some(gradient) = early.remove(added) {
            *sum = plus(self.path, sum.take(), gradient);
            *added += 1;
        }
    }

    /// The sum, once all microbatches are in it.
    pub(crate) fn finish(&self) -> Gradients {
        let take = |tensor: &Mutex<OfTensor>| tensor.lock().expect("no worker panicked").sum.take();
        Gradients { sums: self.tensors.iter().map(take).collect(), tokens: self.tokens.load(Ordering::Relaxed), path: Some(self.path) }
    }
}
