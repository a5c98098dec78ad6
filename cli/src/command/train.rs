//! `tristill train`: from the run's dataset to a checkpoint, stage after stage where the run has any.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use data::Dataset;
use eval::Questions;
use trainer::{DeviceName, DivergenceName, Evaluation, Hooks, Job, TeacherTable, Trained};

use crate::{
    arguments::ConfigArguments,
    command::{annotate::annotate, eval::Exam},
    config,
    hold::{Makes, begin},
    interrupt::{self, Interrupted},
    progress::{Progress, say},
    run::Run,
    stages::{placed, reference},
};

/// Problems of each set that are asked in mid-run.
const GLANCE: usize = 200;

pub fn command(arguments: &ConfigArguments) -> Result<()> {
    let run = Run::open(arguments)?;
    check_at_hand(&run)?;
    for part in run.parts() {
        dataset(part, arguments)?;
    }
    let _held = begin(&run, Makes::Weights)?;
    train_parts(&run, arguments).map(|_| ())
}

/// Whether what the run's parts need besides their data is here: devices, and the teachers that are still to be asked.
pub fn check_at_hand(run: &Run) -> Result<()> {
    for part in run.parts() {
        let train = &part.config.train;
        trainer::device::of(train)?;
        check_memory(part)?;
        let is_asked = train.teacher.beside().is_some() || !part.annotated().exists();
        if let Some(teacher) = train.teacher.from.as_deref().filter(|teacher| is_asked && reference(Some(teacher)).is_none()) {
            config::sizes_of(teacher).with_context(|| format!("{}: cannot use train.teacher.from", part.name))?;
        }
    }
    Ok(())
}

/// Refuse a student whose weights, gradients and moments alone are more than the machine's memory.
fn check_memory(part: &Run) -> Result<()> {
    const GIB: f64 = (1u64 << 30) as f64;
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default(); // Elsewhere nothing is refused.
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    let (Some(kib), None, DeviceName::Cpu) = (total, &part.config.train.adapter, part.config.train.device) else { return Ok(()) };
    if trainer::latest(&part.folder)?.is_some() {
        return Ok(()); // It had room before.
    }
    let Ok(model) = part.config.model.resolve(part.config.data.vocab.unwrap_or(1)) else { return Ok(()) };
    let (needed, there) = (16.0 * model.parameters() as f64 / GIB, kib * 1024.0 / GIB);
    if needed > there {
        bail!(
            "{}: a student of {} weights needs {needed:.0} GiB for weights, gradients and moments alone, and this machine has {there:.0}; \
             make it smaller, or train an adapter of it",
            part.name,
            model.parameters()
        );
    }
    Ok(())
}

/// A part of a run, trained.
pub struct Part {
    pub run: Run,
    pub dataset: Dataset,
    pub trained: Trained,
}

/// Train the run's parts, each from the student of the one before. At least one; the last one's student is the run's.
pub fn train_parts(run: &Run, arguments: &ConfigArguments) -> Result<Vec<Part>> {
    let mut students: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut parts = Vec::new();
    for (part, number) in run.parts().iter().zip(1..) {
        let part = placed(part, &students);
        if run.has_stages() {
            say(&format!("     stage {number} of {}: {}", run.parts().len(), part.name));
        }
        let _held = run.has_stages().then(|| begin(&part, Makes::Weights)).transpose()?;
        let dataset = annotate(&part, dataset(&part, arguments)?)?;
        let trained = train(&part, &dataset)?;
        students.insert(part.name.clone(), trained.checkpoint.clone());
        parts.push(Part { run: part, dataset, trained });
    }
    Ok(parts)
}

/// The run's dataset, which must be there.
pub fn dataset(run: &Run, arguments: &ConfigArguments) -> Result<Dataset> {
    let folder = run.dataset();
    if !folder.exists() {
        bail!("there is no dataset in {}; `{}` makes it", folder.display(), arguments.command("ingest"));
    }
    Ok(Dataset::open(&folder)?)
}

/// Train to the last step, from the last checkpoint on. Being stopped is an error here, with everything saved.
pub fn train(run: &Run, dataset: &Dataset) -> Result<Trained> {
    let config = &run.config.train;
    let model = run.config.model.resolve(dataset.manifest().vocab)?;
    let job = Job { config, model: &model, from: run.config.model.from(), dataset, run: &run.folder };
    say(&format!("   student {} weights, {} steps of {} rows", model.parameters(), config.steps, config.rows));

    if config.teacher.divergence == DivergenceName::Uld {
        say("   teacher compared by ranks where its tokens end with the student's: train.teacher.divergence = \"uld\" is experimental");
    }

    if config.teacher != TeacherTable::default() && config.teacher.from.is_none() && dataset.manifest().top_k == 0 {
        say("   note    train.teacher has no effect: there is no teacher, and no trace has a teacher's probabilities");
    }

    let (mut bar, mut is_warned): (Option<Progress>, bool) = (None, false);
    let mut report = |at: &trainer::Progress| {
        if let Some(ratio) = at.drowned.filter(|_| !std::mem::replace(&mut is_warned, true)) {
            say(&format!(
                "   warning at step {} the divergence's gradient is {ratio:.3} times the cross-entropy's: one drowns the other; \
                 change train.teacher.share or set train.teacher.balance = 1",
                at.step
            ));
        }
        let bar = bar.get_or_insert_with(|| Progress::start("train", at.steps, at.step));
        bar.at(at.step, at.steps, &format!("loss {:.4}, rate {:.2e}, {:.0} tokens/s", at.loss, at.rate, at.tokens_per_s));
    };
    let mut evaluate = |packed: &Path| glance(run, packed).map_err(Into::into);
    let mut hooks = Hooks { should_stop: interrupt::flag(), report: &mut report, evaluate: &mut evaluate };
    let trained = trainer::train(&job, &mut hooks).context("training stopped")?;
    if let Some(bar) = bar {
        bar.end();
    }
    if !trained.is_finished {
        let place = trained.checkpoint.display();
        let stopped =
            format!("stopped at step {} of {} and saved as {place}; the same command goes on from there", trained.step, config.steps);
        return Err(Interrupted(stopped).into());
    }
    if let Some(best) = &trained.held_out {
        let (step, loss, early) = (best.step, best.held_out_loss, if trained.step < config.steps { "stopped early; " } else { "" });
        say(&format!("  held out {early}the least loss was {loss:.4}, at step {step}"));
    }
    say(&format!("checkpoint {}", trained.checkpoint.display()));
    if let Some(best) = &trained.best {
        say(&format!("      best {0} by the evaluations in mid-run; `tristill export {0}` packs it", best.display()));
    }
    Ok(trained)
}

/// Score a packed student in mid-run: the first problems of each set, without keeping what it said.
fn glance(run: &Run, packed: &Path) -> Result<Option<Evaluation>> {
    let folder = tempfile::tempdir().context("cannot create a folder for an evaluation")?;
    let mut exam = Exam::open(packed, &run.config.eval)?;
    let mut scores = BTreeMap::new();
    for (set, questions) in run.sets()? {
        let Questions::Numbers(problems) = questions else { continue };
        let few = &problems[..problems.len().min(GLANCE)];
        match exam.sit(&set.name, few, folder.path()) {
            Err(error) if error.is::<Interrupted>() => return Ok(None),
            sat => scores.insert(set.name, sat?.1),
        };
    }
    let score = scores.values().map(|score| score.accuracy).sum::<f64>() / scores.len().max(1) as f64;
    Ok(Some(Evaluation { eval: serde_json::to_value(scores).context("cannot write the scores as JSON")?, score }))
}
