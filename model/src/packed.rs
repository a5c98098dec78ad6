//! The one file: a student as GGUF, written so that stock llama.cpp loads it, read by the runtime.
//!
//! Ternary matrices are written as TQ2_0 or TQ1_0, or as Q2_0 where their rows are no whole number of 256; those of 8 or 4 bits as Q8_0
//! or Q4_0, embedding and head as Q8_0, norms as F32, a full-precision student's matrices as F16; what stock readers do not need to
//! know stands under `tristill.*`. Files by others may hold every format of `block.rs`.

mod read;
mod write;

use std::ops::Range;

use crate::{Activation, Architecture, ChatTemplate, ModelConfig, Role, RopeScaling, TensorSpec, Tokenizer, block::Format};

pub use write::write;

/// The version of the `tristill.*` values.
const VERSION: u32 = 1;
/// The tensor of what each rotary frequency is divided by, where they are not all divided by the same.
const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// What may be chosen when a student is packed.
#[derive(Clone, Debug)]
pub struct Options {
    /// The student's name, shown by other tools.
    pub name: String,
    /// TQ2_0 (faster) or TQ1_0 (smaller), for rows that are a whole number of 256 weights.
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
    /// What every weight is multiplied with after it is decoded: the scale of an I2_S tensor, times that of a `.scale` tensor.
    /// 1 in the files that are written here.
    pub factor: f32,
}

/// On which machine a file's I2_S tensors were written. The two orders have one number in the file and the same codes, so that
/// nothing in a file tells them apart; most published files come from x86.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum I2sOrder {
    /// Runs of 128 weights.
    X86,
    /// Runs of 64 weights.
    Arm,
}

impl Packed {
    /// Total bytes of the tensors.
    pub fn tensor_bytes(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.range.len()).sum()
    }
}

