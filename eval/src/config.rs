//! The `[eval]` table: what is asked and how. [`Settings`] is the part that decides the texts; a completions file carries it, so
//! that texts made in different ways never mix.

use std::collections::HashSet;
use std::path::PathBuf;

use runtime::MAX_THREADS;
use serde::{Deserialize, Serialize, Serializer};
use task::{BadLine, Choice, Problem, PromptStyle};

use crate::Error;

/// The most samples of one problem.
const MAX_SAMPLES: u32 = 1024;
/// The most sequences decoded side by side.
const MAX_SLOTS: usize = 1024;

/// The `[eval]` table of a run's config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// The problem sets, in the order in which they are asked. Default: none.
    pub sets: Vec<SetTable>,
    /// How a question becomes a prompt. Default: `chat`.
    pub prompt: PromptStyle,
    /// The solved problems that `gsm8k` draws its five examples from: GSM8K's training file. Default: none.
    pub examples: Option<PathBuf>,
    /// The longest completion, in tokens. Default 512.
    pub max_tokens: usize,
    /// Completions of each problem. Default 1.
    pub samples: u32,
    /// 0 (the default) always takes the likeliest token.
    #[serde(serialize_with = "as_written")]
    pub temperature: f32,
    /// Sample among the likeliest tokens that hold this much probability. Default 1: among all.
    #[serde(serialize_with = "as_written")]
    pub top_p: f32,
    /// Decides the draws. Default 1.
    pub seed: u64,
    /// Sequences decoded side by side; changes the speed, never the text. Default 32.
    pub slots: usize,
    /// Threads; changes the speed, never the text. Default: one per core.
    pub threads: Option<usize>,
}

impl Default for EvalConfig {
    fn default() -> EvalConfig {
        EvalConfig {
            sets: Vec::new(),
            prompt: PromptStyle::Chat,
            examples: None,
            max_tokens: 512,
            samples: 1,
            temperature: 0.0,
            top_p: 1.0,
            seed: 1,
            slots: 32,
            threads: None,
        }
    }
}

/// One problem set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetTable {
    /// Names the set's score and its completions file.
    pub name: String,
    /// The file: `.jsonl`, `.json`, `.tsv` or `.csv`, also as `.gz`.
    pub path: PathBuf,
    /// What is asked. Default: multiple choice where most records list options and say which is right, else a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SetKind>,
    /// Which fields hold what. Default: by the names that published sets use.
    #[serde(default)]
    pub fields: task::Fields,
    /// Ask only this many problems, from the first on. Default: all.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// What a set asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetKind {
    /// The student writes, and the number in its text is marked.
    Number,
    /// Multiple choice: the student's likelihoods of the options are compared, and it writes nothing.
    Choice,
}

/// The part of an [`EvalConfig`] that decides what a student writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How a question becomes a prompt.
    pub prompt: PromptStyle,
    /// The longest completion, in tokens.
    pub max_tokens: usize,
    /// Completions of each problem.
    pub samples: u32,
    /// 0: greedy.
    #[serde(serialize_with = "as_written")]
    pub temperature: f32,
    /// The share of probability that is sampled from.
    #[serde(serialize_with = "as_written")]
    pub top_p: f32,
    /// Decides the draws.
    pub seed: u64,
}

/// 0.9 and not 0.8999999761581421, which the nearest f32 is.
fn as_written<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.to_string().parse().unwrap_or_else(|_| f64::from(*value)))
}

impl EvalConfig {
    /// The part that decides the texts.
    pub fn settings(&self) -> Settings {
        let EvalConfig { prompt, max_tokens, samples, temperature, top_p, seed, .. } = *self;
        Settings { prompt, max_tokens, samples, temperature, top_p, seed }
    }

