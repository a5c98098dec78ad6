//! One trace as tokens. Prompt and completion are tokenised apart, so that the border between them is the same in training and
//! when a student is asked; the student learns the completion and the token that ends its turn, and nothing else.

use model::{ChatTemplate, Message, Tokenizer};
use task::Trace;

use crate::Error;
use crate::config::System;

/// The tokens of one trace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    pub tokens: Vec<u32>,
    /// The first tokens, which are given and not learned.
    pub prompt_len: usize,
}

/// How texts become tokens.
pub(crate) struct Writer<'a> {
    pub chat: &'a ChatTemplate,
    pub system: System,
}

impl Writer<'_> {
    /// The text that stands before the completion.
    pub fn prompt(&self, trace: &Trace) -> Result<String, Error> {
        let system = trace.system.as_ref().filter(|_| self.system == System::Keep).map(Message::system);
        let messages: Vec<Message> = system.into_iter().chain([Message::user(&trace.question)]).collect();
        Ok(self.chat.render(&messages, true)?)
    }

    pub fn document(&self, trace: &Trace, tokenizer: &Tokenizer) -> Result<Document, Error> {
        let mut tokens = tokenizer.encode(&self.prompt(trace)?)?;
        let prompt_len = tokens.len();
        tokens.extend(tokenizer.encode(&trace.completion())?);
        tokens.push(tokenizer.end_of_turn());
        Ok(Document { tokens, prompt_len })
    }

    /// What a tokenizer is trained on for this trace: prompt and completion, cut at the marks that are tokens of their own.
    pub fn training_texts(&self, trace: &Trace) -> Result<Vec<String>, Error> {
        let mut texts = vec![self.prompt(trace)?, trace.completion()];
        for mark in crate::rules::marks::MARKS {
            texts = texts.iter().flat_map(|text| text.split(mark)).filter(|text| !text.is_empty()).map(str::to_owned).collect();
        }
        Ok(texts)
    }
}
