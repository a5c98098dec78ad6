//! Completions brought together with their problems and marked, in the set's order.

use std::collections::HashMap;

use task::{Completion, Problem, Reading, Verdict, mark_readings, read};

/// Everything that was said to the problems of a set.
pub struct Marks<'a> {
    /// The problems that count: with a completion and with a reference that is a number.
    pub problems: Vec<MarkedProblem<'a>>,
    /// How many problems have no completion.
    pub not_asked: u64,
    /// How many problems have a reference that is no exact number.
    pub unmarkable: u64,
    /// How many completions are of no problem of the set.
    pub strangers: u64,
}

/// One problem with all its samples.
pub struct MarkedProblem<'a> {
    /// The problem.
    pub problem: &'a Problem,
    /// What its reference answer reads as: a number.
    pub reference: Reading,
    /// At least one, by sample number.
    pub samples: Vec<MarkedSample<'a>>,
}

/// One completion with its verdict.
pub struct MarkedSample<'a> {
    /// What was said.
    pub completion: &'a Completion,
    /// What it reads as.
    pub reading: Reading,
    /// What it is worth.
    pub verdict: Verdict,
}

impl MarkedProblem<'_> {
    /// How many samples are right.
    pub fn right(&self) -> u32 {
        self.samples.iter().filter(|sample| sample.verdict == Verdict::Right).count() as u32
    }

    /// The share of samples that are right.
    pub fn share(&self) -> f64 {
        f64::from(self.right()) / self.samples.len() as f64
    }
}

/// Mark every completion against its problem.
pub fn mark_all<'a>(problems: &'a [Problem], completions: &'a [Completion]) -> Marks<'a> {
    let mut said: HashMap<&str, Vec<&Completion>> = HashMap::new();
    for completion in completions {
        said.entry(&completion.id).or_default().push(completion);
    }
    let mut marks = Marks { problems: Vec::new(), not_asked: 0, unmarkable: 0, strangers: 0 };
    for problem in problems {
        let samples = said.remove(problem.id.as_str());
        let reference = read(&problem.answer);
        match samples {
            _ if !matches!(reference, Reading::Number { .. }) => marks.unmarkable += 1,
            None => marks.not_asked += 1,
            Some(mut samples) => {
                samples.sort_by_key(|completion| completion.sample);
                let mark = |completion: &'a Completion| {
                    let reading = read(&completion.text);
                    MarkedSample { completion, verdict: mark_readings(&reading, &reference), reading }
                };
                let samples = samples.into_iter().map(mark).collect();
                marks.problems.push(MarkedProblem { problem, reference, samples });
            }
        }
    }
    marks.strangers = said.values().map(|completions| completions.len() as u64).sum();
    marks
}
