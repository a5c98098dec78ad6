//! Which field of a published set holds what.
//!
//! The names are those of GSM8K, GSM-Plus, GSM-Symbolic, SVAMP, ASDiv, MAWPS, MultiArith, MATH-500 and of our own records.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::Fields;
use crate::Answer;

const QUESTIONS: [&str; 6] = ["question", "problem", "sQuestion", "Question", "original_text", "query"];
const ANSWERS: [&str; 10] =
    ["answer", "Answer", "lSolutions", "final_answer", "final_ans", "answer_value", "answer_number", "ground_truth", "target", "solution"];
const IDS: [&str; 6] = ["id", "ID", "unique_id", "item_id", "iIndex", "@ID"];

/// A problem whose id may be missing.
pub(super) struct Partial {
    pub id: Option<String>,
    pub question: String,
    pub answer: String,
    pub steps: Option<u32>,
}

/// GSM8K's answers without the calculator's spans: `48/2 = <<48/2=24>>24` becomes `48/2 = 24`.
pub fn strip_calculator_spans(text: &str) -> String {
    static SPAN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"<<[^<>\n]*>>").expect("the pattern is valid"));
    SPAN.replace_all(text, "").into_owned()
}

/// The problem in a record, or what keeps it from being one.
pub(super) fn problem(record: &Map<String, Value>, fields: &Fields) -> Result<Partial, String> {
    let question = question(record, &fields.question)?;
    let answer = text(record, &fields.answer, &ANSWERS, "answer")?;
    if answer.trim().is_empty() {
        return Err("the answer is empty".to_owned());
    }
    let steps = match record.get("steps") {
        Some(steps) => steps.as_u64().and_then(|steps| u32::try_from(steps).ok()),
        None => solution_lines(&answer),
    };
    Ok(Partial { id: id(record, fields)?, question, answer, steps })
}

/// The question, with the story that SVAMP and ASDiv keep apart from it.
pub(super) fn question(record: &Map<String, Value>, given: &Option<String>) -> Result<String, String> {
    let question = text(record, given, &QUESTIONS, "question")?;
    let question = match record.get("Body").or_else(|| record.get("body")).and_then(Value::as_str) {
        Some(body) if given.is_none() => format!("{} {}", body.trim(), question.trim()),
        _ => question,
    };
    if question.trim().is_empty() { Err("the question is empty".to_owned()) } else { Ok(question) }
}

/// The column names for a table that has none: MGSM's question and number. `None` where the first row is a header.
pub(super) fn headerless(first: &[String], fields: &Fields) -> Option<Vec<String>> {
    let named = |name: &Option<String>| name.as_ref().is_some_and(|name| first.contains(name));
    if named(&fields.question) || named(&fields.answer) || first.iter().any(|cell| QUESTIONS.contains(&cell.as_str())) {
        return None;
    }
    let number = first.last().is_some_and(|cell| Answer::parse(cell).is_ok());
    (first.len() == 2 && number).then(|| vec!["question".to_owned(), "answer".to_owned()])
}

/// GSM8K writes one step a line and closes with `####`.
fn solution_lines(answer: &str) -> Option<u32> {
    let (solution, _) = answer.rsplit_once("\n####")?;
    u32::try_from(solution.lines().filter(|line| !line.trim().is_empty()).count()).ok()
}

pub(super) fn id(record: &Map<String, Value>, fields: &Fields) -> Result<Option<String>, String> {
    let id = match &fields.id {
        Some(name) => record.get(name).ok_or_else(|| missing(record, name))?,
        None => match IDS.iter().find_map(|name| record.get(*name)) {
            Some(id) => id,
            None => return Ok(None),
        },
    };
    let id = scalar(id).ok_or_else(|| format!("the id is {}, needed a string or a number", kind(id)))?;
    // GSM-Symbolic repeats the id of a template for each of its instances.
    Ok(Some(match record.get("instance").and_then(scalar) {
        Some(instance) if fields.id.is_none() => format!("{id}-{instance}"),
        _ => id,
    }))
}

/// The text under the given name, or under the first of the usual names.
pub(super) fn text(record: &Map<String, Value>, given: &Option<String>, usual: &[&str], role: &str) -> Result<String, String> {
    let (name, value) = match given {
        Some(name) => (name.as_str(), record.get(name).ok_or_else(|| missing(record, name))?),
        None => usual.iter().find_map(|name| record.get(*name).map(|value| (*name, value))).ok_or_else(|| {
            format!("found no field for the {role} among {}; needed one of {} or a name in the config", names(record), usual.join(", "))
        })?,
    };
    let single = match value {
        Value::Array(values) if values.len() == 1 => &values[0],
        value => value,
    };
    scalar(single).ok_or_else(|| format!("the field {name} is {}, needed a string or a number", kind(single)))
}

pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(_) | Value::Number(_) => "a value".to_owned(),
    }
}

pub(super) fn missing(record: &Map<String, Value>, name: &str) -> String {
    format!("found no field {name} among {}", names(record))
}

pub(super) fn names(record: &Map<String, Value>) -> String {
    if record.is_empty() { "no fields at all".to_owned() } else { record.keys().map(String::as_str).collect::<Vec<_>>().join(", ") }
}
