//! The student as burn sees it: its tensors in the order of `model::inventory`, and what is asked of them: loss, logits, states.

mod batch;
mod forward;
mod parameter;
mod recompute;
pub(crate) mod start;
mod sub_norms;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use burn::tensor::{Device, Tensor};
use model::{Kind, ModelConfig, Role, TensorSpec, inventory};

pub use batch::Batch;
pub(crate) use batch::Layout;
pub(crate) use parameter::Parameter;

use crate::{
    adapter::{Adapted, AdapterTable, Frozen},
    device::{Path, Storage},
    loss::{
        head::{Targets, Terms, head_loss},
        states::{Exemplar, states},
    },
    operation::{
        attention::Heads,
        buffer,
        embed::select_rows,
        linear::{Layer, Precision, Weights, prepare},
        norm::rms_norm,
        rotary::Rotary,
    },
};

/// A student in training.
///
/// It is not one of burn's modules: these can be changed behind the back of what is kept between forward passes.
#[derive(Clone, Debug)]
pub struct Student {
    /// Every tensor of the inventory; or, frozen, those that are no layer of an adapter, and then the adapter's.
    parameters: Vec<Parameter>,
    plan: Plan,
    /// For each block, the weights of each linear group as the fused form multiplies with them. Shared with its forks.
    prepared: Arc<[Prepared]>,
    /// How much of the quantisation there is, from 0 to 1.
    quantised_share: f32,
    /// Whether blocks are computed again in the backward pass.
    is_recomputed: bool,
}

/// What a forward pass leaves behind.
#[derive(Clone, Debug)]
pub(crate) struct States {
    /// The residual stream after the last block at the places asked for, [k, d].
    pub(crate) hidden_kd: Tensor<2>,
    /// Queries, keys and values of one block before they are rotated, each [n, w].
    pub(crate) qkv: Option<[Tensor<2>; 3]>,
}

type Prepared = [OnceLock<Arc<Weights>>; GROUPS];

/// The linear groups of a block: each with the norm before it and its layers.
const GROUPS: usize = 4;
const QKV: usize = 0;
const OUTPUT: usize = 1;
const GATE_UP: usize = 2;
const DOWN: usize = 3;

/// What is known of a student before its first token.
#[derive(Clone, Debug)]
struct Plan {
    config: ModelConfig,
    /// The specs of `Student::parameters`, in the same order.
    specs: Arc<[TensorSpec]>,
    /// Where a tensor is; of an adapted layer A, which B follows.
    places: Arc<HashMap<(Option<usize>, Role), usize>>,
    adapter: Option<Adapter>,
    heads: Heads,
    device: Device,
    path: Path,
}

