//! Ten thousand damaged files: each is read and run, or refused with a sentence. None panics, and none takes more memory than its
//! size justifies. The damage is drawn from a fixed seed, so that a case that fails fails again.

mod damaged_files {
    pub mod damage;
    pub mod memory;
    pub mod run;
    pub mod sound;
}

use std::{fs, panic};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use damaged_files::{damage::Damage, memory, run::run, sound};

const CASES: usize = 10_000;
/// What opening and running may allocate: beside a part that grows with the file, what a sound file takes too for the vocabulary's
/// tables, the threads, the pre-tokenizer's pattern and a page of keys and values. Weights that are laid out lie in pages of their
/// own; they are as large as the tensors, which were found to lie in the file.
const MEMORY_FACTOR: usize = 8;
const MEMORY_BYTES: usize = 4 << 20;

#[test]
fn damaged_files_are_run_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bases: Vec<Damage> = sound::files(folder.path()).into_iter().map(Damage::new).collect();
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
