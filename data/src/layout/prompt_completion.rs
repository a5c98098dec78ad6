//! TRL's `prompt` and `completion`, as text or as lists of messages:
//! `{"prompt": "1 + 1?", "completion": "2"}`, `{"prompt": [{"role": "user", …}], "completion": [{"role": "assistant", …}]}`.

use serde_json::{Value, json};
use task::Trace;

use super::{Candidate, Found, Object, REFERENCES, first_of, id, messages, prompt, reasoning, text};
use crate::rules::{Drop, Rule};

pub(super) fn fits(row: &Object) -> bool {
    let is = |key: &str, fits: fn(&Value) -> bool| row.get(key).is_some_and(fits);
    [Value::is_string, Value::is_array].into_iter().any(|kind| is("prompt", kind) && is("completion", kind))
}

pub(super) fn read(row: &Object) -> Found {
    if let (Some(Value::Array(prompt)), Some(Value::Array(completion))) = (row.get("prompt"), row.get("completion")) {
        let mut row = row.clone();
        row.insert("messages".to_owned(), json!([prompt.as_slice(), completion.as_slice()].concat()));
        return messages::read(&row);
    }
    vec![trace(row).map(|trace| Candidate { stopped_by: first_of(row, &["finish_reason", "stop_reason"]), ..Candidate::of(trace) })]
}

fn trace(row: &Object) -> Result<Trace, Drop> {
    let (asked, said) = (text(row, "prompt")?, text(row, "completion")?);
    let taken = prompt::take_apart(asked);
    let (system, question) = taken.ok_or_else(|| Drop::new(Rule::SeveralTurns, "the prompt has several turns, or no question"))?;
    let (reasoning, answer) = reasoning::split(said).map_err(|drop| drop.about(&question))?;
    let reference = first_of(row, &REFERENCES);
    Ok(Trace { id: id(row), system, question, reasoning, answer, reference })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_messages() {
        let read_one = |line: &str| {
            let row: Object = serde_json::from_str(line).unwrap();
            assert!(fits(&row), "{line}");
            read(&row).remove(0).map(|found| (found.trace.system, found.trace.question, found.trace.reasoning, found.trace.answer))
        };
        let texts = r#"{"prompt": "1 + 1?", "completion": " <think>One and one.</think>2"}"#;
        let lists = r#"{"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}],
            "completion": [{"role": "assistant", "content": "<think>One and one.</think>2"}]}"#;
        for (line, system) in [(texts, None), (lists, Some("Be brief.".to_owned()))] {
            assert_eq!(read_one(line), Ok((system, "1 + 1?".into(), "One and one.".into(), "2".into())));
        }
        let rule = |line: &str| read_one(line).unwrap_err().rule;
        assert_eq!(rule(r#"{"prompt": "1 + 1?", "completion": " "}"#), Rule::Incomplete);
        assert_eq!(
            rule(r#"{"prompt": "<|im_start|>user\na<|im_end|>\n<|im_start|>user\nb<|im_end|>", "completion": "2"}"#),
            Rule::SeveralTurns
        );
        assert_eq!(rule(r#"{"prompt": [{"role": "user", "content": "1 + 1?"}], "completion": []}"#), Rule::Incomplete);
        assert!(!fits(&serde_json::from_str(r#"{"prompt": "1 + 1?", "completion": ["2"]}"#).unwrap()));
    }
}
