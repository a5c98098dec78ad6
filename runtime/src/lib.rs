//! Runs a packed ternary student on a CPU, exactly and fast.
//!
//! Integer kernels of our own for every instruction set, all equal to `model::ternary::multiply` bit for bit, so that the tokens
//! do not depend on the machine, the number of threads or what else is in the batch. It knows no training and no questions.
//!
//! ```no_run
//! use std::{path::Path, sync::Arc};
//! use tristill_runtime::{Engine, Options, Request, Student};
//!
//! let student = Arc::new(Student::open(Path::new("student.gguf"))?);
//! let prompt = student.tokenizer().encode("Two and two is").expect("text");
//! let mut engine = Engine::new(student, &Options::default())?;
//! let answer = engine.generate(Request::greedy(prompt, 100))?;
//! # Ok::<(), tristill_runtime::Error>(())
//! ```

mod ahead;
pub mod bench;
mod cache;
mod draft;
mod engine;
mod error;
pub mod kernel;
mod largest;
mod layer;
mod linear;
mod load;
mod network;
mod random;
mod sampler;
mod shortlist;
mod student;
mod text;

pub use engine::{Answer, Draft, Engine, Event, Finish, MAX_THREADS, Options, Request, RequestId};
pub use error::Error;
pub use sampler::Sampling;
pub use student::Student;

#[cfg(test)]
mod tests;
