//! `tristill report`: a run's facts as one page, `report.html`, and as the model card beside the packed student. A run that is still
//! being trained has a page of what is known so far.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    thread::sleep,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use eval::report::{Metrics, Report, model_card, page, write_text};

use crate::{
    arguments::{ReportArguments, command_line},
    command::compare::against,
    interrupt,
    progress::say,
    run::CONFIG,
    stages,
    system::System,
};

/// The page's name in a run's folder.
pub const PAGE: &str = "report.html";
/// The name of its facts.
pub const FACTS: &str = "report.json";
const METRICS: &str = "metrics.jsonl";
/// How often a page that is watched loads itself again.
const REFRESH_S: u32 = 5;
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub fn command(arguments: &ReportArguments) -> Result<()> {
    let folder = &arguments.folder;
    if !folder.join(FACTS).exists() && !metrics(folder).exists() {
        bail!("{} has neither {FACTS} nor {METRICS}; `tristill distill` and `tristill eval` write them", folder.display());
    }
    if !arguments.against.is_empty() {
        compare_with(folder, &arguments.against)?;
    }
    if arguments.watch {
        watch(folder)?;
    }
    write(folder)?;
    say(&folder.join(PAGE).display().to_string());
    Ok(())
}

/// Make the page and the model card from what the run's folder holds.
pub fn write(folder: &Path) -> Result<()> {
    write_page(folder, None)?;
    // Only a run's folder has a card: another one may hold a README.md of someone else's.
    if folder.join(FACTS).exists() && folder.join(CONFIG).exists() {
        write_text(&folder.join("README.md"), &model_card(&facts(folder)?, "student.gguf"))?;
    }
    Ok(())
}

/// Hold the run against others again, as its last report was: it may be another student now.
pub fn keep_comparisons(folder: &Path, facts: &mut Report) {
    let Ok(before) = Report::read(&folder.join(FACTS)) else { return };
    let others: Vec<PathBuf> = before.against.iter().map(PathBuf::from).collect();
    match System::find(folder).and_then(|run| against(&run, &others)) {
        Ok(comparisons) => (facts.comparisons, facts.against) = (comparisons, before.against),
        Err(error) => say(&format!("warning: the report has no comparison any more: {error:#}")),
    }
}

fn compare_with(folder: &Path, others: &[PathBuf]) -> Result<()> {
    let path = folder.join(FACTS);
    let mut facts = Report::read(&path).context("only a run that has been scored can be compared")?;
    facts.comparisons = against(&System::find(folder)?, others)?;
    facts.against = others.iter().map(|other| other.display().to_string()).collect();
    let named = ["report".to_owned(), folder.display().to_string()].into_iter();
    let against = facts.against.iter().flat_map(|other| ["--against".to_owned(), other.clone()]);
    let command = command_line(named.chain(against));
    facts.commands.retain(|before| !before.starts_with("tristill report "));
    facts.commands.push(command);
    Ok(facts.write(&path)?)
}

/// Make the page again whenever the run has written something, until Ctrl-C.
fn watch(folder: &Path) -> Result<()> {
    let stop = interrupt::flag();
    let state = || -> Vec<Option<(u64, SystemTime)>> {
        let of = |path: PathBuf| fs::metadata(path).ok().and_then(|file| Some((file.len(), file.modified().ok()?)));
        [metrics(folder), folder.join(FACTS)].map(of).into()
    };
    let mut seen = Vec::new();
    say(&format!("watching {}; open {} in a browser, Ctrl-C ends it", folder.display(), folder.join(PAGE).display()));
    while !stop.load(Ordering::Relaxed) {
        let now = state();
        if now != seen {
            write_page(folder, Some(REFRESH_S))?;
            seen = now;
        }
        sleep(LOOK_EVERY);
    }
    Ok(())
}

fn write_page(folder: &Path, refresh_s: Option<u32>) -> Result<()> {
    let path = metrics(folder);
    let metrics = if path.exists() { Metrics::read(&path)? } else { Metrics::default() };
    Ok(write_text(&folder.join(PAGE), &page(&facts(folder)?, &metrics, refresh_s))?)
}

/// The metrics of a run, or of its last stage that has any.
fn metrics(folder: &Path) -> PathBuf {
    stages::last(folder, |stage| stage.join(METRICS).exists()).unwrap_or_else(|| folder.to_owned()).join(METRICS)
}

/// The run's facts; of a run that is not over, its name, its config and where its rows went.
fn facts(folder: &Path) -> Result<Report> {
    let path = folder.join(FACTS);
    if path.exists() {
        return Report::read(&path).context("cannot read the run's facts");
    }
    let mut facts = Report { run: name(folder), ..Report::default() };
    if let Ok(text) = fs::read_to_string(folder.join(CONFIG)) {
        let config: toml::Table = toml::from_str(&text).with_context(|| format!("cannot read the config in {}", folder.display()))?;
        facts.config = serde_json::to_value(config).context("cannot write the config as JSON")?;
    }
    if let Ok(text) = fs::read_to_string(folder.join("dataset/card.json")) {
        facts.dataset = serde_json::from_str(&text).with_context(|| format!("cannot read the dataset's card in {}", folder.display()))?;
    }
    Ok(facts)
}

/// What a folder is called, also where it is typed as `.`.
pub fn name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned())
}
