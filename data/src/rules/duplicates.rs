//! Exact duplicates, by question and text with case and white space evened out. The first one stays.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use task::Trace;

use super::{Drop, Rule};

/// The identity of a trace's question and of its question with its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity(u128);

impl Identity {
    pub fn of(trace: &Trace) -> Self {
        let mut hash = Sha256::new();
        for text in [&trace.question, &trace.reasoning, &trace.answer] {
            hash.update(evened(text).as_bytes());
            // No evened text holds a line feed, so that the borders between the texts are part of the identity.
            hash.update(b"\n");
        }
        let bytes = hash.finalize();
        Self(u128::from_le_bytes(bytes[..16].try_into().expect("SHA-256 has 32 bytes")))
    }
}

/// What was seen so far: 16 bytes per trace.
#[derive(Default)]
pub(crate) struct Seen(HashSet<Identity>);

impl Seen {
    pub fn check(&mut self, identity: Identity) -> Result<(), Drop> {
        match self.0.insert(identity) {
            true => Ok(()),
            false => Err(Drop::new(Rule::Duplicate, "the same question with the same text came before")),
        }
    }
}

/// Lower case, with single spaces.
fn evened(text: &str) -> String {
    let mut evened = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !evened.is_empty() {
            evened.push(' ');
        }
        evened.extend(word.chars().flat_map(char::to_lowercase));
    }
    evened
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(question: &str, reasoning: &str, answer: &str) -> Trace {
        Trace {
            id: String::new(),
            system: None,
            question: question.into(),
            reasoning: reasoning.into(),
            answer: answer.into(),
            reference: None,
        }
    }

    #[test]
    fn case_and_white_space_do_not_make_a_difference_but_borders_do() {
        let first = Identity::of(&trace("How many?  ", "1 + 1\n= 2", "2"));
        assert_eq!(first, Identity::of(&trace("how  many?", "1 + 1 = 2", " 2\n")));
        assert_ne!(first, Identity::of(&trace("how many? 1", "+ 1 = 2", "2")));
        assert_ne!(first, Identity::of(&trace("How many?", "1 + 1 = 2", "3")));
    }

    #[test]
    fn the_first_one_stays() {
        let mut seen = Seen::default();
        let identity = Identity::of(&trace("a", "b", "c"));
        assert!(seen.check(identity).is_ok());
        assert_eq!(seen.check(identity).unwrap_err().rule, Rule::Duplicate);
    }
}
