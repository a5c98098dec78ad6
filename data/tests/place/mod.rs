//! Traces in a folder of their own, and the public door.
#![allow(dead_code, missing_docs)] // Each test file uses its own part.

use std::fs;
use std::path::{Path, PathBuf};

use model::ChatTemplate;
use tristill_data::{DataConfig, Dataset, EvalSet, Ingested, Job, PackedRow, Source, ingest};

pub const CONTEXT: usize = 128;

/// A folder.
pub struct Place(pub tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str, lines: &[String]) -> Source {
        fs::write(self.path(name), lines.join("\n")).unwrap();
        Source::new(self.path(name))
    }
}

pub fn config(sources: Vec<Source>) -> DataConfig {
    DataConfig { sources, tokenizer: None, vocab: Some(300), system: Default::default(), rules: Default::default(), keep_scans: true }
}

pub fn try_ingest(config: &DataConfig, eval_sets: &[EvalSet], out: &Path) -> Result<Ingested, String> {
    let job = Job { config, chat: &ChatTemplate::chatml(), context: CONTEXT, eval_sets, out };
    ingest(&job, &mut |_| {}).map_err(|error| error.to_string())
}

/// A row in GSM8K's layout.
pub fn steps(number: u32, answer: u32) -> String {
    format!(
        r#"{{"question": "Tom has {number} hats and buys 3. How many?", "answer": "{number} + 3 = <<{number}+3={answer}>>{answer}\n#### {answer}"}}"#
    )
}

/// All rows of the first epochs.
pub fn rows_of(dataset: &Dataset, epochs: u64) -> Vec<PackedRow> {
    let count = dataset.manifest().rows * epochs;
    dataset.rows(1, tristill_data::Cursor::default()).take(count as usize).collect::<Result<_, _>>().unwrap()
}

/// The texts of all documents, with what is given and what is learned, sorted.
pub fn texts_of(dataset: &Dataset) -> Vec<String> {
    let traces = dataset.preview(usize::MAX).unwrap();
    let mut texts: Vec<String> = traces.iter().map(|trace| trace.iter().map(|piece| piece.text.as_str()).collect()).collect();
    texts.sort();
    texts
}
