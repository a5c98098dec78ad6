//! Finished traces only: what a token limit cut off teaches a student to stop anywhere.

use super::{Drop, Rule};
use crate::layout::Candidate;

/// Drops what its source says was cut off.
pub(crate) fn check(candidate: &Candidate) -> Result<(), Drop> {
    match &candidate.stopped_by {
        Some(reason)
            if !matches!(
                reason.to_ascii_lowercase().as_str(),
                "stop" | "end_turn" | "eos" | "eos_token" | "stop_sequence" | "complete"
            ) =>
        {
            Err(Drop::new(Rule::Unfinished, format!("the teacher was stopped by {reason:?}")))
        }
        _ => Ok(()),
    }
}
