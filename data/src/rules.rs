//! Why a row is not in the dataset. Each rule is named, counted and explained; a dropped row says which one it was.

pub(crate) mod answer;
pub(crate) mod contamination;
pub(crate) mod duplicates;
pub(crate) mod finished;
pub(crate) mod marks;

use serde::{Deserialize, Serialize};

/// A reason to drop a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Not a row at all: not JSON, not UTF-8, too long.
    Malformed,
    /// The layout's fields are not there.
    Incomplete,
    /// More than one exchange: a trace has one question.
    SeveralTurns,
    /// The teacher was cut off.
    Unfinished,
    /// The reasoning is not closed exactly once.
    Unclosed,
    /// The text holds a mark of the chat template.
    TemplateMark,
    /// The answer is not the reference answer.
    WrongAnswer,
    /// The trace has no answer that can be read, but its reference has.
    NoAnswer,
    /// Only verified answers are wanted, and this one cannot be verified.
    Unverified,
    /// The question is one of an evaluation set.
    Contaminated,
    /// The same question with the same text was seen before.
    Duplicate,
    /// Fewer tokens than wanted.
    TooShort,
    /// More tokens than wanted, or than a row can hold.
    TooLong,
}

impl Rule {
    /// Every rule, in the order in which they look at a row.
    pub const ALL: [Rule; 13] = [
        Rule::Malformed,
        Rule::Incomplete,
        Rule::SeveralTurns,
        Rule::Unclosed,
        Rule::Unfinished,
        Rule::TemplateMark,
        Rule::NoAnswer,
        Rule::WrongAnswer,
        Rule::Unverified,
        Rule::Contaminated,
        Rule::Duplicate,
        Rule::TooShort,
        Rule::TooLong,
    ];

    /// The name in counts, in the sidecar and on the card.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Malformed => "malformed",
            Rule::Incomplete => "incomplete",
            Rule::SeveralTurns => "several_turns",
            Rule::Unfinished => "unfinished",
            Rule::Unclosed => "unclosed",
            Rule::TemplateMark => "template_mark",
            Rule::WrongAnswer => "wrong_answer",
            Rule::NoAnswer => "no_answer",
            Rule::Unverified => "unverified",
            Rule::Contaminated => "contaminated",
            Rule::Duplicate => "duplicate",
            Rule::TooShort => "too_short",
            Rule::TooLong => "too_long",
        }
    }
}

/// Why one row was dropped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drop {
    pub rule: Rule,
    pub detail: String,
}

impl Drop {
    pub fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into() }
    }
}
