//! Files that others write: the same student in their formats gives the same logits to the last bit, and what cannot be read is
//! refused with what is missing and what to do.

use std::{fs, path::Path, sync::Arc};

use model::{
    Activation, Architecture, ChatTemplate, Error, InputQuant, ModelTable, Packed, Quant, Scale, TensorSpec, Tokenizer,
    block::{Format, decode_row, decode_ternary, encode_float},
    gguf::{self, Gguf, NewTensor, Tensor, Value},
    packed::{self, I2sOrder},
    ternary::GROUP,
};
use tristill_runtime::{Engine, Options, Student};

const PROMPT: [u32; 5] = [7, 100, 3, 42, 9];

fn weights(spec: &TensorSpec) -> Result<Vec<f32>, Error> {
    let mut state = spec.name.bytes().fold(7u32, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
    Ok((0..spec.len())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - if spec.shape.len() == 1 { -0.5 } else { 0.5 }
        })
        .collect())
}

/// A student that was packed here.
fn packed(architecture: Architecture, activation: Activation, folder: &Path) -> Vec<u8> {
    let tokenizer = Tokenizer::train(vec!["one two three four".to_owned(); 3].into_iter(), 270).unwrap();
    let table = ModelTable {
        architecture,
        width: 256,
        layers: 2,
        heads: 4,
        kv_heads: Some(2),
        feed_forward: 512,
        context: 64,
        activation,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
        quant: Quant::Ternary,
        scale: Scale::Tensor,
        activations: InputQuant::Int8,
    };
    let config = table.resolve(tokenizer.vocab()).unwrap();
    let path = folder.join("packed.gguf");
    let options = packed::Options { name: "packed".into(), ternary: Format::Tq2_0 };
    packed::write::<Error>(&path, &config, &tokenizer, &ChatTemplate::chatml(), &options, weights).unwrap();
    fs::read(path).unwrap()
}

type Written = Vec<(String, Vec<usize>, Format, Vec<u8>)>;

/// The same file as others would write it: without values of ours, and each tensor as `change` makes it.
fn rewritten(bytes: &[u8], path: &Path, change: impl Fn(&Tensor, &[u8]) -> Written) {
    let gguf = Gguf::parse(bytes).unwrap();
    let metadata: Vec<(String, Value)> = gguf.metadata.iter().filter(|(key, _)| !key.starts_with("tristill.")).cloned().collect();
    let written: Written = gguf.tensors.iter().flat_map(|tensor| change(tensor, &bytes[tensor.range.clone()])).collect();
    let heads: Vec<NewTensor> =
        written.iter().map(|(name, shape, format, _)| NewTensor { name: name.clone(), shape: shape.clone(), format: *format }).collect();
    gguf::write::<Error>(path, &metadata, &heads, |index| Ok(written[index].3.clone())).unwrap();
}

fn unchanged(tensor: &Tensor, bytes: &[u8]) -> Written {
    vec![(tensor.name.clone(), tensor.shape.clone(), tensor.format, bytes.to_vec())]
}

/// A ternary tensor's codes and the one scale that it has.
fn codes(tensor: &Tensor, bytes: &[u8]) -> (Vec<i8>, f32) {
    let mut all = Vec::new();
    let mut scale = 0.0;
    for block in bytes.chunks_exact(tensor.format.block().1) {
        let mut codes = [0; GROUP];
        scale = decode_ternary(block, tensor.format, &mut codes).unwrap().to_f32();
        all.extend(codes);
    }
    (all, scale)
}

fn as_i2s(codes: &[i8], scale: f32, lanes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in codes.chunks_exact(4 * lanes) {
        bytes.extend((0..lanes).map(|m| (0..4).map(|quarter| ((run[m + lanes * quarter] + 1) as u8) << (6 - 2 * quarter)).sum::<u8>()));
    }
    bytes.extend(scale.to_le_bytes());
    bytes.extend([0; 28]);
    bytes
}

