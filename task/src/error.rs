//! What can go wrong with a whole problem set or its prompts; what is wrong with one line of a set is a [`crate::BadLine`].

use std::io;
use std::path::PathBuf;

/// Why a problem set cannot be used or asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file breaks off, as a gzip stream does that was not fetched to its end.
    #[error("cannot read {path} after line {line}: {source}; the file may be incomplete, fetch it again")]
    Read {
        /// The file.
        path: PathBuf,
        /// The last line that was read whole.
        line: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The name does not say what is inside.
    #[error("{path} ends in none of .jsonl, .json, .tsv and .csv (each also with .gz); rename it")]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// A `.json` file that is no array of objects.
    #[error("{path} is not a JSON array of objects: {what}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser found, with its line.
        what: String,
    },
    /// A file that is larger than this reader takes in one piece.
    #[error("{path} has a JSON text of more than {limit_bytes} bytes; write it as .jsonl")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many bytes are taken.
        limit_bytes: u64,
    },
    /// No line of the file is what was looked for.
    #[error("{path} holds no {needed}; {bad} of its lines are none, the first: {first}")]
    Empty {
        /// The file.
        path: PathBuf,
        /// `problem`, `question of multiple choice`, `recorded completion`.
        needed: &'static str,
        /// How many lines are bad.
        bad: usize,
        /// What is wrong with the first.
        first: String,
    },
    /// A prompt with examples, and no examples to draw from.
    #[error("cannot write a prompt with {needed} solved examples: found {found} problems to draw from; name the training set of examples")]
    Examples {
        /// How many there are.
        found: usize,
        /// How many the prompt has.
        needed: usize,
    },
}
