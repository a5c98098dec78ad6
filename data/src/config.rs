//! The `[data]` table: which traces to read, how to tell them apart from rubbish, and which tokenizer to write them with.
//! The length of a row is not here: it is the student's context.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::layout::{Fields, Layout};
use crate::rules::script::Script;

/// The smallest vocabulary that a byte-level tokenizer can have: the 256 bytes and the special tokens.
const SMALLEST_VOCAB: usize = 300;
/// A trace stands in the dataset at most so often.
const MOST_REPEATS: f64 = 100.0;
/// More alternatives of a token are not stored.
const MOST_ALTERNATIVES: usize = 1024;

/// The `[data]` table of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Where the traces come from, in this order.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// A `tokenizer.json` to write the tokens with. Either this or `vocab`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Train a byte-level tokenizer of this many tokens on the traces that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab: Option<usize>,
    /// What happens to the system prompts that the teacher was given.
    #[serde(default)]
    pub system: System,
    /// What is kept and what is dropped.
    #[serde(default)]
    pub rules: Rules,
    /// Keep what was read of each input beside the dataset, in about as many bytes as the texts have, so that the next ingest does
    /// not read an unchanged input again.
    #[serde(default = "yes")]
    pub keep_scans: bool,
}

fn yes() -> bool {
    true
}

/// One set of trace files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The file, or a pattern for several, as `traces/*.jsonl.gz`. JSON lines, a JSON array, CSV, TSV or Parquet; gzip or zstd.
    pub path: PathBuf,
    /// The layout of its rows; `auto` looks at the first rows of each file.
    #[serde(default)]
    pub layout: Layout,
    /// The fields of rows that are laid out in no known way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
    /// Read at most this many rows, from the first one on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The licence of the traces, for the card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// How often each trace stands in the dataset: 3 is three times, 0.25 a quarter of the traces, chosen by `rules.seed`.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub weight: f64,
    /// What was asked, where the traces do not say it: the input file of a batch, or the question set that completions answer, whose
    /// fields must have the names that published sets use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<PathBuf>,
    /// Take the teacher's probabilities along, where the traces have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Teacher>,
}

fn once() -> f64 {
    1.0
}

fn is_once(weight: &f64) -> bool {
    *weight == 1.0
}

/// What of a teacher's probabilities becomes part of the dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    /// The most likely tokens of each step that are stored; what is left of the probability is stored as the tail.
    pub top_k: usize,
    /// The temperature at which the probabilities were taken.
    #[serde(default = "temperature")]
    pub temperature: f32,
    /// The teacher's `tokenizer.json`, which must be the student's. With it the numbers of the teacher's tokens count. Without it
    /// tokens are the same where their bytes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
}

fn temperature() -> f32 {
    1.0
}

impl Source {
    /// A file whose layout is recognised.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            layout: Layout::Auto,
            fields: None,
            limit: None,
            licence: None,
            weight: once(),
            requests: None,
            teacher: None,
        }
    }
}

/// What happens to the system prompts that the teacher was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// They are left out, because the student will be asked without one.
    #[default]
    Drop,
    /// They are part of the prompt.
    Keep,
}

/// What is kept and what is dropped; every rule counts what it drops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Drop what a token limit cut off. (Reasoning that is not closed exactly once cannot be read and is dropped in any case.)
    pub finished: bool,
    /// Drop traces whose answer is not the reference answer, where there is a reference.
    pub verify: Verify,
    /// Drop questions of the sets that the run will be scored on.
    pub decontaminate: Decontaminate,
    /// Why a run that is scored may be trained without looking for the questions it is scored on; needed with
    /// `decontaminate = "off"`, and printed on the card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decontaminate_off_because: Option<String>,
    /// Drop a trace whose question and text were seen before.
    pub duplicates: bool,
    /// Drop a trace that shares this part of its phrases (of five words, as the Jaccard index) with an earlier one, if the
    /// questions state the same numbers; 1 drops none.
    pub near_duplicates: f64,
    /// Drop a trace of whose phrases (of four words) a larger part than this is repeated; 1 drops none.
    pub repetition: f64,
    /// The scripts that a trace may be written in; none given means any.
    pub scripts: Vec<Script>,
    /// Drop questions of which the teacher got a smaller or a larger part right, where it tried more than once.
    pub pass_rate: [f64; 2],
    /// Keep at most so many traces of a question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_question: Option<usize>,
    /// Which ones, where there are more.
    pub choose: Choose,
    /// The seed of what is chosen by chance.
    pub seed: u64,
    /// The shortest trace, prompt included, in tokens.
    pub min_tokens: usize,
    /// The longest trace, prompt included, in tokens; none means the student's context, which is the limit in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
}

