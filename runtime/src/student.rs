//! A packed student, opened: its weights laid out for the kernels, its tokenizer and its chat template.
//!
//! The file is mapped while it is read and not afterwards: what runs is the layout in memory.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use model::{ChatTemplate, ModelConfig, Packed, Tokenizer, packed::I2sOrder};

#[cfg(test)]
use crate::kernel::Packing;
use crate::{
    Error,
    kernel::{Bits, Pool},
    linear::Layout,
    load,
    network::Network,
    random,
};

/// A token for each byte and the special ones, with a margin.
const BYTE_VOCABULARY: usize = 300;

/// A packed student, ready to run. Any number of [`crate::Engine`]s may share one.
pub struct Student {
    pub(crate) network: Network,
    tokenizer: Tokenizer,
    chat: ChatTemplate,
    name: String,
}

impl Student {
    /// Open a packed file. Where its tensors are I2_S, which a file by others may have, the environment variable `TRISTILL_I2_S` says
    /// whether they were written on `x86` or on `arm`.
    pub fn open(path: &Path) -> Result<Student, Error> {
        if path.is_dir() {
            let inside = path.join("student.gguf");
            let (inside, is_there) = (inside.display(), inside.exists());
            let meant = if is_there { format!("{inside} is its packed student") } else { "a packed student is one file".to_owned() };
            let source = io::Error::new(io::ErrorKind::IsADirectory, format!("it is a folder; {meant}"));
            return Err(Error::File { path: path.to_owned(), source });
        }
        let order = match std::env::var_os("TRISTILL_I2_S") {
            None => None,
            Some(name) if name == "x86" => Some(I2sOrder::X86),
            Some(name) if name == "arm" => Some(I2sOrder::Arm),
            Some(name) => return Err(Error::I2s { found: name.to_string_lossy().into_owned() }),
        };
        Student::open_with(path, order)
    }

    /// As [`Student::open`], with the order of I2_S tensors given here.
    pub fn open_with(path: &Path, order: Option<I2sOrder>) -> Result<Student, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // SAFETY: a map is only sound while no one shortens the file. Students are written to another name and renamed, so that a
        // file that is being read is never changed; who truncates one by other means stops the program.
        let bytes = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Student::load(&bytes, path, order, None, &|| {
            // What was laid out need not stay in memory a second time. The whole map, because the system also brings pages around those that
            // were looked at, before and behind them. Where this fails, they merely stay.
            // SAFETY: the map is of a file and read-only, so that a page which is looked at again is the file's once more.
            #[cfg(unix)]
            let _ = unsafe { bytes.unchecked_advise(UncheckedAdvice::DontNeed) };
        })
    }

    /// A student of random weights, made in memory: for measuring a shape's speed without a file. Its embedding and head are in so
    /// many bits where the width is whole blocks of them, and else in f32. Its tokenizer knows bytes only, whatever the vocabulary.
    pub fn random(config: &ModelConfig, head: Bits, seed: u64) -> Result<Student, Error> {
        Network::check(config)?;
        let tokenizer = Tokenizer::train(std::iter::empty(), BYTE_VOCABULARY).expect("a tokenizer of bytes can be made of no text");
        let network = random::network(config, head, Layout::best(config), seed, &Pool::new(threads()));
        Ok(Student { network, tokenizer, chat: ChatTemplate::chatml(), name: "random".into() })
    }

    /// From the bytes of a packed file; `path` is for messages.
    #[cfg(test)]
    pub(crate) fn read(bytes: &[u8], path: &Path, packing: Packing) -> Result<Student, Error> {
        Student::load(bytes, path, None, Some(Layout { packing, apart: packing == Packing::Four }), &|| ())
    }

    /// `done` as for [`load::network`].
    fn load(bytes: &[u8], path: &Path, order: Option<I2sOrder>, layout: Option<Layout>, done: &dyn Fn()) -> Result<Student, Error> {
        let packed = Packed::parse_with(bytes, order).map_err(|source| Error::Format { path: PathBuf::from(path), source })?;
        let pool = Pool::new(threads());
        let network = load::network(&packed, bytes, &pool, layout.unwrap_or_else(|| Layout::best(&packed.config)), done)?;
        Ok(Student { network, tokenizer: packed.tokenizer, chat: packed.chat, name: packed.name })
    }

    /// Its sizes.
    pub fn config(&self) -> &ModelConfig {
        &self.network.config
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Its chat template.
    pub fn chat(&self) -> &ChatTemplate {
        &self.chat
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of weights that decoding one token reads.
    pub fn bytes_per_token(&self) -> usize {
        self.network.bytes_per_token()
    }
}

/// Threads that lay weights out.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
