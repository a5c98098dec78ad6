//! The one error of the crate: a sentence that says what was being done, what was found and what was needed.

use std::path::{Path, PathBuf};

/// What can go wrong between a file of traces and a dataset. A row that cannot be used is not an error: it is dropped and recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that no dataset can be made with.
    #[error("data.{key} is {found}, {needed}")]
    Config {
        /// The key of the `[data]` table.
        key: String,
        /// The value found there.
        found: String,
        /// What would be right.
        needed: String,
    },
    /// A file of traces that cannot be read as what it seems to be.
    #[error("cannot read the traces in {}: {why}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What was found, what was needed, what to do.
        why: String,
    },
    /// A dataset folder that is not one, or not whole, or of another version.
    #[error("cannot use the dataset {}: {why}", path.display())]
    Dataset {
        /// The folder.
        path: PathBuf,
        /// What was found, what was needed, what to do.
        why: String,
    },
    /// Nothing was left to train on.
    #[error("the dataset would be empty: {0}")]
    Empty(String),
    /// The tokenizer or the chat template could not do its part.
    #[error(transparent)]
    Model(#[from] model::Error),
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
    /// A Parquet file that polars cannot read or write.
    #[error("cannot {doing} {}: {source}", path.display())]
    Parquet {
        /// `read`, `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What polars said.
        source: polars::error::PolarsError,
    },
}

impl Error {
    pub(crate) fn config(key: impl Into<String>, found: impl ToString, needed: impl Into<String>) -> Self {
        Error::Config { key: key.into(), found: found.to_string(), needed: needed.into() }
    }

    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Error::File { doing, path: path.to_owned(), source }
    }

    pub(crate) fn parquet(doing: &'static str, path: &Path) -> impl FnOnce(polars::error::PolarsError) -> Self {
        move |source| Error::Parquet { doing, path: path.to_owned(), source }
    }

    pub(crate) fn dataset(path: &Path, why: impl Into<String>) -> Self {
        Error::Dataset { path: path.to_owned(), why: why.into() }
    }

    pub(crate) fn source(path: &Path, why: impl Into<String>) -> Self {
        Error::Source { path: path.to_owned(), why: why.into() }
    }
}
