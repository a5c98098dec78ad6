//! What can go wrong between a packed file and its tokens.

use std::path::PathBuf;

/// Why a student could not be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An instruction set that does not exist or that this CPU lacks.
    #[error("TRISTILL_ISA is {name:?}, which this CPU cannot run; it can run {supported}")]
    Isa {
        /// What was asked for.
        name: String,
        /// What this CPU has, separated by commas.
        supported: String,
    },
    /// The file cannot be read.
    #[error("cannot open {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a packed student.
    #[error("cannot open {}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found in it.
        source: model::Error,
    },
    /// A setting of the environment that means nothing.
    #[error("TRISTILL_I2_S is {found:?}; x86 or arm was needed")]
    I2s {
        /// What was asked for.
        found: String,
    },
    /// A tensor whose contents make no sense.
    #[error("tensor {tensor}: {found}; the file is damaged, fetch or export it again")]
    Tensor {
        /// Its name in the file.
        tensor: String,
        /// What was found.
        found: String,
    },
    /// A layer that the kernels' sums cannot hold.
    #[error("a layer of {found} inputs: the kernels' sums hold at most {limit}")]
    Width {
        /// Its inputs.
        found: usize,
        /// The most there may be.
        limit: usize,
    },
    /// A request without a prompt, or with tokens that the student does not know.
    #[error("a request {0}")]
    Request(String),
    /// A prompt that leaves no room for a token.
    #[error("a prompt of {found} tokens: the context holds {limit}, and the answer needs at least one; shorten it")]
    Context {
        /// Tokens of the prompt.
        found: usize,
        /// The longest sequence.
        limit: usize,
    },
    /// A sequence that the key and value cache cannot hold.
    #[error("a sequence of up to {needed} tokens: the cache holds {limit}; ask for fewer tokens or give the engine a larger cache")]
    Cache {
        /// Tokens of the prompt and the longest answer.
        needed: usize,
        /// Tokens of the whole cache.
        limit: usize,
    },
    /// A text without room for itself.
    #[error("a text of {found} tokens: the context holds {limit}; shorten it")]
    Text {
        /// Its tokens.
        found: usize,
        /// The longest sequence.
        limit: usize,
    },
    /// Threads that cannot be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// A sampling setting that means nothing.
    #[error("sampling {key} is {found}, {needed}")]
    Sampling {
        /// The setting.
        key: &'static str,
        /// Its value.
        found: String,
        /// What would be right.
        needed: &'static str,
    },
}
