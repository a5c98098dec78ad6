//! The one file: a student as GGUF, written so that stock llama.cpp loads it, read by the runtime.
//!
//! Ternary matrices are TQ2_0 or TQ1_0, embedding and head Q8_0, norms F32; a full-precision student's matrices are F16. What
//! stock readers do not need to know stands under `tristill.*`.

use std::{ops::Range, path::Path};

use crate::{
    Activation, Architecture, ChatTemplate, Error, Kind, ModelConfig, Quant, Role, Scale, TensorSpec, Tokenizer,
    block::{self, Format},
    gguf::{self, Gguf, NewTensor, Value},
    inventory,
    ternary::quantize,
};

/// The version of the `tristill.*` values.
const VERSION: u32 = 1;

/// What may be chosen when a student is packed.
#[derive(Clone, Debug)]
pub struct Options {
    /// The student's name, shown by other tools.
    pub name: String,
    /// TQ2_0 (faster) or TQ1_0 (smaller).
    pub ternary: Format,
}

/// A packed student's head: what it is and where its tensors are.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Its sizes.
    pub config: ModelConfig,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template.
    pub chat: ChatTemplate,
    /// Its tensors, in the inventory's order.
    pub tensors: Vec<PackedTensor>,
    /// Its name.
    pub name: String,
}

/// One tensor of a packed student.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedTensor {
    /// What it is.
    pub spec: TensorSpec,
    /// How it is stored.
    pub format: Format,
    /// Where its bytes are in the file.
    pub range: Range<usize>,
}

impl Packed {
    /// Read a file's head and check that it is a whole student.
    pub fn parse(bytes: &[u8]) -> Result<Packed, Error> {
        let gguf = Gguf::parse(bytes)?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        let config = read_config(&gguf, tokenizer.vocab())?;
        let chat = match gguf.get("tokenizer.chat_template").and_then(Value::as_str) {
            Some(source) => ChatTemplate::parse(source)?,
            None => ChatTemplate::chatml(),
        };
        let tensors = find_tensors(&gguf, &config)?;
        let name = gguf.get("general.name").and_then(Value::as_str).unwrap_or("student").to_owned();
        Ok(Packed { config, tokenizer, chat, tensors, name })
    }

    /// Total bytes of the tensors.
    pub fn tensor_bytes(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.range.len()).sum()
    }
}

/// Pack a student: to a temporary name, then renamed. `weights_of` gives each tensor's weights in the inventory's order, row-major,
/// in full precision. Returns the file's length in bytes.
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
    let tensors: Vec<NewTensor> = specs
        .iter()
        .zip(&formats)
        .map(|(spec, format)| NewTensor { name: spec.packed_name.clone(), shape: spec.shape.clone(), format: *format })
        .collect();
    let mut metadata = write_config(config, options);
    metadata.extend(tokenizer.to_gguf()?);
    metadata.push(("tokenizer.chat_template".into(), Value::String(chat.source().to_owned())));
    gguf::write(path, &metadata, &tensors, |index| {
        let spec = &specs[index];
        let weights = weights_of(spec)?;
        assert_eq!(weights.len(), spec.len(), "{} has another number of weights than the inventory says", spec.name);
        Ok(encode(spec, config, formats[index], &weights))
    })
}

/// Why stock llama.cpp cannot run a student, or `None` if it can.
pub fn stock_refusal(config: &ModelConfig) -> Option<&'static str> {
    match (config.architecture, config.activation) {
        (_, Activation::Relu2) => Some("its gate is a squared ReLU; stock llama.cpp computes SwiGLU"),
        (Architecture::Bitnet | Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3, Activation::Silu) => None,
    }
}

