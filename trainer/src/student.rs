//! The student as burn sees it: its tensors in the order of `model::inventory`, and the forward pass over them.
//!
//! h = embed(x); per block: h += Wo norm(attention(Wqkv norm(h))), h += Wd norm(gate(Wgu norm(h))); the head is the embedding.
//! BitNet b1.58 2B4T, arXiv:2504.12285, section 2. n = b * t tokens of all rows.

mod batch;
mod start;

use std::{collections::HashMap, sync::Arc};

use burn::{
    module::{Module, Param},
    tensor::{Device, Gradients, Tensor, TensorData},
};
use model::{Kind, ModelConfig, Role, TensorSpec, inventory};

pub use batch::Batch;
pub(crate) use batch::Layout;

use crate::{
    device::Path,
    loss::cross_entropy::cross_entropy,
    operation::{
        attention::{Heads, attention},
        embed::{embed, select_rows},
        gate::gate,
        linear::{Inputs, Precision, linear},
        norm::rms_norm,
        rotary::Rotary,
    },
};

/// A student in training.
#[derive(Module, Debug)]
pub struct Student {
    parameters: Vec<Parameter>,
    #[module(skip)]
    plan: Plan,
}

/// One trained tensor.
#[derive(Module, Debug)]
pub(crate) enum Parameter {
    /// Gains and biases.
    Vector(Param<Tensor<1>>),
    /// Everything else.
    Matrix(Param<Tensor<2>>),
}

/// What is known of a student before its first token.
#[derive(Clone, Debug)]
struct Plan {
    config: ModelConfig,
    /// The specs of `Student::parameters`, in the same order.
    specs: Arc<[TensorSpec]>,
    places: Arc<HashMap<(Option<usize>, Role), usize>>,
    heads: Heads,
    device: Device,
    path: Path,
}

impl Student {
    /// A student with first values drawn from `seed` (see `student/start.rs`).
    pub fn new(config: &ModelConfig, seed: u64, device: &Device) -> Student {
        let mut place = 0;
        let draw = |spec: &TensorSpec| {
            place += 1;
            Ok::<_, std::convert::Infallible>(start::values(config, spec, seed, place - 1))
        };
        let Ok(student) = Student::from_tensors(config, draw, device);
        student
    }

    /// A student with the tensors that `values` gives, asked for in the order of the inventory.
    ///
    /// # Panics
    /// If a tensor has another number of values than its spec says.
    pub fn from_tensors<E>(
        config: &ModelConfig,
        mut values: impl FnMut(&TensorSpec) -> Result<Vec<f32>, E>,
        device: &Device,
    ) -> Result<Student, E> {
        let specs = inventory(config);
        let parameters = specs.iter().map(|spec| Ok(Parameter::new(spec, values(spec)?, device))).collect::<Result<_, E>>()?;
        let places = specs.iter().enumerate().map(|(place, spec)| ((spec.layer, spec.role), place)).collect();
        let plan = Plan {
            heads: Heads {
                heads: config.heads,
                kv_heads: config.kv_heads,
                width: config.head_width,
                rotary: Rotary::new(config.context, config.head_width, config.rope_base),
            },
            config: config.clone(),
            specs: specs.into(),
            places: Arc::new(places),
            device: device.clone(),
            path: Path::of(device),
        };
        Ok(Student { parameters, plan })
    }

    /// The same student on the other form of the operations.
    pub fn with_path(mut self, path: Path) -> Student {
        self.plan.path = path;
        self
    }

