//! Completions in, score out. Marking reads what was written and asks nobody again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use task::{Completion, Finish, GRADER_VERSION, HarnessReading, HarnessTask, Problem, Reading, Verdict, read_as_harness};

use crate::Settings;
use crate::marks::{MarkedProblem, MarkedSample, Marks, mark_all};
use crate::statistics::{Interval, majority, pass_at_k, standard_error, wilson};
use crate::text::{closes_reasoning, repetition};

/// The share of repeated runs of words from which on a completion counts as a loop.
const LOOP: f64 = 0.5;

/// How good a student is on one set.
///
/// A problem counts in `n` if at least one completion is there and its reference is a number. With several samples of a problem,
/// `accuracy` is the mean over problems of the share of right samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The share of right answers, by exact numbers.
    pub accuracy: f64,
    /// Lower bound of the Wilson 95 % interval of `accuracy`.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// Problems that count.
    pub n: u64,
    /// Standard error of `accuracy` over problems, with Bessel's correction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// Completions that were marked; the next five counts add up to it.
    pub completions: u64,
    /// Completions with the right number, also where they were cut off afterwards.
    pub right: u64,
    /// Completions with another number.
    pub wrong: u64,
    /// Completions that ended without an answer.
    pub no_answer: u64,
    /// Completions whose answer is no exact number.
    pub unverifiable: u64,
    /// Completions that ran into the token budget and are not right.
    pub cut_off: u64,
    /// Problems without a completion.
    pub not_asked: u64,
    /// Problems whose reference is no exact number; they count nowhere else.
    pub unmarkable: u64,
    /// Completions of no problem of the set; they count nowhere else.
    pub strangers: u64,
    /// The share that strict-match of lm-evaluation-harness's `gsm8k` calls right: it wants `#### 18`.
    pub strict: f64,
    /// The share that strict-match of its `gsm8k_cot` calls right: it wants `The answer is 18.`
    pub strict_cot: f64,
    /// The share that its flexible-extract calls right, which is one and the same pattern in all of these tasks.
    pub flexible: f64,
    /// For each k: the chance that at least one of k samples is right, unbiased (arXiv:2107.03374). Empty for one sample.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub pass_at: BTreeMap<u32, f64>,
    /// For each k: the share of problems whose most frequent answer among the first k samples is right; of equally frequent answers
    /// the one given first counts. Empty for one sample.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub majority_at: BTreeMap<u32, f64>,
    /// Mean length of a completion in tokens, where that was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_tokens: Option<f64>,
    /// The share of completions that ran into the token budget.
    pub truncation_rate: f64,
    /// The share of completions in which more than half of all runs of four words are repetitions.
    pub repetition_rate: f64,
    /// The share of completions whose reasoning is closed exactly once and followed by an answer.
    pub format_rate: f64,
    /// By the number of reasoning steps of the reference, where the set says so.
    pub by_steps: Vec<Group>,
    /// By the number of digits before the reference's decimal point.
    pub by_digits: Vec<Group>,
    /// [`GRADER_VERSION`] of the marking.
    pub grader_version: u32,
    /// How the problems were asked, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
}

/// The part of a set that has something in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// What its problems have in common: a number of steps, or of digits.
    pub key: u32,
    /// The share of right answers.
    pub accuracy: f64,
    /// Lower bound of the Wilson 95 % interval.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// Problems.
    pub n: u64,
}

