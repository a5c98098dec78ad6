//! `tristill ingest`: from traces to the run's dataset.

use anyhow::{Context, Result};
use data::{Dataset, Job, Stage};

use crate::{
    arguments::ConfigArguments,
    command::synth::synth,
    progress::{Progress, say},
    run::{Run, eval_sets},
};

pub fn command(arguments: &ConfigArguments) -> Result<()> {
    let run = Run::open(arguments)?;
    run.start()?;
    synth(&run)?;
    ingest(&run).map(|_| ())
}

/// Make the dataset, unless it is there already. Says where every row went.
pub fn ingest(run: &Run) -> Result<Dataset> {
    run.timed("ingest", || {
        let sets = run.problems()?;
        let sets = eval_sets(&sets);
        let chat = run.chat()?;
        let out = run.dataset();
        let job = Job { config: &run.config.data, chat: &chat, context: run.config.model.context()?, eval_sets: &sets, out: &out };

        let mut bar: Option<(Stage, Progress)> = None;
        let ingested = data::ingest(&job, &mut |at| {
            if bar.as_ref().is_none_or(|(stage, _)| *stage != at.stage) {
                bar = Some((at.stage, Progress::start(word(at.stage), at.total, at.done)));
            }
            if let Some((_, bar)) = &mut bar {
                bar.at(at.done, at.total, &format!("{} traces, {} kept", at.traces, at.kept));
            }
        })
        .context("cannot make the dataset")?;
        if let Some((_, bar)) = bar {
            bar.end();
        }

        let manifest = ingested.dataset.manifest();
        let (kept, dropped) = (ingested.card.kept(), ingested.card.dropped());
        let there = if ingested.is_new { "" } else { " (is there)" };
        say(&format!(
            "   dataset {kept} traces in {} rows, {} tokens, {} of them learned{there}",
            manifest.rows, manifest.tokens, manifest.supervised_tokens
        ));
        for (rule, count) in dropped {
            say(&format!("   dropped {count} by the rule {rule}; see {}", out.join("dropped.parquet").display()));
        }
        Ok(ingested.dataset)
    })
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Tokenizer => "tokenizer",
        Stage::Read => "traces",
        Stage::Pack => "rows",
    }
}
