//! A low-rank change of frozen weights: a linear layer is Q(W + s B A) with s = alpha / rank, of which A and B alone are trained.
//! LoRA, arXiv:2106.09685, section 4.1.
//!
//! It is the sum that is quantised, not W with an adapter in full precision beside it, so that merging is no approximation: the merged
//! weights quantise to the codes that were trained with. A plain adapter that is merged into codes afterwards is lost, because what it
//! adds is far smaller than the half of a scale at which a code changes.
//!
//! W stays in its file and has neither gradient nor moments: it is read once a step, when the sum is quantised.

use std::{
    fmt::{Debug, Formatter},
    path::Path,
    sync::Arc,
};

use burn::tensor::{Device, Tensor, TensorData};
use model::{Kind, ModelConfig, TensorSpec, Tokenizer, inventory};
use serde::{Deserialize, Serialize};

use crate::{
    Error, fingerprint,
    operation::{
        buffer,
        fused::Values,
        matmul::{View, ViewMut, Workers, Write, multiply},
    },
    student::start,
};

/// The table `[train.adapter]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterTable {
    /// Rows of A and columns of B. Default 16.
    #[serde(default = "rank")]
    pub rank: usize,
    /// What B A is multiplied by, times the rank. Default 32.
    #[serde(default = "alpha")]
    pub alpha: f64,
}

fn rank() -> usize {
    16
}
fn alpha() -> f64 {
    32.0
}

impl AdapterTable {
    /// The first setting that no adapter can have, or that does not fit a student of these sizes that starts from a folder or not.
    pub(crate) fn check(&self, from: Option<&Path>, model: &ModelConfig) -> Result<(), Error> {
        let refuse = |key, found: String, needed: String| Err(Error::Config { key, found, needed });
        if self.rank == 0 {
            return refuse("adapter.rank", self.rank.to_string(), "which is not at least 1".into());
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return refuse("adapter.alpha", self.alpha.to_string(), "which is not a positive number".into());
        }
        if from.is_none() {
            let needed = "but there is no model.from: an adapter changes the weights of a folder; name one, or leave train.adapter out";
            return refuse("adapter", format!("of rank {}", self.rank), needed.into());
        }
        let layers = inventory(model).into_iter().filter(|spec| spec.kind() == Kind::Linear);
        match layers.min_by_key(|spec| spec.shape[0].min(spec.shape[1])) {
            Some(least) if least.shape[0].min(least.shape[1]) < self.rank => {
                let [o, i] = [least.shape[0], least.shape[1]];
                let needed = format!("but {} is [{o}, {i}], whose rank is at most {}", least.name, o.min(i));
                refuse("adapter.rank", self.rank.to_string(), needed)
            }
            _ => Ok(()),
        }
    }

    /// s.
    pub(crate) fn scale(&self) -> f32 {
        (self.alpha / self.rank as f64) as f32
    }

    /// A, [rank, i], and B, [o, rank], of a layer, which go by its role.
    fn pair(&self, layer: &TensorSpec) -> [TensorSpec; 2] {
        let one = |part: &str, shape: [usize; 2]| {
            let stem = layer.name.trim_end_matches(".weight");
            TensorSpec { name: format!("{stem}.lora_{part}.weight"), shape: shape.into(), packed_name: String::new(), ..layer.clone() }
        };
        [one("A", [self.rank, layer.shape[1]]), one("B", [layer.shape[0], self.rank])]
    }

    /// Every A and B with their first values: A is normal with variance 1 / i, so that A x is of the size of x; B is 0, so that
    /// the first student is the start's.
    pub(crate) fn start(&self, model: &ModelConfig, seed: u64) -> Vec<(TensorSpec, Vec<f32>)> {
        let layers = inventory(model).into_iter().enumerate().filter(|(_, spec)| spec.kind() == Kind::Linear);
        let values = |(place, layer): (usize, TensorSpec)| {
            let [a, b] = self.pair(&layer);
            let normal = start::normal(seed, place, a.len(), 1.0 / (layer.shape[1] as f64).sqrt());
            let zeros = vec![0.0; b.len()];
            [(a, normal), (b, zeros)]
        };
        layers.flat_map(values).collect()
    }
}

/// Reads one tensor.
type WeightsOf = dyn Fn(&TensorSpec) -> Vec<f32> + Send + Sync;

