//! `question` and `answer`, in the manner of GSM8K: the steps are the reasoning, the calculator's `<<48/2=24>>` is left out, and
//! `#### 24` is the reference as well as what the student learns to end with, because the published grading looks for it.
//! An answer without `####` is all answer and no reasoning.

use serde_json::Value;
use task::Trace;

use super::{Candidate, Found, Object, first_of, id, text};
use crate::rules::{Drop, Rule};

pub(super) fn fits(row: &Object) -> bool {
    ["question", "answer"].iter().all(|key| matches!(row.get(*key), Some(Value::String(_))))
}

pub(super) fn read(row: &Object) -> Found {
    vec![trace(row).map(|trace| Candidate { stopped_by: first_of(row, &["finish_reason", "stop_reason"]), ..Candidate::of(trace) })]
}

fn trace(row: &Object) -> Result<Trace, Drop> {
    let question = text(row, "question")?.trim();
    let written = task::strip_calculator_spans(text(row, "answer")?);
    let (reasoning, answer, reference) = match written.rsplit_once("####") {
        Some((_, last)) if last.trim().is_empty() => return Err(Drop::new(Rule::Unfinished, "nothing follows ####")),
        Some((steps, last)) => (steps.trim().to_owned(), format!("#### {}", last.trim()), Some(last.trim().to_owned())),
        None => (String::new(), written.trim().to_owned(), None),
    };
    let reference = first_of(row, &["reference", "reference_answer", "ground_truth"]).or(reference);
    Ok(Trace { id: id(row), system: None, question: question.to_owned(), reasoning, answer, reference })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(line: &str) -> Result<Trace, Drop> {
        trace(&serde_json::from_str(line).unwrap())
    }

    #[test]
    fn steps_and_answer_of_gsm8k() {
        let found = read_one(
            r#"{"question": "How many clips?", "answer": "She sold 48/2 = <<48/2=24>>24 in May.\nThat is 48+24 = <<48+24=72>>72.\n#### 1,072"}"#,
        )
        .unwrap();
        assert_eq!(found.reasoning, "She sold 48/2 = 24 in May.\nThat is 48+24 = 72.");
        assert_eq!(found.answer, "#### 1,072");
        assert_eq!(found.reference.as_deref(), Some("1,072"));
        assert_eq!(found.completion(), "<think>\nShe sold 48/2 = 24 in May.\nThat is 48+24 = 72.\n</think>\n\n#### 1,072");
    }

    #[test]
    fn an_answer_without_marks_is_all_answer() {
        let found = read_one(r#"{"question": "a < b << c?", "answer": "a << b\n>> c", "reference": 7}"#).unwrap();
        assert_eq!((found.reasoning.as_str(), found.answer.as_str()), ("", "a << b\n>> c"));
        assert_eq!(found.reference.as_deref(), Some("7"));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(read_one(r#"{"question": " ", "answer": "b"}"#).unwrap_err().detail, "question is blank");
        assert_eq!(read_one(r#"{"question": "a"}"#).unwrap_err().detail, "there is no answer; the row has question (a text)");
        assert_eq!(read_one(r#"{"question": "a", "answer": "b\n####"}"#).unwrap_err().rule, Rule::Unfinished);
    }
}
