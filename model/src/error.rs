//! The one error of the crate: a sentence that says what was being done, what was found and what was needed.

use std::path::PathBuf;

/// What can go wrong when a student is described, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A size or setting that no student can have.
    #[error("model.{key} is {found}, {needed}")]
    Config {
        /// The key of the `[model]` table.
        key: &'static str,
        /// The value found there.
        found: String,
        /// What would be right.
        needed: String,
    },
    /// A packed file whose bytes are not a valid GGUF file, or not a student's.
    #[error("cannot read the packed file: {0}")]
    Packed(String),
    /// A Hugging Face folder's `config.json` that is not a student's.
    #[error("cannot read {}: {found}", path.display())]
    HuggingFace {
        /// The file.
        path: PathBuf,
        /// What was found there, with the key.
        found: String,
    },
    /// A tokenizer that cannot be read, trained or stored.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A chat template that does not parse or render.
    #[error("chat template: {0}")]
    Chat(String),
    /// A file that cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `create`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
