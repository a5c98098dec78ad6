//! Sets of multiple choice: MMLU (a table without a header, or records with `choices` and the right one's index), AQuA (`options` with
//! their letters, and the right letter as `correct`) and ARC (`choices` with lists `text` and `label`, and the right label).

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
    let options = options(record, fields)?;
    if !(2..=MAX_OPTIONS).contains(&options.len()) {
        return Err(format!("found {} options, needed 2 to {MAX_OPTIONS}", options.len()));
    }
    if let Some(empty) = options.iter().position(|option| option.trim().is_empty()) {
        return Err(format!("option {} has no text", empty + 1));
    }
    let right = text(record, &fields.answer, &RIGHT, "right option")?;
    let named = match labels(record, fields) {
        Some(labels) => labels.iter().position(|label| scalar(label).as_deref() == Some(right.trim())).filter(|at| *at < options.len()),
        None => index(right.trim(), &options),
    };
    let right = named.ok_or_else(|| {
        let count = options.len();
        format!("the right option is {right:?}, needed one of the {count} letters, an index from 0, or an option's text that is neither")
    })?;
    Ok((id(record, fields)?, Choice { id: String::new(), question, options, right }))
}

pub(super) fn headerless(first: &[String]) -> Option<Vec<String>> {
    let is_row = first.len() == COLUMNS.len() && first[0] != COLUMNS[0] && index(first[5].trim(), &first[1..5]).is_some();
    is_row.then(|| COLUMNS.map(str::to_owned).to_vec())
}

/// What lists the options, if anything does.
fn listed<'a>(record: &'a Map<String, Value>, fields: &Fields) -> Option<&'a Value> {
    fields.options.as_ref().map_or_else(|| record.get("choices").or_else(|| record.get("options")), |name| record.get(name))
}

/// The options' labels, where these stand beside their texts.
fn labels<'a>(record: &'a Map<String, Value>, fields: &Fields) -> Option<&'a Vec<Value>> {
    listed(record, fields)?.get("label")?.as_array()
}

fn options(record: &Map<String, Value>, fields: &Fields) -> Result<Vec<String>, String> {
    if let Some(name) = fields.options.as_ref().filter(|name| !record.contains_key(*name)) {
        return Err(missing(record, name));
    }
    let Some(listed) = listed(record, fields).map(|listed| listed.get("text").unwrap_or(listed)) else {
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

/// The index that a letter, a number or an option's own text names. A small letter that is another option's text names neither.
fn index(right: &str, options: &[String]) -> Option<usize> {
    let text = options.iter().position(|option| option.trim() == right);
    let named = match right.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(usize::from(letter.to_ascii_uppercase() - b'A')),
        _ => right.parse().ok(),
    };
    let is_small = right.bytes().all(|letter| letter.is_ascii_lowercase());
    match (named.filter(|named| *named < options.len()), text) {
        (Some(named), Some(text)) if is_small && named != text => None,
        (None, _) if named.is_some() && !is_small => None, // A number beyond the options is a value, which another record may mean otherwise.
        (named, text) => named.or(text),
    }
}
