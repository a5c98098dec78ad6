//! The marks of the chat template must not stand inside a trace: the tokenizer would read them as the end of a turn. Nor NUL, which
//! no one writes on purpose and which ends a text for many programs.

use super::{Drop, Rule};
use task::Trace;

pub(crate) const MARKS: [&str; 5] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"];

/// Drops a trace with a template's mark in any of its texts.
pub(crate) fn check(trace: &Trace) -> Result<(), Drop> {
    let texts = [("system prompt", trace.system.as_deref().unwrap_or("")), ("question", &trace.question)];
    for (name, text) in texts.into_iter().chain([("reasoning", trace.reasoning.as_str()), ("answer", &trace.answer)]) {
        if text.contains('\0') {
            return Err(Drop::new(Rule::Malformed, format!("the {name} holds a NUL character")));
        }
        if let Some(mark) = MARKS.iter().find(|mark| text.contains(**mark)) {
            return Err(Drop::new(Rule::TemplateMark, format!("the {name} holds {mark}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_nul_are_found_in_any_text() {
        let trace = |system: Option<&str>, question: &str, answer: &str| Trace {
            id: String::new(),
            system: system.map(str::to_owned),
            question: question.into(),
            reasoning: String::new(),
            answer: answer.into(),
            reference: None,
        };
        let detail = |trace: Trace| check(&trace).err().map(|drop| drop.detail);
        assert_eq!(detail(trace(None, "a < b |> c", "b")), None);
        assert_eq!(detail(trace(Some("<|im_start|>"), "a", "b")).unwrap(), "the system prompt holds <|im_start|>");
        assert_eq!(detail(trace(None, "a", "b</think>")).unwrap(), "the answer holds </think>");
        assert_eq!(detail(trace(None, "a\0", "b")).unwrap(), "the question holds a NUL character");
    }
}
