//! The sizes of a student, validated once: who holds a [`ModelConfig`] need not check a size again.
//!
//! [`ModelTable`] is what a user writes in the run's config; [`ModelConfig`] is what it means. Hugging Face's `config.json` is
//! the third form, in `hugging_face.rs`.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Scale,
    block::Q2_BLOCK,
    integer::{self, Grid},
    rotary,
    rotary::RopeScaling,
    ternary::{ACTIVATION_MAX, GROUP},
};

/// Which published architecture a student follows. It decides which norms and biases there are and how stock tools name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// BitNet b1.58: SubLN before the output and down projections, no biases, tied head.
    Bitnet,
    /// Llama.
    Llama,
    /// Qwen 2: biases on query, key and value.
    Qwen2,
    /// Qwen 3: a norm on each head's query and key.
    Qwen3,
}

/// The gate of the feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// SwiGLU, arXiv:2002.05202: silu(gate) * up.
    Silu,
    /// Squared ReLU, as BitNet b1.58 2B4T: relu(gate)^2 * up.
    Relu2,
}

/// What the linear layers' weights are while training and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quant {
    /// Full precision, for comparison.
    None,
    /// -1, 0 and 1 times a scale.
    Ternary,
    /// 8-bit integers with a scale for each 32, as Q8_0 stores them.
    Int8,
    /// 4-bit integers with a scale for each 32, as Q4_0 stores them.
    Int4,
}

/// What goes into linear layers whose weights are quantised: integers with a scale for each token, or the numbers themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputQuant {
    /// -127 to 127.
    #[default]
    Int8,
    /// -7 to 7.
    Int4,
    /// Weights alone are quantised.
    None,
}

impl Quant {
    /// The numbers that a weight can become where it becomes an integer of several bits.
    pub fn grid(self) -> Option<Grid> {
        match self {
            Quant::None | Quant::Ternary => None,
            Quant::Int8 => Some(Grid::Eight),
            Quant::Int4 => Some(Grid::Four),
        }
    }
}

impl InputQuant {
    /// Whether it is what it is where nothing is said; such a setting is not written, as it was not before there was another.
    pub(crate) fn is_usual(&self) -> bool {
        *self == InputQuant::Int8
    }
}

/// The `[model]` table of a run's config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// Default: `bitnet`, which stock llama.cpp computes exactly.
    #[serde(default = "bitnet")]
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; default: as many as query heads.
    #[serde(default)]
    pub kv_heads: Option<usize>,
    /// Width of the feed-forward block.
    pub feed_forward: usize,
    /// The longest sequence, in tokens.
    pub context: usize,
    /// Default: `silu`.
    #[serde(default = "silu")]
    pub activation: Activation,
    /// Base of the rotary embedding; default 10000.
    #[serde(default = "rope_base")]
    pub rope_base: f32,
    /// Default 1e-5.
    #[serde(default = "norm_epsilon")]
    pub norm_epsilon: f32,
    /// The weights of the linear layers: `none`, `ternary`, `int8` or `int4`. Default: `ternary`.
    #[serde(default = "ternary")]
    pub quant: Quant,
    /// Which ternary weights share a scale. Default: `row`.
    #[serde(default = "row")]
    pub scale: Scale,
    /// What goes into quantised linear layers: `int8`, `int4` or `none` (the numbers themselves). Default: `int8`.
    #[serde(default, skip_serializing_if = "InputQuant::is_usual")]
    pub activations: InputQuant,
}

fn bitnet() -> Architecture {
    Architecture::Bitnet
}
fn silu() -> Activation {
    Activation::Silu
}
fn rope_base() -> f32 {
    10_000.0
}
fn norm_epsilon() -> f32 {
    1e-5
}
fn ternary() -> Quant {
    Quant::Ternary
}
fn row() -> Scale {
    Scale::Row
}

/// A student's sizes, known to fit together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The published architecture it follows.
    pub architecture: Architecture,
    /// Number of tokens, v.
    pub vocab: usize,
    /// Width of the residual stream, d.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads, h.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even.
    pub head_width: usize,
    /// Width of the feed-forward block, f.
    pub feed_forward: usize,
    /// The longest sequence, in tokens.
    pub context: usize,
    /// The gate of the feed-forward block.
    pub activation: Activation,
    /// Base of the rotary embedding.
    pub rope_base: f32,
    /// How its frequencies are stretched, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean square in every RMSNorm.
    pub norm_epsilon: f32,
    /// Whether the output head is the embedding.
    pub tied_head: bool,
    /// What the linear layers are.
    pub quant: Quant,
    /// Which ternary weights share a scale.
    pub scale: Scale,
    /// What goes into them where they are quantised.
    #[serde(skip_serializing_if = "InputQuant::is_usual")]
    pub activations: InputQuant,
    /// Whether norms before the output and down projections were added to an architecture that has none. BitNet always has them, and
    /// says false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sub_norms: bool,
}

