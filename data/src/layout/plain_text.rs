//! Plain text for continued pre-training: one text in a row, as FineWeb, C4, the Pile and most corpora have it (`text`; what stands
//! beside it is not read). There is no question, so that no prompt is written and all of it is learned.

use task::Trace;

use super::{Candidate, Found, Object, id, text};

/// Keys of rows whose text answers something.
const ASKS: [&str; 6] = ["question", "problem", "prompt", "messages", "conversations", "meta_info"];

pub(super) fn fits(row: &Object) -> bool {
    row.get("text").is_some_and(|text| text.is_string()) && !ASKS.iter().any(|key| row.contains_key(*key))
}

pub(super) fn read(row: &Object) -> Found {
    let trace = |text: &str| Trace {
        id: id(row),
        system: None,
        question: String::new(),
        reasoning: String::new(),
        answer: text.trim().to_owned(),
        reference: None,
    };
    vec![text(row, "text").map(|text| Candidate::of(trace(text)))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_an_answer_to_nothing() {
        let read_one = |line: &str| {
            let row = serde_json::from_str(line).unwrap();
            assert!(fits(&row), "{line}");
            read(&row).remove(0)
        };
        let found = read_one(r#"{"text": "The sea is deep.\n\nIt is cold.\n", "id": "a", "url": "x", "score": 2.5}"#).unwrap().trace;
        assert_eq!((found.question.as_str(), found.completion().as_str()), ("", "The sea is deep.\n\nIt is cold."));
        assert_eq!(found.id, "a");
        assert!(!fits(&serde_json::from_str(r#"{"question": "1 + 1?", "text": "2"}"#).unwrap()));
        assert!(read_one(r#"{"text": " "}"#).unwrap_err().detail.contains("text is blank"));
    }
}