/// Which model row stands at each stored row of a query or key projection, where a format stores them in another order: `llama`
/// rotates neighbours (2i, 2i + 1) where the models here rotate halves (i, i + width / 2).
pub fn stored_rows(config: &ModelConfig, role: Role) -> Option<Vec<usize>> {
    let rotated = matches!(role, Role::Query | Role::Key | Role::QueryBias | Role::KeyBias);
    if config.architecture != Architecture::Llama || !rotated {
        return None;
    }
    let heads = if matches!(role, Role::Query | Role::QueryBias) { config.heads } else { config.kv_heads };
    let (width, half) = (config.head_width, config.head_width / 2);
    Some((0..heads * width).map(|stored| stored / width * width + stored % 2 * half + stored % width / 2).collect())
}

fn format_of(spec: &TensorSpec, config: &ModelConfig, options: &Options) -> Format {
    let columns = *spec.shape.last().expect("a tensor has a dimension");
    match (spec.kind(), config.quant) {
        (Kind::Vector, _) => Format::F32,
        (Kind::Linear, Quant::Ternary) => options.ternary,
        (Kind::Linear, Quant::None) => Format::F16,
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
    match format {
        Format::F32 | Format::F16 | Format::Bf16 => block::encode_float(weights, format),
        Format::Tq1_0 | Format::Tq2_0 => block::encode_ternary(&quantize(weights, spec.shape[0], columns, config.scale), format),
        Format::Q8_0 => {
            let mut bytes = Vec::with_capacity(weights.len() / block::Q8_BLOCK * block::Q8_BYTES);
            weights.chunks_exact(columns).for_each(|row| block::encode_q8(row, &mut bytes));
            bytes
        }
    }
}

/// The name of an architecture in the file. A squared-ReLU BitNet has the name under which forks know it, so that stock
/// llama.cpp refuses it rather than computing another gate.
fn file_architecture(config: &ModelConfig) -> &'static str {
    match (config.architecture, config.activation) {
        (Architecture::Bitnet, Activation::Silu) => "bitnet",
        (Architecture::Bitnet, Activation::Relu2) => "bitnet-b1.58",
        (Architecture::Llama, _) => "llama",
        (Architecture::Qwen2, _) => "qwen2",
        (Architecture::Qwen3, _) => "qwen3",
    }
}

fn write_config(config: &ModelConfig, options: &Options) -> Vec<(String, Value)> {
    let architecture = file_architecture(config);
    let size = |size: usize| Value::U32(size as u32);
    let own = |key: &str, value: Value| (format!("{architecture}.{key}"), value);
    // ggml's file types: 1 mostly F16, 36 mostly TQ1_0, 37 mostly TQ2_0.
    let file_type = match (config.quant, options.ternary) {
        (Quant::None, _) => 1,
        (Quant::Ternary, Format::Tq1_0) => 36,
        (Quant::Ternary, _) => 37,
    };
    vec![
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
    ]
}

