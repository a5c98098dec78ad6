//! Packed student in, completions and score out.
//!
//! Two arrows, each a file: [`ask()`] writes `completions.jsonl`, [`score()`] marks it. Marking can be repeated without asking
//! again. What is asked is always the packed file on the runtime, never the training graph.

mod ask;
mod choose;
mod compare;
mod completions;
mod config;
mod error;
mod file;
mod marks;
pub mod report;
mod score;
pub mod statistics;
mod text;

pub use ask::{Asked, Asking, Progress, ask, student_hash};
pub use choose::{ChoiceScore, Likelihoods, Share, choose, score_choices};
pub use compare::{Agreement, Comparison, System, compare};
pub use completions::{Completions, Head, Journal, read_completions};
pub use config::{EvalConfig, SetKind, SetTable, Settings};
pub use error::Error;
pub use score::{Group, Score, score};
