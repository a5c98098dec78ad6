//! `tristill synth`: the programmatic teacher's traces and held-out problems, as JSON lines.

use anyhow::{Context, Result, bail};
use data::synth::SynthConfig;

use crate::{
    arguments::ConfigArguments,
    hold::{Makes, begin},
    progress::say,
    run::{Run, write_json},
};

pub fn command(arguments: &ConfigArguments) -> Result<()> {
    let run = Run::open(arguments)?;
    if run.config.synth.is_none() {
        bail!("{} has no [synth] table, which says what the programmatic teacher is to write", arguments.config.display());
    }
    let _held = begin(&run, Makes::Data)?;
    synth(&run)
}

/// Write the files, unless they are there already.
pub fn synth(run: &Run) -> Result<()> {
    let Some(config) = &run.config.synth else { return Ok(()) };
    // Written last, so that it stands for all the others.
    let done = run.traces().join("synth.json");
    let before = std::fs::read_to_string(&done).ok().and_then(|text| serde_json::from_str::<SynthConfig>(&text).ok());
    if before.as_ref() == Some(config) {
        say(&format!("    traces {} are there", run.traces().display()));
        return Ok(());
    }
    run.timed("synth", || {
        let written = data::synth::write(config, &run.traces()).context("cannot write the programmatic teacher's traces")?;
        write_json(&done, config)?;
        for (steps, lengths) in &written.lengths {
            let mean = |characters: usize| characters / lengths.traces.max(1);
            let (question, reasoning) = (mean(lengths.question_chars), mean(lengths.reasoning_chars));
            say(&format!(
                "    traces {} of {steps} steps: questions of {question} characters, chains of thought of {reasoning}",
                lengths.traces
            ));
        }
        Ok(())
    })
}
