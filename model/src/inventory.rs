//! The hinge of the design: one list of tensor names, shapes and kinds per config.
//!
//! The importer, the exporter, the GGUF reader and the runtime all walk it, so they cannot disagree about what a student is.

use crate::ModelConfig;

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embedding, [v, d]; the head too where that is tied.
    Embedding,
    /// Norm before the attention block, [d].
    AttentionNorm,
    /// Query projection, [h * head width, d].
    Query,
    /// Key projection, [kv heads * head width, d].
    Key,
    /// Value projection, [kv heads * head width, d].
    Value,
    /// Bias of the query projection.
    QueryBias,
    /// Bias of the key projection.
    KeyBias,
    /// Bias of the value projection.
    ValueBias,
    /// Norm of each head's query, [head width].
    QueryNorm,
    /// Norm of each head's key, [head width].
    KeyNorm,
    /// SubLN before the output projection, [h * head width].
    AttentionSubNorm,
    /// Output projection of attention, [d, h * head width].
    Output,
    /// Norm before the feed-forward block, [d].
    FeedForwardNorm,
    /// Gate projection, [f, d].
    Gate,
    /// Up projection, [f, d].
    Up,
    /// SubLN before the down projection, [f].
    FeedForwardSubNorm,
    /// Down projection, [d, f].
    Down,
    /// Norm before the head, [d].
    FinalNorm,
    /// Output head of its own, [v, d].
    Head,
}

/// How a tensor is trained and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A linear layer's matrix: ternary in a ternary student.
    Linear,
    /// Embedding or head: high precision while training, 8 bits in the file.
    Embedding,
    /// Norm weights and biases: f32 everywhere.
    Vector,
}

/// One tensor of a student.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// What it is for.
    pub role: Role,
    /// Which block it belongs to, from 0.
    pub layer: Option<usize>,
    /// Row-major: [outputs, inputs] or [length].
    pub shape: Vec<usize>,
    /// Its name in a Hugging Face folder.
    pub name: String,
    /// Its name in a packed file.
    pub packed_name: String,
}

impl Role {
    /// How a tensor of this role is trained and stored.
    pub fn kind(self) -> Kind {
        match self {
            Role::Embedding | Role::Head => Kind::Embedding,
            Role::Query | Role::Key | Role::Value | Role::Output | Role::Gate | Role::Up | Role::Down => Kind::Linear,
            Role::AttentionNorm
            | Role::QueryBias
            | Role::KeyBias
            | Role::ValueBias
            | Role::QueryNorm
            | Role::KeyNorm
            | Role::AttentionSubNorm
            | Role::FeedForwardNorm
            | Role::FeedForwardSubNorm
            | Role::FinalNorm => Kind::Vector,
        }
    }

    /// Its names in a Hugging Face folder and in a packed file, within a block where it belongs to one.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Role::Embedding => ("model.embed_tokens.weight", "token_embd.weight"),
            Role::AttentionNorm => ("input_layernorm.weight", "attn_norm.weight"),
            Role::Query => ("self_attn.q_proj.weight", "attn_q.weight"),
            Role::Key => ("self_attn.k_proj.weight", "attn_k.weight"),
            Role::Value => ("self_attn.v_proj.weight", "attn_v.weight"),
            Role::QueryBias => ("self_attn.q_proj.bias", "attn_q.bias"),
            Role::KeyBias => ("self_attn.k_proj.bias", "attn_k.bias"),
            Role::ValueBias => ("self_attn.v_proj.bias", "attn_v.bias"),
            Role::QueryNorm => ("self_attn.q_norm.weight", "attn_q_norm.weight"),
            Role::KeyNorm => ("self_attn.k_norm.weight", "attn_k_norm.weight"),
            Role::AttentionSubNorm => ("self_attn.attn_sub_norm.weight", "attn_sub_norm.weight"),
            Role::Output => ("self_attn.o_proj.weight", "attn_output.weight"),
            Role::FeedForwardNorm => ("post_attention_layernorm.weight", "ffn_norm.weight"),
            Role::Gate => ("mlp.gate_proj.weight", "ffn_gate.weight"),
            Role::Up => ("mlp.up_proj.weight", "ffn_up.weight"),
            Role::FeedForwardSubNorm => ("mlp.ffn_sub_norm.weight", "ffn_sub_norm.weight"),
            Role::Down => ("mlp.down_proj.weight", "ffn_down.weight"),
            Role::FinalNorm => ("model.norm.weight", "output_norm.weight"),
            Role::Head => ("lm_head.weight", "output.weight"),
        }
    }
}

impl TensorSpec {
    fn new(role: Role, layer: Option<usize>, shape: Vec<usize>) -> TensorSpec {
        let (name, packed_name) = role.names();
        let (name, packed_name) = match layer {
            Some(layer) => (format!("model.layers.{layer}.{name}"), format!("blk.{layer}.{packed_name}")),
            None => (name.to_owned(), packed_name.to_owned()),
        };
        TensorSpec { role, layer, shape, name, packed_name }
    }

    /// How it is trained and stored.
    pub fn kind(&self) -> Kind {
        self.role.kind()
    }

    /// Number of weights.
    #[allow(clippy::len_without_is_empty)] // No tensor of a valid config is empty.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Every tensor of a student, in the order of the forward pass.
pub fn inventory(config: &ModelConfig) -> Vec<TensorSpec> {
    let (d, f, v) = (config.width, config.feed_forward, config.vocab);
    let (query, kv, head) = (config.query_width(), config.kv_width(), config.head_width);
    let mut block =
        vec![(Role::AttentionNorm, vec![d]), (Role::Query, vec![query, d]), (Role::Key, vec![kv, d]), (Role::Value, vec![kv, d])];
    if config.has_qkv_biases() {
        block.extend([(Role::QueryBias, vec![query]), (Role::KeyBias, vec![kv]), (Role::ValueBias, vec![kv])]);
    }
    if config.has_head_norms() {
        block.extend([(Role::QueryNorm, vec![head]), (Role::KeyNorm, vec![head])]);
    }
    if config.has_sub_norms() {
        block.push((Role::AttentionSubNorm, vec![query]));
    }
    block.extend([(Role::Output, vec![d, query]), (Role::FeedForwardNorm, vec![d]), (Role::Gate, vec![f, d]), (Role::Up, vec![f, d])]);
    if config.has_sub_norms() {
        block.push((Role::FeedForwardSubNorm, vec![f]));
    }
    block.push((Role::Down, vec![d, f]));

    let mut tensors = vec![TensorSpec::new(Role::Embedding, None, vec![v, d])];
    for layer in 0..config.layers {
        tensors.extend(block.iter().map(|(role, shape)| TensorSpec::new(*role, Some(layer), shape.clone())));
    }
    tensors.push(TensorSpec::new(Role::FinalNorm, None, vec![d]));
    if !config.tied_head {
        tensors.push(TensorSpec::new(Role::Head, None, vec![v, d]));
    }
    tensors
}