/// The weights that an adapter changes; nothing of them is held.
#[derive(Clone)]
pub(crate) struct Frozen {
    weights: Arc<WeightsOf>,
    /// Of all weights.
    pub(crate) fingerprint: String,
}

impl Frozen {
    /// The folder that a student starts from, with every weight looked at once.
    pub(crate) fn open(folder: &Path, config: &ModelConfig, tokenizer: &Tokenizer) -> Result<Frozen, Error> {
        let checkpoint = start::open(folder, config, tokenizer)?;
        if config.has_sub_norms() && !checkpoint.config.has_sub_norms() {
            let found = "it has no sub-norms, and an adapter does not train their gains; add them in a run of their own before".to_owned();
            return Err(Error::Checkpoint { path: folder.to_owned(), found });
        }
        let mut hashes = Vec::new();
        for spec in inventory(config) {
            hashes.extend(fingerprint::chunks(&start::weights(&checkpoint, config, &spec)?));
        }
        let config = config.clone();
        let weights = move |spec: &TensorSpec| start::weights(&checkpoint, &config, spec).expect("every weight was looked at");
        Ok(Frozen::new(fingerprint::of_all(&hashes), weights))
    }

    pub(crate) fn new(fingerprint: String, weights: impl Fn(&TensorSpec) -> Vec<f32> + Send + Sync + 'static) -> Frozen {
        Frozen { weights: Arc::new(weights), fingerprint }
    }

    /// One tensor.
    pub(crate) fn weights(&self, spec: &TensorSpec) -> Vec<f32> {
        (self.weights)(spec)
    }
}

impl Debug for Frozen {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frozen({})", self.fingerprint)
    }
}

/// One layer with its adapter.
#[derive(Clone, Debug)]
pub(crate) struct Adapted {
    pub(crate) frozen: Frozen,
    /// The whole layer, [o, i].
    pub(crate) spec: TensorSpec,
    pub(crate) a_ri: Tensor<2>,
    pub(crate) b_or: Tensor<2>,
    /// s.
    pub(crate) scale: f32,
}

impl Adapted {
    /// W + s B A with the derivatives of A and B.
    pub(crate) fn composed(&self, device: &Device) -> Tensor<2> {
        let data = TensorData::new(self.frozen.weights(&self.spec), self.spec.shape.clone());
        Tensor::from_data(data, device) + self.b_or.clone().matmul(self.a_ri.clone()).mul_scalar(self.scale)
    }

    /// W + s B A.
    pub(crate) fn merged(&self) -> Vec<f32> {
        let (mut sum_oi, [r, i]) = (self.frozen.weights(&self.spec), self.a_ri.dims());
        let o = sum_oi.len() / i;
        // On any device.
        let [a_ri, b_or] = [&self.a_ri, &self.b_or].map(|factor| factor.clone().try_into_vec_as::<f32>().expect("parameters are f32"));
        let (a, b) = (View::new(&a_ri, r, i), View::new(&b_or, o, r));
        multiply(ViewMut::new(&mut sum_oi, o, i), b, a, self.scale, Write::Add, Workers::Pool);
        sum_oi
    }
}

/// The gradients of A and B, dA = s (dY B)^T X and dB = s dY^T (X A^T): the layer's straight-through dW = dY^T X, contracted before
/// it is ever made. X is [n, i], dY [n, o] with rows `stride` apart.
pub(crate) fn gradients(scale: f32, [a_ri, b_or]: [&[f32]; 2], inputs: usize, x_ni: &[f32], dy_no: &[f32], stride: usize) -> [Values; 2] {
    let (i, n, r) = (inputs, x_ni.len() / inputs, a_ri.len() / inputs);
    let o = b_or.len() / r;
    let (x, dy) = (View::new(x_ni, n, i), View::strided(dy_no, n, o, stride));
    let product = |rows: usize, columns: usize, first: View, second: View, factor: f32| {
        let mut out = buffer::take(rows * columns);
        multiply(ViewMut::new(&mut out, rows, columns), first, second, factor, Write::Replace, Workers::Pool);
        Values::new(out, [rows, columns])
    };
    let (dy_b, x_a) = (product(n, r, dy, View::new(b_or, o, r), 1.0), product(n, r, x, View::new(a_ri, r, i).transposed(), 1.0));
    let da = product(r, i, View::new(&dy_b, n, r).transposed(), x, scale);
    [da, product(o, r, dy.transposed(), View::new(&x_a, n, r), scale)]
}

#[cfg(test)]
mod tests;
