//! Completions to read: the first right ones and the first others of a set, so that nobody chooses them.

use serde::{Deserialize, Serialize};
use task::{Completion, Finish, Problem, Reading, Verdict};

use crate::marks::{MarkedSample, mark_all};

/// The longest text that is shown, in bytes; a loop may be endless.
const MAX_TEXT_BYTES: usize = 6_000;

/// A completion to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The problem's id.
    pub id: String,
    /// The question.
    pub question: String,
    /// The reference answer as the set has it.
    pub reference: String,
    /// What the student wrote between `<think>` and `</think>`.
    pub reasoning: String,
    /// What it wrote besides.
    pub said: String,
    /// The number that was read out of it, if there is one.
    pub answer: Option<String>,
    /// What it is worth.
    pub verdict: Verdict,
    /// Why it ended.
    pub finish: Finish,
}

/// The first `count` right completions of a set and the first `count` others, in the set's order.
pub fn pick_samples(problems: &[Problem], completions: &[Completion], count: usize) -> Vec<Sample> {
    let marks = mark_all(problems, completions);
    let all = || marks.problems.iter().map(|problem| (problem.problem, &problem.samples[0]));
    let right = all().filter(|(_, sample)| sample.verdict == Verdict::Right).take(count);
    let others = all().filter(|(_, sample)| sample.verdict != Verdict::Right).take(count);
    right.chain(others).map(|(problem, sample)| show(problem, sample)).collect()
}

fn show(problem: &Problem, sample: &MarkedSample) -> Sample {
    let text = sample.completion.text.as_str();
    let (reasoning, said) = match (text.split_once("</think>"), text.trim_start().strip_prefix("<think>")) {
        (Some((reasoning, said)), _) => (reasoning.trim_start().trim_start_matches("<think>"), said),
        (None, Some(unclosed)) => (unclosed, ""),
        (None, None) => ("", text),
    };
    let answer = match &sample.reading {
        Reading::Number { answer, .. } => Some(answer.to_string()),
        Reading::Unverifiable { .. } | Reading::Absent => None,
    };
    Sample {
        id: problem.id.clone(),
        question: problem.question.clone(),
        reference: problem.answer.clone(),
        reasoning: shorten(reasoning.trim()),
        said: shorten(said.trim()),
        answer,
        verdict: sample.verdict,
        finish: sample.completion.finish,
    }
}

fn shorten(text: &str) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_TEXT_BYTES);
    format!("{} … ({} more bytes)", &text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{problems, said};

    #[test]
    fn the_first_right_and_the_first_others_are_shown() {
        let completions: Vec<Completion> =
            (0..9).map(|i| said(i, &format!("<think>\nso {i}</think>\n\n#### {}", if i % 2 == 0 { i + 1 } else { 0 }))).collect();
        let samples = pick_samples(&problems(9), &completions, 2);
        assert_eq!(samples.iter().map(|sample| sample.id.as_str()).collect::<Vec<_>>(), ["p0", "p2", "p1", "p3"]);
        assert_eq!((samples[0].reasoning.as_str(), samples[0].said.as_str()), ("so 0", "#### 1"));
        assert_eq!((samples[2].verdict, samples[2].answer.as_deref()), (Verdict::Wrong, Some("0")));
    }

    #[test]
    fn endless_reasoning_is_shortened() {
        let completions = [said(0, &format!("<think>{}", "ü".repeat(9_000)))];
        let sample = &pick_samples(&problems(1), &completions, 1)[0];
        assert!(sample.reasoning.len() < 6_100 && sample.reasoning.ends_with("more bytes)"));
        assert_eq!((sample.said.as_str(), sample.answer.clone()), ("", None));
    }
}
