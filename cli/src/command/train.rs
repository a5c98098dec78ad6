//! `tristill train`: from the run's dataset to a checkpoint.

use anyhow::{Context, Result, bail};
use data::Dataset;
use trainer::{Job, Trained};

use crate::{
    arguments::ConfigArguments,
    interrupt::{self, Interrupted},
    progress::{Progress, say},
    run::Run,
};

pub fn command(arguments: &ConfigArguments) -> Result<()> {
    let run = Run::open(arguments)?;
    let folder = run.dataset();
    if !folder.exists() {
        bail!("there is no dataset in {}; `tristill ingest {}` makes it", folder.display(), arguments.config.display());
    }
    let dataset = Dataset::open(&folder)?;
    run.start()?;
    train(&run, &dataset).map(|_| ())
}

/// Train to the last step, from the last checkpoint on. Being stopped is an error here, with everything saved.
pub fn train(run: &Run, dataset: &Dataset) -> Result<Trained> {
    let config = &run.config.train;
    let model = run.config.model.resolve(dataset.manifest().vocab)?;
    let job = Job { config, model: &model, from: run.config.model.from(), dataset, run: &run.folder };
    say(&format!("   student {} weights, {} steps of {} rows", model.parameters(), config.steps, config.rows));

    let mut bar: Option<Progress> = None;
    let trained = trainer::train(&job, interrupt::flag(), &mut |at| {
        let bar = bar.get_or_insert_with(|| Progress::start("train", at.steps, at.step));
        bar.at(at.step, at.steps, &format!("loss {:.4}, rate {:.2e}, {:.0} tokens/s", at.loss, at.rate, at.tokens_per_s));
    })
    .context("training stopped")?;
    if let Some(bar) = bar {
        bar.end();
    }
    if !trained.is_finished {
        let place = trained.checkpoint.display();
        let stopped =
            format!("stopped at step {} of {} and saved as {place}; the same command goes on from there", trained.step, config.steps);
        return Err(Interrupted(stopped).into());
    }
    say(&format!("checkpoint {}", trained.checkpoint.display()));
    Ok(trained)
}
