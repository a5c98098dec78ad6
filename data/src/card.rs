//! `card.json`: where every row went. For each source, traces = kept + dropped, rule by rule.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use task::Verdict;

use crate::rules::Rule;

/// The name of the file in a dataset's folder.
pub(crate) const FILE: &str = "card.json";

/// What went in and what came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// One flow for each source of the config.
    pub sources: Vec<Flow>,
    /// The evaluation sets that were looked for, and how many problems they have.
    pub decontaminated_against: BTreeMap<String, u64>,
    /// How many kept traces have at most so many tokens, and more than the entry before.
    pub lengths: BTreeMap<u32, u64>,
}

/// The way of one source's rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// As the config names it.
    pub path: PathBuf,
    /// The layout that its rows were read as.
    pub layout: String,
    /// As the config states it.
    pub licence: Option<String>,
    /// Rows that were read; a row may hold several traces.
    pub rows: u64,
    /// Traces in them; a row that is none counts as one.
    pub traces: u64,
    /// Traces in the dataset.
    pub kept: u64,
    /// Traces that each rule dropped, by its name.
    pub dropped: BTreeMap<String, u64>,
    /// Kept traces whose answer was marked right.
    pub verified: u64,
    /// Kept traces that have no reasoning, only an answer.
    pub without_reasoning: u64,
    /// Kept traces whose question is one of an evaluation set with other numbers.
    pub masked_matches: u64,
}

impl Flow {
    pub(crate) fn drop(&mut self, rule: Rule) {
        *self.dropped.entry(rule.name().to_owned()).or_default() += 1;
    }

    pub(crate) fn keep(&mut self, verdict: Option<Verdict>, has_reasoning: bool, is_masked_match: bool) {
        self.kept += 1;
        self.verified += u64::from(verdict == Some(Verdict::Right));
        self.without_reasoning += u64::from(!has_reasoning);
        self.masked_matches += u64::from(is_masked_match);
    }
}

impl Card {
    /// Traces that each rule dropped, over all sources.
    pub fn dropped(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (rule, count) in self.sources.iter().flat_map(|flow| &flow.dropped) {
            *all.entry(rule.clone()).or_default() += count;
        }
        all
    }

    /// Traces in the dataset, over all sources.
    pub fn kept(&self) -> u64 {
        self.sources.iter().map(|flow| flow.kept).sum()
    }

    /// Why nothing is left, in a sentence.
    pub(crate) fn why_empty(&self) -> String {
        let traces: u64 = self.sources.iter().map(|flow| flow.traces).sum();
        let counts: Vec<String> = self.dropped().iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        format!("all {traces} traces were dropped ({})", counts.join(", "))
    }
}

/// Counts a length in a histogram whose bins end at powers of two.
pub(crate) fn count_length(lengths: &mut BTreeMap<u32, u64>, tokens: usize) {
    *lengths.entry(tokens.next_power_of_two() as u32).or_default() += 1;
}
