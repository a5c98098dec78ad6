//! `tristill check`: what a run would do, and what its student would learn from. Trains nothing and leaves nothing behind.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use data::{Job, Look, Piece};

use crate::{
    arguments::ConfigArguments,
    progress::print,
    run::{Run, eval_sets},
};

/// Traces that are shown: as many as on the dataset's card.
const TRACES: usize = 5;

pub fn check(arguments: &ConfigArguments) -> Result<()> {
    let mut run = Run::open(arguments)?;
    let config = toml::to_string_pretty(&run.config).context("cannot write the resolved config as TOML")?;
    print(&format!("# The resolved config; the run's folder is {}.\n\n{config}\n", run.folder.display()))?;
    for stage in run.parts().iter().filter(|_| run.has_stages()) {
        let config = toml::to_string_pretty(&stage.config).context("cannot write a stage's config as TOML")?;
        print(&format!("# The stage {}; its folder is {}.\n\n{config}\n", stage.name, stage.folder.display()))?;
    }
    let look = look(&mut run)?;
    let marks = Marks::of_terminal();
    let whole = if look.is_whole { "as on its card" } else { "made of the beginning of each source" };
    print(&format!("# {} traces of the dataset, {whole}: {}.\n", look.traces.len(), marks.legend()))?;
    for trace in &look.traces {
        let learned = trace.iter().filter(|piece| piece.supervised).count();
        print(&format!("\n# {} tokens, {learned} learned\n{}\n", trace.len(), marks.render(trace)))?;
    }
    Ok(())
}

fn look(run: &mut Run) -> Result<Look> {
    let place = tempfile::tempdir().context("cannot create a temporary folder")?;
    let there = run.dataset().exists();
    // The teacher's files may not be there yet; a few of its traces show the same.
    if let Some(synth) = run.config.synth.as_mut().filter(|_| !there) {
        synth.problems = synth.problems.min(200);
        let written = data::synth::write(synth, place.path())?;
        for (source, path) in run.config.data.sources.iter_mut().zip([written.train]) {
            source.path = path;
        }
        let asked = [(synth.held_out, written.held_out), (synth.unseen, written.unseen)].into_iter().filter(|(count, _)| *count > 0);
        for (set, (_, path)) in run.config.eval.sets.iter_mut().zip(asked) {
            set.path = path;
        }
    }
    let sets = run.problems()?;
    let sets = eval_sets(&sets);
    let chat = run.chat()?;
    let out = if there { run.dataset() } else { place.path().join("dataset") };
    let job = Job { config: &run.config.data, chat: &chat, context: run.config.model.context()?, eval_sets: &sets, out: &out };
    data::check(&job, TRACES).context("cannot make a few rows of the dataset")
}

/// How learned text is told from given text.
pub struct Marks {
    colour: bool,
}

impl Marks {
    /// Colours on a terminal, quotation marks elsewhere.
    pub fn of_terminal() -> Marks {
        Marks { colour: std::io::stdout().is_terminal() }
    }

    pub fn legend(&self) -> &'static str {
        if self.colour { "learned text is green, given text is grey" } else { "learned text stands between «»" }
    }

    pub fn render(&self, trace: &[Piece]) -> String {
        match self.colour {
            true => format!("\x1b[90m{}\x1b[0m", data::marked(trace, "\x1b[32m", "\x1b[90m")),
            false => data::marked(trace, "«", "»"),
        }
    }
}
