//! What a problem is, and when its answer is right.
//!
//! A thing is in this crate if and only if `data` (which verifies traces before they are trained on) and `eval` (which scores
//! students afterwards) must agree on it. It knows no tokens and no tensors.

mod answer;
mod choice;
mod error;
mod harness;
mod mark;
mod prompt;
mod reading;
mod record;
mod set;

pub use answer::{Answer, Form, MAX_DIGITS, MAX_EXPONENT, Unverifiable};
pub use choice::Choice;
pub use error::Error;
pub use harness::{HarnessReading, HarnessTask, INVALID, read_as_harness};
pub use mark::{GRADER_VERSION, Verdict, mark, mark_readings};
pub use prompt::{Prompt, PromptContent, PromptStyle, prompts};
pub use reading::{Reading, Rule, read};
pub use record::{Completion, Finish, Problem, Trace};
pub use set::{
    BadLine, ChoiceSet, Fields, MAX_LINE_BYTES, ProblemSet, Recorded, read_choices, read_recorded, read_set, strip_calculator_spans,
};
