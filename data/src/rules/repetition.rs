//! A teacher that runs in circles: the share of its phrases of four words that it has written before. Numbers are words, so that a
//! calculation of many alike lines is no repetition.

use std::collections::HashSet;

use super::{Drop, Rule};
use crate::words::{AsItIs, phrase_hash};

/// Words in a phrase.
const PHRASE: usize = 4;
/// Texts of fewer words cannot run in circles.
const LEAST_WORDS: usize = 50;

/// Drops a text of which a larger share than `most` is repeated.
pub(crate) fn check(words: &[u64], most: f64) -> Result<(), Drop> {
    if words.len() < LEAST_WORDS || most >= 1.0 {
        return Ok(());
    }
    let share = share(words);
    if share <= most {
        return Ok(());
    }
    let detail = format!("{:.0} % of its phrases of {PHRASE} words are repeated, at most {:.0} % may be", 100.0 * share, 100.0 * most);
    Err(Drop::new(Rule::Repetition, detail))
}

/// The share of phrases that came before in the same text.
fn share(words: &[u64]) -> f64 {
    let phrases = words.windows(PHRASE);
    let count = phrases.len();
    let distinct = phrases.map(phrase_hash).collect::<HashSet<_, AsItIs>>().len();
    1.0 - distinct as f64 / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Words;

    #[test]
    fn circles_are_told_from_calculations() {
        let circle = Words::of(&"Wait, let me think about that again. ".repeat(20)).hashes;
        assert!(share(&circle) > 0.9);
        assert_eq!(check(&circle, 0.5).unwrap_err().rule, Rule::Repetition);
        assert!(check(&circle, 1.0).is_ok() && check(&circle[..20], 0.5).is_ok());
        let lines: String = (1..40).map(|number| format!("{number} times 7 is {}.\n", number * 7)).collect();
        assert_eq!(check(&Words::of(&lines).hashes, 0.1), Ok(()));
    }
}
