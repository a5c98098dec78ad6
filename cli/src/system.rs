//! A system that answered sets of questions, as it is typed: the folder of a run, the folder that an evaluation wrote into, a file of
//! completions, or a file that others recorded, as `FILE` or `FILE:FIELD`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use eval::{Completions, EvalConfig, Likelihoods, SetTable, read_likelihoods};
use serde::Deserialize;
use task::Problem;

use crate::{
    progress::say,
    run::{CONFIG, LIKELIHOODS, completions, likelihoods},
};

/// One system.
pub struct System {
    /// As it was typed.
    pub name: String,
    path: PathBuf,
    field: Option<String>,
}

impl System {
    /// The system that was typed; its path exists.
    pub fn find(typed: &Path) -> Result<System> {
        let name = typed.display().to_string();
        if typed.extension().is_some_and(|extension| extension == "gguf") {
            bail!(
                "{name} is a packed student, which has to be asked first: `tristill eval {name} --set FILE --to FOLDER`, then compare FOLDER"
            );
        }
        if typed.exists() {
            return Ok(System { name, path: typed.to_owned(), field: None });
        }
        match name.rsplit_once(':') {
            Some((path, field)) if Path::new(path).is_file() => {
                Ok(System { path: path.into(), field: Some(field.to_owned()), name: name.clone() })
            }
            _ => {
                bail!("{name} does not exist; a run's folder, a file of completions or FILE:FIELD of a file that others recorded is needed")
            }
        }
    }

    /// The sets that a run was scored on; none for anything but the folder of a run.
    pub fn sets(&self) -> Result<Option<Vec<SetTable>>> {
        let path = self.path.join(CONFIG);
        if !path.exists() {
            return Ok(None);
        }
        #[derive(Deserialize)]
        struct Resolved {
            eval: EvalConfig,
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut resolved: Resolved = toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
        // The programmatic teacher's problems move with the run.
        for set in &mut resolved.eval.sets {
            let moved = set.path.file_name().map(|name| self.path.join("traces").join(name)).filter(|moved| moved.exists());
            if let Some(moved) = moved.filter(|_| !set.path.exists()) {
                set.path = moved;
            }
        }
        Ok(Some(resolved.eval.sets))
    }

    /// What it said to a set's problems; none where a folder holds no answers to this set. Lines that are no completion are told, and
    /// completions of other problems.
    pub fn said(&self, set: &str, problems: &[Problem]) -> Result<Option<Completions>> {
        let path = if self.path.is_dir() { completions(&self.path, set) } else { self.path.clone() };
        if !path.exists() {
            return Ok(None);
        }
        let (found, bad) = Completions::find(&path, self.field.as_deref(), problems)?;
        for line in &bad {
            say(&format!("warning: {line}"));
        }
        let (strangers, all) = (found.strangers(problems), found.completions.len());
        if strangers > 0 && strangers < all {
            say(&format!("warning: {strangers} of {all} completions in {} are of no problem of the set", path.display()));
        }
        Ok(Some(found))
    }

    /// How likely it found the options of a set; none where it was not asked this set.
    pub fn likelihoods(&self, set: &str) -> Result<Option<Vec<Likelihoods>>> {
        let path = if self.path.is_dir() { likelihoods(&self.path, set) } else { self.path.clone() };
        let is_there = path.file_name().is_some_and(|name| name == LIKELIHOODS) && path.exists();
        Ok(if is_there { Some(read_likelihoods(&path)?) } else { None })
    }
}