/// Why stock llama.cpp cannot run a student, or `None` if it can.
pub fn stock_refusal(config: &ModelConfig) -> Option<&'static str> {
    let has_divisors = matches!(config.rope_scaling, Some(RopeScaling::Llama3 { .. } | RopeScaling::Factors { .. }));
    match (config.architecture, config.activation) {
        (_, Activation::Relu2) => Some("its gate is a squared ReLU; stock llama.cpp computes SwiGLU"),
        (_, Activation::Silu) if config.sub_norms => Some(
            "it has norms before its output and down projections (SubLN), which stock llama.cpp computes for bitnet alone: a llama with a \
             tied head, without biases and norms of heads",
        ),
        (Architecture::Bitnet | Architecture::Qwen2 | Architecture::Qwen3, Activation::Silu) if has_divisors => {
            Some("its rotary frequencies are scaled as Llama 3.1's are; stock llama.cpp does that for llama alone")
        }
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

#[cfg(test)]
mod tests {
    use super::{read::find_tensors, *};
    use crate::{
        Error, InputQuant, Kind, Quant, Scale,
        block::encode_integers,
        config::tests::table,
        gguf::{Gguf, Value},
        integer, inventory,
    };

    fn weights(spec: &TensorSpec) -> Result<Vec<f32>, Error> {
        Ok((0..spec.len()).map(|i| ((i * 31 + spec.name.len()) % 17) as f32 * 0.1 - 0.8).collect())
    }

    fn packed(change: impl Fn(&mut crate::ModelTable), options: &Options) -> (ModelConfig, Vec<u8>) {
        let mut table = table();
        change(&mut table);
        pack(table.resolve(tokenizer().vocab()).unwrap(), options)
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(vec!["one two three".to_owned(); 4].into_iter(), 270).unwrap()
    }

    fn pack(config: ModelConfig, options: &Options) -> (ModelConfig, Vec<u8>) {
        let tokenizer = tokenizer();
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
                for (quant, activations) in [
                    (Quant::None, InputQuant::Int8),
                    (Quant::Ternary, InputQuant::None),
                    (Quant::Int8, InputQuant::Int8),
                    (Quant::Int4, InputQuant::Int4),
                ] {
                    let change =
                        |table: &mut crate::ModelTable| (table.scale, table.quant, table.activations) = (scale, quant, activations);
                    let (config, bytes) = packed(change, &options(ternary));
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
    fn the_integers_of_a_file_are_those_of_the_reference() {
        for quant in [Quant::Int8, Quant::Int4] {
            let (_, bytes) = packed(|table| (table.quant, table.architecture) = (quant, Architecture::Qwen2), &options(Format::Tq2_0));
            let linear = Packed::parse(&bytes).unwrap().tensors.into_iter().filter(|tensor| tensor.spec.kind() == Kind::Linear);
            for PackedTensor { spec, format, range, .. } in linear {
                let expected = integer::quantize(&weights(&spec).unwrap(), spec.shape[0], spec.shape[1], quant.grid().unwrap());
                assert_eq!((format, &bytes[range]), (quant.grid().unwrap().format(), &encode_integers(&expected)[..]), "{}", spec.name);
            }
        }
    }

    #[test]
    fn a_file_that_says_its_layers_are_integers_must_have_them() {
        let (config, bytes) = packed(|table| table.quant = Quant::Int8, &options(Format::Tq2_0));
        let mut gguf = Gguf::parse(&bytes).unwrap();
        let tensor = gguf.tensors.iter_mut().find(|tensor| tensor.name == "blk.0.attn_q.weight").unwrap();
        tensor.format = Format::F16;
        let message = find_tensors(&gguf, &bytes, &config, None).unwrap_err().to_string();
        assert!(message.contains("blk.0.attn_q.weight is stored as F16, but other linear layers are Q8_0"), "{message}");
    }

    #[test]
    fn a_squared_relu_is_kept_from_stock_readers() {
        let (config, bytes) = packed(|table| table.activation = Activation::Relu2, &options(Format::Tq2_0));
        assert!(stock_refusal(&config).is_some());
        assert_eq!(Gguf::parse(&bytes).unwrap().get("general.architecture").and_then(Value::as_str), Some("bitnet-b1.58"));
        assert_eq!(Packed::parse(&bytes).unwrap().config, config);
    }

    #[test]
    fn sub_norms_make_a_bitnet_or_are_kept_from_stock_readers() {
        for architecture in [Architecture::Bitnet, Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3] {
            for tied_head in [true, false] {
                let table = crate::ModelTable { architecture, ..table() };
                let config = ModelConfig { tied_head, ..table.resolve(tokenizer().vocab()).unwrap() };
                let Ok(config) = config.validated() else { continue };
                let (config, bytes) = pack(config.with_sub_norms(), &options(Format::Tq2_0));
                assert_eq!(inventory(&config).iter().filter(|spec| spec.packed_name.ends_with("sub_norm.weight")).count(), 4);
                let is_bitnet = config.architecture == Architecture::Bitnet;
                assert_eq!(is_bitnet, tied_head && matches!(architecture, Architecture::Bitnet | Architecture::Llama));
                assert_eq!(stock_refusal(&config).is_none(), is_bitnet);
                let name = Gguf::parse(&bytes).unwrap().get("general.architecture").and_then(Value::as_str).unwrap().to_owned();
                assert_eq!(name.ends_with("-sub-norms"), !is_bitnet, "{name}");
                assert_eq!(Packed::parse(&bytes).unwrap().config, config);
            }
        }
    }

    #[test]
    fn scaled_frequencies_are_read_as_they_are_turned_by() {
        let llama3 = RopeScaling::Llama3 { factor: 8.0, low_frequency_factor: 1.0, high_frequency_factor: 4.0, original_context: 64 };
        for (scaling, is_named) in [(RopeScaling::Linear { factor: 4.0 }, true), (llama3, false)] {
            for architecture in [Architecture::Llama, Architecture::Qwen2] {
                let table = crate::ModelTable { architecture, ..table() };
                let config = ModelConfig { rope_scaling: Some(scaling.clone()), ..table.resolve(tokenizer().vocab()).unwrap() };
                let (config, bytes) = pack(config, &options(Format::Tq2_0));
                let read = Packed::parse(&bytes).unwrap().config;
                assert_eq!(read.rotary_frequencies(), config.rotary_frequencies());
                assert_ne!(read.rotary_frequencies(), ModelConfig { rope_scaling: None, ..config.clone() }.rotary_frequencies());
                assert_eq!(read == config, is_named);
                assert_eq!(stock_refusal(&config).is_some(), !is_named && architecture == Architecture::Qwen2);
            }
        }
    }

    #[test]
    fn rows_beyond_the_tokens_are_kept() {
        let table = crate::ModelTable { architecture: Architecture::Qwen2, ..table() };
        let (config, bytes) = pack(table.resolve(tokenizer().vocab() + 5).unwrap(), &options(Format::Tq2_0));
        let read = Packed::parse(&bytes).unwrap();
        assert_eq!((read.config, read.tokenizer.vocab()), (config, tokenizer().vocab()));
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
        let message = find_tensors(&gguf, &bytes, &config, None).unwrap_err().to_string();
        for part in ["blk.1.attn_q.weight is missing", "has shape [7], [256] was needed", "surprise is no tensor of this student"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn more_blocks_than_tensors_are_refused_before_they_are_listed() {
        let (_, mut bytes) = packed(|_| (), &options(Format::Tq2_0));
        let key = b"bitnet.block_count";
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
        bytes[at..at + 4].copy_from_slice(&4000u32.to_le_bytes());
        let message = Packed::parse(&bytes).unwrap_err().to_string();
        assert!(message.contains("bitnet.block_count is 4000, but it has only"), "{message}");
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
