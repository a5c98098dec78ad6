//! The marks of the chat template must not stand inside a trace: the tokenizer would read them as the end of a turn.

use super::{Drop, Rule};
use task::Trace;

pub(crate) const MARKS: [&str; 5] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>"];

/// Drops a trace with a template's mark in any of its texts.
pub(crate) fn check(trace: &Trace) -> Result<(), Drop> {
    let texts = [("system prompt", trace.system.as_deref().unwrap_or("")), ("question", &trace.question)];
    for (name, text) in texts.into_iter().chain([("reasoning", trace.reasoning.as_str()), ("answer", &trace.answer)]) {
        if let Some(mark) = MARKS.iter().find(|mark| text.contains(**mark)) {
            return Err(Drop::new(Rule::TemplateMark, format!("the {name} holds {mark}")));
        }
    }
    Ok(())
}
