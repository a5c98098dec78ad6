//! The layouts that files of traces come in. A layout turns a row into traces, or says why it cannot; it never guesses what a
//! trace says, and it never loses one.

mod messages;
mod question_answer;
mod reasoning;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use task::Trace;

use crate::Error;
use crate::rules::{Drop, Rule};
use crate::source::kind;

/// How the rows of a file are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Recognised from the first rows.
    #[default]
    Auto,
    /// `messages` or `conversations`: turns with a role and a content, reasoning inline or beside it.
    Messages,
    /// `question` and `answer`, in the manner of GSM8K: steps, then `#### 24`.
    QuestionAnswer,
}

/// A trace as its source has it, with what the source says about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub trace: Trace,
    /// Why the teacher stopped, where the source says so.
    pub stopped_by: Option<String>,
}

/// What a layout finds in a row: at least one entry, because no row may vanish.
pub(crate) type Found = Vec<Result<Candidate, Drop>>;

type Object = Map<String, Value>;

impl Layout {
    /// The layouts that can be recognised, the more particular ones first.
    const KNOWN: [Layout; 2] = [Layout::Messages, Layout::QuestionAnswer];

    /// The name in the config.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Auto => "auto",
            Layout::Messages => "messages",
            Layout::QuestionAnswer => "question_answer",
        }
    }

    /// What the rows of the layout have.
    fn needs(self) -> &'static str {
        match self {
            Layout::Auto => "rows of one of the known layouts",
            Layout::Messages => "messages (or conversations): a list of turns with a role (or from) and a content (or value)",
            Layout::QuestionAnswer => "question and answer: two texts",
        }
    }

    fn fits(self, row: &Object) -> bool {
        match self {
            Layout::Auto => false,
            Layout::Messages => messages::fits(row),
            Layout::QuestionAnswer => question_answer::fits(row),
        }
    }

    /// The traces of a row of this layout, which must not be [`Layout::Auto`].
    pub(crate) fn read(self, row: &Object) -> Found {
        match self {
            Layout::Auto => unreachable!("the layout is recognised before the first row is read"),
            Layout::Messages => messages::read(row),
            Layout::QuestionAnswer => question_answer::read(row),
        }
    }

    /// The layout of a file, judged by its first rows: the one that fits at least half of them, while none of the others fits another.
    pub(crate) fn recognise(path: &Path, rows: &[Object]) -> Result<Layout, Error> {
        let layouts: Vec<Option<Layout>> = rows.iter().map(|row| Self::KNOWN.into_iter().find(|layout| layout.fits(row))).collect();
        let Some(at) = layouts.iter().position(Option::is_some) else {
            let why = match rows.first() {
                None => "its layout cannot be told, because none of its first lines is a JSON object".to_owned(),
                Some(row) => {
                    let known: Vec<String> = Self::KNOWN.iter().map(|layout| format!("{} ({})", layout.name(), layout.needs())).collect();
                    format!("its layout is not known: its rows have {}; known layouts are {}", keys(row), known.join("; "))
                }
            };
            return Err(Error::source(path, why));
        };
        let layout = layouts[at].expect("this one was found");
        if let Some(other) = layouts.iter().position(|found| found.is_some_and(|found| found != layout)) {
            let other_name = layouts[other].expect("this one was found").name();
            let why = format!(
                "row {} is laid out as {}, row {} as {other_name}; say which with the key layout, the other rows are then dropped",
                at + 1,
                layout.name(),
                other + 1
            );
            return Err(Error::source(path, why));
        }
        let fitting = layouts.iter().flatten().count();
        if 2 * fitting < rows.len() {
            let bad = layouts.iter().position(Option::is_none).expect("less than half fit");
            let why = format!(
                "only {fitting} of its first {} rows are laid out as {}, row {} has {}; say layout = \"{}\" if the other rows should be dropped",
                rows.len(),
                layout.name(),
                bad + 1,
                keys(&rows[bad]),
                layout.name()
            );
            return Err(Error::source(path, why));
        }
        Ok(layout)
    }
}

/// The keys of a row with what they hold, for error messages.
fn keys(row: &Object) -> String {
    if row.is_empty() {
        return "no keys".into();
    }
    row.iter().take(20).map(|(key, value)| format!("{key} ({})", kind(value))).collect::<Vec<_>>().join(", ")
}

/// A text that must be there and not be blank.
fn text<'a>(row: &'a Object, key: &str) -> Result<&'a str, Drop> {
    match row.get(key) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
        Some(Value::String(_)) => Err(Drop::new(Rule::Incomplete, format!("{key} is blank"))),
        Some(other) => Err(Drop::new(Rule::Incomplete, format!("{key} is {}, a text is needed", kind(other)))),
        None => Err(Drop::new(Rule::Incomplete, format!("there is no {key}; the row has {}", keys(row)))),
    }
}

/// The first of `keys` that holds a text or a number, as a text.
fn first_of(row: &Object, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match row.get(*key)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// The row's own name for itself; blank where it has none.
fn id(row: &Object) -> String {
    first_of(row, &["id", "uuid", "item_id", "custom_id"]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &[&str]) -> Vec<Object> {
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_unclear_layout_is_explained() {
        let recognise = |lines: &[&str]| Layout::recognise(Path::new("traces.jsonl"), &rows(lines)).map_err(|error| error.to_string());
        assert_eq!(recognise(&[r#"{"question": "a", "answer": "b"}"#]), Ok(Layout::QuestionAnswer));
        assert_eq!(recognise(&[r#"{"question": "a", "answer": "b"}"#, r#"{"question": "a"}"#]), Ok(Layout::QuestionAnswer));
        let unknown = recognise(&[r#"{"input": "a", "score": 2}"#]).unwrap_err();
        assert!(unknown.contains("its rows have input (a text), score (a number); known layouts are messages"), "{unknown}");
        let mixed = recognise(&[r#"{"question": "a", "answer": "b"}"#, r#"{"messages": [{"role": "user", "content": "a"}]}"#]).unwrap_err();
        assert!(mixed.contains("row 1 is laid out as question_answer, row 2 as messages"), "{mixed}");
        let few = recognise(&[r#"{"question": "a", "answer": "b"}"#, r#"{"input": "a"}"#, "{}"]).unwrap_err();
        assert!(few.contains("only 1 of its first 3 rows are laid out as question_answer, row 2 has input (a text)"), "{few}");
        assert!(recognise(&[]).unwrap_err().contains("none of its first lines"));
    }
}
