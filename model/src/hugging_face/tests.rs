use std::path::Path;

use super::*;
use crate::{Error, config::tests::table};

fn tokenizer() -> Tokenizer {
    Tokenizer::train(vec!["one two three".to_owned(); 4].into_iter(), 270).unwrap()
}

fn read(value: &Value) -> Result<ModelConfig, Error> {
    read_config(&value.to_string(), Path::new("folder/config.json"))
}

fn written() -> Value {
    let tokenizer = tokenizer();
    serde_json::from_str(&config_json(&table().resolve(tokenizer.vocab()).unwrap(), &tokenizer, Form::default())).unwrap()
}

#[test]
fn what_is_written_is_read() {
    let tokenizer = tokenizer();
    for (architecture, sub_norms) in ALL {
        for (quant, scale) in
            [(Quant::None, Scale::Row), (Quant::Ternary, Scale::Group), (Quant::Ternary, Scale::Tensor), (Quant::Int4, Scale::Row)]
        {
            let mut table = table();
            (table.architecture, table.quant, table.scale, table.norm_epsilon) = (architecture, quant, scale, 1e-6);
            let config = ModelConfig { sub_norms, ..table.resolve(tokenizer.vocab()).unwrap() };
            let text = config_json(&config, &tokenizer, Form::default());
            assert!(text.contains("1e-6"), "{text}");
            assert_eq!(text.contains("_sub_norms\""), sub_norms, "{text}");
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
    for (class, expected) in [
        (json!({}), Some(WeightScale::Divides)),
        (json!({ "linear_class": "bitlinear", "modules_to_not_convert": ["lm_head"] }), Some(WeightScale::Divides)),
        (json!({ "linear_class": "autobitlinear", "quantization_mode": "offline" }), Some(WeightScale::Multiplies)),
        (json!({ "linear_class": "autobitlinear", "quantization_mode": "online" }), None),
    ] {
        value["quantization_config"] = class;
        value["quantization_config"]["quant_method"] = json!("bitnet");
        let found = read_description(&value.to_string(), Path::new("config.json")).unwrap();
        assert_eq!((found.config.quant, found.config.scale, found.codes), (Quant::Ternary, Scale::Tensor, expected));
    }
}

#[test]
fn other_tools_are_told_how_a_matrix_with_one_scale_is_quantised() {
    let tokenizer = tokenizer();
    let mode = |scale: Scale, form: Form| {
        let table = crate::ModelTable { scale, ..table() };
        let value: Value = serde_json::from_str(&config_json(&table.resolve(tokenizer.vocab()).unwrap(), &tokenizer, form)).unwrap();
        (value["quantization_config"]["quantization_mode"].clone(), value["torch_dtype"].clone())
    };
    assert_eq!(mode(Scale::Tensor, Form::default()), (json!("online"), json!("float32")));
    assert_eq!(mode(Scale::Tensor, Form { float: Float::Bf16, is_packed: true }), (json!("offline"), json!("bfloat16")));
    assert_eq!(packed_scale(&table().resolve(tokenizer.vocab()).unwrap()), WeightScale::Multiplies);
    assert_eq!(mode(Scale::Row, Form { float: Float::F16, is_packed: false }), (Value::Null, json!("float16")));
}

#[test]
fn scaled_frequencies_come_back() {
    let tokenizer = tokenizer();
    let llama3 = RopeScaling::Llama3 { factor: 32.0, low_frequency_factor: 1.0, high_frequency_factor: 4.0, original_context: 8192 };
    for scaling in [RopeScaling::Linear { factor: 2.5 }, llama3] {
        let config = ModelConfig { rope_scaling: Some(scaling), ..table().resolve(tokenizer.vocab()).unwrap() };
        let mut value: Value = serde_json::from_str(&config_json(&config, &tokenizer, Form::default())).unwrap();
        assert_eq!(read(&value).unwrap(), config);
        // The newer form has the base beside the scaling.
        let keys = value.as_object_mut().unwrap();
        let (mut inside, base) = (keys.remove("rope_scaling").unwrap(), keys.remove("rope_theta").unwrap());
        inside["rope_theta"] = base;
        value["rope_parameters"] = inside;
        assert_eq!(read(&value).unwrap(), config);
    }
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
    let cases: [(&str, Value, &str); 19] = [
        ("hidden_size", Value::Null, "the key hidden_size is missing"),
        ("hidden_size", json!("wide"), "hidden_size is \"wide\""),
        ("hidden_size", json!(-1), "hidden_size is -1"),
        ("hidden_size", json!(1u64 << 60), "width is 1152921504606846976"),
        ("num_attention_heads", json!(0), "heads is 0"),
        ("model_type", json!("gpt2"), "model_type is gpt2"),
        ("architectures", json!(["BitnetForCausalLM"]), "architectures is BitnetForCausalLM"),
        ("hidden_act", json!("gelu"), "hidden_act is gelu"),
        ("attention_bias", json!(true), "attention_bias is true"),
        ("rope_scaling", json!({ "rope_type": "yarn" }), "rope_scaling is of the type yarn"),
        ("rope_scaling", json!({ "type": "dynamic", "factor": 2.0 }), "change with the length of the text"),
        ("rope_scaling", json!({ "rope_type": "llama3", "factor": 8.0 }), "rope_scaling has no low_freq_factor"),
        ("rope_scaling", json!({ "type": "linear", "factor": -2.0 }), "model.rope_scaling is linear by -2"),
        ("layer_types", json!(["full_attention", "sliding_attention"]), "layer_types has sliding_attention"),
        ("quantization_config", json!({ "quant_method": "gptq" }), "quantization_config.quant_method is gptq"),
        ("quantization_config", json!({ "quant_method": "bitnet", "use_rms_norm": true }), "use_rms_norm is true"),
        ("quantization_config", json!({ "quant_method": "bitnet", "modules_to_not_convert": ["down_proj"] }), "a list with down_proj"),
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
