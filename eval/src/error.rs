//! The one error of the crate: a sentence that says what was being done, what was found and what was needed.

use std::path::{Path, PathBuf};

/// What can go wrong between a packed student and its score.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that no evaluation can have.
    #[error("eval.{key} is {found}, {needed}")]
    Config {
        /// The key of the `[eval]` table.
        key: String,
        /// The value found there.
        found: String,
        /// What would be right.
        needed: String,
    },
    /// A problem set that cannot be read.
    #[error(transparent)]
    Set(#[from] task::Error),
    /// A prompt that cannot be rendered or tokenised.
    #[error("cannot ask problem {id:?}: {source}")]
    Prompt {
        /// The problem.
        id: String,
        /// What the template or the tokenizer said.
        source: model::Error,
    },
    /// An option of multiple choice whose likelihood nobody can tell.
    #[error("cannot ask question {id:?}: its option {option:?} adds no token to the prompt; needed options with text")]
    Option {
        /// The question.
        id: String,
        /// The option.
        option: String,
    },
    /// A student that cannot be run.
    #[error(transparent)]
    Student(#[from] runtime::Error),
    /// A completions file that another student, set or setting wrote.
    #[error("cannot go on with {}: {key} was {then} when it was written and is {now} now{}; use that value, remove the file or name another folder", path.display(), of_prompts(key))]
    OtherCompletions {
        /// The file.
        path: PathBuf,
        /// The first thing that differs.
        key: String,
        /// Its value in the file.
        then: String,
        /// Its value now.
        now: String,
    },
    /// A student's file that cannot give way to another's.
    #[error("{} is of another student, and the name that it would be kept under, {}, is there already; remove one of them", path.display(), aside.display())]
    Aside {
        /// The file.
        path: PathBuf,
        /// The name.
        aside: PathBuf,
    },
    /// A line of a completions file that is none.
    #[error("{} line {line}: {fault}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What was found and what was needed.
        fault: String,
    },
    /// Two completions files that share no problem.
    #[error("cannot compare {first} with {second}: no problem was asked of both")]
    NothingShared {
        /// The first system.
        first: String,
        /// The second system.
        second: String,
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

/// What a hash of prompts stands for.
fn of_prompts(key: &str) -> &'static str {
    if key == "prompts" { " (a hash of the questions as they are asked: another set, limit, style or examples)" } else { "" }
}

/// For `map_err` on a file operation.
pub(crate) fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { doing, path, source }
}
