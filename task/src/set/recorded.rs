//! What others recorded of a system's answers: a question, and what was said to it under one of many names. Several systems may stand in
//! one record, as in GSM8K's own `example_model_solutions`; then the field says which is meant.

use serde_json::{Map, Value};

use super::layout::{kind, names, question};

/// Where a system's words stand.
const SAID: [&str; 9] = ["completion", "response", "output", "generation", "prediction", "model_output", "solution", "answer_cot", "text"];

/// One question and what a system said to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The question as the record has it.
    pub question: String,
    /// At least one text; several where it was asked several times.
    pub said: Vec<String>,
}

/// What a record holds.
pub(super) fn recorded(record: &Map<String, Value>, field: Option<&str>) -> Result<Recorded, String> {
    let question = question(record, &None)?;
    let said = match field {
        Some(field) => named(record, field)?,
        None => {
            let usual = || SAID.join(", ");
            said_in(record).ok_or_else(|| {
                format!("found no field for what was said among {}; needed one of {} or a field's name", names(record), usual())
            })?
        }
    };
    Ok(Recorded { question, said: texts(said)? })
}

fn said_in(record: &Map<String, Value>) -> Option<&Value> {
    SAID.iter().find_map(|name| record.get(*name))
}

/// The value under `a` or `a.b`; of an object, what is said in it.
fn named<'a>(record: &'a Map<String, Value>, field: &str) -> Result<&'a Value, String> {
    let missing = |record: &Map<String, Value>, name: &str| format!("found no field {name} among {}", names(record));
    let (value, inner) = match (record.get(field), field.split_once('.')) {
        (Some(value), _) => (value, None),
        (None, Some((outer, inner))) => (record.get(outer).ok_or_else(|| missing(record, outer))?, Some(inner)),
        (None, None) => return Err(missing(record, field)),
    };
    match (value, inner) {
        (Value::Object(object), Some(inner)) => named(object, inner),
        (Value::Object(object), None) => {
            said_in(object).ok_or_else(|| format!("the field {field} holds {}, none of which is said", names(object)))
        }
        (value, _) => Ok(value),
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("what was said is {}, needed a string or a list of strings", kind(other))),
    };
    match value {
        Value::Array(values) if values.is_empty() => Err("what was said is an empty list".to_owned()),
        Value::Array(values) => values.iter().map(text).collect(),
        value => Ok(vec![text(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, field: Option<&str>) -> Result<Vec<String>, String> {
        recorded(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap(), field).map(|recorded| recorded.said)
    }

    #[test]
    fn what_was_said_is_found_by_its_name() {
        assert_eq!(said(r#"{"question":"q","answer":"1","output":["a","b"]}"#, None), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(said(r#"{"question":"q","completion":"a","text":"no"}"#, None), Ok(vec!["a".into()]));
        let several = r#"{"question":"q","small":{"is_correct":false,"solution":"a"},"large":{"solution":"b"},"x.y":"c"}"#;
        assert_eq!(said(several, Some("large")), Ok(vec!["b".into()]));
        assert_eq!(said(several, Some("small.solution")), Ok(vec!["a".into()]));
        assert_eq!(said(several, Some("x.y")), Ok(vec!["c".into()]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let several = r#"{"question":"q","small":{"is_correct":false}}"#;
        assert!(
            said(several, None)
                .unwrap_err()
                .starts_with("found no field for what was said among question, small; needed one of completion")
        );
        assert_eq!(said(several, Some("large")).unwrap_err(), "found no field large among question, small");
        assert_eq!(said(several, Some("small")).unwrap_err(), "the field small holds is_correct, none of which is said");
        assert!(said(several, Some("small.is_correct")).unwrap_err().starts_with("what was said is true or false"));
        assert_eq!(said(r#"{"question":"q","output":[]}"#, None).unwrap_err(), "what was said is an empty list");
        assert_eq!(said(r#"{"question":" ","output":"a"}"#, None).unwrap_err(), "the question is empty");
    }
}
