//! A dataset and a student small enough that a whole run takes a second.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use data::{DataConfig, Dataset, Job as IngestJob, Source, ingest};
use model::{ChatTemplate, ModelConfig, ModelTable};
use serde_json::{Value, json};
use tristill_trainer::{Error, Evaluation, Hooks, Job, Progress, TrainTable, Trained, train};

pub const CONTEXT: usize = 96;

/// A folder with a dataset in it.
pub struct Place {
    folder: tempfile::TempDir,
    pub dataset: Dataset,
}

impl Place {
    /// A dataset of sums from `first` on.
    pub fn new(first: u32) -> Place {
        Place::with_questions(first, "Tom has {n} hats and buys 3. How many?")
    }

    /// The same sums in other words, so that the tokenizer is another.
    pub fn with_questions(first: u32, question: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let traces = folder.path().join("traces.jsonl");
        let line = |n: u32| {
            let answer = format!("{n} + 3 = <<{n}+3={sum}>>{sum}\n#### {sum}", sum = n + 3);
            json!({ "question": question.replace("{n}", &n.to_string()), "answer": answer }).to_string()
        };
        std::fs::write(&traces, (first..first + 60).map(line).collect::<Vec<_>>().join("\n")).unwrap();
        let config = DataConfig {
            sources: vec![Source::new(traces)],
            tokenizer: None,
            vocab: Some(300),
            system: Default::default(),
            rules: Default::default(),
            keep_scans: false,
        };
        let out = folder.path().join("dataset");
        let job = IngestJob { config: &config, chat: &ChatTemplate::chatml(), context: CONTEXT, eval_sets: &[], out: &out };
        let dataset = ingest(&job, &mut |_| {}).unwrap().dataset;
        Place { folder, dataset }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A student of one block, with some keys of its table changed.
    pub fn model(&self, changed: Value) -> ModelConfig {
        serde_json::from_value::<ModelTable>(merged(table(), changed)).unwrap().resolve(self.dataset.manifest().vocab).unwrap()
    }

    /// Train in the folder `run` and stop after `last_step`, if that comes before the end.
    pub fn train(&self, run: &Path, config: &TrainTable, model: &ModelConfig, last_step: u64) -> Result<Trained, Error> {
        train_job(&Job { config, model, from: None, dataset: &self.dataset, run }, last_step)
    }
}

/// Train, and stop after `last_step`, if that comes before the end.
pub fn train_job(job: &Job, last_step: u64) -> Result<Trained, Error> {
    let should_stop = AtomicBool::new(false);
    let mut report = |progress: &Progress| should_stop.store(progress.step >= last_step, Ordering::Relaxed);
    // The scores rise and fall with the number of evaluations in the metrics.
    let mut evaluate = |packed: &Path| {
        let student = runtime::Student::open(packed)?;
        let metrics = std::fs::read_to_string(job.run.join("metrics.jsonl"))?;
        let score = [0.2, 0.5, 0.3][metrics.matches("score").count() % 3];
        Ok(Some(Evaluation { eval: json!({ "sums": { "accuracy": score, "layers": student.config().layers } }), score }))
    };
    train(job, &mut Hooks { should_stop: &should_stop, report: &mut report, evaluate: &mut evaluate })
}

/// The `[model]` table of a student of one block.
pub fn table() -> Value {
    json!({ "width": 256, "layers": 1, "heads": 4, "kv_heads": 2, "feed_forward": 256, "context": CONTEXT })
}

/// Six steps, with some keys of the table changed.
pub fn six_steps(changed: Value) -> TrainTable {
    let table = json!({ "steps": 6, "rows": 3, "microbatch_rows": 2, "rate": 2e-3, "warm_up_steps": 2, "save_every": 2, "log_every": 1 });
    serde_json::from_value(merged(table, changed)).unwrap()
}

pub fn merged(mut table: Value, changed: Value) -> Value {
    let Value::Object(changed) = changed else { panic!("a table was needed") };
    table.as_object_mut().unwrap().extend(changed);
    table
}
