//! `messages` and ShareGPT's `conversations`: turns with a role and a content. A trace is one exchange, so that a row must hold
//! one question and one reply, with at most a system prompt before them; a longer conversation is dropped and named, because
//! taking its last reply alone would train on an answer to something that the student cannot see.

use serde_json::Value;
use task::Trace;

use super::{Candidate, Found, Object, REFERENCES, first_of, id, keys, reasoning};
use crate::rules::{Drop, Rule};
use crate::source::kind;

const LISTS: [&str; 3] = ["messages", "conversations", "conversation"];
/// Where the reasoning stands beside the content: DeepSeek's API, gpt-oss, newer vLLM.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

pub(super) fn fits(row: &Object) -> bool {
    let Some(turns) = turns(row) else { return false };
    !turns.is_empty() && turns.iter().all(|turn| turn.as_object().is_some_and(|turn| role(turn).is_some() && content(turn).is_some()))
}

/// Whether a row has a list of turns, whatever is wrong with them.
pub(super) fn is_list(row: &Object) -> bool {
    turns(row).is_some()
}

pub(super) fn read(row: &Object) -> Found {
    vec![exchange(row).map_err(|drop| match asked(row) {
        Some(question) => drop.about(question),
        None => drop,
    })]
}

/// What the user says first.
fn asked(row: &Object) -> Option<&str> {
    let is_user = |turn: &&Object| matches!(role(turn), Some("user" | "human"));
    turns(row)?.iter().filter_map(Value::as_object).find(is_user).and_then(content)
}

fn turns(row: &Object) -> Option<&Vec<Value>> {
    LISTS.iter().find_map(|key| row.get(*key)?.as_array())
}

fn role(turn: &Object) -> Option<&str> {
    ["role", "from"].iter().find_map(|key| turn.get(*key)?.as_str())
}

fn content(turn: &Object) -> Option<&str> {
    ["content", "value"].iter().find_map(|key| turn.get(*key)?.as_str())
}

/// System prompt and question of a list of messages that has no reply yet.
pub(crate) fn exchange_before(messages: &[Value]) -> Result<(Option<String>, String), Drop> {
    let (mut system, mut question) = (None, None);
    for message in messages.iter().filter_map(Value::as_object) {
        match (role(message), content(message)) {
            (Some("system" | "developer"), Some(said)) if question.is_none() => {
                system = Some(said.trim().to_owned()).filter(|said| !said.is_empty())
            }
            (Some("user" | "human"), Some(said)) if question.is_none() => question = Some(said.trim().to_owned()),
            _ => return Err(Drop::new(Rule::SeveralTurns, format!("one question is needed, there are {} messages", messages.len()))),
        }
    }
    let question = question.filter(|question| !question.is_empty()).ok_or_else(|| Drop::new(Rule::Incomplete, "there is no question"))?;
    Ok((system, question))
}

