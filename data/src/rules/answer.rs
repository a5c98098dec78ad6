//! Whether a trace's answer is its reference answer. Right, wrong and unverifiable are three things: a proof or a formula that
//! no one can check is not wrong.

use task::{Trace, Verdict};

use super::{Drop, Rule};
use crate::config::Verify;
use crate::layout::Candidate;

/// What a trace's answer is worth. Our own marking goes first; where it cannot tell, the source's word counts, if it gives one.
pub(crate) fn verdict(candidate: &Candidate) -> Option<Verdict> {
    let trace = &candidate.trace;
    let marked = trace.reference.as_deref().map(|reference| task::mark(&trace.answer, reference));
    match (marked, candidate.is_right) {
        (Some(Verdict::Right | Verdict::Wrong), _) | (_, None) => marked,
        (_, Some(true)) => Some(Verdict::Right),
        (_, Some(false)) => Some(Verdict::Wrong),
    }
}

/// Drops what the config does not want.
pub(crate) fn check(trace: &Trace, verdict: Option<Verdict>, verify: Verify) -> Result<(), Drop> {
    let rule = match (verify, verdict) {
        (Verify::Off, _) | (_, Some(Verdict::Right)) | (Verify::Wrong, Some(Verdict::Unverifiable) | None) => return Ok(()),
        (_, Some(Verdict::Wrong)) => Rule::WrongAnswer,
        (_, Some(Verdict::NoAnswer)) => Rule::NoAnswer,
        (Verify::Right, Some(Verdict::Unverifiable) | None) => Rule::Unverified,
    };
    let detail = match &trace.reference {
        Some(reference) => format!("the answer ends in {:?}, the reference is {reference:?}", end(&trace.answer)),
        None => format!("the answer ends in {:?}, there is no reference", end(&trace.answer)),
    };
    Err(Drop::new(rule, detail))
}

/// The end of a text, where its answer stands.
fn end(text: &str) -> &str {
    let start = text.char_indices().rev().nth(79).map_or(0, |(at, _)| at);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(answer: &str, reference: Option<&str>, is_right: Option<bool>) -> Candidate {
        let trace = Trace {
            id: String::new(),
            system: None,
            question: "?".into(),
            reasoning: String::new(),
            answer: answer.into(),
            reference: reference.map(str::to_owned),
        };
        Candidate { trace, stopped_by: None, is_right, teacher: None, is_mended: false }
    }

    fn rule(answer: &str, reference: Option<&str>, verify: Verify) -> Option<Rule> {
        let candidate = candidate(answer, reference, None);
        check(&candidate.trace, verdict(&candidate), verify).err().map(|drop| drop.rule)
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

    #[test]
    fn the_word_of_the_source_counts_where_marking_cannot_tell() {
        let of = |answer, reference, is_right| verdict(&candidate(answer, reference, Some(is_right)));
        assert_eq!(of("\\boxed{x + 1}", Some("1 + x"), true), Some(Verdict::Right));
        assert_eq!(of("\\boxed{x + 1}", Some("x + 2"), false), Some(Verdict::Wrong));
        assert_eq!(of("a proof", None, false), Some(Verdict::Wrong));
        assert_eq!(of("#### 7", Some("8"), true), Some(Verdict::Wrong));
        assert_eq!(of("#### 8", Some("8"), false), Some(Verdict::Right));
    }
}
