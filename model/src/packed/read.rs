//! Reading: sizes first, then the tensors that they need, each named that is missing, mis-shaped or of no use; the tokenizer last,
//! because it costs most.

use std::collections::{HashMap, HashSet};

use super::{I2sOrder, Packed, PackedTensor, ROPE_DIVISORS, VERSION};
use crate::{
    Activation, Architecture, ChatTemplate, Error, InputQuant, Kind, ModelConfig, Quant, RopeScaling, Scale, Tokenizer,
    block::Format,
    gguf::{Gguf, Tensor, Value},
    inventory,
};

impl Packed {
    /// Read a file's head and check that it is a whole student.
    pub fn parse(bytes: &[u8]) -> Result<Packed, Error> {
        Packed::parse_with(bytes, None)
    }

    /// As [`Packed::parse`], for files whose I2_S tensors lie in the given order.
    pub fn parse_with(bytes: &[u8], order: Option<I2sOrder>) -> Result<Packed, Error> {
        let gguf = Gguf::parse(bytes)?;
        let Some(Value::Strings(tokens)) = gguf.get("tokenizer.ggml.tokens") else {
            return Err(Error::Tokenizer("the packed file has no tokenizer.ggml.tokens".into()));
        };
        let config = read_config(&gguf, bytes, tokens.len())?;
        let chat = match gguf.get("tokenizer.chat_template").and_then(Value::as_str) {
            Some(source) => ChatTemplate::parse(source)?,
            None => ChatTemplate::chatml(),
        };
        let tensors = find_tensors(&gguf, bytes, &config, order)?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        let name = gguf.get("general.name").and_then(Value::as_str).unwrap_or("student").to_owned();
        Ok(Packed { config, tokenizer, chat, tensors, name })
    }
}

