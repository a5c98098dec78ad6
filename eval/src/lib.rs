//! Packed student in, completions and score out.
//!
//! Two arrows, each a file: [`ask()`] writes `completions.jsonl`, [`score()`] marks it; of multiple choice [`choose()`] writes
//! `likelihoods.jsonl` and [`score_choices()`] counts them. Marking can be repeated without asking again. What is asked is always the
//! packed file on the runtime, never the training graph.

mod ask;
mod choose;
mod compare;
mod config;
mod error;
mod file;
mod journal;
mod marks;
mod recorded;
pub mod report;
mod score;
pub mod statistics;
mod text;

pub use ask::{Asked, Asking, Progress, ask, check_examples, student_hash};
pub use choose::{ChoiceScore, Choosing, Chosen, Likelihoods, Share, choose, score_choices};
pub use compare::{Agreement, Comparison, System, compare, compare_choices};
pub use config::{EvalConfig, Questions, SetKind, SetTable, Settings};
pub use error::Error;
pub use journal::{Completions, Entry, Head, Journal, read_completions, read_likelihoods, set_aside};
pub use score::{Group, Score, score};
