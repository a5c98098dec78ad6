//! What OpenAI-compatible servers answer: a chat completion, as it is or inside a line of a batch's output. Neither holds the
//! question. It is taken from the row where the one who saved the answers put it (`messages`, `prompt`, `question`, `request`),
//! or from the batch's input file, which the source names with `requests`.

use serde_json::Value;
use task::Trace;

use super::{Candidate, Found, Object, exchange_before, first_of, keys, prompt, reasoning};
use crate::rules::{Drop, Rule};
use crate::teacher::{Alternative, Step, logprob};

pub(super) fn fits(row: &Object) -> bool {
    choices(row).is_some_and(|choices| choices.first().is_some_and(|choice| choice.get("message").is_some()))
}

pub(super) fn fits_batch(row: &Object) -> bool {
    row.contains_key("custom_id") && row.contains_key("response")
}

pub(super) fn read_batch(row: &Object) -> Found {
    if let Some(error) = row.get("error").filter(|error| !error.is_null()) {
        return vec![Err(Drop::new(Rule::Unfinished, format!("the server answered with an error: {error}")))];
    }
    let response = row.get("response").and_then(Value::as_object);
    let status = response.and_then(|response| response.get("status_code")).and_then(Value::as_u64).unwrap_or(200);
    if status != 200 {
        return vec![Err(Drop::new(Rule::Unfinished, format!("the server answered with status {status}")))];
    }
    let Some(body) = response.and_then(|response| response.get("body")).and_then(Value::as_object) else {
        return vec![Err(Drop::new(Rule::Incomplete, "the response has no body"))];
    };
    completion(row, body)
}

pub(super) fn read(row: &Object) -> Found {
    completion(row, row)
}

fn choices(body: &Object) -> Option<&Vec<Value>> {
    body.get("choices")?.as_array()
}

/// The choices of a completion; the question is asked of the row.
fn completion(row: &Object, body: &Object) -> Found {
    let asked = match question(row) {
        Ok(asked) => asked,
        Err(drop) => return vec![Err(drop)],
    };
    let choices = choices(body).filter(|choices| !choices.is_empty());
    let Some(choices) = choices else {
        return vec![Err(Drop::new(Rule::Incomplete, format!("there are no choices; the body has {}", keys(body))))];
    };
    let id = first_of(row, &["custom_id", "id"]).unwrap_or_default();
    let one = |at: usize, choice: &Value| {
        let choice = choice.as_object().ok_or_else(|| Drop::new(Rule::Incomplete, format!("choice {} is no object", at + 1)))?;
        let message = choice.get("message").and_then(Value::as_object);
        let message = message.ok_or_else(|| Drop::new(Rule::Incomplete, format!("choice {} has no message", at + 1)))?;
        if let Some(refusal) = first_of(message, &["refusal"]) {
            return Err(Drop::new(Rule::Unfinished, format!("the teacher refused: {refusal}")));
        }
        let content = message.get("content").and_then(Value::as_str).unwrap_or_default();
        let (reasoning, answer) = match first_of(message, &["reasoning_content", "reasoning"]) {
            Some(apart) if !content.contains("</think>") => reasoning::joined(&apart, content)?,
            _ => reasoning::split(content)?,
        };
        let (system, question) = asked.clone();
        let id = if choices.len() == 1 { id.clone() } else { format!("{id}#{at}") };
        let trace =
            Trace { id, system, question, reasoning, answer, reference: first_of(row, &["reference", "reference_answer", "answer"]) };
        Ok(Candidate { stopped_by: first_of(choice, &["finish_reason"]), teacher: steps(choice), ..Candidate::of(trace) })
    };
    choices.iter().enumerate().map(|(at, choice)| one(at, choice)).collect()
}

/// System prompt and question, as the row has them beside the answer.
fn question(row: &Object) -> Result<(Option<String>, String), Drop> {
    let request = row.get("request").and_then(Value::as_object);
    let request = request.map(|request| request.get("body").and_then(Value::as_object).unwrap_or(request));
    for place in [Some(row), request].into_iter().flatten() {
        if let Some(messages) = place.get("messages").and_then(Value::as_array) {
            return exchange_before(messages);
        }
    }
    if let Some(question) = first_of(row, &["question"]) {
        return Ok((first_of(row, &["system"]), question.trim().to_owned()));
    }
    match first_of(row, &["prompt"]).as_deref().map(prompt::take_apart) {
        Some(Some(asked)) => Ok(asked),
        Some(None) => Err(Drop::new(Rule::SeveralTurns, "the prompt has several turns")),
        None => Err(Drop::new(
            Rule::Incomplete,
            format!(
                "the question is neither in the row nor in a batch's input file, which the source names as requests; the row has {}",
                keys(row)
            ),
        )),
    }
}

