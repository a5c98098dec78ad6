//! What vLLM and SGLang give when they are run as libraries: the rendered prompt, the texts, and the tokens with their most
//! likely alternatives. vLLM's alternatives are keyed by token and hold the chosen one even where it is not among the k best.

use serde_json::Value;
use task::Trace;

use super::{Candidate, Found, Object, exchange_before, first_of, id, keys, list, prompt, reasoning, text};
use crate::rules::{Drop, Rule};
use crate::teacher::{Alternative, Step, logprob};

pub(super) fn fits_vllm(row: &Object) -> bool {
    let first = row.get("outputs").and_then(Value::as_array).and_then(|outputs| outputs.first());
    first.is_some_and(|output| output.get("text").is_some())
}

pub(super) fn fits_sglang(row: &Object) -> bool {
    matches!(row.get("text"), Some(Value::String(_))) && row.get("meta_info").is_some_and(Value::is_object)
}

pub(super) fn read_vllm(row: &Object) -> Found {
    let outputs = match list(row, "outputs") {
        Ok(outputs) if !outputs.is_empty() => outputs,
        Ok(_) => return vec![Err(Drop::new(Rule::Incomplete, "outputs is an empty list"))],
        Err(drop) => return vec![Err(drop)],
    };
    let one = |at: usize, output: &Value| {
        let output = output.as_object().ok_or_else(|| Drop::new(Rule::Incomplete, format!("output {} is no object", at + 1)))?;
        let id = if outputs.len() == 1 { id(row) } else { format!("{}#{at}", id(row)) };
        let found = candidate(row, text(output, "text")?, id)?;
        Ok(Candidate { stopped_by: first_of(output, &["finish_reason"]), teacher: vllm_steps(output), ..found })
    };
    outputs.iter().enumerate().map(|(at, output)| one(at, output)).collect()
}

pub(super) fn read_sglang(row: &Object) -> Found {
    let one = || {
        let meta = row.get("meta_info").and_then(Value::as_object);
        let meta = meta.ok_or_else(|| Drop::new(Rule::Incomplete, format!("there is no meta_info; the row has {}", keys(row))))?;
        let id = first_of(row, &["id"]).or_else(|| first_of(meta, &["id"])).unwrap_or_default();
        let found = candidate(row, text(row, "text")?, id)?;
        // {"type": "stop", "matched": …}, or the word alone.
        let stopped_by = match meta.get("finish_reason") {
            Some(Value::Object(reason)) => first_of(reason, &["type"]),
            _ => first_of(meta, &["finish_reason"]),
        };
        Ok(Candidate { stopped_by, teacher: sglang_steps(meta), ..found })
    };
    vec![one()]
}

fn candidate(row: &Object, written: &str, id: String) -> Result<Candidate, Drop> {
    let (system, question) = match (row.get("messages").and_then(Value::as_array), first_of(row, &["question", "problem"])) {
        (Some(messages), _) => exchange_before(messages)?,
        (None, Some(question)) => (first_of(row, &["system"]), question.trim().to_owned()),
        (None, None) => {
            prompt::take_apart(text(row, "prompt")?).ok_or_else(|| Drop::new(Rule::SeveralTurns, "the prompt has several turns"))?
        }
    };
    let (reasoning, answer) = reasoning::split(written)?;
    let reference = first_of(row, &["reference", "reference_answer", "ground_truth", "answer"]);
    Ok(Candidate::of(Trace { id, system, question, reasoning, answer, reference }))
}

/// `logprobs`: for each token `{token: {logprob, rank, decoded_token}}`, with the tokens in `token_ids`.
fn vllm_steps(output: &Object) -> Option<Vec<Step>> {
    let tokens = output.get("token_ids")?.as_array()?;
    let of_tokens = output.get("logprobs")?.as_array()?;
    if tokens.len() != of_tokens.len() {
        return None;
    }
    let step = |token: &Value, alternatives: &Value| {
        let token = u32::try_from(token.as_u64()?).ok()?;
        let alternatives: Vec<Alternative> = alternatives
            .as_object()?
            .iter()
            .map(|(id, facts)| {
                let bytes = facts.get("decoded_token").and_then(Value::as_str).unwrap_or_default().as_bytes().to_vec();
                Some(Alternative { bytes, id: Some(id.parse().ok()?), logprob: logprob(facts.get("logprob"))? })
            })
            .collect::<Option<_>>()?;
        let bytes = alternatives.iter().find(|it| it.id == Some(token))?.bytes.clone();
        Some(Step::new(bytes, Some(token), alternatives))
    };
    tokens.iter().zip(of_tokens).map(|(token, alternatives)| step(token, alternatives)).collect()
}

