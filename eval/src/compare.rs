//! Two systems on the same problems: is one better, and could the set have told?

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use task::{Choice, Completion, Problem};

use crate::choose::{PICKS, Pick, asked};
use crate::marks::mark_all;
use crate::statistics::{Interval, Z_95, Z_POWER_80, mcnemar, minimum_detectable_difference, paired_bootstrap, standard_error};
use crate::{Error, Likelihoods};

/// Draws of the bootstrap; its bounds are then certain to about 0.03 standard errors.
const RESAMPLES: usize = 10_000;
/// The seed of the bootstrap: the same completions always give the same interval.
const SEED: u64 = 1;

/// One system's completions of a set.
#[derive(Clone, Copy, Debug)]
pub struct System<'a> {
    /// What it is called in tables and errors.
    pub name: &'a str,
    /// What it said.
    pub completions: &'a [Completion],
}

/// Two systems on the problems that both were asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The set that both were asked; of multiple choice also what tells the chosen option.
    #[serde(default)]
    pub set: String,
    /// The first system.
    pub first: String,
    /// The second system.
    pub second: String,
    /// Problems that both were asked and whose reference is a number.
    pub n: u64,
    /// Problems that only one of them was asked; they count nowhere else.
    pub left_out: u64,
    /// The first system's share of right answers on these problems.
    pub first_accuracy: f64,
    /// The second system's.
    pub second_accuracy: f64,
    /// `second_accuracy - first_accuracy`.
    pub difference: f64,
    /// Lower bound of the paired 95 % percentile bootstrap interval of `difference`.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// The smallest true difference that a set of this size finds, at 5 % two-sided, in four of five repetitions; none where it
    /// is too small to find any.
    pub minimum_detectable_difference: Option<f64>,
    /// Who got what right. None with several samples of a problem, where right and wrong are not all or nothing.
    pub agreement: Option<Agreement>,
}

/// How many problems which of two systems got right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Both.
    pub both: u64,
    /// Only the first.
    pub only_first: u64,
    /// Only the second.
    pub only_second: u64,
    /// Neither.
    pub neither: u64,
    /// The exact two-sided McNemar p-value of `only_first` against `only_second`.
    pub mcnemar_p: f64,
}

/// Compare two systems on the problems of a set that both were asked.
pub fn compare(set: &str, problems: &[Problem], first: System, second: System) -> Result<Comparison, Error> {
    compare_outcomes(set, [first.name, second.name], [&outcomes(problems, first), &outcomes(problems, second)])
}

fn outcomes<'a>(problems: &'a [Problem], system: System<'a>) -> Vec<Outcome<'a>> {
    let marked = mark_all(problems, system.completions).problems;
    marked.iter().map(|one| Outcome { id: &one.problem.id, right: one.right(), samples: one.samples.len() as u32 }).collect()
}

/// Compare two systems on the questions of a set of multiple choice that both were asked: once for each way to find the option that a
/// system chose. Each system is its name and the likelihoods that it gave.
pub fn compare_choices(
    set: &str,
    choices: &[Choice],
    first: (&str, &[Likelihoods]),
    second: (&str, &[Likelihoods]),
) -> Result<Vec<Comparison>, Error> {
    let by = |(how, pick): (&str, Pick)| {
        let outcomes = |likelihoods| -> Vec<Outcome> {
            let asked = asked(choices, likelihoods).into_iter();
            asked
                .map(|(choice, found)| Outcome { id: &choice.id, right: u32::from(pick(choice, found) == choice.right), samples: 1 })
                .collect()
        };
        compare_outcomes(&format!("{set}, {how}"), [first.0, second.0], [&outcomes(first.1), &outcomes(second.1)])
    };
    PICKS.into_iter().map(by).collect()
}

/// What one system's answers to a problem are worth.
struct Outcome<'a> {
    id: &'a str,
    right: u32,
    samples: u32,
}

impl Outcome<'_> {
    fn share(&self) -> f64 {
        f64::from(self.right) / f64::from(self.samples)
    }
}

