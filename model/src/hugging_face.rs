//! A student's sizes as the `config.json` of a Hugging Face folder, so that other tools open our checkpoints and we start from theirs.
//!
//! What those files have no key for (which weights share a scale, whether layers are quantised) stands in an object `tristill`.

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{Activation, Architecture, Error, ModelConfig, Quant, Scale, Tokenizer};

/// The version of the object `tristill`.
const VERSION: u32 = 1;

/// What stands under the key `tristill`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    version: u32,
    quant: Quant,
    scale: Scale,
}

/// The text of `config.json`.
pub fn config_json(config: &ModelConfig, tokenizer: &Tokenizer) -> String {
    let (class, model_type) = names(config.architecture);
    let activation = match config.activation {
        Activation::Silu => "silu",
        Activation::Relu2 => "relu2",
    };
    let value = json!({
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
        "torch_dtype": "float32",
        "vocab_size": config.vocab,
        "tristill": Own { version: VERSION, quant: config.quant, scale: config.scale },
    });
    pretty(&value)
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

/// Read the text of `config.json`; `path` is named in errors.
pub fn read_config(text: &str, path: &Path) -> Result<ModelConfig, Error> {
    let parsed = serde_json::from_str(text).map_err(|error| Error::HuggingFace { path: path.to_owned(), found: error.to_string() })?;
    let keys = Keys { keys: parsed, path };
    let architecture = keys.architecture()?;
    let own = match keys.optional::<Own>("tristill")? {
        Some(own) if own.version != VERSION => {
            return Err(keys.error(format!("tristill.version is {}, version {VERSION} is known", own.version)));
        }
        Some(own) => own,
        // BitNet checkpoints have one scale for each matrix.
        None if keys.keys.get("quantization_config").and_then(|table| table.get("quant_method")) == Some(&json!("bitnet")) => {
            Own { version: VERSION, quant: Quant::Ternary, scale: Scale::Tensor }
        }
        None if keys.optional::<Value>("quantization_config")?.is_some() => {
            return Err(keys.error("quantization_config has a quant_method other than bitnet, which is not supported".into()));
        }
        None => Own { version: VERSION, quant: Quant::None, scale: Scale::Row },
    };
    keys.refuse_what_is_not_computed(architecture)?;

    let (width, heads): (usize, usize) = (keys.required("hidden_size")?, keys.required("num_attention_heads")?);
    ModelConfig {
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
        norm_epsilon: keys.required("rms_norm_eps")?,
        tied_head: keys.optional("tie_word_embeddings")?.unwrap_or(false),
        quant: own.quant,
        scale: own.scale,
    }
    .validated()
    .map_err(|error| keys.error(error.to_string()))
}

/// The class and the `model_type` under which transformers knows an architecture.
fn names(architecture: Architecture) -> (&'static str, &'static str) {
    match architecture {
        Architecture::Bitnet => ("BitNetForCausalLM", "bitnet"),
        Architecture::Llama => ("LlamaForCausalLM", "llama"),
        Architecture::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
        Architecture::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
    }
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

    fn architecture(&self) -> Result<Architecture, Error> {
        let all = [Architecture::Bitnet, Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3];
        let model_type: String = self.required("model_type")?;
        let Some(architecture) = all.into_iter().find(|architecture| names(*architecture).1 == model_type) else {
            return Err(self.error(format!("model_type is {model_type}; bitnet, llama, qwen2 and qwen3 are known")));
        };
        // A class of another name computes something else, whatever its model_type says.
        let class = names(architecture).0;
        match self.optional::<Vec<String>>("architectures")?.unwrap_or_default().first() {
            Some(found) if found != class => {
                Err(self.error(format!("architectures is {found}, which is not the {class} of model_type {model_type}")))
            }
            _ => Ok(architecture),
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

    /// Settings under which the model's own code computes something that a student does not.
    fn refuse_what_is_not_computed(&self, architecture: Architecture) -> Result<(), Error> {
        let biased = architecture == Architecture::Qwen2;
        for (key, allowed) in [("attention_bias", biased), ("mlp_bias", false), ("use_sliding_window", false)] {
            if self.optional(key)? == Some(true) && !allowed {
                return Err(self.error(format!("{key} is true, which is not supported")));
            }
        }
        for key in ["rope_scaling", "rope_parameters"] {
            let scaling = self.keys.get(key).and_then(|scaling| scaling.get("rope_type").or(scaling.get("type")));
            if let Some(scaling) = scaling.filter(|scaling| *scaling != "default") {
                return Err(self.error(format!("{key} is of the type {scaling}, only default is supported")));
            }
        }
        Ok(())
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
mod tests {
    use super::*;
    use crate::config::tests::table;

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(vec!["one two three".to_owned(); 4].into_iter(), 270).unwrap()
    }

    fn read(value: &Value) -> Result<ModelConfig, Error> {
        read_config(&value.to_string(), Path::new("folder/config.json"))
    }

    fn written() -> Value {
        let tokenizer = tokenizer();
        serde_json::from_str(&config_json(&table().resolve(tokenizer.vocab()).unwrap(), &tokenizer)).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let tokenizer = tokenizer();
        for architecture in [Architecture::Bitnet, Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
            for (quant, scale) in [(Quant::None, Scale::Row), (Quant::Ternary, Scale::Group), (Quant::Ternary, Scale::Tensor)] {
                let mut table = table();
                (table.architecture, table.quant, table.scale, table.norm_epsilon) = (architecture, quant, scale, 1e-6);
                let config = table.resolve(tokenizer.vocab()).unwrap();
                let text = config_json(&config, &tokenizer);
                assert!(text.contains("1e-6"), "{text}");
                assert_eq!(read_config(&text, Path::new("config.json")).unwrap(), config);
            }
        }
    }

    #[test]
    fn a_file_by_others_needs_no_key_of_ours() {
        // The keys of Qwen2.5-0.5B-Instruct.
        let config = read(&json!({
            "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
            "max_position_embeddings": 32768, "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
            "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936
        }))
        .unwrap();
        assert_eq!((config.quant, config.head_width, config.kv_heads, config.vocab), (Quant::None, 64, 2, 151_936));
    }

    #[test]
    fn a_bitnet_file_has_one_scale_for_each_matrix() {
        let mut value = written();
        value.as_object_mut().unwrap().remove("tristill");
        value["quantization_config"] = json!({ "quant_method": "bitnet" });
        let config = read(&value).unwrap();
        assert_eq!((config.quant, config.scale), (Quant::Ternary, Scale::Tensor));
    }

    #[test]
    fn newer_files_have_rotary_settings_inside() {
        let mut value = written();
        value.as_object_mut().unwrap().remove("rope_theta");
        value["rope_parameters"] = json!({ "rope_type": "default", "rope_theta": 5e5 });
        assert_eq!(read(&value).unwrap().rope_base, 5e5);
    }

    #[test]
    fn each_refusal_names_file_and_key() {
        let cases: [(&str, Value, &str); 12] = [
            ("hidden_size", Value::Null, "the key hidden_size is missing"),
            ("hidden_size", json!("wide"), "hidden_size is \"wide\""),
            ("hidden_size", json!(-1), "hidden_size is -1"),
            ("hidden_size", json!(1u64 << 60), "width is 1152921504606846976"),
            ("num_attention_heads", json!(0), "heads is 0"),
            ("model_type", json!("gpt2"), "model_type is gpt2"),
            ("architectures", json!(["BitnetForCausalLM"]), "architectures is BitnetForCausalLM"),
            ("hidden_act", json!("gelu"), "hidden_act is gelu"),
            ("attention_bias", json!(true), "attention_bias is true"),
            ("rope_scaling", json!({ "rope_type": "yarn" }), "rope_scaling is of the type \"yarn\""),
            ("tristill", json!({ "version": 2, "quant": "none", "scale": "row" }), "tristill.version is 2"),
            ("tristill", json!({ "version": 1, "quant": "octal", "scale": "row" }), "unknown variant `octal`"),
        ];
        for (key, value, expected) in cases {
            let mut file = written();
            file[key] = value;
            let message = read(&file).unwrap_err().to_string();
            assert!(message.starts_with("cannot read folder/config.json: ") && message.contains(expected), "{message}");
        }
        let message = read_config("{", Path::new("x.json")).unwrap_err().to_string();
        assert!(message.starts_with("cannot read x.json: "), "{message}");
    }

    /// The published files of the data index, where they are at hand.
    #[test]
    #[allow(clippy::print_stderr)]
    fn published_files_are_read_or_refused_by_name() {
        let Ok(folder) = std::env::var("TRISTILL_DATA") else {
            eprintln!("skipped: TRISTILL_DATA, the folder of the published files, is not set");
            return;
        };
        let expected = [
            ("bitnet-b1.58-2B-4T.json", None),
            ("falcon3-1b-instruct-1.58bit.json", None),
            ("qwen2.5-0.5b-instruct.json", None),
            ("smollm-135m-instruct.json", None),
            ("bitnet_b1_58-large.json", Some("architectures is BitnetForCausalLM")),
        ];
        for (name, refusal) in expected {
            let path = Path::new(&folder).join("configs").join(name);
            let result = read_config(&std::fs::read_to_string(&path).unwrap(), &path);
            match refusal {
                None => drop(result.unwrap()),
                Some(part) => assert!(result.unwrap_err().to_string().contains(part)),
            }
        }
    }
}
