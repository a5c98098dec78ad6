//! Everything else: the config names the fields. A name may lead into an object with points, as `response.text`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use task::Trace;

use super::{Candidate, Found, Object, keys, reasoning};
use crate::rules::{Drop, Rule};
use crate::source::kind;

/// Which field is what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The question.
    pub question: String,
    /// What the teacher wrote after its reasoning; with its reasoning inline where `reasoning` is not given.
    pub answer: String,
    /// The chain of thought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The reference answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Why the teacher stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// The row's own name for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Fields {
    /// The names that no row has, of those that the config gives.
    pub(crate) fn missing<'a>(&'a self, rows: &[Object]) -> Vec<&'a str> {
        let optional = [&self.reasoning, &self.reference, &self.system, &self.finish, &self.id];
        let named = [&self.question, &self.answer].into_iter().chain(optional.into_iter().flatten());
        named.map(String::as_str).filter(|name| rows.iter().all(|row| at(row, name).is_none())).collect()
    }

    pub(crate) fn read(&self, row: &Object) -> Found {
        vec![self.candidate(row)]
    }

    fn candidate(&self, row: &Object) -> Result<Candidate, Drop> {
        let question = text(row, &self.question)?.trim().to_owned();
        let written = text(row, &self.answer)?;
        let (reasoning, answer) = match &self.reasoning {
            Some(field) => reasoning::joined(text(row, field)?, written)?,
            None => reasoning::split_worked(written)?,
        };
        let optional = |field: &Option<String>| field.as_ref().and_then(|field| shown(at(row, field)?));
        let trace = Trace {
            id: optional(&self.id).unwrap_or_default(),
            system: optional(&self.system),
            question,
            reasoning,
            answer,
            reference: optional(&self.reference),
        };
        Ok(Candidate { stopped_by: optional(&self.finish), ..Candidate::of(trace) })
    }
}

/// The value that a name leads to; a key that holds the points itself goes first.
fn at<'a>(row: &'a Object, name: &str) -> Option<&'a Value> {
    row.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        at(row.get(first)?.as_object()?, rest)
    })
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn text<'a>(row: &'a Object, name: &str) -> Result<&'a str, Drop> {
    match at(row, name) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
        Some(Value::String(_)) => Err(Drop::new(Rule::Incomplete, format!("{name} is blank"))),
        Some(other) => Err(Drop::new(Rule::Incomplete, format!("{name} is {}, a text is needed", kind(other)))),
        None => Err(Drop::new(Rule::Incomplete, format!("there is no {name}; the row has {}", keys(row)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_into_objects() {
        let fields: Fields =
            serde_json::from_str(r#"{"question": "input", "answer": "response.text", "reasoning": "response.cot", "reference": "gold"}"#)
                .unwrap();
        let row: Object = serde_json::from_str(r#"{"input": "1 + 1?", "response": {"text": "2", "cot": "a"}, "gold": 2}"#).unwrap();
        let trace = fields.candidate(&row).unwrap().trace;
        assert_eq!((trace.question.as_str(), trace.reasoning.as_str(), trace.answer.as_str()), ("1 + 1?", "a", "2"));
        assert_eq!(trace.reference.as_deref(), Some("2"));
        assert!(fields.missing(std::slice::from_ref(&row)).is_empty());
        let other: Object = serde_json::from_str(r#"{"input": "1 + 1?", "response": {"text": "2"}}"#).unwrap();
        assert_eq!(fields.missing(std::slice::from_ref(&other)), ["response.cot", "gold"]);
        assert_eq!(
            fields.candidate(&other).unwrap_err().detail,
            "there is no response.cot; the row has input (a text), response (an object)"
        );
    }
}
