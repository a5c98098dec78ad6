//! What may be written into a run's folder: by one program at a time, and nothing that a checkpoint there contradicts.

use std::{
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::Path,
};

use anyhow::{Context, Result, bail};
use eval::report::write_text;
use serde_json::{Value, json};

use crate::{
    config::RunConfig,
    run::{CONFIG, Run},
};

const LOCK: &str = "run.lock";

/// A run's folder, held by this process alone. The system lets go of it when the process ends, however it ends.
#[must_use = "it is held as long as this lives"]
pub struct Held {
    _lock: File,
}

/// Hold a run's folder, or say that another process does.
pub fn hold(folder: &Path) -> Result<Held> {
    let path = folder.join(LOCK);
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(Held { _lock: lock }),
        // A file system without locks is worked in without one.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(Held { _lock: lock }),
        Err(TryLockError::WouldBlock) => bail!("another process is at work in {}; wait for it or stop it", folder.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// What a command makes.
#[derive(Clone, Copy, PartialEq)]
pub enum Makes {
    /// Traces or a dataset, and what comes after them.
    Data,
    /// Weights, from a dataset that is there.
    Weights,
}

/// Hold a run's folder, and refuse a config that a checkpoint in it contradicts.
pub fn checked(run: &Run, makes: Makes) -> Result<Held> {
    let held = hold(&run.folder)?;
    run.parts().iter().try_for_each(|part| goes_on(part, makes))?;
    Ok(held)
}

/// Begin to write into a run's folder, or go on: the same, then write the resolved config before anything can fail.
pub fn begin(run: &Run, makes: Makes) -> Result<Held> {
    let held = checked(run, makes)?;
    let text = toml::to_string_pretty(&run.config).context("cannot write the resolved config as TOML")?;
    write_text(&run.folder.join(CONFIG), &text)?;
    Ok(held)
}

/// Whether a run that has a checkpoint can go on with its config: a dataset that the checkpoint was not trained on must not take the
/// place of its own. Training looks again, more closely.
fn goes_on(run: &Run, makes: Makes) -> Result<()> {
    let path = run.folder.join(CONFIG);
    let Some(before) = fs::read_to_string(&path).ok().and_then(|text| toml::from_str::<RunConfig>(&text).ok()) else { return Ok(()) };
    if trainer::latest(&run.folder)?.is_none() {
        return Ok(());
    }
    let (mut then, mut now) = (decisive(&before, makes)?, decisive(&run.config, makes)?);
    // The sizes of a student that starts from one which is not there are not known.
    if then["model"].is_null() || now["model"].is_null() {
        (then["model"], now["model"]) = (Value::Null, Value::Null);
    }
    if let Some((key, then, now)) = trainer::first_difference(&then, &now) {
        bail!(
            "cannot go on in {}, which has a checkpoint: {key} was {then} and is {now} now; use that value, or name another folder with --run",
            run.folder.display()
        );
    }
    Ok(())
}

/// What of a config decides about what is made. Folders may move: those that a student starts from or learns from, and the run's own,
/// with the programmatic teacher's files in it. Microbatches that a budget of memory decides are looked at in training.
fn decisive(config: &RunConfig, makes: Makes) -> Result<Value> {
    let mut train = serde_json::to_value(config.train.same_training())?;
    train["teacher"]["from"] = Value::Null;
    (train["memory_gib"], train["microbatch_rows"]) = (Value::Null, Value::Null);
    let mut decisive = json!({ "model": config.model.resolve(1).ok(), "train": train });
    if makes == Makes::Data {
        let is_own = |path: &Path| config.synth.is_some() && path.parent().is_some_and(|folder| folder.ends_with("traces"));
        let mut data = config.data.clone();
        data.sources.retain(|source| !is_own(&source.path));
        let mut data = serde_json::to_value(data)?;
        for free in ["tokenizer", "keep_scans"] {
            data[free] = Value::Null;
        }
        let sets = config.eval.sets.iter().filter(|set| !is_own(&set.path)).map(|set| json!([set.name, set.path, set.limit]));
        decisive["synth"] = serde_json::to_value(&config.synth)?;
        (decisive["data"], decisive["eval"]) = (data, json!({ "sets": sets.collect::<Vec<_>>() }));
    }
    Ok(decisive)
}
