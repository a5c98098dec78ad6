//! A model that was told to answer in JSON: `{"reasoning": …, "answer": …}` inside a text, in `output` (a text or a list of one).
//! Models write such JSON by ear: raw line feeds, LaTeX's backslashes, quotation marks inside quotation marks, a fence around it,
//! words before it. Strict parsing goes first; what it refuses is taken apart by the two keys, which must both be there.

use serde_json::Value;
use task::Trace;

use super::{Candidate, Found, Object, first_of, id, keys};
use crate::rules::{Drop, Rule};

const REASONING: [&str; 5] = ["reasoning", "thought", "thoughts", "explanation", "solution"];
const ANSWER: [&str; 3] = ["answer", "final_answer", "final answer"];

pub(super) fn fits(row: &Object) -> bool {
    output(row).is_some() && (row.contains_key("chat_history") || row.contains_key("question"))
}

pub(super) fn read(row: &Object) -> Found {
    vec![trace(row)]
}

fn output(row: &Object) -> Option<&str> {
    match row.get("output")? {
        Value::String(text) => Some(text),
        Value::Array(texts) if texts.len() == 1 => texts[0].as_str(),
        _ => None,
    }
}

fn trace(row: &Object) -> Result<Candidate, Drop> {
    let output = output(row).ok_or_else(|| Drop::new(Rule::Incomplete, format!("there is no output; the row has {}", keys(row))))?;
    let asked = || row.get("chat_history")?.as_array()?.last()?.as_str().map(str::to_owned);
    let question = first_of(row, &["question"]).or_else(asked).unwrap_or_default().trim().to_owned();
    if question.is_empty() {
        return Err(Drop::new(Rule::Incomplete, "there is no question"));
    }
    let (reasoning, answer, is_mended) = fields(output).map_err(|drop| drop.about(&question))?;
    let trace = Trace { id: id(row), system: None, question, reasoning, answer, reference: first_of(row, &["answer", "reference"]) };
    Ok(Candidate { stopped_by: first_of(row, &["finish_reason", "stop_reason"]), is_mended, ..Candidate::of(trace) })
}

/// Reasoning and answer of a text that holds them as JSON, more or less, and whether it is JSON but for a fence and words around it.
fn fields(text: &str) -> Result<(String, String, bool), Drop> {
    let incomplete = |why: &str| Drop::new(Rule::Incomplete, why.to_owned());
    let open = text.find('{').ok_or_else(|| incomplete("the output holds no {"))?;
    let close = text.rfind('}').map_or(text.len(), |at| at + 1).max(open);
    let strict = serde_json::from_str::<Object>(&text[open..close]);
    let is_mended = strict.is_err();
    let (reasoning, answer) = match strict {
        Ok(object) => {
            let reasoning = first_of(&object, &REASONING).ok_or_else(|| incomplete("the JSON in the output has no reasoning"))?;
            (reasoning, first_of(&object, &ANSWER).ok_or_else(|| incomplete("the JSON in the output has no answer"))?)
        }
        Err(_) => mended(&text[open..]).ok_or_else(|| Drop::new(Rule::Unfinished, "the JSON in the output cannot be mended"))?,
    };
    let (reasoning, answer) = (reasoning.trim(), answer.trim());
    if answer.is_empty() || answer.chars().all(|character| character == '_') {
        return Err(Drop::new(Rule::Unfinished, "the JSON in the output has a blank answer"));
    }
    Ok((reasoning.to_owned(), format!("The answer is {answer}"), is_mended))
}

/// Takes apart what is almost JSON: the reasoning goes from its key to the answer's key, the answer to the end of its value.
fn mended(text: &str) -> Option<(String, String)> {
    let (reasoning_key, reasoning_start) = REASONING.iter().filter_map(|key| after_key(text, key, false)).min()?;
    // The last such key: the reasoning may speak of the answer, but nothing follows the answer.
    let (answer_key, answer_start) = ANSWER.iter().filter_map(|key| after_key(text, key, true)).max()?;
    if answer_key < reasoning_start {
        let reasoning = &text[reasoning_start..];
        let end = reasoning.rfind('}').unwrap_or(reasoning.len());
        return Some((long_value(&reasoning[..end]), long_value(&text[answer_start..reasoning_key])));
    }
    Some((long_value(&text[reasoning_start..answer_key]), short_value(&text[answer_start..])))
}

