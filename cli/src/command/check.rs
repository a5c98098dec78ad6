//! `tristill check`: what a run would do, and what its student would learn from. Trains nothing and leaves nothing behind.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use data::{Job, Piece};

use crate::{
    arguments::ConfigArguments,
    progress::print,
    run::{Run, eval_sets},
};

/// Traces that are shown.
const TRACES: usize = 3;

pub fn check(arguments: &ConfigArguments) -> Result<()> {
    let mut run = Run::open(arguments)?;
    let config = toml::to_string_pretty(&run.config).context("cannot write the resolved config as TOML")?;
    print(&format!("# The resolved config; the run's folder is {}.\n\n{config}\n", run.folder.display()));

    // The teacher's files may not be there yet; a few of its traces show the same.
    let place = tempfile::tempdir().context("cannot create a temporary folder")?;
    if let Some(synth) = &mut run.config.synth {
        synth.problems = synth.problems.min(200);
        let written = data::synth::write(synth, place.path())?;
        for (source, path) in run.config.data.sources.iter_mut().zip([written.train]) {
            source.path = path;
        }
        for (set, path) in run.config.eval.sets.iter_mut().zip([written.held_out, written.unseen]) {
            set.path = path;
        }
    }
    let sets = run.problems()?;
    let sets = eval_sets(&sets);
    let chat = run.chat()?;
    let out = place.path().join("dataset");
    let job = Job { config: &run.config.data, chat: &chat, context: run.config.model.context()?, eval_sets: &sets, out: &out };
    let look = data::check(&job, TRACES).context("cannot make a few rows of the dataset")?;

    let colour = std::io::stdout().is_terminal();
    let legend = if colour { "learned text is green, given text is grey" } else { "learned text stands between «»" };
    let of = if look.is_whole { "of the dataset" } else { "of the beginning of each source" };
    let dropped: Vec<String> = look.card.dropped().iter().map(|(rule, count)| format!("{count} by {rule}")).collect();
    let dropped = if dropped.is_empty() { "none dropped".to_owned() } else { format!("dropped: {}", dropped.join(", ")) };
    print(&format!("# {} traces {of}, {} kept, {dropped}; {legend}.\n", look.traces.len(), look.card.kept()));
    for trace in &look.traces {
        let learned = trace.iter().filter(|piece| piece.supervised).count();
        print(&format!("\n# {} tokens, {learned} learned\n{}\n", trace.len(), render(trace, colour)));
    }
    Ok(())
}

/// Text with what is learned marked.
pub fn render(pieces: &[Piece], colour: bool) -> String {
    let (open, close) = if colour { ("\x1b[32m", "\x1b[90m") } else { ("«", "»") };
    let mut text = String::new();
    let mut learned = false;
    for piece in pieces {
        if piece.supervised != learned {
            text.push_str(if piece.supervised { open } else { close });
            learned = piece.supervised;
        }
        text.push_str(&piece.text);
    }
    if learned {
        text.push_str(close);
    }
    if colour { format!("\x1b[90m{text}\x1b[0m") } else { text }
}