/// Which of many traces of one question are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choose {
    /// Those that are verified to be right first, then the shortest.
    #[default]
    Shortest,
    /// By the seed.
    Seeded,
}

/// What to do with a trace whose source has a reference answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Answers are not looked at.
    Off,
    /// Wrong answers are dropped; what no one can verify (a proof, a formula) stays.
    Wrong,
    /// Only answers that are verified to be right stay; a trace without a reference goes.
    Right,
}

/// How near to a question of an evaluation set a question may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decontaminate {
    /// Evaluation sets are not looked at. The card says so.
    Off,
    /// The same words in the same order. For sets made by the same templates, where long phrases must agree.
    Exact,
    /// Also any phrase of 13 words in common, or half of an evaluation question's phrases of 8 words.
    Overlap,
    /// Also any phrase of 8 words in common, as s1 and open-r1 have it. Drops "how many more apples does Tom have than", too.
    Strict,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            finished: true,
            verify: Verify::Wrong,
            decontaminate: Decontaminate::Overlap,
            decontaminate_off_because: None,
            duplicates: true,
            near_duplicates: 0.85,
            repetition: 0.5,
            scripts: Vec::new(),
            pass_rate: [0.0, 1.0],
            per_question: None,
            choose: Choose::Shortest,
            seed: 0,
            min_tokens: 1,
            max_tokens: None,
        }
    }
}