fn logits(student: Student) -> Vec<u32> {
    let mut engine = Engine::new(Arc::new(student), &Options { threads: 1, slots: 1, ..Options::default() }).unwrap();
    engine.logits(&PROMPT).unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn i2s_of_either_machine_is_the_same_student() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i2s.gguf");
    for (architecture, activation) in [(Architecture::Bitnet, Activation::Relu2), (Architecture::Llama, Activation::Silu)] {
        let bytes = packed(architecture, activation, folder.path());
        let expected = logits(Student::open(&folder.path().join("packed.gguf")).unwrap());
        for (order, format, lanes) in [(I2sOrder::X86, Format::I2sX86, 32), (I2sOrder::Arm, Format::I2sArm, 16)] {
            rewritten(&bytes, &path, |tensor, bytes| {
                if !tensor.format.is_ternary() {
                    return unchanged(tensor, bytes);
                }
                let (codes, scale) = codes(tensor, bytes);
                vec![(tensor.name.clone(), tensor.shape.clone(), format, as_i2s(&codes, scale, lanes))]
            });
            let message = Packed::parse(&fs::read(&path).unwrap()).unwrap_err().to_string();
            assert!(message.contains("set TRISTILL_I2_S=x86"), "{message}");
            let student = Student::open_with(&path, Some(order)).unwrap();
            assert_eq!((student.config().scale, student.config().activation), (Scale::Tensor, activation));
            assert!(logits(student) == expected, "{order:?} {architecture:?}");
            let other = if order == I2sOrder::X86 { I2sOrder::Arm } else { I2sOrder::X86 };
            assert!(logits(Student::open_with(&path, Some(other)).unwrap()) != expected, "the orders make a difference");
        }
    }
}

#[test]
fn a_scale_of_its_own_is_multiplied_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scaled.gguf");
    let bytes = packed(Architecture::Bitnet, Activation::Silu, folder.path());
    let expected = logits(Student::open(&folder.path().join("packed.gguf")).unwrap());
    let write = |kind: Format, length: usize| {
        rewritten(&bytes, &path, |tensor, bytes| {
            if !tensor.format.is_ternary() {
                return unchanged(tensor, bytes);
            }
            let (_, scale) = codes(tensor, bytes);
            let mut ones = bytes.to_vec();
            ones.chunks_exact_mut(66).for_each(|block| block[64..].copy_from_slice(&half::f16::ONE.to_le_bytes()));
            let own = tensor.name.replace(".weight", ".scale");
            vec![
                (tensor.name.clone(), tensor.shape.clone(), tensor.format, ones),
                (own, vec![length], kind, encode_float(&vec![scale; length], kind)),
            ]
        });
    };
    write(Format::F32, 1);
    assert!(logits(Student::open(&path).unwrap()) == expected);
    for (kind, length) in [(Format::F32, 2), (Format::F16, 1)] {
        write(kind, length);
        let message = Packed::parse(&fs::read(&path).unwrap()).unwrap_err().to_string();
        assert!(message.contains("attn_q.scale is") && message.contains("one F32 was needed"), "{message}");
    }
}