/// Mark completions against the problems they answer. `settings` says how they were asked, if that is known.
pub fn score(problems: &[Problem], completions: &[Completion], settings: Option<&Settings>) -> Score {
    let Marks { problems, not_asked, unmarkable, strangers } = mark_all(problems, completions);
    let samples: Vec<&MarkedSample> = problems.iter().flat_map(|problem| &problem.samples).collect();
    let truncated = |sample: &MarkedSample| sample.completion.finish == Finish::Length;
    let all = Group::of(0, problems.iter());
    let shares: Vec<f64> = problems.iter().map(MarkedProblem::share).collect();

    let count = |fits: &dyn Fn(&MarkedSample) -> bool| samples.iter().filter(|sample| fits(sample)).count() as u64;
    let ended = |verdict| count(&|sample| sample.verdict == verdict && !truncated(sample));
    let rate = |fits: &dyn Fn(&MarkedSample) -> bool| mean(samples.iter().map(|sample| f64::from(u8::from(fits(sample)))));
    let harness = |task: HarnessTask, is_right: &dyn Fn(&HarnessReading) -> bool| {
        mean(problems.iter().map(|problem| {
            let read = |sample: &MarkedSample| read_as_harness(task, &sample.completion.text, &problem.problem.answer);
            mean(problem.samples.iter().map(|sample| f64::from(u8::from(is_right(&read(sample))))))
        }))
    };

    Score {
        accuracy: all.accuracy,
        low: all.low,
        high: all.high,
        n: all.n,
        standard_error: standard_error(&shares),
        completions: samples.len() as u64,
        right: count(&|sample| sample.verdict == Verdict::Right),
        wrong: ended(Verdict::Wrong),
        no_answer: ended(Verdict::NoAnswer),
        unverifiable: ended(Verdict::Unverifiable),
        cut_off: count(&|sample| sample.verdict != Verdict::Right && truncated(sample)),
        not_asked,
        unmarkable,
        strangers,
        strict: harness(HarnessTask::Gsm8k, &|reading| reading.strict_right),
        strict_cot: harness(HarnessTask::Gsm8kCot, &|reading| reading.strict_right),
        // The tasks differ in how they take the reference out of a set's answer.
        flexible: harness(settings.map_or(HarnessTask::Gsm8k, |settings| settings.prompt.harness_task()), &|reading| {
            reading.flexible_right
        }),
        pass_at: at_each_k(&problems, |problem, k| pass_at_k(problem.samples.len() as u32, problem.right(), k).unwrap_or(0.0)),
        majority_at: at_each_k(&problems, |problem, k| f64::from(u8::from(majority_is_right(&problem.samples[..k as usize])))),
        mean_tokens: samples
            .iter()
            .any(|sample| sample.completion.tokens > 0)
            .then(|| mean(samples.iter().map(|sample| f64::from(sample.completion.tokens)))),
        truncation_rate: rate(&truncated),
        repetition_rate: rate(&|sample| repetition(&sample.completion.text) > LOOP),
        format_rate: rate(&|sample| closes_reasoning(&sample.completion.text)),
        by_steps: groups(&problems, |problem| problem.problem.steps),
        by_digits: groups(&problems, |problem| digits(&problem.reference)),
        grader_version: GRADER_VERSION,
        settings: settings.cloned(),
    }
}

impl Group {
    fn of<'a, 'b: 'a>(key: u32, problems: impl Iterator<Item = &'a MarkedProblem<'b>>) -> Group {
        let shares: Vec<f64> = problems.map(MarkedProblem::share).collect();
        let (accuracy, n) = (mean(shares.iter().copied()), shares.len() as u64);
        let Interval { low, high } = wilson(accuracy, n);
        Group { key, accuracy, low, high, n }
    }
}

/// The mean, or 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// For each k (1, 2, 4, ... and the number of samples that every problem has): the mean of `value` over problems.
fn at_each_k(problems: &[MarkedProblem], value: impl Fn(&MarkedProblem, u32) -> f64) -> BTreeMap<u32, f64> {
    let most = problems.iter().map(|problem| problem.samples.len() as u32).min().unwrap_or(0);
    if most < 2 {
        return BTreeMap::new();
    }
    let powers = (0..32).map(|power| 1u32 << power).take_while(|k| *k < most);
    powers.chain([most]).map(|k| (k, mean(problems.iter().map(|problem| value(problem, k))))).collect()
}

fn majority_is_right(samples: &[MarkedSample]) -> bool {
    let answer = |sample: &MarkedSample| match &sample.reading {
        Reading::Number { answer, .. } => Some(answer.clone()),
        Reading::Unverifiable { .. } | Reading::Absent => None,
    };
    let answers: Vec<_> = samples.iter().map(answer).collect();
    majority(&answers).is_some_and(|place| samples[place].verdict == Verdict::Right)
}

fn groups(problems: &[MarkedProblem], key_of: impl Fn(&MarkedProblem) -> Option<u32>) -> Vec<Group> {
    let mut groups: BTreeMap<u32, Vec<&MarkedProblem>> = BTreeMap::new();
    for problem in problems {
        if let Some(key) = key_of(problem) {
            groups.entry(key).or_default().push(problem);
        }
    }
    groups.into_iter().map(|(key, problems)| Group::of(key, problems.into_iter())).collect()
}

