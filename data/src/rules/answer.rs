//! Whether a trace's answer is its reference answer. Right, wrong and unverifiable are three things: a proof or a formula that
//! no one can check is not wrong.

use task::{Trace, Verdict};

use super::{Drop, Rule};
use crate::config::Verify;

/// Marks a trace; none where it has no reference.
pub(crate) fn verdict(trace: &Trace) -> Option<Verdict> {
    trace.reference.as_deref().map(|reference| task::mark(&trace.answer, reference))
}

/// Drops what the config does not want.
pub(crate) fn check(trace: &Trace, verdict: Option<Verdict>, verify: Verify) -> Result<(), Drop> {
    let reference = trace.reference.as_deref().unwrap_or_default();
    match (verify, verdict) {
        (Verify::Off, _) | (_, Some(Verdict::Right)) | (Verify::Wrong, Some(Verdict::Unverifiable) | None) => Ok(()),
        (_, Some(Verdict::Wrong)) => {
            Err(Drop::new(Rule::WrongAnswer, format!("the answer is {:?}, the reference {reference:?}", end(&trace.answer))))
        }
        (_, Some(Verdict::NoAnswer)) => {
            Err(Drop::new(Rule::NoAnswer, format!("no answer is found in {:?}, the reference is {reference:?}", end(&trace.answer))))
        }
        (Verify::Right, Some(Verdict::Unverifiable)) => Err(Drop::new(
            Rule::Unverified,
            format!("the answer {:?} cannot be compared with the reference {reference:?}", end(&trace.answer)),
        )),
        (Verify::Right, None) => Err(Drop::new(Rule::Unverified, "there is no reference")),
    }
}

/// The end of a text, where its answer stands.
fn end(text: &str) -> &str {
    let start = text.char_indices().rev().nth(79).map_or(0, |(at, _)| at);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(answer: &str, reference: Option<&str>, verify: Verify) -> Option<Rule> {
        let trace = Trace {
            id: String::new(),
            system: None,
            question: "?".into(),
            reasoning: String::new(),
            answer: answer.into(),
            reference: reference.map(str::to_owned),
        };
        check(&trace, verdict(&trace), verify).err().map(|drop| drop.rule)
    }

    #[test]
    fn right_wrong_and_unverifiable_are_three_things() {
        assert_eq!(rule("#### 1,072", Some("1072.0"), Verify::Right), None);
        assert_eq!(rule("#### 7", Some("8"), Verify::Wrong), Some(Rule::WrongAnswer));
        assert_eq!(rule("#### 7", Some("8"), Verify::Off), None);
        assert_eq!(rule("I do not know.", Some("8"), Verify::Wrong), Some(Rule::NoAnswer));
        assert_eq!(rule("\\boxed{x + 1}", Some("x + 1"), Verify::Wrong), None);
        assert_eq!(rule("\\boxed{x + 1}", Some("x + 1"), Verify::Right), Some(Rule::Unverified));
        assert_eq!(rule("#### 7", None, Verify::Wrong), None);
        assert_eq!(rule("#### 7", None, Verify::Right), Some(Rule::Unverified));
    }
}