/// Both lists are in the set's order.
fn compare_outcomes(set: &str, [first, second]: [&str; 2], outcomes: [&[Outcome]; 2]) -> Result<Comparison, Error> {
    let mut seconds: HashMap<&str, &Outcome> = outcomes[1].iter().map(|outcome| (outcome.id, outcome)).collect();
    let pairs: Vec<[&Outcome; 2]> = outcomes[0].iter().filter_map(|first| Some([first, seconds.remove(first.id)?])).collect();
    if pairs.is_empty() {
        return Err(Error::NothingShared { first: first.into(), second: second.into() });
    }
    let n = pairs.len() as f64;
    let differences: Vec<f64> = pairs.iter().map(|[first, second]| second.share() - first.share()).collect();
    let Interval { low, high } = paired_bootstrap(&differences, RESAMPLES, SEED).expect("there is a problem to draw");
    let agreement = agreement(&pairs);
    let minimum_detectable_difference = match &agreement {
        Some(table) => minimum_detectable_difference(pairs.len() as u64, table.only_first + table.only_second),
        // With several samples the differences are nearly continuous: the normal approximation.
        None => standard_error(&differences).map(|error| (Z_95 + Z_POWER_80) * error),
    };
    let accuracy = |system: usize| pairs.iter().map(|pair| pair[system].share()).sum::<f64>() / n;
    Ok(Comparison {
        set: set.into(),
        first: first.into(),
        second: second.into(),
        n: pairs.len() as u64,
        left_out: (outcomes[0].len() + outcomes[1].len() - 2 * pairs.len()) as u64,
        first_accuracy: accuracy(0),
        second_accuracy: accuracy(1),
        difference: differences.iter().sum::<f64>() / n,
        low,
        high,
        minimum_detectable_difference,
        agreement,
    })
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = |share: f64| 100.0 * share;
        let width = self.first.chars().count().max(self.second.chars().count());
        writeln!(f, "{}", self.set)?;
        writeln!(f, "{:width$}  {:5.1} % of {} problems", self.first, points(self.first_accuracy), self.n)?;
        writeln!(f, "{:width$}  {:5.1} %", self.second, points(self.second_accuracy))?;
        let (difference, low, high) = (points(self.difference), points(self.low), points(self.high));
        write!(f, "difference {difference:+.1} points, 95 % interval {low:+.1} to {high:+.1} (paired bootstrap)")?;
        if let Some(table) = &self.agreement {
            let Agreement { both, only_first, only_second, neither, mcnemar_p } = table;
            write!(f, "\nboth right {both}, only the first {only_first}, only the second {only_second}, neither {neither}")?;
            if *mcnemar_p < 0.001 { write!(f, "; exact McNemar p < 0.001")? } else { write!(f, "; exact McNemar p = {mcnemar_p:.3}")? }
        }
        match self.minimum_detectable_difference {
            Some(least) => {
                let least = points(least);
                write!(f, "\nminimum detectable difference {least:.1} points (found in four of five repetitions, at 5 % two-sided)")?
            }
            None => write!(f, "\nminimum detectable difference: none, there are too few problems")?,
        }
        if self.left_out > 0 {
            write!(f, "\n{} problems were asked of one system only and are left out", self.left_out)?;
        }
        Ok(())
    }
}

fn agreement(pairs: &[[&Outcome; 2]]) -> Option<Agreement> {
    if pairs.iter().flatten().any(|outcome| outcome.samples > 1) {
        return None;
    }
    let count = |wanted: [u32; 2]| pairs.iter().filter(|pair| pair.map(|outcome| outcome.right) == wanted).count() as u64;
    let [only_first, only_second] = [count([1, 0]), count([0, 1])];
    Some(Agreement { both: count([1, 1]), only_first, only_second, neither: count([0, 0]), mcnemar_p: mcnemar(only_first, only_second) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{problems, said};

    /// Right answers to the problems whose place fits.
    fn completions(count: usize, fits: impl Fn(usize) -> bool) -> Vec<Completion> {
        (0..count).map(|i| said(i, &format!("#### {}", if fits(i) { i + 1 } else { i }))).collect()
    }

    #[test]
    fn the_table_of_agreements_adds_up() {
        let (problems, first, second) = (problems(40), completions(40, |i| i % 2 == 0), completions(35, |i| i % 3 == 0));
        let found =
            compare("sums", &problems, System { name: "a", completions: &first }, System { name: "b", completions: &second }).unwrap();
        let table = found.agreement.clone().unwrap();
        assert_eq!((found.n, found.left_out), (35, 5));
        // Of 0..35: 18 are even, 12 are divisible by three, 6 are both.
        assert_eq!((table.both, table.only_first, table.only_second, table.neither), (6, 12, 6, 11));
        assert!((found.difference - (12.0 - 18.0) / 35.0).abs() < 1e-12);
        assert!(found.low < found.difference && found.difference < found.high);
        assert_eq!(table.mcnemar_p, mcnemar(12, 6));
        assert!(found.minimum_detectable_difference.unwrap() > 0.1);
        assert!(found.to_string().contains("only the first 12, only the second 6, neither 11; exact McNemar p = 0.238"), "{found}");
    }

    #[test]
    fn the_same_system_does_not_differ_from_itself() {
        let (problems, said) = (problems(20), completions(20, |i| i < 15));
        let system = System { name: "a", completions: &said };
        let found = compare("sums", &problems, system, system).unwrap();
        assert_eq!((found.difference, found.low, found.high), (0.0, 0.0, 0.0));
        assert_eq!(found.agreement.unwrap().mcnemar_p, 1.0);
    }

    #[test]
    fn several_samples_compare_by_their_share() {
        let problems = problems(10);
        let one = completions(10, |_| true);
        let mut two = completions(10, |i| i < 5);
        two.extend(completions(10, |_| true).into_iter().map(|completion| Completion { sample: 1, ..completion }));
        let found = compare("sums", &problems, System { name: "a", completions: &one }, System { name: "b", completions: &two }).unwrap();
        assert_eq!((found.first_accuracy, found.second_accuracy, found.agreement), (1.0, 0.75, None));
    }

    #[test]
    fn strangers_cannot_be_compared() {
        let system = System { name: "a", completions: &[] };
        assert!(compare("sums", &problems(3), system, system).unwrap_err().to_string().contains("no problem was asked of both"));
    }
}
