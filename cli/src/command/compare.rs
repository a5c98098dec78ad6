//! `tristill compare`: two systems that answered the same problems, question by question.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use eval::{Comparison, EvalConfig, SetTable, System, compare as compare_systems, read_completions};
use serde::Deserialize;

use crate::{
    arguments::CompareArguments,
    progress::print,
    run::{completions, read_set},
};

/// What is needed of a run's resolved config.
#[derive(Deserialize)]
struct Resolved {
    eval: EvalConfig,
}

pub fn compare(arguments: &CompareArguments) -> Result<()> {
    let (one, other) = (&arguments.one, &arguments.other);
    let compared = match (&arguments.set, one.is_dir() && other.is_dir()) {
        (None, true) => compare_runs(one, other)?,
        (Some(set), false) => vec![compare_files(&SetTable::new("set", set.clone()), one, other)?],
        (Some(_), true) => bail!("--set goes with two files of completions; the sets of two runs are taken from their folders"),
        (None, false) => {
            bail!("{} and {} are not both folders of runs; for files of completions --set FILE is needed", one.display(), other.display())
        }
    };
    if arguments.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&compared)?));
    } else {
        compared.iter().for_each(|comparison| print(&format!("{comparison}\n")));
    }
    Ok(())
}

/// Every set that both runs were scored on.
fn compare_runs(one: &Path, other: &Path) -> Result<Vec<Comparison>> {
    let path = one.join("config.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}, which a run's folder holds", path.display()))?;
    let resolved: Resolved = toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let both = |set: &SetTable| completions(one, &set.name).exists() && completions(other, &set.name).exists();
    let sets: Vec<SetTable> = resolved.eval.sets.into_iter().filter(both).collect();
    if sets.is_empty() {
        bail!("{} and {} have no set in common that both answered", one.display(), other.display());
    }
    sets.iter().map(|set| compare_files(set, &completions(one, &set.name), &completions(other, &set.name))).collect()
}

fn compare_files(set: &SetTable, one: &Path, other: &Path) -> Result<Comparison> {
    let problems = read_set(set)?;
    let read = |path: &Path| read_completions(path).with_context(|| format!("cannot read {}", path.display()));
    let (first, second) = (read(one)?, read(other)?);
    let (first_name, second_name) = (one.display().to_string(), other.display().to_string());
    let first = System { name: &first_name, completions: &first.completions };
    let second = System { name: &second_name, completions: &second.completions };
    compare_systems(&problems, first, second).with_context(|| format!("cannot compare {first_name} with {second_name}"))
}
