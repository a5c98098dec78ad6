//! The input file of a batch: what was asked under each `custom_id`. The output of a batch holds answers alone.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::Object;
use crate::Error;
use crate::source::Reader;

/// The requests of a batch, in memory: a batch has at most 50,000.
pub(crate) struct Requests(HashMap<String, Value>);

impl Requests {
    /// Reads the file; every row of it must be a request.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut reader = Reader::open(path)?;
        let mut requests = HashMap::new();
        loop {
            let piece = reader.next_piece()?;
            if piece.is_empty() {
                break;
            }
            for row in piece {
                let wrong = |why: String| Error::source(path, format!("line {}: {why}", row.line));
                let mut object = row.object().map_err(|drop| wrong(drop.detail))?;
                let id = object.get("custom_id").and_then(Value::as_str).map(str::to_owned);
                let messages = object.get_mut("body").and_then(|body| body.get_mut("messages")).map(Value::take);
                match (id, messages) {
                    (Some(id), Some(messages)) => requests.insert(id, messages),
                    _ => return Err(wrong("a request has a custom_id and a body with messages".to_owned())),
                };
            }
        }
        if requests.is_empty() {
            return Err(Error::source(path, "it has no requests"));
        }
        Ok(Self(requests))
    }

    /// The row with the messages that it answers, if they are known.
    pub fn joined(&self, mut row: Object) -> Object {
        let messages = row.get("custom_id").and_then(Value::as_str).and_then(|id| self.0.get(id)).cloned();
        if let Some(messages) = messages {
            row.insert("messages".to_owned(), messages);
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_joined_with_its_request() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let line = r#"{"custom_id": "q-1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [{"role": "user", "content": "1 + 1?"}]}}"#;
        std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
        let requests = Requests::open(file.path()).unwrap();
        let answer: Object = serde_json::from_str(r#"{"custom_id": "q-1", "response": {"status_code": 200, "body": {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "2"}}]}}}"#).unwrap();
        let found = super::super::chat_completion::read_batch(&requests.joined(answer)).remove(0).unwrap();
        assert_eq!((found.trace.question.as_str(), found.trace.answer.as_str()), ("1 + 1?", "2"));
        std::fs::write(file.path(), "{\"custom_id\": \"q\"}\n").unwrap();
        let wrong = Requests::open(file.path()).err().unwrap().to_string();
        assert!(wrong.contains("line 1: a request has a custom_id and a body with messages"), "{wrong}");
    }
}
