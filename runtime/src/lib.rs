//! Runs a packed ternary student on a CPU, exactly and fast.
//!
//! Integer kernels of our own for every instruction set, all equal to `model::ternary::multiply` bit for bit, so that the tokens
//! do not depend on the machine, the number of threads or what else is in the batch. It knows no training and no questions.

mod error;
pub mod kernel;

pub use error::Error;
