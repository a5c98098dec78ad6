//! Everything that one would tell of a run, as `report.json`. The model card is made from it alone, the page from it and `metrics.jsonl`.
//!
//! The command line fills it in stage by stage. What was not measured is absent, not zero.

mod metrics;
mod model_card;
mod numbers;
mod page;
mod plot;
mod samples;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::file_error;
use crate::file::write_file;
use crate::{ChoiceScore, Comparison, Error, Score};
use numbers::count;

pub use metrics::Metrics;
pub use model_card::model_card;
pub use page::page;
pub use samples::{Sample, pick_samples};

/// The version of the file.
pub const VERSION: u32 = 1;

/// How a trace touches a question, in the dataset's card and in words.
const TOUCHES: [(&str, &str); 6] = [
    ("word_for_word", "ask one of them"),
    ("holds_it_whole", "hold one of them"),
    ("13_words", "share 13 words in a row"),
    ("half_of_8_word_phrases", "share half of the phrases of 8 words"),
    ("same_but_for_numbers", "ask one with other numbers"),
    ("8_words", "share 8 words in a row"),
];

/// The facts of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The version of the file: [`VERSION`].
    pub report: u32,
    /// The run's name.
    pub run: String,
    /// The version of the program.
    pub program: String,
    /// The score of each set, by its name.
    pub eval: BTreeMap<String, Score>,
    /// The score of each set of multiple choice, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub choices: BTreeMap<String, ChoiceScore>,
    /// This student against others on the same problems.
    pub comparisons: Vec<Comparison>,
    /// Those others as they were named: a run's folder, a file of completions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<String>,
    /// What the student is, in a few words: its architecture, layers and width.
    pub student: String,
    /// SHA-256 of the packed file, in hex, so that scores of two students never stand together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub student_hash: Option<String>,
    /// Number of weights.
    pub parameters: u64,
    /// Size of the packed file.
    pub packed_bytes: u64,
    /// Size of the same weights at 16 bits each.
    pub f16_bytes: u64,
    /// Tokens per second of one sequence, on the runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_tokens_per_s: Option<f64>,
    /// Tokens per second of reading a prompt, on the runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_tokens_per_s: Option<f64>,
    /// The same of a student of this one's sizes in full precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_precision_speed: Option<Speed>,
    /// And of one with linear layers of 8 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eight_bit_speed: Option<Speed>,
    /// Tokens per second while scoring, many sequences side by side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_tokens_per_s: Option<f64>,
    /// Tokens per second of training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_tokens_per_s: Option<f64>,
    /// Seconds of the whole run.
    pub wall_s: f64,
    /// Seconds of each stage, in their order.
    pub stages: Vec<Stage>,
    /// Where it was measured.
    pub machine: Machine,
    /// What lies where, by what it is.
    pub files: BTreeMap<String, String>,
    /// The commands that give the same again.
    pub commands: Vec<String>,
    /// The run's whole config.
    pub config: Value,
    /// The dataset's card: where every row went.
    pub dataset: Value,
    /// What became of the traces that were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packing: Option<Packing>,
    /// Some completions of each set, right and wrong.
    pub samples: BTreeMap<String, Vec<Sample>>,
}

/// How long a part of the run took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// `ingest`, `train`, `export`, `eval`.
    pub name: String,
    /// Seconds, over all the times that it was begun.
    pub wall_s: f64,
    /// The last loss, of a training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

/// How fast a student is on the runtime, one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Tokens written a second.
    pub decode_tokens_per_s: f64,
    /// Tokens of a prompt read a second.
    pub prefill_tokens_per_s: f64,
}

/// The dataset: traces side by side in rows of tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packing {
    /// Traces.
    pub traces: u64,
    /// Rows.
    pub rows: u64,
    /// The most tokens of a row.
    pub context: usize,
    /// Tokens of all rows.
    pub tokens: u64,
    /// Tokens that are learned.
    pub supervised_tokens: u64,
}

/// Where a run was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Threads that were used.
    pub threads: usize,
    /// The instruction set of the runtime's kernels.
    pub kernel: String,
}