/// Where a key begins and where its value begins.
fn after_key(text: &str, key: &str, is_last: bool) -> Option<(usize, usize)> {
    let quoted = format!("\"{key}\"");
    let mut found = text.match_indices(&quoted).filter_map(|(at, _)| {
        let rest = &text[at + quoted.len()..];
        let value = rest.trim_start().strip_prefix(':')?;
        Some((at, text.len() - value.len()))
    });
    if is_last { found.last() } else { found.next() }
}

/// The reasoning: all up to the last quotation mark before the answer's key.
fn long_value(written: &str) -> String {
    let written = written.trim().trim_end_matches(',').trim_end();
    let inner = written.strip_prefix('"').unwrap_or(written);
    unescaped(inner.strip_suffix('"').unwrap_or(inner))
}

/// The answer: up to the quotation mark that ends the object, or to the end of the line where it has none.
fn short_value(written: &str) -> String {
    let written = written.trim_start();
    let Some(inner) = written.strip_prefix('"') else {
        return written.split(['\n', '}']).next().unwrap_or_default().trim().trim_end_matches(',').to_owned();
    };
    let ends_object =
        |rest: &str| rest.trim_start_matches(|character: char| character.is_whitespace() || character == ',').starts_with(['}', '`']);
    let mut quotes = inner.match_indices('"').map(|(at, _)| at).filter(|&at| !inner[..at].ends_with('\\'));
    let end = quotes.clone().find(|&at| ends_object(&inner[at + 1..])).or(quotes.next_back());
    unescaped(&inner[..end.unwrap_or(inner.len())])
}

/// JSON's escapes; a backslash before anything else is LaTeX's and stays.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match rest.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some(escaped @ ('"' | '\\' | '/')) => plain.push(escaped),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_models_write_for_json() {
        let good = [
            ("```json\n{\n  \"reasoning\": \"1 + 1 = 2\",\n  \"answer\": \"2\"\n}\n```", "1 + 1 = 2", "2", false),
            ("Here it is:\n{\"reasoning\": \"Line one.\nLine \"two\".\", \"answer\": \"2\"\n}\n", "Line one.\nLine \"two\".", "2", true),
            ("{\"reasoning\": \"\\(1 + 1\\) is\n\\$2\", \"answer\": 1,002}", "\\(1 + 1\\) is\n\\$2", "1,002", true),
            ("{\"reasoning\": \"so \\\"answer\\\": 3\nno,\", \"answer\": \"2\"", "so \"answer\": 3\nno,", "2", true),
            ("{\"answer\": \"2\",\n\"reasoning\": \"1\n+ 1\"}", "1\n+ 1", "2", true),
            ("{\"reasoning\": \"1\n+ 1\", \"answer\": \"2\"\n}\n```\n\nThe \"key\" {steps}: \"answer\" it.", "1\n+ 1", "2", true),
            ("{\"explanation\": \"1 + 1\", \"final_answer\": 2}", "1 + 1", "2", false),
        ];
        for (text, reasoning, answer, is_mended) in good {
            assert_eq!(fields(text), Ok((reasoning.to_owned(), format!("The answer is {answer}"), is_mended)), "{text}");
        }
        let bad = [
            ("It is 2.", Rule::Incomplete),
            ("{\"reasoning\": \"1 + 1\n is", Rule::Unfinished),
            ("{\"reasoning\": \"a\", \"answer\": \"___\"}", Rule::Unfinished),
            ("{\"answer\": \"2\"}", Rule::Incomplete),
        ];
        for (text, rule) in bad {
            assert_eq!(fields(text).unwrap_err().rule, rule, "{text}");
        }
    }

    #[test]
    fn the_question_stands_beside_or_in_the_history() {
        let row: Object = serde_json::from_str(
            r#"{"session_id": "s", "chat_history": ["1 + 1?\n"], "output": ["{\"reasoning\": \"a\", \"answer\": \"2\"}"], "answer": "\# 2"}"#
                .replace("\\#", "#")
                .as_str(),
        )
        .unwrap();
        assert!(fits(&row));
        let trace = trace(&row).unwrap().trace;
        assert_eq!((trace.question.as_str(), trace.reference.as_deref()), ("1 + 1?", Some("# 2")));
    }
}