/// No size may be larger; with it every product of sizes below fits in 64 bits.
const MAX_SIZE: usize = 1 << 20;
/// No student has more blocks.
const MAX_LAYERS: usize = 4096;

impl ModelTable {
    /// The student that this table and a vocabulary describe.
    pub fn resolve(&self, vocab: usize) -> Result<ModelConfig, Error> {
        ModelConfig {
            architecture: self.architecture,
            vocab,
            width: self.width,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads.unwrap_or(self.heads),
            head_width: self.width.checked_div(self.heads).unwrap_or(0),
            feed_forward: self.feed_forward,
            context: self.context,
            activation: self.activation,
            rope_base: self.rope_base,
            rope_scaling: None,
            norm_epsilon: self.norm_epsilon,
            tied_head: true,
            quant: self.quant,
            scale: self.scale,
            activations: self.activations,
            sub_norms: false,
        }
        .validated()
        .and_then(|config| config.require_whole_heads().map(|()| config))
    }
}

impl ModelConfig {
    /// The same config, or the first size that does not fit.
    pub fn validated(self) -> Result<ModelConfig, Error> {
        let sizes = [
            ("vocab", self.vocab, MAX_SIZE),
            ("width", self.width, MAX_SIZE),
            ("layers", self.layers, MAX_LAYERS),
            ("heads", self.heads, MAX_SIZE),
            ("kv_heads", self.kv_heads, MAX_SIZE),
            ("feed_forward", self.feed_forward, MAX_SIZE),
            ("context", self.context, MAX_SIZE),
        ];
        for (key, size, limit) in sizes {
            require((1..=limit).contains(&size), key, size, format!("which is not between 1 and {limit}"))?;
        }
        let heads = self.heads;
        if self.architecture == Architecture::Bitnet {
            self.require_whole_heads()?;
        }
        require(heads.is_multiple_of(self.kv_heads), "kv_heads", self.kv_heads, format!("which does not divide model.heads = {heads}"))?;
        let head_width = self.head_width;
        require(
            head_width.is_multiple_of(2) && (2..=MAX_SIZE).contains(&head_width),
            "width",
            self.width,
            format!("which gives heads of width {head_width}; rotary embedding needs an even one"),
        )?;
        for (key, value) in [("rope_base", self.rope_base), ("norm_epsilon", self.norm_epsilon)] {
            require(value.is_finite() && value > 0.0, key, value, "which is not a positive number".into())?;
        }
        if let Some((found, needed)) = self.rope_scaling.as_ref().and_then(|scaling| scaling.fault(head_width)) {
            require(false, "rope_scaling", found, needed)?;
        }
        let block = match self.quant {
            Quant::None => 1,
            Quant::Ternary if self.scale == Scale::Group => GROUP,
            Quant::Ternary => Q2_BLOCK,
            Quant::Int8 | Quant::Int4 => integer::BLOCK,
        };
        for (key, inputs) in [("width", self.width), ("width", self.heads * head_width), ("feed_forward", self.feed_forward)] {
            let needed = format!("which is not a multiple of {block}; the packed format of these weights stores rows in blocks of {block}");
            require(inputs.is_multiple_of(block), key, inputs, needed)?;
        }
        let is_alone = self.quant == Quant::None && self.activations == InputQuant::Int4;
        require(!is_alone, "activations", "int4", "but model.quant is none; only what goes into quantised layers is quantised".into())?;
        if self.architecture == Architecture::Bitnet {
            require(self.tied_head, "architecture", "bitnet", "which has a tied head; this student has a head of its own".into())?;
            require(!self.sub_norms, "sub_norms", "added", "but model.architecture is bitnet, which has them".into())?;
        }
        Ok(self)
    }

