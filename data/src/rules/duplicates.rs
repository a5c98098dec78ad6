//! Exact duplicates, by question and text with case and white space evened out. The first one stays.

use sha2::{Digest, Sha256};
use task::Trace;

/// The identity of a trace's question and text, to find candidates; [`evened`] texts decide.
pub(crate) fn identity(trace: &Trace) -> u64 {
    hash(&evened(trace))
}

/// The identity of a question.
pub(crate) fn question(question: &str) -> u64 {
    let mut text = String::with_capacity(question.len());
    add_evened(&mut text, question);
    hash(&text)
}

/// Question, reasoning and answer in lower case with single spaces, a line each.
pub(crate) fn evened(trace: &Trace) -> String {
    let mut evened = String::with_capacity(trace.question.len() + trace.reasoning.len() + trace.answer.len() + 3);
    for text in [&trace.question, &trace.reasoning, &trace.answer] {
        add_evened(&mut evened, text);
        evened.push('\n');
    }
    evened
}

fn add_evened(evened: &mut String, text: &str) {
    for (at, word) in text.split_whitespace().enumerate() {
        if at > 0 {
            evened.push(' ');
        }
        if word.is_ascii() {
            let start = evened.len();
            evened.push_str(word);
            evened[start..].make_ascii_lowercase();
        } else {
            evened.extend(word.chars().flat_map(char::to_lowercase));
        }
    }
}

fn hash(text: &str) -> u64 {
    u64::from_le_bytes(Sha256::digest(text)[..8].try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(question: &str, reasoning: &str, answer: &str) -> u64 {
        identity(&Trace {
            id: String::new(),
            system: None,
            question: question.into(),
            reasoning: reasoning.into(),
            answer: answer.into(),
            reference: None,
        })
    }

    #[test]
    fn case_and_white_space_do_not_make_a_difference_but_borders_do() {
        let first = of("How many?  ", "1 + 1\n= 2", "Zwölf");
        assert_eq!(first, of("how  many?", "1 + 1 = 2", " ZWÖLF\n"));
        assert_ne!(first, of("how many? 1", "+ 1 = 2", "zwölf"));
        assert_ne!(first, of("How many?", "1 + 1 = 2", "3"));
        assert_eq!(question(" How\nmany? "), question("how many?"));
    }
}
