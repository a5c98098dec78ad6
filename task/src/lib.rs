//! What a problem is, and when its answer is right.
//!
//! A thing is in this crate if and only if `data` (which verifies traces before they are trained on) and `eval` (which scores
//! students afterwards) must agree on it. It knows no tokens and no tensors.

mod record;

pub use record::{Completion, Finish, Problem, Trace};