impl DataConfig {
    /// Refuses what no dataset can be made with.
    pub fn check(&self) -> Result<(), Error> {
        if self.sources.is_empty() {
            return Err(Error::config("sources", "empty", "at least one [[data.sources]] with a path is needed"));
        }
        if let Some(at) = self.sources.iter().position(|source| source.limit == Some(0)) {
            return Err(Error::config(format!("sources[{at}].limit"), 0, "at least 1 row is needed; leave the key out to read all"));
        }
        if let Some(at) = self.sources.iter().position(|source| source.fields.is_some() && source.layout != Layout::Auto) {
            let layout = self.sources[at].layout.name();
            return Err(Error::config(format!("sources[{at}].layout"), layout, "but its fields are given too; give one of the two"));
        }
        for (at, source) in self.sources.iter().enumerate() {
            let key = |key: &str| format!("sources[{at}].{key}");
            if !(source.weight > 0.0 && source.weight <= MOST_REPEATS) {
                return Err(Error::config(key("weight"), source.weight, format!("more than 0 and at most {MOST_REPEATS} is needed")));
            }
            let Some(teacher) = &source.teacher else { continue };
            if !(1..=MOST_ALTERNATIVES).contains(&teacher.top_k) {
                return Err(Error::config(key("teacher.top_k"), teacher.top_k, format!("1 to {MOST_ALTERNATIVES} are possible")));
            }
            if !(teacher.temperature > 0.0 && teacher.temperature.is_finite()) {
                return Err(Error::config(key("teacher.temperature"), teacher.temperature, "more than 0 is needed"));
            }
        }
        self.rules.check()?;
        match (&self.tokenizer, self.vocab) {
            (None, None) => {
                return Err(Error::config("vocab", "missing", "give either vocab (to train a tokenizer) or tokenizer (a tokenizer.json)"));
            }
            (Some(_), Some(vocab)) => {
                return Err(Error::config("vocab", vocab, "but data.tokenizer is given too; give one of the two"));
            }
            (None, Some(vocab)) if vocab < SMALLEST_VOCAB => {
                return Err(Error::config(
                    "vocab",
                    vocab,
                    format!("at least {SMALLEST_VOCAB} is needed for the 256 bytes and the special tokens"),
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Rules {
    /// What of the rules decides about a trace without looking at another one.
    pub(crate) fn of_one_trace(&self) -> serde_json::Value {
        serde_json::json!([self.finished, self.verify, self.decontaminate, self.repetition, self.scripts, self.near_duplicates < 1.0])
    }

    fn check(&self) -> Result<(), Error> {
        if self.max_tokens == Some(0) {
            return Err(Error::config("rules.max_tokens", 0, "at least 1 is needed; leave the key out for the context's length"));
        }
        if let Some(max) = self.max_tokens
            && max < self.min_tokens
        {
            return Err(Error::config("rules.max_tokens", max, format!("less than rules.min_tokens = {}", self.min_tokens)));
        }
        for (key, share) in [("rules.near_duplicates", self.near_duplicates), ("rules.repetition", self.repetition)] {
            if !(share > 0.0 && share <= 1.0) {
                return Err(Error::config(key, share, "more than 0 and at most 1 is needed; 1 drops none"));
            }
        }
        let [least, most] = self.pass_rate;
        if !(0.0 <= least && least <= most && most <= 1.0) {
            return Err(Error::config("rules.pass_rate", format!("{:?}", self.pass_rate), "[least, most] between 0 and 1 are needed"));
        }
        if self.per_question == Some(0) {
            return Err(Error::config("rules.per_question", 0, "at least 1 trace is needed; leave the key out to keep all"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DataConfig {
        serde_json::from_str(r#"{"sources": [{"path": "traces.jsonl"}], "vocab": 1024}"#).unwrap()
    }

    #[test]
    fn defaults_are_the_careful_ones() {
        let config = config();
        config.check().unwrap();
        assert_eq!(config.rules.decontaminate, Decontaminate::Overlap);
        assert_eq!(config.sources[0].layout, Layout::Auto);
    }

    #[test]
    fn unknown_keys_are_errors() {
        let found = serde_json::from_str::<DataConfig>(r#"{"sources": [], "vocab": 1024, "rules": {"verfy": "off"}}"#).unwrap_err();
        assert!(found.to_string().contains("verfy"), "{found}");
    }

    #[test]
    fn each_limit_names_its_key() {
        type Spoil = fn(&mut DataConfig);
        let cases: [(&str, Spoil); 13] = [
            ("data.sources[0].layout is messages, but", |config| {
                config.sources[0].layout = Layout::Messages;
                config.sources[0].fields = Some(serde_json::from_str(r#"{"question": "q", "answer": "a"}"#).unwrap());
            }),
            ("data.sources is empty", |config| config.sources.clear()),
            ("data.sources[0].limit is 0", |config| config.sources[0].limit = Some(0)),
            ("data.vocab is missing", |config| config.vocab = None),
            ("data.vocab is 1024, but", |config| config.tokenizer = Some("tokenizer.json".into())),
            ("data.vocab is 64", |config| config.vocab = Some(64)),
            ("data.sources[0].weight is 0, more than 0", |config| config.sources[0].weight = 0.0),
            ("data.sources[0].teacher.top_k is 0, 1 to 1024", |config| {
                config.sources[0].teacher = Some(Teacher { top_k: 0, temperature: 1.0, tokenizer: None });
            }),
            ("data.rules.near_duplicates is 0", |config| config.rules.near_duplicates = 0.0),
            ("data.rules.repetition is NaN", |config| config.rules.repetition = f64::NAN),
            ("data.rules.pass_rate is [0.5, 0.25]", |config| config.rules.pass_rate = [0.5, 0.25]),
            ("data.rules.per_question is 0", |config| config.rules.per_question = Some(0)),
            ("data.rules.max_tokens is 3", |config| {
                config.rules.max_tokens = Some(3);
                config.rules.min_tokens = 4;
            }),
        ];
        for (expected, change) in cases {
            let mut config = config();
            change(&mut config);
            let found = config.check().unwrap_err().to_string();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
