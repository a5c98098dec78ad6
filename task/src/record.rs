//! The records that pass between the stages as JSON lines: what a teacher wrote, what a student is asked, what it said.

use serde::{Deserialize, Serialize};

/// One question with its reference answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Unique within its set.
    pub id: String,
    /// The question as asked, without any prompt around it.
    pub question: String,
    /// The reference answer as the set's author wrote it; [`crate::mark`] reads it.
    pub answer: String,
    /// How many reasoning steps the reference takes, where the set says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
}

/// One teacher's question, reasoning and answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Unique within its source.
    pub id: String,
    /// The system prompt that the teacher was given, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The question as asked.
    pub question: String,
    /// The chain of thought, without the `<think>` marks.
    pub reasoning: String,
    /// What the teacher wrote after its reasoning.
    pub answer: String,
    /// The reference answer, where the source has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl Trace {
    /// Whether it is plain text, which answers no question: all of it stands in `answer`.
    pub fn is_plain_text(&self) -> bool {
        self.question.is_empty()
    }

    /// The text that the student learns to write: the reasoning between `<think>` marks, then the answer.
    /// The form is that of the R1 family.
    pub fn completion(&self) -> String {
        if self.reasoning.is_empty() {
            return self.answer.clone();
        }
        format!("<think>\n{}\n</think>\n\n{}", self.reasoning, self.answer)
    }
}

/// Why a student stopped writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It ended its turn or reached a stop string.
    Stop,
    /// It ran into the token budget or the context's end: cut off.
    Length,
}

/// What a student wrote for one problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The problem's id.
    pub id: String,
    /// Which of several samples of the same problem, from 0.
    pub sample: u32,
    /// The text, reasoning included.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// How many tokens it has.
    pub tokens: u32,
}
