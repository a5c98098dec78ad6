//! One trace as tokens. Prompt and completion are tokenised apart, so that the border between them is the same in training and
//! when a student is asked; the student learns the completion and the token that ends its turn, and nothing else. Plain text has
//! no prompt, and is learned from its second token on: nothing is before the first.

use model::{ChatTemplate, Message};
use task::Trace;

use crate::Error;
use crate::align::{Aligner, Targets};
use crate::config::System;
use crate::encode::Encoder;
use crate::teacher::Step;

/// The tokens of one trace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    pub tokens: Vec<u32>,
    /// The first tokens, which are given and not learned.
    pub prompt_len: usize,
    /// The teacher's probabilities, where it gave any.
    pub targets: Targets,
}

/// What to do with the probabilities of a source's teacher.
#[derive(Clone, Copy)]
pub(crate) struct Teacher<'a> {
    pub aligner: &'a Aligner<'a>,
    /// Alternatives of each step that are stored.
    pub top_k: usize,
    /// Whether the teacher's numbers of its tokens are the student's.
    pub ids_count: bool,
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

    pub fn document(&self, trace: &Trace, encoder: &Encoder, teacher: Option<(Teacher, &[Step])>) -> Result<Document, Error> {
        if trace.is_plain_text() {
            let mut tokens = encoder.encode(&trace.completion())?;
            tokens.push(encoder.tokenizer().end_of_turn());
            return Ok(Document { tokens, prompt_len: 1, targets: Targets::default() });
        }
        let mut tokens = encoder.encode(&self.prompt(trace)?)?;
        let prompt_len = tokens.len();
        let completion = trace.completion();
        tokens.extend(encoder.encode(&completion)?);
        tokens.push(encoder.tokenizer().end_of_turn());
        let targets = match teacher {
            Some((teacher, steps)) => teacher.align(steps, trace, &completion, &tokens, prompt_len),
            None => Targets::default(),
        };
        Ok(Document { tokens, prompt_len, targets })
    }

    /// What a tokenizer is trained on for this trace: prompt and completion, cut at the marks that are tokens of their own.
    pub fn training_texts(&self, trace: &Trace) -> Result<Vec<String>, Error> {
        let prompt = if trace.is_plain_text() { String::new() } else { self.prompt(trace)? };
        let mut texts = vec![prompt, trace.completion()];
        for mark in crate::rules::marks::MARKS {
            texts = texts.iter().flat_map(|text| text.split(mark)).filter(|text| !text.is_empty()).map(str::to_owned).collect();
        }
        Ok(texts)
    }
}

impl Document {
    /// A plain text in parts of at most `longest` tokens. The first token of each is given.
    pub fn cut(self, longest: usize) -> Vec<Document> {
        let part = |tokens: &[u32]| Document { tokens: tokens.to_vec(), prompt_len: 1, targets: Targets::default() };
        self.tokens.chunks(longest).map(part).collect()
    }
}

impl Teacher<'_> {
    fn align(&self, steps: &[Step], trace: &Trace, completion: &str, tokens: &[u32], prompt_len: usize) -> Targets {
        let tokens = &tokens[prompt_len..];
        self.aligner.align(steps, trace, completion, tokens, prompt_len, self.top_k, self.ids_count)
    }
}
