//! The one error of the crate: a sentence that says what was being done, what was found and what was needed.

use std::path::{Path, PathBuf};

/// What can go wrong between a dataset and a packed file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that no run can have.
    #[error("train.{key} is {found}, {needed}")]
    Config {
        /// The key of the `[train]` table.
        key: &'static str,
        /// The value found there.
        found: String,
        /// What would be right.
        needed: String,
    },
    /// A student that cannot be described, read or packed.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// A dataset that cannot be read.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A device that this machine or this build does not have.
    #[error("cannot train on this device: {0}")]
    Device(String),
    /// A row that this student cannot be trained on.
    #[error("cannot train on this dataset: {0}")]
    Rows(String),
    /// A run that another process is training.
    #[error("cannot train in {}: another process is training there; wait for it or stop it", .0.display())]
    Locked(PathBuf),
    /// A checkpoint whose content is not what it should be.
    #[error("cannot read {}: {found}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What was found and needed.
        found: String,
    },
    /// A checkpoint that another config wrote.
    #[error("cannot go on from {}: {key} was {then} in the run that wrote it and is {now} now; use that value, or train in another run folder", path.display())]
    OtherConfig {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The first key that differs.
        key: String,
        /// Its value when the checkpoint was written.
        then: String,
        /// Its value now.
        now: String,
    },
    /// A checkpoint that could not be written.
    #[error("cannot save the checkpoint of step {step}: {source}; {}", kept(last.as_deref()))]
    Save {
        /// The step.
        step: u64,
        /// The last whole checkpoint, which is as it was.
        last: Option<PathBuf>,
        /// What went wrong.
        source: Box<Error>,
    },
    /// A loss, gradient or weight that is not a finite number.
    #[error("stopped before step {step}: {what} is {value}; {}; lower train.rate (now {rate}) in a new run", kept(last.as_deref()))]
    NotANumber {
        /// The step that was not taken, counted from 1.
        step: u64,
        /// The loss, the norm of the gradients, or which weight.
        what: String,
        /// What it is.
        value: f64,
        /// The peak learning rate.
        rate: f64,
        /// The last good checkpoint.
        last: Option<PathBuf>,
    },
    /// An evaluation in mid-run that could not be made.
    #[error("cannot evaluate the student of step {step}: {source}; its checkpoint is {}", checkpoint.display())]
    Evaluation {
        /// The step.
        step: u64,
        /// Its checkpoint, from which the run goes on.
        checkpoint: PathBuf,
        /// What the caller said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
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

/// What a user still has.
fn kept(last: Option<&Path>) -> String {
    match last {
        Some(folder) => format!("the last good checkpoint is {}", folder.display()),
        None => "there is no checkpoint yet".to_owned(),
    }
}

/// For `map_err`: says what was being done with which file.
pub(crate) fn file<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |source| Error::File { doing, path: path.to_owned(), source }
}
