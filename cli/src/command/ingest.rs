//! `tristill ingest`: from traces to the run's dataset, or what a file of traces would be taken for.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, bail};
use data::{Dataset, Explanation, Job, Source, Stage};
use model::ChatTemplate;

use crate::{
    arguments::{ConfigArguments, IngestArguments},
    command::{check::Marks, synth::synth},
    hold::{Makes, begin},
    progress::{Progress, print, say},
    run::{Run, eval_sets},
};

pub fn command(arguments: &IngestArguments) -> Result<()> {
    let IngestArguments { config, overrides, explain } = arguments;
    let run = match config {
        Some(config) => Some(Run::open(&ConfigArguments { config: config.clone(), overrides: overrides.clone() })?),
        None => None,
    };
    match (run, explain) {
        (run, Some(file)) => show(run.as_ref(), file),
        (Some(run), None) => {
            let _held = begin(&run, Makes::Data)?;
            synth(&run)?;
            ingest_parts(&run)
        }
        (None, None) => unreachable!("clap wants one of the two"),
    }
}

/// Explain a file, as the source of the config that names it, or with the defaults.
fn show(run: Option<&Run>, file: &Path) -> Result<()> {
    let named = run.and_then(|run| run.config.data.sources.iter().find(|source| source.path == file));
    let source = named.cloned().unwrap_or_else(|| Source::new(file));
    let (rules, system) = run.map(|run| (run.config.data.rules.clone(), run.config.data.system)).unwrap_or_default();
    let Explanation { path, form, layout, keys, rows, traces, kept, examples, doubts } =
        data::explain(&source, &rules, &ChatTemplate::chatml(), system).context("cannot explain the file")?;
    let marks = Marks::of_terminal();
    print(&format!(
        "{} is {form}, its rows have {keys}.\nIt is read as {layout}: of the first {rows} rows {traces} traces, of which {kept} are kept.\n",
        path.display()
    ))?;
    print(&format!("\n{} traces as they are learned ({}):\n", examples.len(), marks.legend()))?;
    for example in &examples {
        print(&format!("\n{}\n", marks.render(example)))?;
    }
    let doubts = if doubts.is_empty() { vec!["nothing".to_owned()] } else { doubts };
    print(&format!("\nUncertain:\n{}", doubts.iter().map(|doubt| format!("  - {doubt}\n")).collect::<String>()))
}

/// Make the datasets of all parts of the run, so that what is wrong with one is known before anything is trained.
pub fn ingest_parts(run: &Run) -> Result<()> {
    for (number, part) in run.parts().iter().enumerate() {
        if !run.parts()[..number].iter().any(|earlier| earlier.dataset() == part.dataset()) {
            ingest(part)?;
        }
    }
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
        if out.exists() && trainer::latest(&run.folder)?.is_some() && !data::is_there(&job)? {
            bail!(
                "{} has a checkpoint that was trained on the dataset there, which would be made anew, because its traces, the questions of \
                 its sets or this program are others now; name another folder with --run, or remove the checkpoints",
                run.folder.display()
            );
        }

        let mut bar: Option<(Stage, Progress)> = None;
        // When each stage began.
        let mut stages: Vec<(Stage, Instant)> = Vec::new();
        let ingested = data::ingest(&job, &mut |at| {
            if bar.as_ref().is_none_or(|(stage, _)| *stage != at.stage) {
                bar = Some((at.stage, Progress::start(word(at.stage), at.total, at.done)));
                stages.push((at.stage, Instant::now()));
            }
            if let Some((_, bar)) = &mut bar {
                bar.at(at.done, at.total, &format!("{} traces, {} kept", at.traces, at.kept));
            }
        })
        .context("cannot make the dataset")?;
        if let Some((_, bar)) = bar {
            bar.end();
        }
        let ends = stages.iter().skip(1).map(|(_, began)| *began).chain([Instant::now()]);
        let seconds = stages.iter().zip(ends).map(|((stage, began), end)| format!("{} {:.1}", word(*stage), (end - *began).as_secs_f64()));
        let seconds = seconds.collect::<Vec<_>>().join(", ");

        let manifest = ingested.dataset.manifest();
        let (kept, dropped) = (ingested.card.kept(), ingested.card.dropped());
        let there = if ingested.is_new { "" } else { " (is there)" };
        say(&format!(
            "   dataset {kept} traces in {} rows, {} tokens, {} of them learned{there}",
            manifest.rows, manifest.tokens, manifest.supervised_tokens
        ));
        for (rule, count) in &dropped {
            say(&format!("   dropped {count} by the rule {rule}"));
        }
        if let Some(wanted) = run.config.data.vocab.filter(|wanted| *wanted > manifest.vocab) {
            say(&format!("   note    the tokenizer has {} tokens and not {wanted}: no more pairs occur twice", manifest.vocab));
        }
        if !dropped.is_empty() {
            say(&format!("   why     is in {}", out.join("dropped.parquet").display()));
        }
        for flow in ingested.card.sources.iter().filter(|flow| flow.repeated_ids > 0) {
            say(&format!("   warning {} traces of {} have the id of an earlier one", flow.repeated_ids, flow.path.display()));
        }
        if !seconds.is_empty() {
            say(&format!("   seconds {seconds}"));
        }
        if let Some(why) = &ingested.card.decontaminate_off_because {
            say(&format!("   warning evaluation questions were not looked for: {why}"));
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
