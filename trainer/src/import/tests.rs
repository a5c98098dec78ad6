use std::fs;

use model::{
    Architecture, ModelTable, Tokenizer,
    hugging_face::{Float, Form},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    Checkpoint, convert, device,
    operation::check::sample,
    student::Student,
    tensor_file::{self, NewTensor, WEIGHTS, f32_bytes},
};

/// A folder as others write it.
struct Folder {
    place: tempfile::TempDir,
    config: ModelConfig,
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

impl Folder {
    /// BF16 weights of a student with one matrix of each kind.
    fn new(architecture: Architecture) -> Folder {
        let tokenizer = Tokenizer::train(std::iter::empty(), 300).unwrap();
        let table = json!({
            "architecture": architecture, "width": 256, "layers": 1, "heads": 4, "kv_heads": 2, "feed_forward": 256, "context": 32,
            "scale": "tensor",
        });
        // Three rows of the embedding stand for no token.
        let config = serde_json::from_value::<ModelTable>(table).unwrap().resolve(tokenizer.vocab() + 3).unwrap();
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("tokenizer.json"), tokenizer.to_json()).unwrap();
        let tensors = inventory(&config).into_iter().enumerate().map(|(at, spec)| {
            let bytes = sample(spec.len(), at as u64).iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
            (spec.name, Dtype::BF16, spec.shape, bytes)
        });
        let mut folder = Folder { tensors: tensors.collect(), place, config };
        folder.config_json(|_| ());
        folder
    }

    fn config_json(&mut self, change: impl FnOnce(&mut Value)) {
        let tokenizer = Tokenizer::train(std::iter::empty(), 300).unwrap();
        let text = model::hugging_face::config_json(&self.config, &tokenizer, Form::default());
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value.as_object_mut().unwrap().remove("tristill");
        change(&mut value);
        fs::write(self.place.path().join("config.json"), value.to_string()).unwrap();
    }

    fn put(&mut self, name: &str, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) {
        self.tensors.retain(|(other, ..)| other != name);
        self.tensors.push((name.to_owned(), dtype, shape, bytes));
    }

    /// Every linear layer as codes, with the numbers beside them; the codes themselves come back.
    fn pack(&mut self, class: &str, scale: f32, as_floats: bool) -> Vec<(TensorSpec, Vec<i8>)> {
        self.config_json(|value| {
            value["quantization_config"] = json!({ "quant_method": "bitnet", "linear_class": class, "quantization_mode": "offline" });
        });
        let linear = inventory(&self.config).into_iter().filter(|spec| spec.kind() == Kind::Linear);
        let mut all = Vec::new();
        for (at, spec) in linear.enumerate() {
            let found: Vec<i8> = sample(spec.len(), 50 + at as u64).iter().map(|x| (x * 1.6) as i8).collect();
            let (rows, columns) = (spec.shape[0], spec.shape[1]);
            if as_floats {
                let floats: Vec<f32> = found.iter().map(|code| f32::from(*code)).collect();
                self.put(&spec.name, Dtype::F32, vec![rows, columns], f32_bytes(&floats));
            } else {
                self.put(&spec.name, Dtype::U8, vec![rows / 4, columns], codes::pack(&found, rows, columns).unwrap());
            }
            self.put(&scale_name(&spec), Dtype::F32, vec![1], f32_bytes(&[scale]));
            all.push((spec, found));
        }
        all
    }

    fn open(&self) -> Result<Checkpoint, Error> {
        let heads: Vec<NewTensor> = self
            .tensors
            .iter()
            .map(|(name, dtype, shape, _)| NewTensor { name: name.clone(), dtype: *dtype, shape: shape.clone() })
            .collect();
        tensor_file::write(&self.place.path().join(WEIGHTS), &heads, |index| Ok(self.tensors[index].3.clone())).unwrap();
        Checkpoint::open(self.place.path())
    }
}

/// The logits of a few tokens.
fn logits(checkpoint: &Checkpoint) -> Vec<f32> {
    let config = &checkpoint.config;
    let Ok(student) = Student::from_tensors(config, |spec| Ok::<_, ()>(checkpoint.weights(spec)), &device::cpu()) else { unreachable!() };
    student.logits(&[3, 262, 17, 8])
}

#[test]
fn a_folder_of_every_architecture_is_opened_and_written_back() {
    for architecture in [Architecture::Bitnet, Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
        let folder = Folder::new(architecture);
        let checkpoint = folder.open().unwrap();
        assert_eq!(checkpoint.config, folder.config);
        assert_eq!(checkpoint.tokenizer.vocab() + 3, checkpoint.config.vocab);
        let expected = logits(&checkpoint);
        for (name, float, is_packed) in
            [("f32", Float::F32, false), ("bf16", Float::Bf16, false), ("codes", Float::F32, true), ("short", Float::Bf16, true)]
        {
            let written = folder.place.path().join(name);
            let mut seen = Vec::new();
            convert(&checkpoint, &written, Form { float, is_packed }, &mut |done, total| seen.push((done, total))).unwrap();
            let total = checkpoint.config.parameters() as u64;
            assert!(seen.is_sorted() && seen.last() == Some(&(total, total)));
            let again = Checkpoint::open(&written).unwrap();
            assert_eq!((&again.config, &again.chat), (&checkpoint.config, &checkpoint.chat));
            assert_eq!(logits(&again), expected, "{architecture:?} {name}");
        }
        let message = convert(&checkpoint, &folder.place.path().join("f32"), Form::default(), &mut |_, _| ()).unwrap_err().to_string();
        assert!(message.contains("f32: it is there already"), "{message}");
    }
}