fn read_config(gguf: &Gguf, vocab: usize) -> Result<ModelConfig, Error> {
    if let Some(version) = gguf.get("tristill.version")
        && version.as_usize() != Some(VERSION as usize)
    {
        return Err(Error::Packed(format!("tristill.version is {version:?}, version {VERSION} is known; export the student again")));
    }
    let text = |key: &str| gguf.get(key).and_then(Value::as_str);
    let name = text("general.architecture").ok_or_else(|| Error::Packed("it has no general.architecture".into()))?;
    let (architecture, activation) = match name {
        "bitnet" => (Architecture::Bitnet, Activation::Silu),
        "bitnet-b1.58" => (Architecture::Bitnet, Activation::Relu2),
        "llama" => (Architecture::Llama, Activation::Silu),
        "qwen2" => (Architecture::Qwen2, Activation::Silu),
        "qwen3" => (Architecture::Qwen3, Activation::Silu),
        other => return Err(Error::Packed(format!("its architecture is {other}; bitnet, bitnet-b1.58, llama, qwen2 and qwen3 are known"))),
    };
    let size = |key: &str, default: Option<usize>| {
        let key = format!("{name}.{key}");
        match gguf.get(&key) {
            None => default.ok_or_else(|| Error::Packed(format!("it has no {key}"))),
            Some(value) => value.as_usize().ok_or_else(|| Error::Packed(format!("{key} is {value:?}, a size was needed"))),
        }
    };
    let float = |key: &str, default: Option<f32>| {
        let key = format!("{name}.{key}");
        match gguf.get(&key) {
            None => default.ok_or_else(|| Error::Packed(format!("it has no {key}"))),
            Some(value) => value.as_f32().ok_or_else(|| Error::Packed(format!("{key} is {value:?}, a number was needed"))),
        }
    };
    let (width, heads) = (size("embedding_length", None)?, size("attention.head_count", None)?);
    let head_width = size("attention.key_length", width.checked_div(heads))?;
    for (key, found) in [
        ("attention.value_length", size("attention.value_length", Some(head_width))?),
        ("rope.dimension_count", size("rope.dimension_count", Some(head_width))?),
    ] {
        if found != head_width {
            return Err(Error::Packed(format!("{name}.{key} is {found}, only the width of a head, {head_width}, is supported")));
        }
    }
    if let Some(scaling) = text(&format!("{name}.rope.scaling.type"))
        && scaling != "none"
        && float("rope.scaling.factor", Some(1.0))? != 1.0
    {
        return Err(Error::Packed(format!("its rotary embedding is scaled ({scaling}), which is not supported")));
    }
    let linears_are_ternary = gguf.tensors.iter().any(|tensor| tensor.format.is_ternary());
    ModelConfig {
        architecture,
        vocab,
        width,
        layers: size("block_count", None)?,
        heads,
        kv_heads: size("attention.head_count_kv", Some(heads))?,
        head_width,
        feed_forward: size("feed_forward_length", None)?,
        context: size("context_length", None)?,
        activation: named("tristill.activation", text("tristill.activation"), activation)?,
        rope_base: float("rope.freq_base", Some(10_000.0))?,
        norm_epsilon: float("attention.layer_norm_rms_epsilon", None)?,
        tied_head: architecture == Architecture::Bitnet || gguf.tensor("output.weight").is_none(),
        quant: if linears_are_ternary { Quant::Ternary } else { Quant::None },
        // A file by others may have another scale in every block, which is what a group is.
        scale: named("tristill.scale", text("tristill.scale"), Scale::Group)?,
    }
    .validated()
}

fn find_tensors(gguf: &Gguf, config: &ModelConfig) -> Result<Vec<PackedTensor>, Error> {
    let mut faults = Vec::new();
    let mut tensors = Vec::new();
    for spec in inventory(config) {
        match gguf.tensor(&spec.packed_name) {
            None => faults.push(format!("{} is missing", spec.packed_name)),
            Some(tensor) if tensor.shape != spec.shape => {
                faults.push(format!("{} has shape {:?}, {:?} was needed", tensor.name, tensor.shape, spec.shape));
            }
            Some(tensor) => {
                let right = match spec.kind() {
                    Kind::Vector => tensor.format == Format::F32,
                    Kind::Linear => tensor.format.is_ternary() == (config.quant == Quant::Ternary),
                    Kind::Embedding => !tensor.format.is_ternary(),
                };
                if !right {
                    faults.push(format!("{} is stored as {}, which this student does not take there", tensor.name, tensor.format.name()));
                }
                tensors.push(PackedTensor { spec, format: tensor.format, range: tensor.range.clone() });
            }
        }
    }
    if gguf.tensors.len() > tensors.len() {
        let known: std::collections::HashSet<&str> = tensors.iter().map(|tensor| tensor.spec.packed_name.as_str()).collect();
        let extra = gguf.tensors.iter().filter(|tensor| !known.contains(tensor.name.as_str()));
        faults.extend(extra.map(|tensor| format!("{} is no tensor of this student", tensor.name)));
    }
    if faults.is_empty() { Ok(tensors) } else { Err(Error::Packed(summary(&faults))) }
}

/// The first faults of a list, and how many more there are.
fn summary(faults: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = if faults.len() > SHOWN { format!("; and {} more", faults.len() - SHOWN) } else { String::new() };
    format!("{}{more}", faults[..faults.len().min(SHOWN)].join("; "))
}