    /// Refuse what no evaluation can have, naming key, value and limit.
    pub fn check(&self) -> Result<(), Error> {
        let limit = |key: &str, fits: bool, found: String, needed: String| {
            if fits { Ok(()) } else { Err(Error::Config { key: key.into(), found, needed }) }
        };
        limit("max_tokens", self.max_tokens > 0, self.max_tokens.to_string(), "at least 1 is needed".into())?;
        let needed = format!("1 to {MAX_SAMPLES} are possible");
        limit("samples", (1..=MAX_SAMPLES).contains(&self.samples), self.samples.to_string(), needed)?;
        let fits = (0.0..=10.0).contains(&self.temperature);
        limit("temperature", fits, self.temperature.to_string(), "0 to 10 is possible".into())?;
        let fits = self.top_p > 0.0 && self.top_p <= 1.0;
        limit("top_p", fits, self.top_p.to_string(), "more than 0 and at most 1 is possible".into())?;
        let fits = self.samples == 1 || self.temperature > 0.0;
        let needed = "which gives one and the same text every time: set eval.temperature above 0, or eval.samples to 1";
        limit("samples", fits, format!("{} at a temperature of 0", self.samples), needed.into())?;
        let needed = format!("1 to {MAX_SLOTS} are possible");
        limit("slots", (1..=MAX_SLOTS).contains(&self.slots), self.slots.to_string(), needed)?;
        let fits = self.examples.is_some() || !self.prompt.needs_examples();
        limit("prompt", fits, "gsm8k".into(), "which needs a file to draw examples from: set eval.examples".into())?;
        let threads = self.threads.unwrap_or(1);
        limit("threads", (1..=MAX_THREADS).contains(&threads), threads.to_string(), format!("1 to {MAX_THREADS} are possible"))?;

        let mut names = HashSet::new();
        for (place, set) in self.sets.iter().enumerate() {
            let key = format!("sets[{place}].name");
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            let fits = !set.name.is_empty() && !set.name.starts_with('.') && set.name.chars().all(plain);
            let needed = "which cannot name a file: letters, digits, - _ and . are possible";
            limit(&key, fits, format!("{:?}", set.name), needed.into())?;
            limit(&key, names.insert(&set.name), format!("{:?}", set.name), "which another set has already".into())?;
            limit(&format!("sets[{place}].limit"), set.limit != Some(0), "0".into(), "at least 1 is needed".into())?;
        }
        Ok(())
    }
}

/// The questions of a set.
#[derive(Clone, Debug, PartialEq)]
pub enum Questions {
    /// The student writes, and the number in its text is marked.
    Numbers(Vec<Problem>),
    /// The student's likelihoods of the options are compared.
    Choices(Vec<Choice>),
}

impl Questions {
    /// As problems, whose answer is the right option's text in multiple choice: for those who compare questions.
    pub fn into_problems(self) -> Vec<Problem> {
        match self {
            Questions::Numbers(problems) => problems,
            Questions::Choices(choices) => {
                let problem = |Choice { id, question, mut options, right }: Choice| Problem {
                    id,
                    question,
                    answer: options.swap_remove(right),
                    steps: None,
                };
                choices.into_iter().map(problem).collect()
            }
        }
    }
}

impl SetTable {
    /// A whole file, whose kind and fields are seen from it.
    pub fn new(name: impl Into<String>, path: PathBuf) -> SetTable {
        SetTable { name: name.into(), path, kind: None, fields: task::Fields::default(), limit: None }
    }

