//! `tristill sweep`: the same run with every combination of some settings, and one table at the end. Each combination is a run of
//! its own, so that a sweep that was stopped goes on where it was.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use eval::report::Report;

use crate::{
    arguments::{ConfigArguments, SweepArguments},
    command::distill::distill,
    progress::{print, say},
};

pub fn sweep(arguments: &SweepArguments) -> Result<()> {
    let name = arguments.config.file_stem().and_then(|name| name.to_str()).unwrap_or("run");
    let folder = arguments.overrides.run.clone().unwrap_or_else(|| PathBuf::from("checkpoints").join(format!("{name}-sweep")));
    let combinations = combinations(&arguments.over)?;
    let mut rows = Vec::new();
    for (place, settings) in combinations.iter().enumerate() {
        let title = settings.join(", ");
        say(&format!("     sweep {} of {}: {title}", place + 1, combinations.len()));
        let run = folder.join(settings.join(",").replace(['/', '\\'], "_"));
        let mut overrides = arguments.overrides.clone();
        overrides.set.extend(settings.iter().cloned());
        overrides.run = Some(run.clone());
        distill(&ConfigArguments { config: arguments.config.clone(), overrides })?;
        rows.push((title, Report::read(&run.join("report.json"))?));
    }
    print(&table(&rows));
    Ok(())
}

/// Every combination of one value of each key, as `key=value`; the last key changes fastest.
fn combinations(over: &[String]) -> Result<Vec<Vec<String>>> {
    let mut combinations = vec![Vec::new()];
    for choice in over {
        let (key, values) = choice.split_once('=').with_context(|| format!("--over {choice}: KEY=VALUE,VALUE,… was needed"))?;
        if values.is_empty() {
            bail!("--over {choice}: it names no value");
        }
        let with_each = |settings: Vec<String>| {
            let add = move |value: &str| settings.iter().cloned().chain([format!("{key}={value}")]).collect();
            values.split(',').map(add).collect::<Vec<_>>()
        };
        combinations = combinations.into_iter().flat_map(with_each).collect();
    }
    Ok(combinations)
}

/// A line for each run: its settings, its scores with their intervals, its size and its time.
fn table(rows: &[(String, Report)]) -> String {
    let width = rows.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0);
    let mut text = "\n".to_owned();
    for (title, facts) in rows {
        text += &format!("{title:width$}");
        for (set, score) in &facts.eval {
            text += &format!("  {set} {:5.1} % ({:.1} to {:.1})", 100.0 * score.accuracy, 100.0 * score.low, 100.0 * score.high);
        }
        text += &format!("  {} bytes  {:.0} s\n", facts.packed_bytes, facts.wall_s);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_key_changes_fastest() {
        let over = |choices: &[&str]| combinations(&choices.iter().map(|choice| (*choice).to_owned()).collect::<Vec<_>>());
        let found = over(&["train.rate=1e-3,2e-3", "train.seed=1,2"]).unwrap();
        let expected = [["train.rate=1e-3", "train.seed=1"], ["train.rate=1e-3", "train.seed=2"]];
        assert_eq!(found[..2], expected);
        assert_eq!((found.len(), &found[3]), (4, &vec!["train.rate=2e-3".to_owned(), "train.seed=2".to_owned()]));
        assert!(over(&["train.rate"]).unwrap_err().to_string().contains("KEY=VALUE,VALUE"));
        assert!(over(&["train.rate="]).unwrap_err().to_string().contains("names no value"));
    }
}