/// The tokens with their probabilities: `logprobs.content[].top_logprobs`.
fn steps(choice: &Object) -> Option<Vec<Step>> {
    let tokens = choice.get("logprobs")?.get("content")?.as_array()?;
    tokens
        .iter()
        .map(|token| {
            let top = token.get("top_logprobs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let spoken = alternative(token)?;
            let bytes = spoken.bytes.clone();
            Some(Step::new(bytes, None, [spoken].into_iter().chain(top.iter().filter_map(alternative))))
        })
        .collect()
}

fn alternative(token: &Value) -> Option<Alternative> {
    // The text of a token that is half a character is not its bytes.
    let bytes = match token.get("bytes").and_then(Value::as_array) {
        Some(bytes) => bytes.iter().map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect::<Option<Vec<u8>>>()?,
        None => token.get("token")?.as_str()?.as_bytes().to_vec(),
    };
    Some(Alternative { bytes, id: None, logprob: logprob(token.get("logprob"))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETION: &str = r#"{"id": "chatcmpl-1", "model": "m", "created": 1,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "2", "reasoning_content": "1 + 1 = 2"},
                     "logprobs": {"content": [{"token": "2", "logprob": -0.1, "bytes": [50],
                        "top_logprobs": [{"token": "2", "logprob": -0.1, "bytes": [50]}, {"token": "3", "logprob": -2.5, "bytes": [51]}]}]}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1}"#;

    #[test]
    fn a_completion_with_its_request() {
        let beside = [
            r#""messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]"#,
            r#""request": {"model": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]}"#,
            r#""system": "Be brief.", "question": "1 + 1?""#,
            r#""prompt": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n""#,
        ];
        for question in beside {
            let row: Object = serde_json::from_str(&format!("{COMPLETION}, {question}}}")).unwrap();
            assert!(fits(&row));
            let found = read(&row).remove(0).unwrap();
            assert_eq!((found.trace.system.as_deref(), found.trace.question.as_str()), (Some("Be brief."), "1 + 1?"));
            assert_eq!((found.trace.reasoning.as_str(), found.trace.answer.as_str()), ("1 + 1 = 2", "2"));
            assert_eq!(found.stopped_by.as_deref(), Some("stop"));
            let steps = found.teacher.unwrap();
            assert_eq!(
                steps[0].alternatives.iter().map(|it| (it.bytes.as_slice(), it.logprob)).collect::<Vec<_>>(),
                [(&b"2"[..], -0.1), (b"3", -2.5)]
            );
        }
        let alone = read(&serde_json::from_str(&format!("{COMPLETION}}}")).unwrap()).remove(0).unwrap_err();
        assert!(alone.detail.starts_with("the question is neither in the row"), "{alone:?}");
    }

    #[test]
    fn a_line_of_a_batch() {
        let line = |response: &str| {
            serde_json::from_str::<Object>(&format!(r#"{{"id": "b", "custom_id": "q-1", "prompt": "1 + 1?", {response}}}"#)).unwrap()
        };
        let row = line(&format!(r#""response": {{"status_code": 200, "request_id": "r", "body": {COMPLETION}}}}}, "error": null"#));
        assert!(fits_batch(&row) && !fits(&row));
        let found = read_batch(&row).remove(0).unwrap();
        assert_eq!((found.trace.id.as_str(), found.trace.question.as_str(), found.trace.answer.as_str()), ("q-1", "1 + 1?", "2"));
        let failed = read_batch(&line(r#""response": {"status_code": 500, "body": {}}, "error": null"#)).remove(0).unwrap_err();
        assert_eq!(failed.detail, "the server answered with status 500");
        let expired = read_batch(&line(r#""response": null, "error": {"code": "batch_expired"}"#)).remove(0).unwrap_err();
        assert!(expired.detail.contains("batch_expired"));
    }
}
