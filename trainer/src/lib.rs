//! Dataset in, checkpoint and packed file out.
//!
//! The only crate that knows burn. It learns nothing of what a question is: rows of tokens come in, and what a run needs of a task
//! is handed to it as a closure.

pub mod config;
pub mod device;
mod error;
mod loss;
mod operation;
pub mod optimizer;
pub mod schedule;
pub mod student;

pub use config::{DeviceName, Schedule, TrainTable};
pub use error::Error;
pub use optimizer::{AdamW, Gradients};
pub use student::{Batch, Student};
