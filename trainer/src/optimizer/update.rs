//! One step of AdamW on one tensor, as PyTorch's `AdamW` has it, with the bias corrections folded into two factors:
//! m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w = (1 - rate decay) w - rate / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps).

use burn::{
    backend::Flex,
    tensor::{Tensor, TensorData},
};
use rayon::prelude::*;

use super::{Betas, Moments};
use crate::{
    device::Path,
    operation::{
        fused::Values,
        simd::{for_each_isa, sum},
    },
    student::Parameter,
};

/// The numbers of a step, the same for every element of a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    /// What a gradient is multiplied by first: one over the tokens, times the clipping.
    scale: f32,
    keep_first: f32,
    add_first: f32,
    keep_second: f32,
    add_second: f32,
    /// 1 / sqrt(1 - b2^t).
    root: f32,
    epsilon: f32,
    /// rate / (1 - b1^t).
    rate: f32,
    /// 1 - rate * decay.
    shrink: f32,
}

/// Elements per task. A sum of squares is taken chunk by chunk, so that its bits do not depend on the number of threads.
const CHUNK: usize = 1 << 14;

impl Update {
    pub(super) fn new(betas: Betas, step: u64, rate: f64, decay: f64, scale: f64) -> Update {
        let correction = |beta: f64| 1.0 - beta.powi(i32::try_from(step).unwrap_or(i32::MAX));
        Update {
            scale: scale as f32,
            keep_first: betas.first as f32,
            add_first: (1.0 - betas.first) as f32,
            keep_second: betas.second as f32,
            add_second: (1.0 - betas.second) as f32,
            root: (1.0 / correction(betas.second).sqrt()) as f32,
            epsilon: betas.epsilon as f32,
            rate: (rate / correction(betas.first)) as f32,
            shrink: (1.0 - rate * decay) as f32,
        }
    }

    pub(super) fn composed(&self, parameter: Parameter, gradient: Tensor<1>, moments: &mut Moments) -> Parameter {
        let gradient = gradient.mul_scalar(self.scale);
        moments.first.inplace(|first| first.mul_scalar(self.keep_first) + gradient.clone().mul_scalar(self.add_first));
        moments.second.inplace(|second| second.mul_scalar(self.keep_second) + gradient.square().mul_scalar(self.add_second));
        let size = moments.second.clone().sqrt().mul_scalar(self.root).add_scalar(self.epsilon);
        let step = moments.first.clone() / size;
        parameter.map_flat(|weights| weights.mul_scalar(self.shrink) - step.mul_scalar(self.rate))
    }

    pub(super) fn fused(&self, parameter: Parameter, gradient: Tensor<1>, moments: &mut Moments) -> Parameter {
        let gradient = Values::of(gradient);
        parameter.map_flat(|weights| {
            in_place(weights, |weights| {
                moments.first.inplace(|first| {
                    in_place(first, |first| {
                        moments.second.inplace(|second| in_place(second, |second| self.apply(weights, &gradient, first, second)));
                    })
                });
            })
        })
    }

    fn apply(&self, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let chunks = (weights.par_chunks_mut(CHUNK), gradient.par_chunks(CHUNK), first.par_chunks_mut(CHUNK), second.par_chunks_mut(CHUNK));
        chunks.into_par_iter().for_each(|(weights, gradient, first, second)| apply_chunk(self, weights, gradient, first, second));
    }
}

for_each_isa! {
    fn apply_chunk(update: &Update, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        for (((w, g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * update.scale;
            *m = *m * update.keep_first + g * update.add_first;
            *v = *v * update.keep_second + g * g * update.add_second;
            *w = *w * update.shrink - *m / (v.sqrt() * update.root + update.epsilon) * update.rate;
        }
    }
}

/// The sum of squares of a tensor.
pub(super) fn sum_of_squares(path: Path, gradient: &Tensor<1>) -> f64 {
    match path {
        Path::Composed(_) => f64::from(gradient.clone().square().sum().into_scalar::<f32>()),
        Path::Fused => {
            let gradient = Values::of(gradient.clone());
            let sums: Vec<f32> = gradient.par_chunks(CHUNK).map(chunk_squares).collect();
            sums.into_iter().map(f64::from).sum()
        }
    }
}

for_each_isa! {
    fn chunk_squares(chunk: &[f32]) -> f32 {
        sum([chunk], |[x]| x * x)
    }
}

for_each_isa! {
    pub(super) fn add(sum: &mut [f32], more: &[f32]) {
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum += more;
        }
    }
}

/// Change a tensor on the CPU where it lies; it is copied only if someone else holds it too.
pub(super) fn in_place(tensor: Tensor<1>, change: impl FnOnce(&mut [f32])) -> Tensor<1> {
    let mut primitive = tensor.try_into_primitive::<Flex>().expect("a tensor on the CPU");
    if primitive.layout().is_contiguous() && primitive.layout().start_offset() == 0 {
        change(primitive.storage_mut::<f32>());
        return Tensor::from_primitive::<Flex>(primitive);
    }
    let mut values: Vec<f32> = Tensor::<1>::from_primitive::<Flex>(primitive).try_into_vec_as().expect("parameters are f32");
    change(&mut values);
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), &burn::tensor::Device::flex())
}