    /// The student's sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.plan.config
    }

    /// Every tensor with its values, in the order of the inventory.
    pub fn tensors(&self) -> Vec<(TensorSpec, Vec<f32>)> {
        self.plan.specs.iter().cloned().zip(self.parameters.iter().map(Parameter::values)).collect()
    }

    pub(crate) fn device(&self) -> &Device {
        &self.plan.device
    }

    pub(crate) fn path(&self) -> Path {
        self.plan.path
    }

    /// What the parameters are, in their order.
    pub(crate) fn specs(&self) -> &[TensorSpec] {
        &self.plan.specs
    }

    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Replace every parameter, in order.
    pub(crate) fn update(&mut self, change: impl FnMut(Parameter) -> Parameter) {
        self.parameters = std::mem::take(&mut self.parameters).into_iter().map(change).collect();
    }

    /// The cross-entropy summed over the supervised targets, in nats, and how many these are. Without a supervised target the
    /// loss is a zero that has no gradient.
    ///
    /// # Panics
    /// If the lists of the batch have not the same length, a token is not below the vocabulary, or a position is not below the
    /// context.
    pub fn loss(&self, batch: &Batch) -> (Tensor<1>, usize) {
        let (places, targets) = batch.supervised();
        if places.is_empty() {
            return (Tensor::zeros([1], &self.plan.device), 0);
        }
        let hidden_nd = self.hidden(batch);
        let hidden_kd = select_rows(hidden_nd, &places, &self.plan.device);
        (cross_entropy(self.plan.path, self.normed(hidden_kd), self.head(), &targets), places.len())
    }

    /// The logits after each token of one document, [t, v].
    ///
    /// # Panics
    /// As [`Student::loss`].
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let hidden_nd = self.hidden(&Batch::document(tokens));
        let logits_tv = self.normed(hidden_nd).matmul(self.head().transpose());
        logits_tv.try_into_vec_as().expect("logits are f32")
    }

    /// The residual stream after the last block, [n, d].
    fn hidden(&self, batch: &Batch) -> Tensor<2> {
        let Plan { config, heads, device, path, .. } = &self.plan;
        let layout = Arc::new(batch.layout());
        let precision = Precision { quant: config.quant, scale: config.scale, norm_epsilon: config.norm_epsilon };
        let group = |layer, x_ni, gain: Option<Role>, weights: &[Role], residual_no| {
            let gain_i = gain.map(|role| self.vector(Some(layer), role));
            let weights_oi = weights.iter().map(|role| self.matrix(Some(layer), *role)).collect();
            linear(*path, Inputs { x_ni, gain_i, weights_oi, residual_no }, precision)
        };
        let sub_norm = |role| config.has_sub_norms().then_some(role);

        let mut hidden_nd = embed(*path, self.matrix(None, Role::Embedding), &batch.tokens, device);
        for layer in 0..config.layers {
            let qkv = group(layer, hidden_nd.clone(), Some(Role::AttentionNorm), &[Role::Query, Role::Key, Role::Value], None);
            let mixed = attention(*path, self.with_head_extras(layer, qkv), heads, &layout, device);
            hidden_nd = group(layer, mixed, sub_norm(Role::AttentionSubNorm), &[Role::Output], Some(hidden_nd));
            let gate_up = group(layer, hidden_nd.clone(), Some(Role::FeedForwardNorm), &[Role::Gate, Role::Up], None);
            let gated = gate(*path, gate_up, config.activation);
            hidden_nd = group(layer, gated, sub_norm(Role::FeedForwardSubNorm), &[Role::Down], Some(hidden_nd));
        }
        hidden_nd
    }

    /// Qwen 2's biases and Qwen 3's norms on queries and keys, where this student has them.
    fn with_head_extras(&self, layer: usize, mut qkv_nw: Tensor<2>) -> Tensor<2> {
        let config = &self.plan.config;
        if config.has_qkv_biases() {
            let biases = [Role::QueryBias, Role::KeyBias, Role::ValueBias].map(|role| self.vector(Some(layer), role));
            qkv_nw = qkv_nw + Tensor::cat(biases.into(), 0).unsqueeze();
        }
        if config.has_head_norms() {
            let ([n, w], e) = (qkv_nw.dims(), config.head_width);
            let (keys_at, values_at) = (config.query_width(), config.query_width() + config.kv_width());
            let normed = |from: usize, to: usize, role| {
                let heads = qkv_nw.clone().slice([0..n, from..to]).reshape([n * (to - from) / e, e]);
                rms_norm(heads, self.vector(Some(layer), role), config.norm_epsilon).reshape([n, to - from])
            };
            let (queries, keys) = (normed(0, keys_at, Role::QueryNorm), normed(keys_at, values_at, Role::KeyNorm));
            qkv_nw = Tensor::cat(vec![queries, keys, qkv_nw.slice([0..n, values_at..w])], 1);
        }
        qkv_nw
    }

    fn normed(&self, hidden_nd: Tensor<2>) -> Tensor<2> {
        rms_norm(hidden_nd, self.vector(None, Role::FinalNorm), self.plan.config.norm_epsilon)
    }

    /// The output head, [v, d].
    fn head(&self) -> Tensor<2> {
        self.matrix(None, if self.plan.config.tied_head { Role::Embedding } else { Role::Head })
    }

    fn vector(&self, layer: Option<usize>, role: Role) -> Tensor<1> {
        match &self.parameters[self.plan.places[&(layer, role)]] {
            Parameter::Vector(vector) => vector.val(),
            Parameter::Matrix(_) => unreachable!("{role:?} is a matrix"),
        }
    }

    fn matrix(&self, layer: Option<usize>, role: Role) -> Tensor<2> {
        match &self.parameters[self.plan.places[&(layer, role)]] {
            Parameter::Matrix(matrix) => matrix.val(),
            Parameter::Vector(_) => unreachable!("{role:?} is a vector"),
        }
    }
}

impl Parameter {
    fn new(spec: &TensorSpec, values: Vec<f32>, device: &Device) -> Parameter {
        assert_eq!(values.len(), spec.len(), "values of {}", spec.name);
        let data = TensorData::new(values, spec.shape.clone());
        match spec.kind() {
            Kind::Vector => Parameter::Vector(Param::from_data(data, device)),
            Kind::Linear | Kind::Embedding => Parameter::Matrix(Param::from_data(data, device)),
        }
    }

    /// Take this parameter's gradient out, flat and without derivatives.
    pub(crate) fn take_gradient(&self, gradients: &mut Gradients) -> Option<Tensor<1>> {
        match self {
            Parameter::Vector(vector) => vector.val().grad_remove(gradients),
            Parameter::Matrix(matrix) => matrix.val().grad_remove(gradients).map(|gradient| gradient.flatten(0, 1)),
        }
    }

    /// The same parameter with its values changed; `change` sees them flat and without derivatives.
    pub(crate) fn map_flat(self, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Parameter {
        match self {
            Parameter::Vector(vector) => Parameter::Vector(vector.map(|vector| Tensor::from_inner(change(vector.inner())).require_grad())),
            Parameter::Matrix(matrix) => Parameter::Matrix(matrix.map(|matrix| {
                let shape = matrix.dims();
                Tensor::from_inner(change(matrix.inner().flatten(0, 1)).reshape(shape)).require_grad()
            })),
        }
    }

    fn values(&self) -> Vec<f32> {
        let data = match self {
            Parameter::Vector(vector) => vector.val().into_data(),
            Parameter::Matrix(matrix) => matrix.val().into_data(),
        };
        data.try_to_vec().expect("parameters are f32")
    }
}

#[cfg(test)]
pub(crate) mod tests;
