//! The marks of the chat template must not stand inside a trace: the tokenizer would read them as the end of a turn. Nor NUL, which
//! no one writes on purpose and which ends a text for many programs.

use model::Tokenizer;
use task::Trace;

use super::{Drop, Rule};
use crate::config::System;

pub(crate) const MARKS: [&str; 5] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"];

/// Drops a trace with a template's mark in any of the texts that go into the dataset.
pub(crate) fn check(trace: &Trace, system: System) -> Result<(), Drop> {
    for (name, text) in texts(trace, system) {
        if text.contains('\0') {
            return Err(Drop::new(Rule::Malformed, format!("the {name} holds a NUL character")));
        }
        if let Some(mark) = MARKS.iter().find(|mark| text.contains(**mark)) {
            return Err(Drop::new(Rule::TemplateMark, format!("the {name} holds {mark}")));
        }
    }
    Ok(())
}

/// Drops a trace with a special token of the student's tokenizer in such a text, which would end or begin a turn in its midst.
pub(crate) fn check_specials(trace: &Trace, system: System, tokenizer: &Tokenizer) -> Result<(), Drop> {
    for (name, text) in texts(trace, system) {
        if let Some(special) = tokenizer.special_in(text) {
            return Err(Drop::new(Rule::TemplateMark, format!("the {name} holds {special}, a special token of the tokenizer")));
        }
    }
    Ok(())
}

/// The texts of a trace that go into the dataset, by their names.
fn texts(trace: &Trace, system: System) -> impl Iterator<Item = (&'static str, &str)> {
    let system = trace.system.as_deref().filter(|_| system == System::Keep).map(|text| ("system prompt", text));
    let others = [("question", trace.question.as_str()), ("reasoning", &trace.reasoning), ("answer", &trace.answer)];
    system.into_iter().chain(others)
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
        let detail = |trace: Trace| check(&trace, System::Keep).err().map(|drop| drop.detail);
        assert_eq!(detail(trace(None, "a < b |> c", "b")), None);
        assert_eq!(detail(trace(Some("<|im_start|>"), "a", "b")).unwrap(), "the system prompt holds <|im_start|>");
        assert_eq!(check(&trace(Some("<think>"), "a", "b"), System::Drop), Ok(()));
        assert_eq!(detail(trace(None, "a", "b</think>")).unwrap(), "the answer holds </think>");
        assert_eq!(detail(trace(None, "a\0", "b")).unwrap(), "the question holds a NUL character");
    }
}
