//! Reading a `config.json`, by whomever it was written: what a student computes too becomes a [`ModelConfig`], everything else that a
//! model's own code would compute is refused by its key.

use std::path::Path;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{ALL, Own, VERSION, names};
use crate::{Activation, Architecture, Error, InputQuant, ModelConfig, Quant, RopeScaling, Scale};

/// What a `config.json` says of the folder that it stands in.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The student's sizes.
    pub config: ModelConfig,
    /// Whether linear layers are stored as ternary codes, and what the number beside them is.
    pub codes: Option<WeightScale>,
}

/// What the number beside packed codes means. Both are in use; the file's linear class says which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightScale {
    /// A weight is its code times the number (`autobitlinear`).
    Multiplies,
    /// A weight is its code divided by the number (`bitlinear`).
    Divides,
}

/// Read the sizes in the text of a `config.json`; `path` is named in errors.
pub fn read_config(text: &str, path: &Path) -> Result<ModelConfig, Error> {
    Ok(read_description(text, path)?.config)
}

/// Read the text of a `config.json`; `path` is named in errors.
pub fn read_description(text: &str, path: &Path) -> Result<Description, Error> {
    let parsed = serde_json::from_str(text).map_err(|error| Error::HuggingFace { path: path.to_owned(), found: error.to_string() })?;
    let keys = Keys { keys: parsed, path };
    let (architecture, sub_norms) = keys.architecture()?;
    let quantization = keys.quantization(architecture)?;
    let activations = InputQuant::default();
    let own = match keys.optional::<Own>("tristill")? {
        Some(own) if own.version != VERSION => {
            return Err(keys.error(format!("tristill.version is {}, version {VERSION} is known", own.version)));
        }
        Some(own) => own,
        // BitNet checkpoints have one scale for each matrix.
        None if quantization.is_some() => Own { version: VERSION, quant: Quant::Ternary, scale: Scale::Tensor, activations },
        None => Own { version: VERSION, quant: Quant::None, scale: Scale::Row, activations },
    };
    keys.refuse_what_is_not_computed(architecture)?;

    let (width, heads): (usize, usize) = (keys.required("hidden_size")?, keys.required("num_attention_heads")?);
    let config = ModelConfig {
        architecture,
        vocab: keys.required("vocab_size")?,
        width,
        layers: keys.required("num_hidden_layers")?,
        heads,
        kv_heads: keys.optional("num_key_value_heads")?.unwrap_or(heads),
        head_width: keys.optional("head_dim")?.or(width.checked_div(heads)).unwrap_or(0),
        feed_forward: keys.required("intermediate_size")?,
        context: keys.required("max_position_embeddings")?,
        activation: keys.activation()?,
        rope_base: keys.rope_base()?,
        rope_scaling: keys.rope_scaling()?,
        norm_epsilon: keys.required("rms_norm_eps")?,
        tied_head: keys.optional("tie_word_embeddings")?.unwrap_or(false),
        quant: own.quant,
        scale: own.scale,
        activations: own.activations,
        sub_norms,
    };
    let config = config.validated().map_err(|error| keys.error(error.to_string()))?;
    Ok(Description { config, codes: quantization.flatten() })
}

/// The `quantization_config` of a BitNet checkpoint.
#[derive(Deserialize)]
struct Quantization {
    quant_method: String,
    linear_class: Option<String>,
    quantization_mode: Option<String>,
    modules_to_not_convert: Option<Vec<String>>,
    use_rms_norm: Option<bool>,
}

/// How rotary embedding is scaled, in either of the two objects that files have for it.
#[derive(Deserialize)]
struct Rope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<usize>,
}

/// The keys of a file, and its path for errors.
struct Keys<'a> {
    keys: Map<String, Value>,
    path: &'a Path,
}