impl Default for Report {
    fn default() -> Report {
        Report {
            report: VERSION,
            run: String::new(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            eval: BTreeMap::new(),
            choices: BTreeMap::new(),
            comparisons: Vec::new(),
            against: Vec::new(),
            student: String::new(),
            student_hash: None,
            parameters: 0,
            packed_bytes: 0,
            f16_bytes: 0,
            decode_tokens_per_s: None,
            prefill_tokens_per_s: None,
            full_precision_speed: None,
            eight_bit_speed: None,
            eval_tokens_per_s: None,
            train_tokens_per_s: None,
            wall_s: 0.0,
            stages: Vec::new(),
            machine: Machine::default(),
            files: BTreeMap::new(),
            commands: Vec::new(),
            config: Value::Null,
            dataset: Value::Null,
            packing: None,
            samples: BTreeMap::new(),
        }
    }
}

impl Report {
    /// Read a `report.json`.
    pub fn read(path: &Path) -> Result<Report, Error> {
        let text = std::fs::read_to_string(path).map_err(file_error("read", path))?;
        let fault = |line: usize, fault: String| Error::Line { path: path.to_owned(), line, fault };
        let report: Report = serde_json::from_str(&text).map_err(|error| fault(error.line(), format!("not a report: {error}")))?;
        if report.report != VERSION {
            let found = report.report;
            return Err(fault(1, format!("the report has version {found}, version {VERSION} is known; make it again")));
        }
        Ok(report)
    }

    /// Write it, to a temporary name, then renamed.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut text = serde_json::to_string_pretty(self).expect("a report can be written as JSON");
        text.push('\n');
        write_text(path, &text)
    }

    /// For each set, a sentence on whether its questions were looked for among the traces that were trained on, from the dataset's card.
    /// Nothing where there is no card.
    pub fn contamination(&self) -> BTreeMap<&str, String> {
        let Some(sources) = self.dataset["sources"].as_array() else { return BTreeMap::new() };
        let sum = |pointer: &str| count(sources.iter().filter_map(|flow| flow.pointer(pointer)?.as_f64()).sum());
        let how = match self.config.pointer("/data/rules/decontaminate").and_then(Value::as_str) {
            Some("off") => None,
            Some("exact") => Some("word for word"),
            _ => Some("whole, or 13 words in a row, or half of the phrases of 8 words"),
        };
        let touches = |set: &str| {
            let counts = TOUCHES.iter().filter_map(|(kind, what)| Some((self.dataset["touches"][set][*kind].as_f64()?, what)));
            let counts: Vec<String> = counts.map(|(found, what)| format!("{} {what}", count(found))).collect();
            if counts.is_empty() { "No trace touches one.".to_owned() } else { format!("Of all traces, {}.", counts.join(", ")) }
        };
        let why = self.dataset["decontaminate_off_because"].as_str().map_or(".".to_owned(), |why| format!(": {why}"));
        let sentence = |set: &str| match (how, self.dataset["decontaminated_against"][set].as_f64()) {
            (Some(how), Some(questions)) => format!(
                "Contamination: its {} questions were looked for in all {} training traces, {how}; {} traces that hold a question of a scored \
                 set were dropped. {}",
                count(questions),
                sum("/traces"),
                sum("/dropped/contaminated"),
                touches(set),
            ),
            _ => format!("Contamination: its questions were not looked for in the training traces{why}"),
        };
        self.eval.keys().chain(self.choices.keys()).map(|set| (set.as_str(), sentence(set))).collect()
    }

    /// Whether the student's weights are ternary. What the student is says so; its config may leave that to a folder.
    pub fn is_ternary(&self) -> bool {
        self.student.contains("ternary")
    }

    /// How many times smaller the packed file is than the same weights at 16 bits.
    pub fn times_smaller(&self) -> f64 {
        if self.packed_bytes == 0 { 0.0 } else { self.f16_bytes as f64 / self.packed_bytes as f64 }
    }
}

/// Write a text file, to a temporary name, then renamed.
pub fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    write_file(path, |out| out.write_all(text.as_bytes()))
}