    fn require_whole_heads(&self) -> Result<(), Error> {
        let needed = format!("which is not a multiple of model.heads = {}", self.heads);
        require(self.width == self.heads * self.head_width, "width", self.width, needed)
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Width of all key heads together, which is also that of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// Whether there is a norm before the output and down projections.
    pub fn has_sub_norms(&self) -> bool {
        self.architecture == Architecture::Bitnet || self.sub_norms
    }

    /// The same student with a norm (SubLN) before the output and down projections. A `llama` with a tied head becomes a `bitnet`, which
    /// is just that; all others keep their architecture, because `bitnet` has neither biases nor norms of heads nor a head of its own.
    pub fn with_sub_norms(self) -> ModelConfig {
        match self.architecture {
            Architecture::Bitnet => self,
            Architecture::Llama if self.tied_head && self.width == self.query_width() => {
                ModelConfig { architecture: Architecture::Bitnet, ..self }
            }
            Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 => ModelConfig { sub_norms: true, ..self },
        }
    }

    /// Whether query, key and value have biases.
    pub fn has_qkv_biases(&self) -> bool {
        self.architecture == Architecture::Qwen2
    }

    /// Whether each head's query and key are normed.
    pub fn has_head_norms(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }

    /// The largest code of what goes into a linear layer, or `None` where it is not quantised.
    pub fn largest_input(&self) -> Option<i8> {
        match (self.quant, self.activations) {
            (Quant::None, _) | (_, InputQuant::None) => None,
            (_, InputQuant::Int8) => Some(ACTIVATION_MAX),
            (_, InputQuant::Int4) => Some(7),
        }
    }

    /// The student's precision in a few words, for people.
    pub fn precision(&self) -> String {
        let weights = match self.quant {
            Quant::None => return "full precision".into(),
            Quant::Ternary => "ternary",
            Quant::Int8 => "8-bit weights",
            Quant::Int4 => "4-bit weights",
        };
        match self.activations {
            InputQuant::Int8 => weights.into(),
            InputQuant::Int4 => format!("{weights}, 4-bit activations"),
            InputQuant::None => format!("{weights}, activations not quantised"),
        }
    }

    /// The angle of each pair of a head at position 1, [head width / 2].
    pub fn rotary_frequencies(&self) -> Vec<f64> {
        rotary::frequencies(self.rope_base, self.head_width, self.rope_scaling.as_ref())
    }

    /// Number of trained numbers.
    pub fn parameters(&self) -> usize {
        crate::inventory(self).iter().map(|tensor| tensor.len()).sum()
    }
}

fn require(holds: bool, key: &'static str, found: impl ToString, needed: String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Config { key, found: found.to_string(), needed }) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn table() -> ModelTable {
        ModelTable {
            architecture: Architecture::Bitnet,
            width: 256,
            layers: 2,
            heads: 4,
            kv_heads: Some(2),
            feed_forward: 512,
            context: 128,
            activation: Activation::Silu,
            rope_base: 10_000.0,
            norm_epsilon: 1e-5,
            quant: Quant::Ternary,
            scale: Scale::Row,
            activations: InputQuant::Int8,
        }
    }

    #[test]
    fn a_good_table_resolves() {
        let config = table().resolve(512).unwrap();
        assert_eq!((config.head_width, config.query_width(), config.kv_width()), (64, 256, 128));
        // Embedding, then per block: q and o, k and v, gate, up and down, norms; then the final norm.
        let block = 2 * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 512 + 256 + 256 + 256 + 512;
        assert_eq!(config.parameters(), 512 * 256 + 2 * block + 256);
    }

    #[test]
    fn each_limit_names_its_key() {
        type Spoil = fn(&mut ModelTable);
        let cases: [(&str, Spoil); 11] = [
            ("model.width is 250", |t| t.width = 250),
            ("model.heads is 0", |t| t.heads = 0),
            ("model.kv_heads is 3", |t| t.kv_heads = Some(3)),
            ("model.feed_forward is 300", |t| t.feed_forward = 300),
            ("model.layers is 0", |t| t.layers = 0),
            ("model.context is 99999999", |t| t.context = 99_999_999),
            ("model.rope_base is -1", |t| t.rope_base = -1.0),
            ("model.width is 96, which is not a multiple of 64", |t| t.width = 96),
            ("model.width is 128, which is not a multiple of 256", |t| (t.width, t.scale) = (128, Scale::Group)),
            ("model.feed_forward is 500, which is not a multiple of 32", |t| (t.quant, t.feed_forward) = (Quant::Int4, 500)),
            ("model.activations is int4, but model.quant is none", |t| (t.quant, t.activations) = (Quant::None, InputQuant::Int4)),
        ];
        for (expected, spoil) in cases {
            let mut table = table();
            spoil(&mut table);
            let message = table.resolve(512).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn each_kind_is_one_word_and_the_usual_activations_are_not_written() {
        let parse = |quant: &str| {
            let text = format!(r#"{{ "width": 96, "layers": 1, "heads": 2, "feed_forward": 64, "context": 8, "quant": "{quant}" }}"#);
            serde_json::from_str::<ModelTable>(&text).unwrap().resolve(300)
        };
        for (quant, largest) in [("none", None), ("int8", Some(127)), ("int4", Some(127))] {
            let config = parse(quant).unwrap();
            assert_eq!(config.largest_input(), largest);
            assert_eq!(serde_json::to_value(&config).unwrap().get("activations"), None);
        }
        assert!(parse("ternary").is_err(), "96 is no multiple of 64");
    }

    #[test]
    fn full_precision_takes_any_width() {
        let mut table = table();
        (table.width, table.feed_forward, table.quant) = (192, 500, Quant::None);
        table.resolve(512).unwrap();
    }
}
