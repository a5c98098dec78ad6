//! Writing a student as a file that stock readers load.

use std::path::Path;

use super::{Options, ROPE_DIVISORS, VERSION, stored_rows};
use crate::{
    Activation, Architecture, ChatTemplate, Error, InputQuant, Kind, ModelConfig, Quant, RopeScaling, TensorSpec, Tokenizer,
    block::{self, Format},
    gguf::{self, NewTensor, Value},
    integer, inventory,
    ternary::{GROUP, quantize},
};

/// Pack a student: to a temporary name, then renamed. `weights_of` gives each tensor's weights in the inventory's order, row-major,
/// in full precision. Returns the file's length in bytes.
///
/// # Panics
/// If the options name a ternary format other than TQ1_0 and TQ2_0.
pub fn write<E: From<Error>>(
    path: &Path,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    chat: &ChatTemplate,
    options: &Options,
    mut weights_of: impl FnMut(&TensorSpec) -> Result<Vec<f32>, E>,
) -> Result<u64, E> {
    let specs = inventory(config);
    let formats: Vec<Format> = specs.iter().map(|spec| format_of(spec, config, options)).collect();
    let mut tensors: Vec<NewTensor> = specs
        .iter()
        .zip(&formats)
        .map(|(spec, format)| NewTensor { name: spec.packed_name.clone(), shape: spec.shape.clone(), format: *format })
        .collect();
    let divisors = config.rope_scaling.as_ref().filter(|scaling| !matches!(scaling, RopeScaling::Linear { .. }));
    let mut divisors = divisors.map(|scaling| scaling.divisors(config.rope_base, config.head_width));
    tensors.extend(divisors.as_ref().map(|divisors| NewTensor {
        name: ROPE_DIVISORS.into(),
        shape: vec![divisors.len()],
        format: Format::F32,
    }));
    let mut metadata = write_config(config, options);
    metadata.extend(tokenizer.to_gguf(config.vocab)?);
    metadata.push(("tokenizer.chat_template".into(), Value::String(chat.source().to_owned())));
    gguf::write(path, &metadata, &tensors, |index| {
        let Some(spec) = specs.get(index) else {
            return Ok(block::encode_float(&divisors.take().expect("the tensor behind the inventory's"), Format::F32));
        };
        let weights = weights_of(spec)?;
        assert_eq!(weights.len(), spec.len(), "{} has another number of weights than the inventory says", spec.name);
        Ok(encode(spec, config, formats[index], &weights))
    })
}

fn format_of(spec: &TensorSpec, config: &ModelConfig, options: &Options) -> Format {
    let columns = *spec.shape.last().expect("a tensor has a dimension");
    match (spec.kind(), config.quant) {
        (Kind::Vector, _) => Format::F32,
        (Kind::Linear, Quant::Ternary) if columns.is_multiple_of(GROUP) => options.ternary,
        (Kind::Linear, Quant::Ternary) => Format::Q2_0,
        (Kind::Linear, Quant::None) => Format::F16,
        (Kind::Linear, Quant::Int8 | Quant::Int4) => config.quant.grid().expect("of several bits").format(),
        (Kind::Embedding, _) if columns.is_multiple_of(block::Q8_BLOCK) => Format::Q8_0,
        (Kind::Embedding, _) => Format::F16,
    }
}

fn encode(spec: &TensorSpec, config: &ModelConfig, format: Format, weights: &[f32]) -> Vec<u8> {
    let columns = *spec.shape.last().expect("a tensor has a dimension");
    let reordered = stored_rows(config, spec.role).map(|rows| {
        let columns = spec.len() / rows.len();
        rows.iter().flat_map(|row| &weights[row * columns..(row + 1) * columns]).copied().collect::<Vec<f32>>()
    });
    let weights = reordered.as_deref().unwrap_or(weights);
    if let (Kind::Linear, Some(grid)) = (spec.kind(), config.quant.grid()) {
        return block::encode_integers(&integer::quantize(weights, spec.shape[0], columns, grid));
    }
    match format {
        Format::F32 | Format::F16 | Format::Bf16 => block::encode_float(weights, format),
        Format::Tq1_0 | Format::Tq2_0 | Format::Q2_0 => {
            block::encode_ternary(&quantize(weights, spec.shape[0], columns, config.scale), format)
        }
        Format::Q8_0 => {
            let mut bytes = Vec::with_capacity(weights.len() / block::Q8_BLOCK * block::Q8_BYTES);
            weights.chunks_exact(columns).for_each(|row| block::encode_q8(row, &mut bytes));
            bytes
        }
        Format::Q4_0 | Format::Q6K | Format::I2sX86 | Format::I2sArm => {
            panic!("{} is read and not written so", format.name())
        }
    }
}

