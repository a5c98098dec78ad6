//! `tristill ingest`: from traces to the run's dataset, or what a file of traces is taken for.

use std::{io::IsTerminal, path::Path};

use anyhow::{Context, Result, bail};
use data::{Dataset, Job, Rules, Source, Stage, System};
use model::ChatTemplate;

use crate::{
    arguments::{ConfigArguments, IngestArguments},
    command::{check::render, synth::synth},
    progress::{Progress, print, say},
    run::{Run, eval_sets},
};

pub fn command(arguments: &IngestArguments) -> Result<()> {
    if let Some(file) = &arguments.explain {
        return explain(file);
    }
    let Some(config) = arguments.config.clone() else { bail!("a config, or --explain FILE, is needed") };
    let run = Run::open(&ConfigArguments { config, overrides: arguments.overrides.clone() })?;
    run.start()?;
    synth(&run)?;
    ingest(&run).map(|_| ())
}

/// Show how a file would be read, without a run.
fn explain(file: &Path) -> Result<()> {
    let source = Source::new(file);
    let found = data::explain(&source, &Rules::default(), &ChatTemplate::chatml(), System::default())?;
    let colour = std::io::stdout().is_terminal();
    let mut text = format!("{}: {}, read as {}\n", found.path.display(), found.form, found.layout);
    text += &format!("the first row has {}\n", found.keys);
    text += &format!("{} rows looked at, {} traces in them, {} would be kept by the default rules\n", found.rows, found.traces, found.kept);
    for example in &found.examples {
        text += &format!("\n{}\n", render(example, colour));
    }
    if !found.doubts.is_empty() {
        text += "\nuncertain:\n";
    }
    for doubt in &found.doubts {
        text += &format!("- {doubt}\n");
    }
    print(&text);
    Ok(())
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
        Stage::Read => "traces",
        Stage::Compare => "duplicates",
        Stage::Tokenizer => "tokenizer",
        Stage::Tokenise => "tokens",
        Stage::Pack => "rows",
    }
}