impl Keys<'_> {
    fn error(&self, found: String) -> Error {
        Error::HuggingFace { path: self.path.to_owned(), found }
    }

    /// A key that may be absent or null.
    fn optional<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.keys.get(key) else { return Ok(None) };
        Option::<T>::deserialize(value).map_err(|error| self.error(format!("{key} is {value}: {error}")))
    }

    fn required<T: DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        self.optional(key)?.ok_or_else(|| self.error(format!("the key {key} is missing")))
    }

    /// The architecture, and whether sub-norms were added to it.
    fn architecture(&self) -> Result<(Architecture, bool), Error> {
        let model_type: String = self.required("model_type")?;
        let Some((architecture, sub_norms)) = ALL.into_iter().find(|(architecture, added)| names(*architecture, *added).1 == model_type)
        else {
            return Err(self.error(format!("model_type is {model_type}; bitnet, llama, qwen2 and qwen3 are known")));
        };
        // A class of another name computes something else, whatever its model_type says.
        let class = names(architecture, sub_norms).0;
        match self.optional::<Vec<String>>("architectures")?.unwrap_or_default().first() {
            Some(found) if found != class => {
                Err(self.error(format!("architectures is {found}, which is not the {class} of model_type {model_type}")))
            }
            _ => Ok((architecture, sub_norms)),
        }
    }

    /// If the file says that it is a BitNet checkpoint: whether its matrices are codes, and how these are scaled.
    fn quantization(&self, architecture: Architecture) -> Result<Option<Option<WeightScale>>, Error> {
        let Some(table) = self.optional::<Quantization>("quantization_config")? else { return Ok(None) };
        let refuse = |key: &str, found: String| Err(self.error(format!("quantization_config.{key} is {found}, which is not supported")));
        if table.quant_method != "bitnet" {
            return refuse("quant_method", format!("{}; only bitnet is read", table.quant_method));
        }
        if table.use_rms_norm == Some(true) {
            return refuse("use_rms_norm", "true, a norm before every linear layer".into());
        }
        // The head is never quantised; any other name would leave linear layers in full precision beside ternary ones.
        let kept = table.modules_to_not_convert.unwrap_or_default();
        if let Some(name) = kept.iter().find(|name| !["lm_head", "embed_tokens", "model.embed_tokens"].contains(&name.as_str())) {
            return refuse("modules_to_not_convert", format!("a list with {name}"));
        }
        match (table.linear_class.as_deref(), table.quantization_mode.as_deref()) {
            (None | Some("bitlinear"), _) => Ok(Some(Some(WeightScale::Divides))),
            (Some("autobitlinear"), None | Some("offline")) if architecture == Architecture::Qwen2 => {
                refuse("linear_class", "autobitlinear, which multiplies biases by the scale of the weights".into())
            }
            (Some("autobitlinear"), None | Some("offline")) => Ok(Some(Some(WeightScale::Multiplies))),
            (Some("autobitlinear"), Some("online")) => Ok(Some(None)),
            (Some("autobitlinear"), Some(other)) => refuse("quantization_mode", other.to_owned()),
            (Some(other), _) => refuse("linear_class", other.to_owned()),
        }
    }

    fn activation(&self) -> Result<Activation, Error> {
        match self.required::<String>("hidden_act")?.as_str() {
            "silu" => Ok(Activation::Silu),
            "relu2" => Ok(Activation::Relu2),
            other => Err(self.error(format!("hidden_act is {other}; silu and relu2 are known"))),
        }
    }

    /// Newer files have the base inside `rope_parameters`.
    fn rope_base(&self) -> Result<f32, Error> {
        let inside = self.keys.get("rope_parameters").and_then(|parameters| parameters.get("rope_theta"));
        match inside.map(f32::deserialize) {
            Some(base) => base.map_err(|error| self.error(format!("rope_parameters.rope_theta: {error}"))),
            None => self.required("rope_theta"),
        }
    }

    /// Older files have `rope_scaling`, newer ones `rope_parameters`, which always names a type.
    fn rope_scaling(&self) -> Result<Option<RopeScaling>, Error> {
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(rope) = self.optional::<Rope>(key)? else { continue };
            let missing = |name: &str| self.error(format!("{key} has no {name}, which its type needs"));
            let number = |number: Option<f32>, name: &str| number.ok_or_else(|| missing(name));
            match rope.rope_type.as_deref() {
                None | Some("default") => continue,
                Some("linear") => return Ok(Some(RopeScaling::Linear { factor: number(rope.factor, "factor")? })),
                Some("llama3") => {
                    let name = "original_max_position_embeddings";
                    return Ok(Some(RopeScaling::Llama3 {
                        factor: number(rope.factor, "factor")?,
                        low_frequency_factor: number(rope.low_freq_factor, "low_freq_factor")?,
                        high_frequency_factor: number(rope.high_freq_factor, "high_freq_factor")?,
                        original_context: rope.original_max_position_embeddings.ok_or_else(|| missing(name))?,
                    }));
                }
                Some("dynamic") => {
                    let why = "its frequencies change with the length of the text, so that no cached key could stay";
                    return Err(self.error(format!("{key} is of the type dynamic: {why}; default, linear and llama3 are supported")));
                }
                Some(other) => {
                    return Err(self.error(format!("{key} is of the type {other}; default, linear and llama3 are supported")));
                }
            }
        }
        Ok(None)
    }

    /// Settings under which the model's own code computes something that a student does not.
    fn refuse_what_is_not_computed(&self, architecture: Architecture) -> Result<(), Error> {
        let biased = architecture == Architecture::Qwen2;
        for (key, allowed) in [("attention_bias", biased), ("mlp_bias", false), ("use_sliding_window", false)] {
            if self.optional(key)? == Some(true) && !allowed {
                return Err(self.error(format!("{key} is true, which is not supported")));
            }
        }
        if let Some(kind) = self.optional::<Vec<String>>("layer_types")?.unwrap_or_default().iter().find(|kind| *kind != "full_attention") {
            return Err(self.error(format!("layer_types has {kind}, only full_attention is supported")));
        }
        let inside = self.keys.get("rope_parameters").and_then(|parameters| parameters.get("partial_rotary_factor"));
        match self.keys.get("partial_rotary_factor").or(inside).and_then(Value::as_f64) {
            Some(share) if share != 1.0 => Err(self.error(format!("partial_rotary_factor is {share}, which is not supported"))),
            _ => Ok(()),
        }
    }
}
