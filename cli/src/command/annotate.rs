//! `tristill annotate`: the run's dataset again, with what a teacher held likely at each token that is learned.

use anyhow::{Context, Result, bail};
use data::Dataset;

use crate::{
    arguments::ConfigArguments,
    command::train::dataset,
    hold::{Makes, begin},
    progress::{Progress, say},
    run::Run,
};

/// From this share on it is said that the tail is large; a sure teacher at temperature 1 leaves less than a thousandth.
const LARGE_TAIL: f64 = 0.02;

pub fn command(arguments: &ConfigArguments) -> Result<()> {
    let run = Run::open(arguments)?;
    if run.has_stages() {
        bail!("the teachers of a run with stages are asked when their students are there; `tristill train` does it");
    }
    let dataset = dataset(&run, arguments)?;
    let _held = begin(&run, Makes::Weights)?;
    annotate(&run, dataset).map(|_| ())
}

/// The dataset that the run is trained on: annotated, unless it is so already, where the config wants a teacher's answers stored.
pub fn annotate(run: &Run, dataset: Dataset) -> Result<Dataset> {
    let config = &run.config.train;
    if config.teacher.top_k.is_none() {
        return Ok(dataset);
    }
    run.timed("annotate", || {
        let model = run.config.model.resolve(dataset.manifest().vocab)?;
        let (mut bar, to) = (None, run.annotated());
        let mut report = |done: u64, total: u64| {
            bar.get_or_insert_with(|| Progress::start("teacher", total, 0)).at(done, total, "rows");
        };
        let (annotated, is_new) =
            trainer::annotate(&dataset, config, &model, &to, &mut report).context("cannot ask the teacher about the dataset")?;
        if let Some(bar) = bar {
            bar.end();
        }
        let facts = annotated.card()?.teacher.unwrap_or_default();
        let there = if is_new { "" } else { " (is there)" };
        say(&format!(
            "   teacher {} likeliest tokens of {} targets, {} bytes each ({:.0} packed), {:.2} % in the tail{there}",
            facts.top_k,
            facts.targets,
            facts.bytes_per_target,
            facts.packed_bytes_per_target,
            100.0 * facts.mean_tail
        ));
        if facts.mean_tail > LARGE_TAIL {
            say("   warning of the tail only the sum is learned: store more tokens (train.teacher.top_k), or lower train.teacher.temperature");
        }
        Ok(annotated)
    })
}