/// The name of an architecture in the file. A squared-ReLU BitNet has the name under which forks know it, so that stock
/// llama.cpp refuses it rather than computing another gate; where sub-norms were added, the name says so for the same reason.
fn file_architecture(config: &ModelConfig) -> &'static str {
    match (config.architecture, config.activation, config.sub_norms) {
        (Architecture::Bitnet, Activation::Silu, _) => "bitnet",
        (Architecture::Bitnet, Activation::Relu2, _) => "bitnet-b1.58",
        (Architecture::Llama, _, false) => "llama",
        (Architecture::Llama, _, true) => "llama-sub-norms",
        (Architecture::Qwen2, _, false) => "qwen2",
        (Architecture::Qwen2, _, true) => "qwen2-sub-norms",
        (Architecture::Qwen3, _, false) => "qwen3",
        (Architecture::Qwen3, _, true) => "qwen3-sub-norms",
    }
}

fn write_config(config: &ModelConfig, options: &Options) -> Vec<(String, Value)> {
    let architecture = file_architecture(config);
    let size = |size: usize| Value::U32(size as u32);
    let own = |key: &str, value: Value| (format!("{architecture}.{key}"), value);
    // ggml's file types: 1 mostly F16, 2 mostly Q4_0, 7 mostly Q8_0, 36 mostly TQ1_0, 37 mostly TQ2_0.
    let file_type = match (config.quant, options.ternary) {
        (Quant::None, _) => 1,
        (Quant::Int4, _) => 2,
        (Quant::Int8, _) => 7,
        (Quant::Ternary, Format::Tq1_0) => 36,
        (Quant::Ternary, _) => 37,
    };
    let mut values = vec![
        ("general.architecture".into(), Value::String(architecture.into())),
        ("general.name".into(), Value::String(options.name.clone())),
        ("general.file_type".into(), Value::U32(file_type)),
        ("general.quantization_version".into(), Value::U32(2)),
        own("context_length", size(config.context)),
        own("embedding_length", size(config.width)),
        own("block_count", size(config.layers)),
        own("feed_forward_length", size(config.feed_forward)),
        own("attention.head_count", size(config.heads)),
        own("attention.head_count_kv", size(config.kv_heads)),
        own("attention.key_length", size(config.head_width)),
        own("attention.value_length", size(config.head_width)),
        own("attention.layer_norm_rms_epsilon", Value::F32(config.norm_epsilon)),
        own("rope.freq_base", Value::F32(config.rope_base)),
        own("rope.dimension_count", size(config.head_width)),
        own("vocab_size", size(config.vocab)),
        ("tristill.version".into(), Value::U32(VERSION)),
        ("tristill.scale".into(), Value::String(name_of(&config.scale))),
        ("tristill.quant".into(), Value::String(name_of(&config.quant))),
        ("tristill.activation".into(), Value::String(name_of(&config.activation))),
    ];
    if config.activations != InputQuant::default() {
        values.push(("tristill.activations".into(), Value::String(name_of(&config.activations))));
    }
    if let Some(RopeScaling::Linear { factor }) = config.rope_scaling {
        values.push(own("rope.scaling.type", Value::String("linear".into())));
        values.push(own("rope.scaling.factor", Value::F32(factor)));
    }
    values
}

/// How a setting is written in a config and in a file.
fn name_of(setting: &impl serde::Serialize) -> String {
    let json = serde_json::to_value(setting).expect("a setting can be written");
    json.as_str().expect("a setting is a word").to_owned()
}
