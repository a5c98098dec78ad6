//! The texts of a Hugging Face folder, so that other tools open our checkpoints and we start from theirs: `config.json`, which
//! `read.rs` reads, and those of the tokenizer.
//!
//! What those files have no key for (which weights share a scale, whether layers are quantised) stands in an object `tristill`.

mod chat;
pub mod codes;
mod read;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Activation, Architecture, Error, InputQuant, ModelConfig, Quant, RopeScaling, Scale, Tokenizer};

pub use chat::{CHAT_TEMPLATE, TOKENIZER_CONFIG, chat_template};
pub use read::{Description, WeightScale, read_config, read_description};

/// The file's name.
pub const CONFIG: &str = "config.json";

/// The version of the object `tristill`.
const VERSION: u32 = 1;

/// What stands under the key `tristill`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    version: u32,
    quant: Quant,
    scale: Scale,
    #[serde(default, skip_serializing_if = "InputQuant::is_usual")]
    activations: InputQuant,
}

/// What PEFT writes beside an adapter's weights, and these; a folder of whole weights has one of the others.
const ADAPTER: &str = "adapter_config.json";
const WHOLE: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];

/// Refuse a folder that is a LoRA adapter by others and no model.
pub fn refuse_adapter(folder: &Path) -> Result<(), Error> {
    let path = folder.join(ADAPTER);
    if !path.exists() || WHOLE.iter().any(|name| folder.join(name).exists()) {
        return Ok(());
    }
    let found = "the folder is a LoRA adapter and no whole model, and merged into ternary weights an adapter is lost: what it adds is far \
                 smaller than the half of a scale at which a code changes; merge it into the full-precision model that it was trained \
                 with and start from that folder, or train an adapter that merges exactly with train.adapter";
    Err(Error::HuggingFace { path, found: found.into() })
}

/// How a folder's weights are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Every tensor, or all but the packed ones.
    pub float: Float,
    /// Whether ternary matrices are written as codes, four to a byte, with their scale beside them. Only where a matrix has one.
    pub is_packed: bool,
}

/// A float type of safetensors files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Float {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits.
    F16,
    /// The upper half of 32 bits.
    Bf16,
}

/// The text of `config.json`.
///
/// # Panics
/// If the rotary frequencies have divisors of their own, which only a packed file can hold.
pub fn config_json(config: &ModelConfig, tokenizer: &Tokenizer, form: Form) -> String {
    let (class, model_type) = names(config.architecture, config.sub_norms);
    let activation = match config.activation {
        Activation::Silu => "silu",
        Activation::Relu2 => "relu2",
    };
    let float = match form.float {
        Float::F32 => "float32",
        Float::F16 => "float16",
        Float::Bf16 => "bfloat16",
    };
    let mut value = json!({
        "architectures": [class],
        "attention_bias": config.has_qkv_biases(),
        "eos_token_id": tokenizer.end_of_turn(),
        "head_dim": config.head_width,
        "hidden_act": activation,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.context,
        "model_type": model_type,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": shortest(config.norm_epsilon),
        "rope_theta": shortest(config.rope_base),
        "tie_word_embeddings": config.tied_head,
        "torch_dtype": float,
        "vocab_size": config.vocab,
        "tristill": Own { version: VERSION, quant: config.quant, scale: config.scale, activations: config.activations },
    });
    if let Some(scaling) = &config.rope_scaling {
        value["rope_scaling"] = rope_scaling(scaling);
    }
    // With it other tools quantise as this student does. They know no scale but that of a whole matrix, and open others as the
    // weights before they are quantised.
    if config.quant == Quant::Ternary && config.scale == Scale::Tensor {
        let (class, mode) = match (form.is_packed, packed_scale(config)) {
            (false, _) => ("autobitlinear", "online"),
            (true, WeightScale::Multiplies) => ("autobitlinear", "offline"),
            (true, WeightScale::Divides) => ("bitlinear", "offline"),
        };
        value["quantization_config"] = json!({ "quant_method": "bitnet", "linear_class": class, "quantization_mode": mode });
    }
    pretty(&value)
}

/// What the number beside packed codes is in the folders that are written here. Where a layer has a bias, the class that multiplies
/// would multiply the bias too.
pub fn packed_scale(config: &ModelConfig) -> WeightScale {
    if config.has_qkv_biases() { WeightScale::Divides } else { WeightScale::Multiplies }
}

fn rope_scaling(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": shortest(*factor) }),
        RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context } => json!({
            "rope_type": "llama3",
            "factor": shortest(*factor),
            "low_freq_factor": shortest(*low_frequency_factor),
            "high_freq_factor": shortest(*high_frequency_factor),
            "original_max_position_embeddings": original_context,
        }),
        RopeScaling::Factors { .. } => panic!("a packed file's divisors have no form in config.json"),
    }
}

/// The text of `tokenizer_config.json`. The template stands in it too, because older readers do not look for a file of its own.
pub fn tokenizer_config_json(config: &ModelConfig, tokenizer: &Tokenizer, template: &str) -> String {
    pretty(&json!({
        "chat_template": template,
        "clean_up_tokenization_spaces": false,
        "eos_token": tokenizer.token_text(tokenizer.end_of_turn()),
        "model_max_length": config.context,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }))
}

/// The text of `generation_config.json`.
pub fn generation_config_json(tokenizer: &Tokenizer) -> String {
    pretty(&json!({ "do_sample": false, "eos_token_id": tokenizer.end_ids() }))
}

/// Every architecture, and whether sub-norms were added to it.
const ALL: [(Architecture, bool); 7] = [
    (Architecture::Bitnet, false),
    (Architecture::Llama, false),
    (Architecture::Qwen2, false),
    (Architecture::Qwen3, false),
    (Architecture::Llama, true),
    (Architecture::Qwen2, true),
    (Architecture::Qwen3, true),
];

/// The class and the `model_type` under which transformers knows an architecture. Where sub-norms were added it knows none: under the
/// plain name it would leave them out with no more than a warning, so that these have names of their own, which it refuses.
fn names(architecture: Architecture, sub_norms: bool) -> (&'static str, &'static str) {
    match (architecture, sub_norms) {
        (Architecture::Bitnet, _) => ("BitNetForCausalLM", "bitnet"),
        (Architecture::Llama, false) => ("LlamaForCausalLM", "llama"),
        (Architecture::Qwen2, false) => ("Qwen2ForCausalLM", "qwen2"),
        (Architecture::Qwen3, false) => ("Qwen3ForCausalLM", "qwen3"),
        (Architecture::Llama, true) => ("LlamaSubNormsForCausalLM", "llama_sub_norms"),
        (Architecture::Qwen2, true) => ("Qwen2SubNormsForCausalLM", "qwen2_sub_norms"),
        (Architecture::Qwen3, true) => ("Qwen3SubNormsForCausalLM", "qwen3_sub_norms"),
    }
}

/// The shortest decimal number that reads back as the same f32.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().expect("a printed number is a number")
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a value can be written");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
