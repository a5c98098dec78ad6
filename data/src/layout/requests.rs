//! What was asked, for files that hold answers alone: the input file of a batch, by `custom_id`, or the question set that completions
//! answer, by the id of each problem.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use task::{Fields, Problem, read_set};

use super::{Object, first_of};
use crate::Error;
use crate::source::Reader;

/// What each answer is to know, by the name that it and its request share; all in memory.
pub(crate) struct Requests(HashMap<String, Object>);

impl Requests {
    /// Reads the file; every row of it must be a request or a problem.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let first = Reader::open(path)?.next_piece()?.first().and_then(|row| row.object().ok());
        let is_batch = first.is_some_and(|row| row.contains_key("custom_id"));
        let requests = if is_batch { of_batch(path)? } else { of_set(path)? };
        if requests.is_empty() {
            return Err(Error::source(path, "it has no requests"));
        }
        Ok(Self(requests))
    }

    /// The row with what it answers, if that is known.
    pub fn joined(&self, mut row: Object) -> Object {
        let id = first_of(&row, &["custom_id", "id"]);
        row.extend(id.and_then(|id| self.0.get(&id)).cloned().unwrap_or_default());
        row
    }
}

/// The messages of each request of a batch, which has at most 50,000.
fn of_batch(path: &Path) -> Result<HashMap<String, Object>, Error> {
    let mut reader = Reader::open(path)?;
    let mut requests = HashMap::new();
    loop {
        let piece = reader.next_piece()?;
        if piece.is_empty() {
            return Ok(requests);
        }
        for row in piece {
            let wrong = |why: String| Error::source(path, format!("line {}: {why}", row.line));
            let mut object = row.object().map_err(|drop| wrong(drop.detail))?;
            let id = object.get("custom_id").and_then(Value::as_str).map(str::to_owned);
            let messages = object.get_mut("body").and_then(|body| body.get_mut("messages")).map(Value::take);
            let (Some(id), Some(messages)) = (id, messages) else {
                return Err(wrong("a request has a custom_id and a body with messages".to_owned()));
            };
            if requests.contains_key(&id) {
                return Err(wrong(format!("the custom_id {id:?} is an earlier request's too, so that its answers fit either")));
            }
            requests.insert(id, Map::from_iter([("messages".to_owned(), messages)]));
        }
    }
}

/// Question and reference of each problem, read as an evaluation reads them.
fn of_set(path: &Path) -> Result<HashMap<String, Object>, Error> {
    let needed = "needed are a batch's input file, whose rows have a custom_id, or a set of questions with their answers";
    let set = read_set(path, &Fields::default()).map_err(|error| Error::source(path, format!("{error}; {needed}")))?;
    let asked = |problem: Problem| {
        let reference = problem.answer.rsplit_once("####").map_or(&*problem.answer, |(_, last)| last).trim();
        let object = [("question", json!(problem.question)), ("reference", json!(reference))];
        (problem.id, object.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    Ok(set.problems.into_iter().map(asked).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn an_answer_is_joined_with_its_request() {
        let line = r#"{"custom_id": "q-1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [{"role": "user", "content": "1 + 1?"}]}}"#;
        let requests = Requests::open(file(line).path()).unwrap();
        let answer: Object = serde_json::from_str(r#"{"custom_id": "q-1", "response": {"status_code": 200, "body": {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "2"}}]}}}"#).unwrap();
        let found = super::super::chat_completion::read_batch(&requests.joined(answer)).remove(0).unwrap();
        assert_eq!((found.trace.question.as_str(), found.trace.answer.as_str()), ("1 + 1?", "2"));
        let wrong = Requests::open(file("{\"custom_id\": \"q\"}\n").path()).err().unwrap().to_string();
        assert!(wrong.contains("line 1: a request has a custom_id and a body with messages"), "{wrong}");
        let wrong = Requests::open(file(&format!("{line}\n{line}\n")).path()).err().unwrap().to_string();
        assert!(wrong.contains("line 2: the custom_id \"q-1\" is an earlier request's too"), "{wrong}");
    }

    #[test]
    fn a_completion_is_joined_with_its_problem() {
        let set = file("{\"id\": 7, \"question\": \"1 + 1?\", \"answer\": \"One and one.\\n#### 2\"}\n");
        let requests = Requests::open(set.path()).unwrap();
        let said = |id: &str| requests.joined(serde_json::from_value(json!({ "id": id, "text": "2" })).unwrap());
        assert_eq!(Value::from(said("7")), json!({ "id": "7", "text": "2", "question": "1 + 1?", "reference": "2" }));
        assert_eq!(said("8").len(), 2);
        let wrong = Requests::open(file("{\"x\": 1}\n").path()).err().unwrap().to_string();
        assert!(wrong.contains("or a set of questions with their answers"), "{wrong}");
    }
}