    /// Read the set as far as the limit goes, and the lines that are no question.
    pub fn read(&self) -> Result<(Questions, Vec<BadLine>), Error> {
        let numbers = || task::read_set(&self.path, &self.fields).map(|set| (Questions::Numbers(set.problems), set.bad));
        let choices = || task::read_choices(&self.path, &self.fields).map(|set| (Questions::Choices(set.choices), set.bad));
        let (mut questions, bad) = match self.kind {
            Some(SetKind::Number) => numbers()?,
            Some(SetKind::Choice) => choices()?,
            None => match task::read_choices(&self.path, &self.fields) {
                Ok(set) if set.choices.len() > set.bad.len() => (Questions::Choices(set.choices), set.bad),
                _ => numbers()?,
            },
        };
        let limit = self.limit.unwrap_or(usize::MAX);
        match &mut questions {
            Questions::Numbers(problems) => problems.truncate(limit),
            Questions::Choices(choices) => choices.truncate(limit),
        }
        Ok((questions, bad))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<EvalConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn an_empty_table_is_greedy_chat() {
        let table = table("").unwrap();
        assert_eq!((table.prompt, table.samples, table.temperature), (PromptStyle::Chat, 1, 0.0));
        table.check().unwrap();
    }

    #[test]
    fn unknown_keys_are_errors() {
        assert!(table("max_token = 5").unwrap_err().to_string().contains("max_tokens"));
        assert!(table("[[sets]]\nname = 'a'\npath = 'b'\nlimits = 3").is_err());
    }

    #[test]
    fn a_set_is_read_as_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str, more: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            let config = table(&format!("[[sets]]\nname = 'a'\npath = '{}'\n{more}", folder.path().join(name).display())).unwrap();
            config.sets[0].read().map_err(|error| error.to_string())
        };
        let is_choices = |found: Result<(Questions, _), String>| matches!(found.unwrap().0, Questions::Choices(_));
        let aqua = "{\"question\":\"q\",\"options\":[\"A)1\",\"B)2\"],\"correct\":\"B\",\"answer\":\"2\"}\n";
        assert!(is_choices(read("mmlu.csv", "q,1,2,3,4,C\n", "")));
        assert!(is_choices(read("aqua.jsonl", aqua, "")));
        assert!(!is_choices(read("aqua.jsonl", aqua, "kind = 'number'")));
        assert!(!is_choices(read("gsm8k.jsonl", "{\"question\":\"q\",\"answer\":\"#### 2\"}\n", "")));
        let named = "fields = { question = 'frage', options = 'wahl', answer = 'recht' }\nlimit = 1";
        let record = "{\"frage\":\"q\",\"wahl\":[\"x\",\"y\"],\"recht\":1}\n";
        let (questions, bad) = read("own.jsonl", &record.repeat(2), named).unwrap();
        assert_eq!((questions.into_problems()[..].len(), bad.len()), (1, 0));
        let error = read("gsm8k.jsonl", "{\"question\":\"q\",\"answer\":\"2\"}\n", "kind = 'choice'").unwrap_err();
        assert!(error.contains("holds no question of multiple choice") && error.contains("found no options"), "{error}");
    }

    #[test]
    fn limits_are_named_with_key_and_value() {
        for (text, sentence) in [
            ("max_tokens = 0", "eval.max_tokens is 0, at least 1 is needed"),
            ("samples = 0", "eval.samples is 0, 1 to 1024 are possible"),
            ("samples = 4", "eval.samples is 4 at a temperature of 0, which gives one and the same text every time"),
            ("temperature = -0.5", "eval.temperature is -0.5, 0 to 10 is possible"),
            ("temperature = nan", "eval.temperature is NaN"),
            ("top_p = 0.0", "eval.top_p is 0, more than 0"),
            ("prompt = 'gsm8k'", "eval.prompt is gsm8k, which needs a file"),
            ("threads = 0", "eval.threads is 0"),
            ("slots = 2000", "eval.slots is 2000, 1 to 1024 are possible"),
            ("[[sets]]\nname = 'a/b'\npath = 'x'", "eval.sets[0].name is \"a/b\", which cannot name a file"),
            ("[[sets]]\nname = 'a'\npath = 'x'\n[[sets]]\nname = 'a'\npath = 'y'", "eval.sets[1].name is \"a\", which another set has"),
            ("[[sets]]\nname = 'a'\npath = 'x'\nlimit = 0", "eval.sets[0].limit is 0"),
        ] {
            let message = table(text).unwrap().check().unwrap_err().to_string();
            assert!(message.starts_with(sentence), "{message}");
        }
    }
}