/// `output_token_logprobs` and `output_top_logprobs`: lists of `[logprob, token, text]`.
fn sglang_steps(meta: &Object) -> Option<Vec<Step>> {
    let spoken = meta.get("output_token_logprobs")?.as_array()?;
    let top = meta.get("output_top_logprobs").and_then(Value::as_array);
    let entry = |entry: &Value| {
        let bytes = entry.get(2).and_then(Value::as_str).unwrap_or_default().as_bytes().to_vec();
        Some(Alternative { bytes, id: Some(u32::try_from(entry.get(1)?.as_u64()?).ok()?), logprob: logprob(entry.get(0))? })
    };
    let step = |(at, chosen): (usize, &Value)| {
        let chosen = entry(chosen)?;
        let others = top.and_then(|top| top.get(at)).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let (bytes, id) = (chosen.bytes.clone(), chosen.id);
        Some(Step::new(bytes, id, [chosen].into_iter().chain(others.iter().filter_map(entry))))
    };
    spoken.iter().enumerate().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_vllm() {
        let row: Object = serde_json::from_str(
            r#"{"request_id": "0", "prompt": "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n<think>\n", "prompt_token_ids": [1],
                "prompt_logprobs": null, "outputs": [
                {"index": 0, "text": "a</think>2", "token_ids": [7, 9], "finish_reason": "stop", "stop_reason": null,
                 "logprobs": [{"7": {"logprob": -3.5, "rank": 9, "decoded_token": "a</think>"}, "8": {"logprob": -0.5, "rank": 1, "decoded_token": "b"}},
                              {"9": {"logprob": 0.0, "rank": 1, "decoded_token": "2"}}]},
                {"index": 1, "text": "a</think>3", "token_ids": [7], "finish_reason": "length", "logprobs": null}]}"#,
        )
        .unwrap();
        assert!(fits_vllm(&row));
        let found: Vec<Candidate> = read_vllm(&row).into_iter().map(Result::unwrap).collect();
        assert_eq!(
            (found[0].trace.question.as_str(), found[0].trace.reasoning.as_str(), found[0].trace.answer.as_str()),
            ("1 + 1?", "a", "2")
        );
        let steps = found[0].teacher.as_ref().unwrap();
        assert_eq!((steps[0].id, steps[0].bytes.as_slice()), (Some(7), &b"a</think>"[..]));
        // The most likely one first, the chosen one though it is not among the best.
        assert_eq!(steps[0].alternatives.iter().map(|it| it.id.unwrap()).collect::<Vec<_>>(), [8, 7]);
        assert_eq!((found[1].stopped_by.as_deref(), &found[1].teacher), (Some("length"), &None));
    }

    #[test]
    fn outputs_of_sglang() {
        let row: Object = serde_json::from_str(
            r#"{"question": "1 + 1?", "text": "<think>a</think>2", "meta_info": {"id": "s", "finish_reason": {"type": "stop", "matched": 2},
                "output_token_logprobs": [[-0.5, 7, "<think>a</think>"], [-0.25, 9, "2"]],
                "output_top_logprobs": [[[-0.5, 7, "<think>a</think>"], [-1.5, 8, "b"]], null]}}"#,
        )
        .unwrap();
        assert!(fits_sglang(&row));
        let found = read_sglang(&row).remove(0).unwrap();
        assert_eq!((found.trace.id.as_str(), found.trace.answer.as_str(), found.stopped_by.as_deref()), ("s", "2", Some("stop")));
        let steps = found.teacher.unwrap();
        assert_eq!(steps.iter().map(|step| step.alternatives.len()).collect::<Vec<_>>(), [2, 1]);
    }
}
