//! Whether an answer is right: the one place that says so, for traces before training and for students afterwards.

use serde::{Deserialize, Serialize};

use crate::reading::{Reading, read};

/// Raised whenever the same two texts could get another verdict than before. Reports carry it.
pub const GRADER_VERSION: u32 = 4;

/// What a completion is worth against a reference. That it was cut off, or never asked for, is told by other records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both are the same number.
    Right,
    /// Both are numbers, and different ones.
    Wrong,
    /// The completion gives no answer.
    NoAnswer,
    /// The reference or the answer given is no exact number, so that nobody should say.
    Unverifiable,
}

/// Marks a completion against a reference. Both texts are read by [`read`], so that the order of two numbers never matters.
pub fn mark(completion_text: &str, reference_text: &str) -> Verdict {
    mark_readings(&read(completion_text), &read(reference_text))
}

/// Marks what was read already.
pub fn mark_readings(completion: &Reading, reference: &Reading) -> Verdict {
    match (completion, reference) {
        (_, Reading::Absent | Reading::Unverifiable { .. }) => Verdict::Unverifiable,
        (Reading::Absent, Reading::Number { .. }) => Verdict::NoAnswer,
        (Reading::Unverifiable { .. }, Reading::Number { .. }) => Verdict::Unverifiable,
        (Reading::Number { answer, .. }, Reading::Number { answer: expected, .. }) if answer == expected => Verdict::Right,
        (Reading::Number { .. }, Reading::Number { .. }) => Verdict::Wrong,
    }
}