#[test]
fn embeddings_of_any_format_are_those_that_they_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("embedding.gguf");
    let bytes = packed(Architecture::Qwen3, Activation::Silu, folder.path());
    for format in [Format::Q4_0, Format::Q6K, Format::Q2_0, Format::F16, Format::Bf16] {
        let mut found = Vec::new();
        for plain in [false, true] {
            rewritten(&bytes, &path, |tensor, bytes| {
                if tensor.name != "token_embd.weight" {
                    return unchanged(tensor, bytes);
                }
                let columns = tensor.shape[1];
                let row_bytes = format.row_bytes(columns).unwrap();
                // No exponent of a float is all ones in these bytes, so that every number is finite.
                let stored: Vec<u8> = (0..tensor.shape[0] * row_bytes).map(|i| (i * 7919 % 251) as u8 & 0xbb).collect();
                if !plain {
                    return vec![(tensor.name.clone(), tensor.shape.clone(), format, stored)];
                }
                let mut floats = vec![0.0; tensor.shape[0] * columns];
                for (row, stored) in floats.chunks_exact_mut(columns).zip(stored.chunks_exact(row_bytes)) {
                    decode_row(format, stored, row).unwrap();
                }
                vec![(tensor.name.clone(), tensor.shape.clone(), Format::F32, encode_float(&floats, Format::F32))]
            });
            found.push(logits(Student::open(&path).unwrap()));
        }
        // A head of 4 or 6 bits stays so, and is multiplied with activations of 8 bits.
        let tolerance = if matches!(format, Format::Q4_0 | Format::Q6K) { 0.02 } else { 0.0 };
        let [stored, plain] = [0, 1].map(|at| found[at].iter().map(|bits| f32::from_bits(*bits)).collect::<Vec<_>>());
        let largest = plain.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
        let apart = stored.iter().zip(&plain).fold(0.0, |apart: f32, (a, b)| apart.max((a - b).abs()));
        assert!(apart <= tolerance * largest, "{}: {apart} apart of {largest}", format.name());
    }
}

#[test]
fn rotary_frequencies_are_divided_as_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stretched.gguf");
    let bytes = packed(Architecture::Llama, Activation::Silu, folder.path());
    let plain = logits(Student::open(&folder.path().join("packed.gguf")).unwrap());
    let with_divisors = |divisors: Vec<f32>| {
        rewritten(&bytes, &path, |tensor, bytes| {
            let mut written = unchanged(tensor, bytes);
            if tensor.name == "token_embd.weight" {
                let stored = encode_float(&divisors, Format::F32);
                written.push(("rope_freqs.weight".to_owned(), vec![divisors.len()], Format::F32, stored));
            }
            written
        });
        Student::open(&path).map(logits)
    };
    assert!(with_divisors(vec![1.0; 32]).ok().unwrap() == plain);
    let divided = with_divisors(vec![4.0; 32]).ok().unwrap();
    assert!(divided != plain);
    let message = with_divisors(vec![1.0; 31]).err().unwrap().to_string();
    assert!(message.contains("rope_scaling is a list of 31 numbers, but 32 positive ones were needed"), "{message}");

    // The other way to say the same.
    let gguf = Gguf::parse(&bytes).unwrap();
    let mut metadata: Vec<(String, Value)> = gguf.metadata.iter().filter(|(key, _)| !key.starts_with("tristill.")).cloned().collect();
    metadata.push(("llama.rope.scaling.factor".into(), Value::F32(4.0)));
    let heads: Vec<NewTensor> = gguf
        .tensors
        .iter()
        .map(|tensor| NewTensor { name: tensor.name.clone(), shape: tensor.shape.clone(), format: tensor.format })
        .collect();
    gguf::write::<Error>(&path, &metadata, &heads, |index| Ok(bytes[gguf.tensors[index].range.clone()].to_vec())).unwrap();
    assert!(logits(Student::open(&path).unwrap()) == divided);
}

#[test]
fn what_does_not_belong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.gguf");
    let bytes = packed(Architecture::Llama, Activation::Silu, folder.path());
    rewritten(&bytes, &path, |tensor, bytes| {
        if tensor.name != "blk.1.ffn_down.weight" {
            return unchanged(tensor, bytes);
        }
        let stored = vec![0; Format::Q4_0.tensor_bytes(tensor.shape[0], tensor.shape[1]).unwrap()];
        let extra = ("surprise.weight".to_owned(), vec![32], Format::F32, vec![0; 128]);
        vec![(tensor.name.clone(), tensor.shape.clone(), Format::Q4_0, stored), extra]
    });
    let message = Student::open(&path).err().unwrap().to_string();
    for part in ["blk.1.ffn_down.weight is stored as Q4_0, but other linear layers are ternary", "surprise.weight is no tensor"] {
        assert!(message.contains(part), "{message}");
    }
}
