//! The two readings of lm-evaluation-harness for its GSM8K tasks, so that scores compare with published ones.
//!
//! These compare strings, not numbers: `18.00` is not `18` here. The definitions are those of lm-eval 0.4.13, task version 3.0
//! (`tasks/gsm8k/*.yaml`, `filters/extraction.py`, `api/metrics.py`), with Python's `re` semantics where they differ from ours.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// What lm-eval takes for the prediction where its pattern finds nothing.
pub const INVALID: &str = "[invalid]";

/// One of lm-eval's GSM8K tasks. They differ in the prompt and in the strict pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HarnessTask {
    /// `gsm8k`: five solved problems of the training set, then `Question: … Answer:`; strict wants `#### 18`.
    Gsm8k,
    /// `gsm8k_cot`: eight fixed problems, then `Q: … A:`; strict wants `The answer is 18.`
    Gsm8kCot,
    /// `gsm8k_cot_zeroshot`: `Q: … A: Let's think step by step.`; strict as in `gsm8k_cot`.
    Gsm8kCotZeroshot,
}

/// How lm-eval reads and scores one completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HarnessReading {
    /// What strict-match extracts, or [`INVALID`].
    pub strict: String,
    /// Whether that is the reference.
    pub strict_right: bool,
    /// What flexible-extract extracts, or [`INVALID`].
    pub flexible: String,
    /// Whether that is the reference.
    pub flexible_right: bool,
}

/// Reads a completion as lm-eval does, and scores it against the set's own answer (GSM8K's whole solution with its `####`).
pub fn read_as_harness(task: HarnessTask, completion: &str, answer: &str) -> HarnessReading {
    let (strict, flexible) = (strict_match(task, completion), flexible_extract(completion));
    let target = normalise(target(task, answer));
    let (strict_right, flexible_right) = (normalise(strict) == target, normalise(flexible) == target);
    HarnessReading { strict: strict.to_owned(), strict_right, flexible: flexible.to_owned(), flexible_right }
}

/// The first match of the task's strict pattern.
fn strict_match(task: HarnessTask, completion: &str) -> &str {
    static HASHES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"#### (\-?[0-9\.\,]+)").expect("the pattern is valid"));
    // The last point stands for any character, so that a number at the very end loses its last digit. That is how lm-eval scores.
    static PHRASE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"The answer is (\-?[0-9\.\,]+).").expect("the pattern is valid"));
    let pattern = match task {
        HarnessTask::Gsm8k => &HASHES,
        HarnessTask::Gsm8kCot | HarnessTask::Gsm8kCotZeroshot => &PHRASE,
    };
    pattern.captures(completion).and_then(|found| found.get(1)).map_or(INVALID, |group| group.as_str())
}

/// The last match of the flexible pattern, whatever it is: `42...` and `.,` included.
fn flexible_extract(completion: &str) -> &str {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(-?[$0-9.,]{2,})|(-?[0-9]+)").expect("the pattern is valid"));
    NUMBER.find_iter(completion).last().map_or(INVALID, |found| found.as_str())
}

/// What the task's template makes of the set's answer.
fn target(task: HarnessTask, answer: &str) -> &str {
    match task {
        HarnessTask::Gsm8k | HarnessTask::Gsm8kCotZeroshot => answer,
        HarnessTask::Gsm8kCot => answer.split("####").last().unwrap_or(answer).trim(),
    }
}

/// What `exact_match` compares: without commas, dollar signs, all up to the last `#### `, and one point at the end, in this order;
/// in lower case.
fn normalise(text: &str) -> String {
    // After each step lm-eval keeps the texts in NumPy arrays, which drop zero characters at the end.
    let kept = |text: &str| text.trim_end_matches('\0').to_owned();
    let text = kept(&kept(&text.replace(',', "")).replace('$', ""));
    let text = text.rsplit("#### ").next().unwrap_or(&text);
    // Python's `$` also stands before a line end that closes the text.
    let text = match (text.strip_suffix('.'), text.strip_suffix(".\n")) {
        (Some(rest), _) => rest.to_owned(),
        (None, Some(rest)) => format!("{rest}\n"),
        (None, None) => text.to_owned(),
    };
    kept(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gsm8k(completion: &str, answer: &str) -> (String, bool, String, bool) {
        let reading = read_as_harness(HarnessTask::Gsm8k, completion, answer);
        (reading.strict, reading.strict_right, reading.flexible, reading.flexible_right)
    }

    /// What lm-eval 0.4.13 gave for the same texts.
    #[test]
    fn the_readings_are_those_of_the_harness() {
        let reading = |strict: &str, strict_right, flexible: &str, flexible_right| {
            (strict.to_owned(), strict_right, flexible.to_owned(), flexible_right)
        };
        assert_eq!(gsm8k("so 9.\n#### 18", "x\n#### 18"), reading("18", true, "18", true));
        assert_eq!(gsm8k("#### 18\n#### 19", "#### 18"), reading("18", true, "19", false));
        assert_eq!(gsm8k("#### 18.00", "#### 18"), reading("18.00", false, "18.00", false));
        assert_eq!(gsm8k("####18", "#### 18"), reading(INVALID, false, "18", true));
        assert_eq!(gsm8k("#### $1,234.", "#### 1,234"), reading(INVALID, false, "$1,234.", true));
        assert_eq!(gsm8k("The answer is 42...", "#### 42"), reading(INVALID, false, "42...", false));
        assert_eq!(gsm8k("final 7 .,", "#### 7"), reading(INVALID, false, ".,", false));
        assert_eq!(gsm8k("", "#### 7"), reading(INVALID, false, INVALID, false));
        assert_eq!(gsm8k("#### -5.", "#### -5"), reading("-5.", true, "-5.", true));
        assert_eq!(gsm8k("a.b 10-3", "#### -3"), reading(INVALID, false, "-3", true));
    }

    #[test]
    fn the_strict_phrase_needs_a_character_behind_the_number() {
        let strict = |completion: &str| strict_match(HarnessTask::Gsm8kCot, completion).to_owned();
        assert_eq!(strict("The answer is 18."), "18");
        assert_eq!(strict("The answer is 18"), "1");
        assert_eq!(strict("The answer is 5"), INVALID);
        assert_eq!(strict("The answer is 5\n"), INVALID);
        assert_eq!(strict("The answer is 1,200 dollars. The answer is 3."), "1,200");
        assert_eq!(strict("The answer is $18."), INVALID);
    }
}
