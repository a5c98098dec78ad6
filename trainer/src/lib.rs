//! Dataset in, checkpoint and packed file out.
//!
//! The only crate that knows burn. It learns nothing of what a question is: rows of tokens come in, and what a run needs of a task
//! is handed to it as a closure.

mod adapter;
mod annotate;
mod average;
mod balance;
mod checkpoint;
pub mod config;
mod convert;
pub mod device;
mod error;
mod export;
mod find_rate;
mod fingerprint;
mod held_out;
mod import;
mod loss;
mod memory;
pub mod metrics;
mod operation;
pub mod optimizer;
mod rows;
mod run_folder;
pub mod schedule;
mod state;
pub mod student;
mod teacher;
mod telemetry;
mod tensor_file;
mod train;
mod workers;

pub use adapter::AdapterTable;
pub use annotate::annotate;
pub use checkpoint::Checkpoint;
pub use config::{DeviceName, DivergenceName, HiddenTable, RelationTable, Schedule, TeacherTable, TrainTable};
pub use convert::convert;
pub use error::Error;
pub use export::{Exported, export, export_with};
pub use find_rate::{RateTest, TriedRate, find_rate, steepest};
pub use held_out::{EarlyStop, HeldOutLoss};
pub use loss::{
    divergence::{Divergence, Lesson},
    hidden::Likeness,
    relation::Relation,
};
pub use optimizer::{AdamW, Gradients};
pub use run_folder::{checkpoints, latest};
pub use state::{Totals, first_difference};
pub use student::{Batch, Student};
pub use telemetry::Layers;
pub use train::{Evaluate, Evaluation, Hooks, Job, Progress, Trained, train};