fn exchange(row: &Object) -> Result<Candidate, Drop> {
    let turns =
        turns(row).ok_or_else(|| Drop::new(Rule::Incomplete, format!("there is no list of messages; the row has {}", keys(row))))?;
    let mut system = first_of(row, &["system"]);
    let (mut question, mut reply) = (None, None);
    for (at, turn) in turns.iter().enumerate() {
        let object = turn.as_object().ok_or_else(|| Drop::new(Rule::Incomplete, format!("turn {} is {}", at + 1, kind(turn))))?;
        let (Some(role), Some(said)) = (role(object), content(object)) else {
            return Err(Drop::new(Rule::Incomplete, format!("turn {} has no role or no content: it has {}", at + 1, keys(object))));
        };
        match role {
            "system" | "developer" if question.is_none() => system = Some(said.to_owned()).filter(|said| !said.trim().is_empty()),
            "user" | "human" if question.is_none() => question = Some(said),
            "assistant" | "gpt" | "model" | "bot" if question.is_some() && reply.is_none() => reply = Some((object, said)),
            "system" | "developer" | "user" | "human" | "assistant" | "gpt" | "model" | "bot" => {
                let roles = turns.iter().filter_map(Value::as_object).filter_map(self::role).take(8).collect::<Vec<_>>().join(", ");
                return Err(Drop::new(
                    Rule::SeveralTurns,
                    format!("one question and one reply are needed, the {} turns are {roles}", turns.len()),
                ));
            }
            other => return Err(Drop::new(Rule::Incomplete, format!("turn {} is by {other:?}", at + 1))),
        }
    }
    let question = question.map(str::trim).filter(|question| !question.is_empty());
    let question = question.ok_or_else(|| Drop::new(Rule::Incomplete, "there is no question"))?;
    let (turn, said) = reply.ok_or_else(|| Drop::new(Rule::Incomplete, "there is no reply"))?;
    // AM-DeepSeek keeps the parts of the reply, and the reference, in an object beside it.
    let info = turns.iter().filter_map(|turn| turn.get("info")?.as_object());
    let of_info = |key: &str| info.clone().find_map(|info| first_of(info, &[key]));
    let (reasoning, answer) = match (first_of(turn, &REASONING), of_info("think_content"), of_info("answer_content")) {
        // Some servers leave the closing mark in the content.
        (Some(apart), _, _) if !said.contains("</think>") => reasoning::joined(&apart, said)?,
        (None, Some(thought), Some(answer)) => reasoning::joined(&thought, &answer)?,
        _ => reasoning::split(said)?,
    };
    let trace = Trace {
        id: id(row),
        system,
        question: question.to_owned(),
        reasoning,
        answer,
        reference: first_of(row, &REFERENCES).or_else(|| of_info("reference_answer")),
    };
    let stopped_by = first_of(turn, &["finish_reason"]).or_else(|| first_of(row, &["finish_reason", "stop_reason"]));
    // OpenThoughts' verified copy says of each row whether it is right.
    Ok(Candidate { stopped_by, is_right: row.get("correct").and_then(Value::as_bool), ..Candidate::of(trace) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(line: &str) -> Result<Candidate, Drop> {
        exchange(&serde_json::from_str(line).unwrap())
    }

    #[test]
    fn every_way_to_write_one_exchange() {
        let lines = [
            r#"{"messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "<think>\n1 + 1 = 2\n</think>\n\n2"}]}"#,
            r#"{"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "<think>1 + 1 = 2</think><answer>2</answer>"}]}"#,
            r#"{"messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2", "reasoning_content": "1 + 1 = 2"}]}"#,
            r#"{"messages": [{"role": "user", "content": " 1 + 1?\n"}, {"role": "assistant", "thinking": "1 + 1 = 2", "content": "2"}]}"#,
        ];
        for line in lines {
            assert!(fits(&serde_json::from_str(line).unwrap()), "{line}");
            let trace = read_one(line).unwrap().trace;
            assert_eq!((trace.question.as_str(), trace.reasoning.as_str(), trace.answer.as_str()), ("1 + 1?", "1 + 1 = 2", "2"), "{line}");
        }
    }

    #[test]
    fn the_parts_of_am_deepseek_are_beside_the_reply() {
        let found = read_one(
            r#"{"messages": [{"role": "user", "content": "1 + 1?", "info": {"source": "s", "reference_answer": "2", "think_content": null}},
                {"role": "assistant", "content": "<think>a</think><answer>2</answer>",
                 "info": {"think_content": "a", "answer_content": "2", "reference_answer": null}}]}"#,
        )
        .unwrap();
        assert_eq!((found.trace.reasoning.as_str(), found.trace.answer.as_str()), ("a", "2"));
        assert_eq!(found.trace.reference.as_deref(), Some("2"));
    }

    #[test]
    fn the_system_prompt_the_reference_and_the_id_are_found() {
        let found = read_one(
            r#"{"id": 7, "answer": 2, "finish_reason": "length",
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]}"#,
        )
        .unwrap();
        assert_eq!(found.trace.system.as_deref(), Some("Be brief."));
        assert_eq!(found.trace.reference.as_deref(), Some("2"));
        assert_eq!(found.trace.id, "7");
        assert_eq!(found.stopped_by.as_deref(), Some("length"));
    }

    #[test]
    fn what_is_no_exchange_is_named() {
        let turns = |turns: &str| read_one(&format!("{{\"messages\": [{turns}]}}")).unwrap_err();
        let (user, reply) = (r#"{"role": "user", "content": "a"}"#, r#"{"role": "assistant", "content": "b"}"#);
        assert_eq!(turns(&format!("{user}, {reply}, {user}, {reply}")).rule, Rule::SeveralTurns);
        assert_eq!(turns(&format!("{reply}, {user}")).rule, Rule::SeveralTurns);
        assert_eq!(turns(user).detail, "there is no reply");
        assert_eq!(turns("").detail, "there is no question");
        assert_eq!(turns(&format!(r#"{user}, {{"role": "tool", "content": "b"}}"#)).detail, "turn 2 is by \"tool\"");
        assert_eq!(turns("7").detail, "turn 1 is a number");
        assert_eq!(turns(r#"{"role": "user"}"#).detail, "turn 1 has no role or no content: it has role (a text)");
    }
}
