//! Why a row is not in the dataset. Each rule is named, counted and explained; a dropped row says which one it was.

pub(crate) mod answer;
pub(crate) mod contamination;
pub(crate) mod duplicates;
pub(crate) mod finished;
pub(crate) mod marks;
pub(crate) mod near_duplicates;
pub(crate) mod pass_rate;
pub(crate) mod per_question;
pub(crate) mod repetition;
pub(crate) mod script;
pub(crate) mod weight;

use serde::{Deserialize, Serialize};

/// A reason to drop a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Not a row at all: not JSON, not UTF-8, too long, with NUL characters.
    Malformed,
    /// The layout's fields are not there.
    Incomplete,
    /// More than one exchange: a trace has one question.
    SeveralTurns,
    /// The reasoning is not closed exactly once.
    Unclosed,
    /// The teacher was cut off.
    Unfinished,
    /// The text holds a mark of the chat template.
    TemplateMark,
    /// The question is one of an evaluation set.
    Contaminated,
    /// Too much of the text is repeated.
    Repetition,
    /// The text is in a script that is not wanted.
    Script,
    /// The trace has no answer that can be read, but its reference has.
    NoAnswer,
    /// The answer is not the reference answer.
    WrongAnswer,
    /// Only verified answers are wanted, and this one cannot be verified.
    Unverified,
    /// The same question with the same text was seen before.
    Duplicate,
    /// Almost the same question with almost the same text was seen before.
    NearDuplicate,
    /// Fewer tokens than wanted.
    TooShort,
    /// More tokens than wanted, or than a row can hold.
    TooLong,
    /// The teacher gets the question right too rarely or too often.
    PassRate,
    /// The question has enough other traces.
    PerQuestion,
    /// The source's weight leaves it out.
    Weight,
}

impl Rule {
    /// Every rule, in the order in which they look at a trace.
    pub const ALL: [Rule; 19] = [
        Rule::Malformed,
        Rule::Incomplete,
        Rule::SeveralTurns,
        Rule::Unclosed,
        Rule::Unfinished,
        Rule::TemplateMark,
        Rule::Contaminated,
        Rule::Repetition,
        Rule::Script,
        Rule::NoAnswer,
        Rule::WrongAnswer,
        Rule::Unverified,
        Rule::Duplicate,
        Rule::NearDuplicate,
        Rule::TooShort,
        Rule::TooLong,
        Rule::PassRate,
        Rule::PerQuestion,
        Rule::Weight,
    ];

    /// Whether what it drops still counts as an attempt of the teacher at its question.
    pub(crate) fn is_attempt(self) -> bool {
        matches!(self, Rule::WrongAnswer | Rule::NoAnswer)
    }

    /// The name in counts, in the sidecar and on the card.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Malformed => "malformed",
            Rule::Incomplete => "incomplete",
            Rule::SeveralTurns => "several_turns",
            Rule::Unclosed => "unclosed",
            Rule::Unfinished => "unfinished",
            Rule::TemplateMark => "template_mark",
            Rule::Contaminated => "contaminated",
            Rule::Repetition => "repetition",
            Rule::Script => "script",
            Rule::NoAnswer => "no_answer",
            Rule::WrongAnswer => "wrong_answer",
            Rule::Unverified => "unverified",
            Rule::Duplicate => "duplicate",
            Rule::NearDuplicate => "near_duplicate",
            Rule::TooShort => "too_short",
            Rule::TooLong => "too_long",
            Rule::PassRate => "pass_rate",
            Rule::PerQuestion => "per_question",
            Rule::Weight => "weight",
        }
    }
}

/// Why one row was dropped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drop {
    pub rule: Rule,
    pub detail: String,
    /// The question, where it could be read though the rest could not. A question of an evaluation set is one in any case.
    pub question: Option<String>,
}

impl Drop {
    pub fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into(), question: None }
    }

    /// The same about a question that is known.
    pub fn about(self, question: &str) -> Self {
        Self { question: Some(question.to_owned()), ..self }
    }
}
