//! Alpaca's `instruction`, `input` and `output`: the input, where there is one, belongs to the question.
//! `{"instruction": "Add the numbers.", "input": "1, 1", "output": "2"}`.

use serde_json::Value;
use task::Trace;

use super::{Candidate, Found, Object, REFERENCES, first_of, id, reasoning, text};
use crate::rules::{Drop, Rule};
use crate::source::kind;

pub(super) fn fits(row: &Object) -> bool {
    let is_text = |key: &str| row.get(key).is_some_and(Value::is_string);
    is_text("instruction") && is_text("output")
}

pub(super) fn read(row: &Object) -> Found {
    vec![trace(row).map(Candidate::of)]
}

fn trace(row: &Object) -> Result<Trace, Drop> {
    let asked = text(row, "instruction")?.trim();
    let input = match row.get("input") {
        None | Some(Value::Null) => "",
        Some(Value::String(input)) => input.trim(),
        Some(other) => return Err(Drop::new(Rule::Incomplete, format!("input is {}, a text is needed", kind(other))).about(asked)),
    };
    let question = if input.is_empty() { asked.to_owned() } else { format!("{asked}\n\n{input}") };
    let (reasoning, answer) = reasoning::split(text(row, "output")?).map_err(|drop| drop.about(&question))?;
    let reference = first_of(row, &REFERENCES);
    Ok(Trace { id: id(row), system: first_of(row, &["system"]), question, reasoning, answer, reference })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_an_input() {
        let read_one = |line: &str| {
            let row: Object = serde_json::from_str(line).unwrap();
            assert!(fits(&row), "{line}");
            read(&row).remove(0).map(|found| (found.trace.question, found.trace.answer))
        };
        let found = read_one(r#"{"instruction": "Add the numbers.", "input": "1, 1", "output": "2"}"#);
        assert_eq!(found, Ok(("Add the numbers.\n\n1, 1".into(), "2".into())));
        let found = read_one(r#"{"instruction": "1 + 1?", "input": "", "output": "<think>One and one.</think>2"}"#);
        assert_eq!(found, Ok(("1 + 1?".into(), "2".into())));
        assert_eq!(
            read_one(r#"{"instruction": "Add.", "input": [1, 3], "output": "4"}"#).unwrap_err().detail,
            "input is a list, a text is needed"
        );
        assert_eq!(read_one(r#"{"instruction": " ", "output": "2"}"#).unwrap_err().rule, Rule::Incomplete);
        assert_eq!(read_one(r#"{"instruction": "1 + 1?", "output": "<think>One and one.</think>"}"#).unwrap_err().rule, Rule::Unfinished);
    }
}
