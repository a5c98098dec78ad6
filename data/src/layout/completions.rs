//! What a packed teacher of our own said to a set of questions: the completions that an evaluation writes, `id`, `sample`, `text` and
//! `finish` under a first row that says how they were asked. They hold no question: `requests` names the set, which brings the
//! reference too, so that wrong answers can be left out.

use serde_json::Value;
use task::{Finish, Trace};

use super::{Candidate, Found, Object, first_of, id, keys, reasoning, text};
use crate::rules::{Drop, Rule};

pub(super) fn fits(row: &Object) -> bool {
    is_head(row) || (matches!(row.get("text"), Some(Value::String(_))) && row.contains_key("sample") && finish(row).is_some())
}

pub(super) fn read(row: &Object) -> Found {
    vec![candidate(row)]
}

/// The first row of the file.
fn is_head(row: &Object) -> bool {
    ["completions", "student", "samples"].iter().all(|key| row.contains_key(*key))
}

fn finish(row: &Object) -> Option<Finish> {
    serde_json::from_value(row.get("finish")?.clone()).ok()
}

fn candidate(row: &Object) -> Result<Candidate, Drop> {
    if is_head(row) {
        let set = first_of(row, &["set"]).unwrap_or_default();
        let head = format!("it is the head of a file of completions; the set {set}, which they answer, must be the source's requests");
        return Err(Drop::new(Rule::Incomplete, head));
    }
    let asked = "its question is not known: name the set that it answers as the source's requests, which must have a problem of its id";
    let question =
        first_of(row, &["question"]).ok_or_else(|| Drop::new(Rule::Incomplete, format!("{asked}; the row has {}", keys(row))))?;
    let (reasoning, answer) = reasoning::split(text(row, "text")?)?;
    let id = match row.get("sample").and_then(Value::as_u64) {
        Some(sample @ 1..) => format!("{}#{sample}", id(row)),
        _ => id(row),
    };
    let trace =
        Trace { id, system: None, question: question.trim().to_owned(), reasoning, answer, reference: first_of(row, &["reference"]) };
    Ok(Candidate { stopped_by: first_of(row, &["finish"]), ..Candidate::of(trace) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"completions":1,"name":"teacher","student":"ab","set":"asked","prompts":"97","prompt":"chat","samples":2}"#;

    fn read_one(line: &str) -> Result<Candidate, Drop> {
        let row: Object = serde_json::from_str(line).unwrap();
        assert!(fits(&row));
        candidate(&row)
    }

    #[test]
    fn a_completion_with_its_question_is_a_trace() {
        let line = r#"{"id":"q-7","sample":1,"text":"<think>\n1 + 1 = 2\n</think>\n\nThe answer is 2.","finish":"length","tokens":9,
            "question":"1 + 1?","reference":"2"}"#;
        let found = read_one(line).unwrap();
        let trace = Trace {
            id: "q-7#1".into(),
            system: None,
            question: "1 + 1?".into(),
            reasoning: "1 + 1 = 2".into(),
            answer: "The answer is 2.".into(),
            reference: Some("2".into()),
        };
        assert_eq!((found.trace, found.stopped_by.as_deref()), (trace, Some("length")));
    }

    #[test]
    fn without_its_question_it_is_none() {
        let drop = read_one(r#"{"id":"q","sample":0,"text":"2","finish":"stop","tokens":1}"#).unwrap_err();
        assert!(drop.detail.contains("name the set that it answers as the source's requests, which must have"), "{}", drop.detail);
        assert!(read_one(HEAD).unwrap_err().detail.contains("the set asked, which they answer, must be"));
    }
}
