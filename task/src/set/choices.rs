//! Sets of multiple choice: MMLU (a table without a header, or records with `choices` and the right one's index) and AQuA (`options` with
//! their letters, and the right letter as `correct`).

use serde_json::{Map, Value};

use super::Fields;
use super::layout::{id, kind, missing, names, scalar, text};
use crate::Choice;
use crate::choice::MAX_OPTIONS;

const RIGHT: [&str; 3] = ["correct", "answerKey", "answer"];
/// MMLU's columns.
const COLUMNS: [&str; 6] = ["question", "A", "B", "C", "D", "answer"];

/// The choice in a record; its id is empty here.
pub(super) fn choice(record: &Map<String, Value>, fields: &Fields) -> Result<(Option<String>, Choice), String> {
    let question = text(record, &fields.question, &["question", "problem"], "question")?;
    let options = options(record, &fields.options)?;
    if !(2..=MAX_OPTIONS).contains(&options.len()) {
        return Err(format!("found {} options, needed 2 to {MAX_OPTIONS}", options.len()));
    }
    let right = text(record, &fields.answer, &RIGHT, "right option")?;
    let right = index(right.trim(), options.len())
        .ok_or_else(|| format!("the right option is {right:?}, needed one of the {} letters or an index from 0", options.len()))?;
    Ok((id(record, fields)?, Choice { id: String::new(), question, options, right }))
}

pub(super) fn headerless(first: &[String]) -> Option<Vec<String>> {
    let is_row = first.len() == COLUMNS.len() && first[0] != COLUMNS[0] && index(first[5].trim(), 4).is_some();
    is_row.then(|| COLUMNS.map(str::to_owned).to_vec())
}

fn options(record: &Map<String, Value>, given: &Option<String>) -> Result<Vec<String>, String> {
    let listed = match given {
        Some(name) => Some(record.get(name).ok_or_else(|| missing(record, name))?),
        None => record.get("choices").or_else(|| record.get("options")),
    };
    let Some(listed) = listed else {
        let columns: Vec<String> = (0..MAX_OPTIONS).map_while(|at| record.get(&Choice::letter(at).to_string()).and_then(scalar)).collect();
        if columns.is_empty() {
            return Err(format!("found no options among {}; needed choices, options or columns A, B, C", names(record)));
        }
        return Ok(columns);
    };
    let Value::Array(listed) = listed else {
        return Err(format!("the options are {}, needed a list", kind(listed)));
    };
    let option = |(at, option): (usize, &Value)| {
        let option = scalar(option).ok_or_else(|| format!("option {} is {}, needed a string", at + 1, kind(option)))?;
        Ok(if at < MAX_OPTIONS { without_letter(&option, Choice::letter(at)) } else { option })
    };
    listed.iter().enumerate().map(option).collect()
}

/// An option without its own letter, as in `A)21` or `(A) 21`.
fn without_letter(option: &str, letter: char) -> String {
    let rest = option.trim().trim_start_matches('(').strip_prefix(letter);
    let rest = rest.and_then(|rest| rest.strip_prefix([')', '.', ':']));
    rest.map_or(option, str::trim).to_owned()
}

/// The index that a letter or a number names.
fn index(right: &str, options: usize) -> Option<usize> {
    let named = match right.as_bytes() {
        [letter] if letter.is_ascii_uppercase() => usize::from(letter - b'A'),
        _ => right.parse().ok()?,
    };
    (named < options).then_some(named)
}