/// What an adapter's layers share.
#[derive(Clone, Debug)]
struct Adapter {
    frozen: Frozen,
    /// s.
    scale: f32,
    /// The first of its parameters.
    first: usize,
    /// The layers, in the order of their pairs of parameters.
    layers: Arc<[TensorSpec]>,
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
        Ok(Student::of(config, specs, parameters, None, device))
    }

    /// A student of frozen weights, of which an adapter with first values drawn from `seed` is trained.
    pub(crate) fn adapted(config: &ModelConfig, frozen: Frozen, table: &AdapterTable, seed: u64, device: &Device) -> Student {
        let (layers, held): (Vec<_>, Vec<_>) = inventory(config).into_iter().partition(|spec| spec.kind() == Kind::Linear);
        let adapter = Adapter { frozen: frozen.clone(), scale: table.scale(), first: held.len(), layers: layers.into() };
        let held = held.into_iter().map(|spec| (Parameter::new(&spec, frozen.weights(&spec), device).frozen(), spec));
        let pairs = table.start(config, seed).into_iter().map(|(spec, values)| (Parameter::new(&spec, values, device), spec));
        let (parameters, specs) = held.chain(pairs).unzip();
        Student::of(config, specs, parameters, Some(adapter), device)
    }

    fn of(config: &ModelConfig, specs: Vec<TensorSpec>, parameters: Vec<Parameter>, adapter: Option<Adapter>, device: &Device) -> Student {
        // The first of a pair is the last that is put in.
        let places = specs.iter().enumerate().rev().map(|(place, spec)| ((spec.layer, spec.role), place)).collect();
        let plan = Plan {
            heads: Heads {
                heads: config.heads,
                kv_heads: config.kv_heads,
                width: config.head_width,
                rotary: Rotary::new(config.context, &config.rotary_frequencies()),
            },
            config: config.clone(),
            specs: specs.into(),
            places: Arc::new(places),
            adapter,
            device: device.clone(),
            path: Path::of(device),
        };
        Student { parameters, plan, prepared: prepared(config.layers), quantised_share: 1.0, is_recomputed: false }
    }

    /// The same student on the other form of the operations.
    pub fn with_path(mut self, path: Path) -> Student {
        self.plan.path = path;
        self
    }

    /// From now on linear layers see (1 - share) x + share Q(x) of weights and inputs; at first the share is 1.
    pub fn quantise_in_part(&mut self, share: f32) {
        if share != self.quantised_share {
            self.quantised_share = share;
            self.prepared = prepared(self.plan.config.layers);
        }
    }

    /// From now on a block's inner states are not kept for the backward pass but computed again there, where the form is the fused one;
    /// of other devices burn does that itself. At first they are kept.
    pub(crate) fn recompute(&mut self, is_recomputed: bool) {
        self.is_recomputed = is_recomputed && self.plan.path == Path::Fused;
    }

    /// From now on burn's operations multiply with this and keep it; at first it is f32. The fused ones know f32 alone.
    pub(crate) fn store_as(&mut self, storage: Storage) {
        if let Path::Composed(current) = &mut self.plan.path {
            *current = storage;
        }
    }

    /// The student's sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.plan.config
    }

    /// Every tensor with its values, in the order of the inventory; an adapter is merged.
    pub fn tensors(&self) -> Vec<(TensorSpec, Vec<f32>)> {
        inventory(&self.plan.config).into_iter().map(|spec| (spec.clone(), self.tensor(&spec))).collect()
    }

    /// The values of one tensor of the inventory; an adapter is merged.
    pub(crate) fn tensor(&self, spec: &TensorSpec) -> Vec<f32> {
        match self.layer(spec.layer, spec.role) {
            Some(Layer::Adapted(adapted)) => adapted.merged(),
            _ => self.parameters[self.plan.places[&(spec.layer, spec.role)]].values(),
        }
    }

    /// The fingerprint of the weights that an adapter changes, where one is trained.
    pub(crate) fn frozen_weights(&self) -> Option<&str> {
        self.plan.adapter.as_ref().map(|adapter| &*adapter.frozen.fingerprint)
    }

    pub(crate) fn device(&self) -> &Device {
        &self.plan.device
    }

    pub(crate) fn path(&self) -> Path {
        self.plan.path
    }

    /// What is trained: the whole inventory, or each A and B of an adapter.
    pub(crate) fn specs(&self) -> &[TensorSpec] {
        &self.plan.specs[self.first_trained()..]
    }

    /// The trained parameters, in the order of their specs.
    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.parameters[self.first_trained()..]
    }

    /// Those of a block.
    fn trained_of(&self, layer: usize) -> impl Iterator<Item = &Parameter> {
        let of_block = self.specs().iter().zip(self.parameters()).filter(move |(spec, _)| spec.layer == Some(layer));
        of_block.map(|(_, parameter)| parameter)
    }

    fn first_trained(&self) -> usize {
        self.plan.adapter.as_ref().map_or(0, |adapter| adapter.first)
    }

    /// The same student with other trained values, given in the order of their specs.
    pub(crate) fn with_trained(mut self, values: Vec<Vec<f32>>) -> Student {
        let (specs, device) = (self.specs().to_vec(), self.plan.device.clone());
        let mut both = specs.iter().zip(values);
        self.update(|_| {
            let (spec, values) = both.next().expect("values of every parameter");
            Parameter::new(spec, values, &device)
        });
        self
    }

    /// Replace every trained parameter, in order.
    pub(crate) fn update(&mut self, change: impl FnMut(Parameter) -> Parameter) {
        // First let go of what is multiplied with: where that is the parameters themselves, they could not be changed in place.
        self.prepared = prepared(self.plan.config.layers);
        let trained = self.parameters.split_off(self.first_trained());
        self.parameters.extend(trained.into_iter().map(change));
        buffer::end_step();
    }

    /// The same student without derivatives.
    pub(crate) fn frozen(self) -> Student {
        Student { parameters: self.parameters.iter().map(Parameter::frozen).collect(), ..self }
    }

    /// The values of the output head, [v, d].
    pub(crate) fn head_values(&self) -> Vec<f32> {
        self.head().try_into_vec_as().expect("parameters are f32")
    }

    /// The same student as other nodes: a graph over them has none in common with one over these.
    pub(crate) fn fork(&self) -> Student {
        let (frozen, trained) = self.parameters.split_at(self.first_trained());
        let parameters = frozen.iter().map(Parameter::frozen).chain(trained.iter().map(Parameter::fork)).collect();
        Student { parameters, ..self.clone() }
    }

    /// The loss summed over the supervised targets, in nats, and how many these are: the cross-entropy, in part replaced by the
    /// divergence from the teacher's probabilities where the batch has them. Without a supervised target the
    /// loss is a zero that has no gradient.
    ///
    /// # Panics
    /// If the lists of the batch have not the same length, a token is not below the vocabulary, or a position is not below the
    /// context.
    pub fn loss(&self, batch: &Batch) -> (Tensor<1>, usize) {
        let batch = &*self.needed(batch);
        let targets = batch.supervised();
        let supervised = targets.places.len();
        (self.loss_of(batch, targets, None).0, supervised)
    }

    /// As much of a batch as its loss depends on. The composed form, which says what is meant, takes it as it is.
    pub(crate) fn needed<'a>(&self, batch: &'a Batch) -> Cow<'a, Batch> {
        match self.plan.path {
            Path::Composed(_) => Cow::Borrowed(batch),
            Path::Fused => Cow::Owned(batch.needed()),
        }
    }

    /// The loss of a batch with what is to be said at its supervised places.
    ///
    /// How far its states are from those of `exemplar` is added where there is one.
    pub(crate) fn loss_of(&self, batch: &Batch, targets: Targets, exemplar: Option<&Exemplar>) -> (Tensor<1>, Terms) {
        if targets.places.is_empty() {
            return (Tensor::zeros([1], &self.plan.device), Terms::default());
        }
        let gain_d = self.vector(None, Role::FinalNorm);
        let (path, epsilon) = (self.plan.path, self.plan.config.norm_epsilon);
        let ours = self.states(batch, &targets.places, exemplar.and_then(|exemplar| exemplar.relation).map(|table| table.block));
        let mut loss = head_loss(path, ours.hidden_kd.clone(), gain_d, self.head(), targets.clone(), epsilon);
        let mut terms = targets.told();
        if let Some(exemplar) = exemplar {
            let of_states = states(path, exemplar, &ours, batch, &targets.places);
            terms.states = f64::from(of_states.clone().into_scalar::<f32>());
            terms.loss += terms.states;
            loss = loss + of_states;
        }
        (loss, terms)
    }

    /// The residual stream of some places as the head takes it, [k, d].
    pub(crate) fn normed(&self, hidden_kd: Tensor<2>) -> Vec<f32> {
        let normed_kd = rms_norm(hidden_kd, self.vector(None, Role::FinalNorm), self.plan.config.norm_epsilon);
        normed_kd.try_into_vec_as().expect("the residual stream is f32")
    }

    /// The logits after each token of one document, [t, v].
    ///
    /// # Panics
    /// As [`Student::loss`].
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let hidden_nd = self.hidden(&Batch::document(tokens), None, None).0;
        let normed_nd = rms_norm(hidden_nd, self.vector(None, Role::FinalNorm), self.plan.config.norm_epsilon);
        let logits_tv = normed_nd.matmul(self.head().transpose());
        logits_tv.try_into_vec_as().expect("logits are f32")
    }

    /// What a forward pass leaves behind at some places, and of one block, if asked for.
    pub(crate) fn states(&self, batch: &Batch, places: &[u32], block: Option<usize>) -> States {
        let (hidden_kd, qkv) = match self.plan.path {
            Path::Composed(_) => {
                let (hidden_nd, qkv) = self.hidden(batch, None, block);
                (select_rows(hidden_nd, places, &self.plan.device), qkv)
            }
            Path::Fused => self.hidden(batch, Some(places), block),
        };
        States { hidden_kd, qkv }
    }

    /// Make what the fused form multiplies with, with all threads, where weights have changed.
    pub(crate) fn prepare(&self) {
        if self.plan.path != Path::Fused {
            return;
        }
        for (layer, groups) in self.prepared.iter().enumerate() {
            for (group, prepared) in groups.iter().enumerate() {
                prepare(prepared, &self.layers(layer, group), self.precision());
            }
        }
    }

    /// The layers of a block's linear group.
    fn layers(&self, layer: usize, group: usize) -> Vec<Layer> {
        let roles: &[Role] = match group {
            QKV => &[Role::Query, Role::Key, Role::Value],
            OUTPUT => &[Role::Output],
            GATE_UP => &[Role::Gate, Role::Up],
            DOWN => &[Role::Down],
            _ => unreachable!("a block has {GROUPS} linear groups"),
        };
        roles.iter().map(|role| self.layer(Some(layer), *role).expect("a linear layer")).collect()
    }

    /// A linear layer, if this is one.
    fn layer(&self, layer: Option<usize>, role: Role) -> Option<Layer> {
        if role.kind() != Kind::Linear {
            return None;
        }
        let Some(Adapter { frozen, scale, first, layers }) = &self.plan.adapter else {
            return Some(Layer::Whole(self.matrix(layer, role)));
        };
        let place = self.plan.places[&(layer, role)];
        let [Parameter::Matrix(a_ri), Parameter::Matrix(b_or)] = &self.parameters[place..place + 2] else {
            unreachable!("A and B are matrices")
        };
        let (frozen, spec) = (frozen.clone(), layers[(place - first) / 2].clone());
        Some(Layer::Adapted(Adapted { frozen, spec, a_ri: a_ri.clone(), b_or: b_or.clone(), scale: *scale }))
    }

    fn precision(&self) -> Precision {
        let ModelConfig { quant, scale, norm_epsilon, .. } = self.plan.config;
        Precision { quant, scale, largest_input: self.plan.config.largest_input(), share: self.quantised_share, norm_epsilon }
    }

    /// The output head, [v, d].
    fn head(&self) -> Tensor<2> {
        self.matrix(None, if self.plan.config.tied_head { Role::Embedding } else { Role::Head })
    }

    fn vector(&self, layer: Option<usize>, role: Role) -> Tensor<1> {
        match &self.parameters[self.plan.places[&(layer, role)]] {
            Parameter::Vector(vector) => vector.clone(),
            Parameter::Matrix(_) => unreachable!("{role:?} is a matrix"),
        }
    }

    fn matrix(&self, layer: Option<usize>, role: Role) -> Tensor<2> {
        match &self.parameters[self.plan.places[&(layer, role)]] {
            Parameter::Matrix(matrix) => matrix.clone(),
            Parameter::Vector(_) => unreachable!("{role:?} is a vector"),
        }
    }
}

/// Nothing made yet.
fn prepared(layers: usize) -> Arc<[Prepared]> {
    (0..layers).map(|_| Prepared::default()).collect()
}

#[cfg(test)]
pub(crate) mod tests;