#[test]
fn codes_become_weights_that_quantise_to_them() {
    for (class, number, as_floats) in [("autobitlinear", 0.75, false), ("bitlinear", 4.0 / 3.0, false), ("autobitlinear", 0.75, true)] {
        let mut folder = Folder::new(Architecture::Bitnet);
        let expected = folder.pack(class, number, as_floats);
        let checkpoint = folder.open().unwrap();
        assert_eq!((checkpoint.config.quant, checkpoint.config.scale), (Quant::Ternary, Scale::Tensor));
        for (spec, codes) in expected {
            for scale in [Scale::Tensor, Scale::Row, Scale::Group] {
                let weights = checkpoint.weights_for(&spec, Quant::Ternary, scale);
                let matrix = ternary::quantize(&weights, spec.shape[0], spec.shape[1], scale);
                assert_eq!(matrix.codes, codes, "{class} {}", spec.name);
                assert!(matrix.scales.iter().all(|scale| *scale == f16::from_f32(0.75)), "{class} {}", spec.name);
            }
            let plain = checkpoint.weights_for(&spec, Quant::None, Scale::Row);
            assert!(plain.iter().zip(&codes).all(|(weight, code)| *weight == 0.75 * f32::from(*code)));
        }
    }
}

#[test]
fn every_fault_of_a_folder_is_named_in_one_error() {
    let mut folder = Folder::new(Architecture::Qwen2);
    folder.pack("bitlinear", 0.5, false);
    folder.tensors.retain(|(name, ..)| !name.ends_with("k_proj.bias") && !name.ends_with("up_proj.weight_scale"));
    folder.put("model.layers.0.self_attn.q_proj.weight", Dtype::U8, vec![64, 256], vec![0b11; 64 * 256]);
    folder.put("model.layers.0.self_attn.o_proj.weight", Dtype::U8, vec![256, 256], vec![0; 256 * 256]);
    folder.put("model.layers.0.self_attn.k_proj.weight_scale", Dtype::F32, vec![1], f32_bytes(&[f32::NAN]));
    folder.put("model.layers.0.self_attn.v_proj.weight_scale", Dtype::F32, vec![2], f32_bytes(&[1.0; 2]));
    folder.put("model.norm.weight", Dtype::I32, vec![256], vec![0; 1024]);
    folder.put("lm_head.weight", Dtype::F32, vec![1], f32_bytes(&[1.0]));
    folder.put("model.layers.0.self_attn.rotary_emb.inv_freq", Dtype::F32, vec![2], f32_bytes(&[1.0, 0.1]));
    folder.put("model.layers.0.extra", Dtype::F32, vec![1], f32_bytes(&[1.0]));
    let message = folder.open().unwrap_err().to_string();
    for part in [
        "k_proj.bias is missing",
        "up_proj.weight_scale is missing",
        "q_proj.weight holds a code that is not -1, 0 or 1",
        "o_proj.weight has the shape [256, 256], [64, 256] was needed, four codes to a byte",
        "k_proj.weight_scale stands for NaN",
        "v_proj.weight_scale is no single float",
        "model.norm.weight is stored as I32",
        "lm_head.weight is not model.embed_tokens.weight",
        "inv_freq has other frequencies than config.json says",
        "model.layers.0.extra is no tensor of this student",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn what_a_folder_repeats_is_no_fault() {
    let mut folder = Folder::new(Architecture::Llama);
    let embedding = folder.tensors.iter().find(|(name, ..)| name == "model.embed_tokens.weight").unwrap().clone();
    folder.put("lm_head.weight", embedding.1, embedding.2, embedding.3);
    let frequencies: Vec<f32> = folder.config.rotary_frequencies().into_iter().map(|frequency| frequency as f32).collect();
    folder.put("model.layers.0.self_attn.rotary_emb.inv_freq", Dtype::F32, vec![32], f32_bytes(&frequencies));
    folder.open().unwrap();
}

#[test]
fn a_vocabulary_smaller_than_the_tokenizer_is_refused() {
    let mut folder = Folder::new(Architecture::Llama);
    folder.config_json(|value| value["vocab_size"] = json!(200));
    let message = folder.open().unwrap_err().to_string();
    assert!(message.contains("vocab_size is 200, tokenizer.json has 2"), "{message}");
}

#[test]
fn what_packed_codes_cannot_hold_is_refused() {
    let folder = Folder::new(Architecture::Llama);
    let refused = |checkpoint: &Checkpoint, form: Form| {
        let message = convert(checkpoint, &folder.place.path().join("out"), form, &mut |_, _| ()).unwrap_err().to_string();
        assert!(!folder.place.path().join("out").exists() && !folder.place.path().join(".partial-out").exists());
        message
    };
    let mut checkpoint = folder.open().unwrap();
    checkpoint.config.scale = Scale::Row;
    let packed = Form { float: Float::F32, is_packed: true };
    assert!(refused(&checkpoint, packed).contains("ternary with a scale for each row"));
    let mut folder = Folder::new(Architecture::Llama);
    folder.put("model.norm.weight", Dtype::F32, vec![256], f32_bytes(&[1e6; 256]));
    assert!(
        refused(&folder.open().unwrap(), Form { float: Float::F16, is_packed: false })
            .contains("model.norm.weight has a weight of 1000000")
    );
    folder.put("model.norm.weight", Dtype::F32, vec![256], f32_bytes(&[f32::NAN; 256]));
    assert!(refused(&folder.open().unwrap(), Form::default()).contains("weight 0 of model.norm.weight is NaN"));
}