/// How many digits a reference has before its decimal point.
fn digits(reference: &Reading) -> Option<u32> {
    match reference {
        Reading::Number { answer, .. } => Some(answer.value().to_integer().to_string().trim_start_matches('-').len() as u32),
        Reading::Unverifiable { .. } | Reading::Absent => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{problems, said};

    #[test]
    fn each_completion_is_counted_once() {
        let mut problems = problems(9);
        problems[8].answer = "many".into();
        let cut = |completion: Completion| Completion { finish: Finish::Length, ..completion };
        let completions = [
            said(0, "<think>0 + 1</think>The answer is 1."),
            said(1, "The answer is 3."),
            said(2, "<think>no end"),
            cut(said(3, "<think>3 + 1")),
            cut(said(4, "#### 5\nand then and then and then and then and then and then and then and then")),
            cut(said(5, "The answer is 7.")),
            said(6, "The answer is \\sqrt{2}."),
            said(8, "#### 9"),
            Completion { id: "stranger".into(), ..said(0, "1") },
        ];
        let score = score(&problems, &completions, None);
        assert_eq!((score.n, score.completions, score.not_asked, score.unmarkable, score.strangers), (7, 7, 1, 1, 1));
        assert_eq!((score.right, score.wrong, score.no_answer, score.unverifiable, score.cut_off), (2, 1, 1, 1, 2));
        assert_eq!(score.accuracy, 2.0 / 7.0);
        assert!(score.low < score.accuracy && score.accuracy < score.high);
        assert_eq!((score.truncation_rate, score.format_rate, score.repetition_rate), (3.0 / 7.0, 1.0 / 7.0, 1.0 / 7.0));
        assert_eq!(score.by_digits.iter().map(|group| (group.key, group.n)).collect::<Vec<_>>(), [(1, 7)]);
        assert_eq!(score.by_steps, []);
        // Strict takes "#### 5", that of gsm8k_cot "The answer is 1."; flexible also the last number of these, not of "\\sqrt{2}".
        assert_eq!((score.strict, score.strict_cot, score.flexible), (1.0 / 7.0, 1.0 / 7.0, 2.0 / 7.0));
        assert_eq!(score.grader_version, GRADER_VERSION);
    }

    #[test]
    fn nothing_said_is_no_score() {
        let score = score(&problems(3), &[], None);
        assert_eq!((score.n, score.accuracy, score.low, score.high, score.not_asked), (0, 0.0, 0.0, 1.0, 3));
        assert_eq!(score.standard_error, None);
    }

    #[test]
    fn several_samples_give_pass_and_majority() {
        let samples = |problem: usize, answers: &[&str]| -> Vec<Completion> {
            let sample = |(sample, text): (usize, &&str)| Completion { sample: sample as u32, ..said(problem, text) };
            answers.iter().enumerate().map(sample).collect()
        };
        // Problem 0 (answer 1): right, wrong, right. Problem 1 (answer 2): the first of three different answers is wrong.
        let mut completions = [samples(0, &["#### 1", "#### 5", "#### 1.0"]), samples(1, &["#### 9", "no", "#### 2"])].concat();
        completions.reverse();
        let score = score(&problems(2), &completions, None);
        assert_eq!(score.accuracy, 0.5);
        for (k, wanted) in [(1, 0.5), (2, (1.0 + 2.0 / 3.0) / 2.0), (3, 1.0)] {
            assert!((score.pass_at[&k] - wanted).abs() < 1e-12, "pass@{k} is {}", score.pass_at[&k]);
        }
        assert_eq!(score.majority_at, BTreeMap::from([(1, 0.5), (2, 0.5), (3, 0.5)]));
    }

    #[test]
    fn groups_follow_the_reference() {
        let mut problems = problems(12);
        problems.iter_mut().enumerate().for_each(|(i, problem)| problem.steps = (i > 0).then_some(i as u32 % 2 + 1));
        let completions: Vec<Completion> = (0..12).map(|i| said(i, &format!("#### {}", i + 1 + i % 2))).collect();
        let score = score(&problems, &completions, None);
        let by = |groups: &[Group]| groups.iter().map(|group| (group.key, group.n, group.accuracy)).collect::<Vec<_>>();
        assert_eq!(by(&score.by_steps), [(1, 5, 1.0), (2, 6, 0.0)]);
        assert_eq!(by(&score.by_digits), [(1, 9, 5.0 / 9.0), (2, 3, 1.0 / 3.0)]);
    }
}