/// How a setting is written in a config and in a file.
fn name_of(setting: &impl serde::Serialize) -> String {
    let json = serde_json::to_value(setting).expect("a setting can be written");
    json.as_str().expect("a setting is a word").to_owned()
}

fn named<T: serde::de::DeserializeOwned>(key: &str, found: Option<&str>, default: T) -> Result<T, Error> {
    match found {
        None => Ok(default),
        Some(name) => serde_json::from_value(name.into()).map_err(|error| Error::Packed(format!("{key}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::table;

    fn weights(spec: &TensorSpec) -> Result<Vec<f32>, Error> {
        Ok((0..spec.len()).map(|i| ((i * 31 + spec.name.len()) % 17) as f32 * 0.1 - 0.8).collect())
    }

    fn packed(change: impl Fn(&mut crate::ModelTable), options: &Options) -> (ModelConfig, Vec<u8>) {
        let tokenizer = Tokenizer::train(vec!["one two three".to_owned(); 4].into_iter(), 270).unwrap();
        let mut table = table();
        change(&mut table);
        let config = table.resolve(tokenizer.vocab()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("student.gguf");
        write::<Error>(&path, &config, &tokenizer, &ChatTemplate::chatml(), options, weights).unwrap();
        (config, std::fs::read(path).unwrap())
    }

    fn options(ternary: Format) -> Options {
        Options { name: "test".into(), ternary }
    }

    #[test]
    fn what_is_packed_is_read() {
        for ternary in [Format::Tq1_0, Format::Tq2_0] {
            for scale in [Scale::Tensor, Scale::Row, Scale::Group] {
                for quant in [Quant::None, Quant::Ternary] {
                    let (config, bytes) = packed(|table| (table.scale, table.quant) = (scale, quant), &options(ternary));
                    let read = Packed::parse(&bytes).unwrap();
                    assert_eq!(read.config, config);
                    assert_eq!(read.chat, ChatTemplate::chatml());
                    let names: Vec<_> = read.tensors.iter().map(|tensor| tensor.spec.clone()).collect();
                    assert_eq!(names, inventory(&config));
                }
            }
        }
    }

    #[test]
    fn a_squared_relu_is_kept_from_stock_readers() {
        let (config, bytes) = packed(|table| table.activation = Activation::Relu2, &options(Format::Tq2_0));
        assert!(stock_refusal(&config).is_some());
        assert_eq!(Gguf::parse(&bytes).unwrap().get("general.architecture").and_then(Value::as_str), Some("bitnet-b1.58"));
        assert_eq!(Packed::parse(&bytes).unwrap().config, config);
    }

    #[test]
    fn llama_rows_are_stored_as_pairs() {
        let (config, _) = packed(|table| table.architecture = Architecture::Llama, &options(Format::Tq2_0));
        let rows = stored_rows(&config, Role::Key).unwrap();
        assert_eq!(rows[..4], [0, 32, 1, 33]);
        assert_eq!(rows[64..66], [64, 96]);
        assert_eq!(stored_rows(&config, Role::Value), None);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let (config, bytes) = packed(|_| (), &options(Format::Tq2_0));
        let mut gguf = Gguf::parse(&bytes).unwrap();
        gguf.tensors.retain(|tensor| tensor.name != "blk.1.attn_q.weight");
        gguf.tensors[1].shape = vec![7];
        gguf.tensors[2].name = "surprise".into();
        let message = find_tensors(&gguf, &config).unwrap_err().to_string();
        for part in ["blk.1.attn_q.weight is missing", "has shape [7], [256] was needed", "surprise is no tensor of this student"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_damaged_head_never_panics() {
        let (_, bytes) = packed(|_| (), &options(Format::Tq2_0));
        let end = Packed::parse(&bytes).unwrap().tensors[0].range.start;
        for at in (0..end).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let _ = Packed::parse(&damaged);
        }
    }
}
