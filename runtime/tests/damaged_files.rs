//! Ten thousand damaged files: each is read and run, or refused with a sentence. None panics, and none takes more memory than its
//! size justifies. The damage is drawn from a fixed seed, so that a case that fails fails again.

mod damaged_files {
    pub mod damage;
    pub mod memory;
}

use std::{fs, panic, path::Path, sync::Arc};

use model::{
    Activation, Architecture, ChatTemplate, Error, InputQuant, Message, ModelTable, Quant, Scale, TensorSpec, Tokenizer, block::Format,
    packed,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tristill_runtime::{Engine, Options, Request, Student};

use damaged_files::{damage::Damage, memory};

const CASES: usize = 10_000;
/// What opening and running may allocate: beside a part that grows with the file, what a sound file takes too for the vocabulary's
/// tables, the threads, the pre-tokenizer's pattern and a page of keys and values. Weights that are laid out lie in pages of their
/// own; they are as large as the tensors, which were found to lie in the file.
const MEMORY_FACTOR: usize = 8;
const MEMORY_BYTES: usize = 4 << 20;

fn weights(spec: &TensorSpec) -> Result<Vec<f32>, Error> {
    Ok((0..spec.len()).map(|i| ((i * 31 + spec.name.len()) % 17) as f32 * 0.1 - 0.8).collect())
}

/// Small files of different kinds.
fn sound_files(folder: &Path) -> Vec<Vec<u8>> {
    let tokenizer = Tokenizer::train(vec!["one two three four".to_owned(); 3].into_iter(), 270).unwrap();
    let file = |architecture, quant, ternary, width| {
        let table = ModelTable {
            architecture,
            width,
            layers: 1,
            heads: 4,
            kv_heads: Some(2),
            feed_forward: width,
            context: 64,
            activation: Activation::Silu,
            rope_base: 10_000.0,
            norm_epsilon: 1e-5,
            quant,
            scale: Scale::Row,
            activations: InputQuant::Int8,
        };
        let config = table.resolve(tokenizer.vocab()).unwrap();
        let path = folder.join("sound.gguf");
        let options = packed::Options { name: "sound".into(), ternary };
        packed::write::<Error>(&path, &config, &tokenizer, &ChatTemplate::chatml(), &options, weights).unwrap();
        fs::read(path).unwrap()
    };
    vec![
        file(Architecture::Bitnet, Quant::Ternary, Format::Tq2_0, 256),
        file(Architecture::Llama, Quant::Ternary, Format::Tq1_0, 256),
        file(Architecture::Qwen2, Quant::None, Format::Tq2_0, 32),
        file(Architecture::Qwen3, Quant::None, Format::Tq2_0, 32),
        file(Architecture::Llama, Quant::Int4, Format::Tq2_0, 32),
    ]
}

/// Open a file and have it answer; the text of the error where it does not come to that.
fn run(path: &Path) -> Result<(), String> {
    let student = Arc::new(Student::open(path).map_err(|error| error.to_string())?);
    let _ = student.chat().render(&[Message::user("three")], true);
    let options = Options { threads: 1, slots: 1, ..Options::default() };
    let mut engine = Engine::new(student, &options).map_err(|error| error.to_string())?;
    engine.generate(Request::greedy(vec![1, 2, 3], 3)).map_err(|error| error.to_string())?;
    Ok(())
}

#[test]
fn damaged_files_are_run_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bases: Vec<Damage> = sound_files(folder.path()).into_iter().map(Damage::new).collect();
    let path = folder.path().join("damaged.gguf");
    for base in &bases {
        fs::write(&path, base.sound()).unwrap();
        run(&path).unwrap();
    }
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut ran, mut refused) = (0, 0);
    for case in 0..CASES {
        let base = &bases[random.random_range(0..bases.len())];
        let (kind, bytes) = base.draw(&mut random);
        fs::write(&path, &bytes).unwrap();
        let before = memory::start();
        let outcome = panic::catch_unwind(|| run(&path));
        let peak = memory::peak() - before;
        match outcome {
            Err(_) => panic!("case {case} ({kind}) panicked"),
            Ok(Ok(())) => ran += 1,
            Ok(Err(message)) => {
                assert!(!message.is_empty());
                refused += 1;
            }
        }
        let limit = MEMORY_FACTOR * bytes.len() + MEMORY_BYTES;
        assert!(peak <= limit, "case {case} ({kind}) took {peak} bytes for a file of {}, at most {limit} are justified", bytes.len());
    }
    // Damage that is always caught early, or never, would test little.
    assert!(ran > CASES / 10 && refused > CASES / 10, "{ran} ran, {refused} were refused");
}
