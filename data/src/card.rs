//! `card.json`: where every row went. For each source, traces = kept + dropped, rule by rule. `card.md` says the same to people.

mod markdown;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use task::Verdict;

pub(crate) use markdown::markdown;
pub use markdown::marked;

use crate::judge::Counts;
use crate::rules::Rule;
use crate::scan::record::Facts;

/// The names of the files in a dataset's folder.
pub(crate) const FILE: &str = "card.json";
pub(crate) const TEXT_FILE: &str = "card.md";

/// What went in and what came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Card {
    /// One flow for each source of the config.
    pub sources: Vec<Flow>,
    /// The evaluation sets that were looked for, and how many problems they have.
    pub decontaminated_against: BTreeMap<String, u64>,
    /// Why evaluation sets were not looked for, where they were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decontaminate_off_because: Option<String>,
    /// Of all traces that were read, how many touch a question of an evaluation set, by set and kind. `8_words` and
    /// `same_but_for_numbers` are reported and dropped by no rule.
    pub touches: BTreeMap<String, BTreeMap<String, u64>>,
    /// How many kept traces have at most so many tokens, and more than the entry before.
    pub lengths: BTreeMap<u32, u64>,
    /// The same for the tokens that are learned.
    pub learned_lengths: BTreeMap<u32, u64>,
    /// Of the questions with several tries of the teacher: how many were got right in at most so many tenths of them.
    pub pass_rates: BTreeMap<u32, u64>,
    /// The teacher's probabilities in the dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherFacts>,
}

/// The way of one source's rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// As the config names it.
    pub path: PathBuf,
    /// How many files that is.
    pub files: u64,
    /// The layouts that its rows were read as.
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
    /// How often a kept trace stands in the dataset beyond the first time, because of the source's weight.
    pub repeats: u64,
    /// Kept traces whose answer was marked right.
    pub verified: u64,
    /// Kept traces whose answer no one can mark: without a reference, or not a number.
    pub unverifiable: u64,
    /// Kept traces that have no reasoning, only an answer.
    pub without_reasoning: u64,
    /// Kept traces whose question is one of an evaluation set with other numbers.
    pub masked_matches: u64,
    /// Kept traces whose text had to be mended before it could be read.
    pub mended: u64,
    /// Traces that are called as an earlier one of the source is.
    pub repeated_ids: u64,
    /// Tokens for which the teacher's probabilities are in the source.
    pub teacher_steps: u64,
}

/// What of the teacher's probabilities is in the dataset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TeacherFacts {
    /// Alternatives of each target.
    pub top_k: usize,
    /// Learned tokens that have a target.
    pub targets: u64,
    /// Learned tokens of traces with the teacher's probabilities that have none, because nothing lines up with them.
    pub masked: u64,
    /// The mean probability in the tail.
    pub mean_tail: f64,
    /// The bytes of a target in memory, and on the disk as it is packed.
    pub bytes_per_target: u64,
    /// See `bytes_per_target`.
    pub packed_bytes_per_target: f64,
}

impl TeacherFacts {
    /// From sums to means, once the targets are packed in so many bytes.
    pub(crate) fn finish(&mut self, top_k: usize, packed_bytes: u64) {
        let targets = self.targets.max(1) as f64;
        self.top_k = top_k;
        self.mean_tail /= targets;
        self.bytes_per_target = 8 * top_k as u64 + 8;
        self.packed_bytes_per_target = packed_bytes as f64 / targets;
    }
}

impl Flow {
    pub(crate) fn drop(&mut self, rule: Rule) {
        *self.dropped.entry(rule.name().to_owned()).or_default() += 1;
    }

    pub(crate) fn keep(&mut self, facts: Facts, copies: u32) {
        self.kept += 1;
        self.repeats += u64::from(copies) - 1;
        self.verified += u64::from(facts.verdict == Some(Verdict::Right));
        self.unverifiable += u64::from(matches!(facts.verdict, None | Some(Verdict::Unverifiable)));
        self.without_reasoning += u64::from(!facts.has_reasoning);
        self.masked_matches += u64::from(facts.is_masked_match);
        self.mended += u64::from(facts.is_mended);
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

    /// Traces that were read, over all sources.
    pub fn traces(&self) -> u64 {
        self.sources.iter().map(|flow| flow.traces).sum()
    }

    pub(crate) fn count_touches(&mut self, touches: &BTreeMap<String, Counts>) {
        for (set, counts) in touches {
            for (how, count) in counts {
                *self.touches.entry(set.clone()).or_default().entry(how.clone()).or_default() += count;
            }
        }
    }

    /// Why nothing is left, in a sentence.
    pub(crate) fn why_empty(&self) -> String {
        let counts: Vec<String> = self.dropped().iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        format!("all {} traces were dropped ({})", self.traces(), counts.join(", "))
    }
}

/// Counts a length in a histogram whose bins end at powers of two.
pub(crate) fn count_length(lengths: &mut BTreeMap<u32, u64>, tokens: u32) {
    *lengths.entry(tokens.next_power_of_two()).or_default() += 1;
}