fn read_config(gguf: &Gguf, bytes: &[u8], vocab: usize) -> Result<ModelConfig, Error> {
    if let Some(version) = gguf.get("tristill.version")
        && version.as_usize() != Some(VERSION as usize)
    {
        return Err(Error::Packed(format!("tristill.version is {version:?}, version {VERSION} is known; export the student again")));
    }
    let text = |key: &str| gguf.get(key).and_then(Value::as_str);
    let name = text("general.architecture").ok_or_else(|| Error::Packed("it has no general.architecture".into()))?;
    // What an exporter adds to the name of an architecture that has sub-norms of ours.
    let (plain, sub_norms) = name.strip_suffix("-sub-norms").filter(|name| *name != "bitnet").map_or((name, false), |plain| (plain, true));
    let (architecture, activation) = match plain {
        "bitnet" => (Architecture::Bitnet, Activation::Silu),
        "bitnet-b1.58" => (Architecture::Bitnet, Activation::Relu2),
        "llama" => (Architecture::Llama, Activation::Silu),
        "qwen2" => (Architecture::Qwen2, Activation::Silu),
        "qwen3" => (Architecture::Qwen3, Activation::Silu),
        _ => return Err(Error::Packed(format!("its architecture is {name}; bitnet, bitnet-b1.58, llama, qwen2 and qwen3 are known"))),
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
    // As stock llama.cpp reads it: linear unless a type is named, and 0 is no factor.
    let scaling = text(&format!("{name}.rope.scaling.type")).unwrap_or("linear");
    let factor = match float("rope.scaling.factor", Some(float("rope.scale_linear", Some(1.0))?))? {
        0.0 => 1.0,
        factor => factor,
    };
    let rope_scaling = match (gguf.tensor(ROPE_DIVISORS), scaling, factor) {
        (None, "none", _) | (None, _, 1.0) => None,
        (None, "linear", factor) => Some(RopeScaling::Linear { factor }),
        (Some(tensor), "none", _) | (Some(tensor), _, 1.0) => Some(RopeScaling::Factors { factors: divisors(tensor, bytes)? }),
        (tensor, scaling, factor) => {
            let both = if tensor.is_some() { format!(" beside {ROPE_DIVISORS}") } else { String::new() };
            return Err(Error::Packed(format!("its rotary embedding is scaled ({scaling} by {factor}{both}), which is not supported")));
        }
    };
    let layers = size("block_count", None)?;
    // A number beyond the file would make the inventory as long.
    if layers > gguf.tensors.len() {
        return Err(Error::Packed(format!("{name}.block_count is {layers}, but it has only {} tensors", gguf.tensors.len())));
    }
    let ternary: Vec<&Tensor> = gguf.tensors.iter().filter(|tensor| tensor.format.is_ternary()).collect();
    // A file by others may have another scale in every block, which is what a group is; in I2_S there is one for the tensor.
    let scale = if ternary.iter().all(|tensor| tensor.format.is_i2s()) { Scale::Tensor } else { Scale::Group };
    ModelConfig {
        architecture,
        vocab,
        width,
        layers,
        heads,
        kv_heads: size("attention.head_count_kv", Some(heads))?,
        head_width,
        feed_forward: size("feed_forward_length", None)?,
        context: size("context_length", None)?,
        activation: named("tristill.activation", text("tristill.activation"), activation)?,
        rope_base: float("rope.freq_base", Some(10_000.0))?,
        rope_scaling,
        norm_epsilon: float("attention.layer_norm_rms_epsilon", None)?,
        tied_head: architecture == Architecture::Bitnet || gguf.tensor("output.weight").is_none(),
        // Integers of several bits are a student's own only where the file says so: in files by others they stand for floats.
        quant: match named("tristill.quant", text("tristill.quant"), Quant::None)? {
            quant @ (Quant::Int8 | Quant::Int4) => quant,
            Quant::Ternary if gguf.tensors.iter().any(|tensor| tensor.format == Format::Q2_0) => Quant::Ternary,
            Quant::None | Quant::Ternary if ternary.is_empty() => Quant::None,
            Quant::None | Quant::Ternary => Quant::Ternary,
        },
        scale: named("tristill.scale", text("tristill.scale"), scale)?,
        activations: named("tristill.activations", text("tristill.activations"), InputQuant::default())?,
        sub_norms,
    }
    .validated()
}

/// What each pair's frequency is divided by.
fn divisors(tensor: &Tensor, bytes: &[u8]) -> Result<Vec<f32>, Error> {
    if tensor.format != Format::F32 || tensor.shape.len() != 1 {
        let found = format!("{ROPE_DIVISORS} is {} of shape {:?}", tensor.format.name(), tensor.shape);
        return Err(Error::Packed(format!("{found}, a list of F32 was needed")));
    }
    Ok(bytes[tensor.range.clone()].as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

pub(super) fn find_tensors(gguf: &Gguf, bytes: &[u8], config: &ModelConfig, order: Option<I2sOrder>) -> Result<Vec<PackedTensor>, Error> {
    let found: HashMap<&str, &Tensor> = gguf.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut known = HashSet::from([ROPE_DIVISORS]);
    let mut faults = Vec::new();
    let mut tensors = Vec::new();
    for spec in inventory(config) {
        let Some(tensor) = found.get(spec.packed_name.as_str()) else {
            faults.push(format!("{} is missing", spec.packed_name));
            continue;
        };
        known.insert(tensor.name.as_str());
        if tensor.shape != spec.shape {
            faults.push(format!("{} has shape {:?}, {:?} was needed", tensor.name, tensor.shape, spec.shape));
            continue;
        }
        let needed = match spec.kind() {
            Kind::Vector if tensor.format != Format::F32 => Some("norms and biases are F32"),
            Kind::Linear => match (config.quant, config.quant.grid()) {
                // A student's own, with one scale for all blocks of a row.
                (Quant::Ternary, _) if tensor.format == Format::Q2_0 && config.scale != Scale::Group => None,
                (Quant::Ternary, _) if !tensor.format.is_ternary() => Some("other linear layers are ternary"),
                (Quant::Int8, Some(grid)) if tensor.format != grid.format() => Some("other linear layers are Q8_0"),
                (Quant::Int4, Some(grid)) if tensor.format != grid.format() => Some("other linear layers are Q4_0"),
                _ => None,
            },
            Kind::Embedding if tensor.format.is_ternary() => Some("an embedding or head is not ternary"),
            Kind::Vector | Kind::Embedding => None,
        };
        if let Some(needed) = needed {
            faults.push(format!("{} is stored as {}, but {needed}; make the file again", tensor.name, tensor.format.name()));
        }
        let format = match (tensor.format.is_i2s(), order) {
            (false, _) => tensor.format,
            (true, Some(I2sOrder::X86)) => Format::I2sX86,
            (true, Some(I2sOrder::Arm)) => Format::I2sArm,
            (true, None) => return Err(unknown_order(&tensor.name)),
        };
        let mut factor = format.scale_of(&bytes[tensor.range.clone()]);
        let scale = spec.packed_name.strip_suffix("weight").filter(|_| spec.kind() == Kind::Linear).map(|name| format!("{name}scale"));
        if let Some(scale) = scale.and_then(|name| found.get(name.as_str())) {
            known.insert(scale.name.as_str());
            match bytes[scale.range.clone()].as_chunks::<4>().0 {
                [_] if config.quant.grid().is_some() => faults.push(format!("{} is for layers of other integers", scale.name)),
                [number] if scale.format == Format::F32 => factor *= f32::from_le_bytes(*number),
                _ => {
                    faults.push(format!("{} is {} of shape {:?}, one F32 was needed", scale.name, scale.format.name(), scale.shape));
                }
            }
        }
        if !factor.is_finite() {
            faults.push(format!("{} has the scale {factor}, which is not a finite number", tensor.name));
        }
        tensors.push(PackedTensor { spec, format, range: tensor.range.clone(), factor });
    }
    let extra = gguf.tensors.iter().filter(|tensor| !known.contains(tensor.name.as_str()));
    faults.extend(extra.map(|tensor| format!("{} is no tensor of this student", tensor.name)));
    if faults.is_empty() { Ok(tensors) } else { Err(Error::Packed(summary(&faults))) }
}

fn unknown_order(tensor: &str) -> Error {
    let differs = "which lies in another order in files from ARM than in those from x86, and nothing in the file says which it is";
    let wanted = "set TRISTILL_I2_S=x86, which most published files are, or TRISTILL_I2_S=arm; the wrong one gives nonsense";
    Error::Packed(format!("{tensor} is stored as I2_S, {differs}; {wanted}"))
}

/// The first faults of a list, and how many more there are.
fn summary(faults: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = if faults.len() > SHOWN { format!("; and {} more", faults.len() - SHOWN) } else { String::new() };
    format!("{}{more}", faults[..faults.len().min(SHOWN)].join("; "))
}

fn named<T: serde::de::DeserializeOwned>(key: &str, found: Option<&str>, default: T) -> Result<T, Error> {
    match found {
        None => Ok(default),
        Some(name) => serde_json::from_value(name.into()).map_err(|error| Error::Packed(format!("{key}: {error}"))),
    }
}
