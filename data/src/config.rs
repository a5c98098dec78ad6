//! The `[data]` table: which traces to read, how to tell them apart from rubbish, and which tokenizer to write them with.
//! The length of a row is not here: it is the student's context.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::layout::{Fields, Layout};

/// The smallest vocabulary that a byte-level tokenizer can have: the 256 bytes and the special tokens.
const SMALLEST_VOCAB: usize = 300;

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
}

/// One set of trace files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The layout of its rows; `auto` looks at the first rows.
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
}

impl Source {
    /// A file whose layout is recognised.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), layout: Layout::Auto, fields: None, limit: None, licence: None }
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
    /// Drop a trace whose question and text were seen before.
    pub duplicates: bool,
    /// The shortest trace, prompt included, in tokens.
    pub min_tokens: usize,
    /// The longest trace, prompt included, in tokens; none means the student's context, which is the limit in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
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
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            finished: true,
            verify: Verify::Wrong,
            decontaminate: Decontaminate::Overlap,
            duplicates: true,
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
        if let Some(max) = self.rules.max_tokens
            && max < self.rules.min_tokens
        {
            return Err(Error::config("rules.max_tokens", max, format!("less than rules.min_tokens = {}", self.rules.min_tokens)));
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
        let cases: [(&str, Spoil); 7] = [
            ("data.sources[0].layout is messages, but", |config| {
                config.sources[0].layout = Layout::Messages;
                config.sources[0].fields = Some(serde_json::from_str(r#"{"question": "q", "answer": "a"}"#).unwrap());
            }),
            ("data.sources is empty", |config| config.sources.clear()),
            ("data.sources[0].limit is 0", |config| config.sources[0].limit = Some(0)),
            ("data.vocab is missing", |config| config.vocab = None),
            ("data.vocab is 1024, but", |config| config.tokenizer = Some("tokenizer.json".into())),
            ("data.vocab is 64", |config| config.vocab = Some(64)),
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
