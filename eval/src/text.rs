//! What a completion's text shows beside its answer: loops, and reasoning that never ends.

use std::collections::HashSet;

/// How many words make a run.
const RUN: usize = 4;

/// The share of runs of four words that stood in the text before: near 1 for a student that is caught in a loop, near 0 for prose.
///
/// Source: seq-rep-4 of Welleck et al., arXiv:1908.04319, eq. 11, over words instead of tokens, so that students with different
/// tokenizers compare.
pub fn repetition(text: &str) -> f64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() < RUN {
        return 0.0;
    }
    let distinct: HashSet<&[&str]> = words.windows(RUN).collect();
    1.0 - distinct.len() as f64 / (words.len() - RUN + 1) as f64
}

/// Whether the reasoning is closed exactly once and an answer follows. The opening mark may stand in the prompt instead.
pub fn closes_reasoning(text: &str) -> bool {
    let Some((reasoning, answer)) = text.split_once("</think>") else { return false };
    let opens = reasoning.matches("<think>").count();
    let opens_first = opens == 0 || reasoning.trim_start().starts_with("<think>");
    opens <= 1 && opens_first && !answer.contains("think>") && !answer.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_repetition_and_prose_is_not() {
        assert!(repetition(&"so we add 3 and 4 again and ".repeat(40)) > 0.9);
        assert_eq!(repetition("Anna has 3 apples and buys 4 more, so she has 7."), 0.0);
        assert_eq!(repetition(""), 0.0);
        assert!((repetition("a b c d a b c d") - 0.2).abs() < 1e-12);
    }

    #[test]
    fn reasoning_is_closed_once_and_followed_by_an_answer() {
        for text in ["<think>\n3 + 4 = 7\n</think>\n\n7", " <think>x</think>y", "3 + 4 = 7</think>7"] {
            assert!(closes_reasoning(text), "{text}");
        }
        for text in ["7", "<think>7", "<think>7</think>", "<think>7</think> \n", "<think></think></think>7", "a <think>b</think>c"] {
            assert!(!closes_reasoning(text), "{text}");
        }
        assert!(!closes_reasoning("<think>a<think>b</think>c"));
        assert!(!closes_reasoning("<think>a</think>b<think>c</think>d"));
    }
}
