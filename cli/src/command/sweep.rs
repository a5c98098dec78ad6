//! `tristill sweep`: the same run with every combination of some settings, and one table at the end. Each combination is a run of
//! its own, so that a sweep that was stopped goes on where it was. `--find-rate` instead shows at which learning rates the loss falls.

use std::{path::PathBuf, sync::atomic::Ordering};

use anyhow::{Context, Result, bail};
use eval::report::Report;
use trainer::{Job, RateTest, TriedRate};

use crate::{
    arguments::{ConfigArguments, SweepArguments},
    command::{annotate::annotate, distill::distill, ingest::ingest, synth::synth, train::check_at_hand},
    hold::{Makes, checked},
    interrupt::{self, Interrupted},
    progress::{Progress, print, say, say_error},
    run::Run,
};

/// The rates of `--find-rate`.
const RATES: RateTest = RateTest { from: 1e-5, to: 1e-1, steps: 100 };
/// Lines of its table.
const SHOWN: usize = 20;

pub fn sweep(arguments: &SweepArguments) -> Result<()> {
    if arguments.find_rate {
        return find_rate(&ConfigArguments { config: arguments.config.clone(), overrides: arguments.overrides.clone() });
    }
    let name = arguments.config.file_stem().and_then(|name| name.to_str()).unwrap_or("run");
    let folder = arguments.overrides.run.clone().unwrap_or_else(|| PathBuf::from("checkpoints").join(format!("{name}-sweep")));
    let combinations = combinations(&arguments.over)?;
    let run = |settings: &Vec<String>| {
        let mut overrides = arguments.overrides.clone();
        overrides.set.extend(settings.iter().cloned());
        overrides.run = Some(folder.join(settings.join(",").replace(['/', '\\'], "_")));
        ConfigArguments { config: arguments.config.clone(), overrides }
    };
    let runs: Vec<ConfigArguments> = combinations.iter().map(run).collect();
    // A combination that cannot be is found before the first is trained.
    let opened = runs.iter().map(Run::open).collect::<Result<Vec<_>>>()?;
    opened.iter().try_for_each(check_at_hand)?;
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for (((settings, arguments), run), number) in combinations.iter().zip(&runs).zip(opened).zip(1..) {
        let title = settings.join(", ");
        say(&format!("     sweep {number} of {}: {title}", combinations.len()));
        match distill(arguments) {
            Ok(()) => rows.push((title, Report::read(&run.report())?)),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            // One that diverges says something too, and the others can be done.
            Err(error) => {
                say_error(&error);
                failed.push(title);
            }
        }
    }
    print(&table(&rows))?;
    if !failed.is_empty() {
        bail!("{} of {} runs failed: {}; why is said above", failed.len(), combinations.len(), failed.join("; "));
    }
    Ok(())
}

/// Train the run's student from its start while the rate rises. Nothing but the run's traces and datasets is written.
fn find_rate(arguments: &ConfigArguments) -> Result<()> {
    let run = Run::open(arguments)?;
    check_at_hand(&run)?;
    let _held = checked(&run, Makes::Data)?;
    synth(&run)?;
    let run = &run.parts()[0];
    let dataset = annotate(run, ingest(run)?)?;
    let model = run.config.model.resolve(dataset.manifest().vocab)?;
    let job = Job { config: &run.config.train, model: &model, from: run.config.model.from(), dataset: &dataset, run: &run.folder };
    let mut bar = Progress::start("rates", RATES.steps, 0);
    let mut step = 0;
    let mut report = |at: TriedRate| {
        step += 1;
        bar.at(step, RATES.steps, &format!("rate {:.1e}, loss {:.4}", at.rate, at.loss));
    };
    let tried = trainer::find_rate(&job, &RATES, interrupt::flag(), &mut report).context("the test of rates stopped")?;
    bar.end();
    if interrupt::flag().load(Ordering::Relaxed) {
        return Err(Interrupted(format!("stopped after {} of {} steps; the same command begins anew", tried.len(), RATES.steps)).into());
    }
    print(&rates(&tried))?;
    Ok(())
}

/// Some of the rates with their losses, and what they say.
fn rates(tried: &[TriedRate]) -> String {
    let mut text = "\n    rate    loss\n".to_owned();
    for at in tried.iter().step_by(tried.len().div_ceil(SHOWN).max(1)) {
        text += &format!("{:8.1e}  {:6.3}\n", at.rate, at.loss);
    }
    let least = tried.iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
    text + &match (trainer::steepest(tried), least) {
        (Some(steepest), Some(least)) => {
            format!(
                "\nthe loss falls fastest at {steepest:.1e} and is least at {:.1e}; try train.rate = {steepest:.1e} first\n",
                least.rate
            )
        }
        _ => "\nthe loss fell at none of these rates\n".to_owned(),
    }
}

/// Every combination of one value of each key, as `key=value`; the last key changes fastest.
fn combinations(over: &[String]) -> Result<Vec<Vec<String>>> {
    let mut combinations = vec![Vec::new()];
    for choice in over {
        let (key, values) = choice.split_once('=').with_context(|| format!("--over {choice}: KEY=VALUE,VALUE,… was needed"))?;
        if values.is_empty() {
            bail!("--over {choice}: it names no value");
        }
        let values = at_commas(values).with_context(|| format!("--over {choice}: a bracket or a quote is not closed"))?;
        let with_each = |settings: Vec<String>| {
            let add = move |value: &&str| settings.iter().cloned().chain([format!("{key}={value}")]).collect();
            values.iter().map(add).collect::<Vec<_>>()
        };
        combinations = combinations.into_iter().flat_map(with_each).collect();
    }
    Ok(combinations)
}

/// The parts of a text between commas, or none where a bracket, brace or quote is open at the end; a comma within these separates nothing.
fn at_commas(text: &str) -> Option<Vec<&str>> {
    let (mut depth, mut quote) = (0, None);
    let separates = |letter: char| {
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0 && quote.is_none()
    };
    let parts = text.split(separates).collect();
    (depth == 0 && quote.is_none()).then_some(parts)
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
        for (set, score) in &facts.choices {
            let [letters, texts, by_length] = [&score.letters, &score.texts, &score.texts_by_length].map(|share| 100.0 * share.accuracy);
            text += &format!("  {set} {letters:5.1} % by letter, {texts:.1} % by text, {by_length:.1} % by text per character");
        }
        text += &format!("  {} bytes  {:.0} s\n", facts.packed_bytes, facts.wall_s);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_in_twenty_lines_with_one_to_try() {
        let loss = |step: i32| if step < 40 { 6.0 } else { 6.0 - 0.1 * f64::from(step - 40) };
        let tried: Vec<TriedRate> = (0..90).map(|step| TriedRate { rate: 1e-5 * 1.1f64.powi(step), loss: loss(step) }).collect();
        let text = rates(&tried);
        assert!(text.lines().count() <= SHOWN + 4 && text.contains("is least at 4.8e-2; try train.rate = "), "{text}");
        assert_eq!(rates(&tried[..1]).lines().last(), Some("the loss fell at none of these rates"));
    }

    #[test]
    fn the_last_key_changes_fastest() {
        let over = |choices: &[&str]| combinations(&choices.iter().map(|choice| (*choice).to_owned()).collect::<Vec<_>>());
        let found = over(&["train.rate=1e-3,2e-3", "train.seed=1,2"]).unwrap();
        let expected = [["train.rate=1e-3", "train.seed=1"], ["train.rate=1e-3", "train.seed=2"]];
        assert_eq!(found[..2], expected);
        assert_eq!((found.len(), &found[3]), (4, &vec!["train.rate=2e-3".to_owned(), "train.seed=2".to_owned()]));
        let found = over(&[r#"data.rules.pass_rate=[0,1],[0.2,0.8]"#, r#"data.sources=[{ path = "a,b" }]"#]).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], [r#"data.rules.pass_rate=[0.2,0.8]"#, r#"data.sources=[{ path = "a,b" }]"#]);
        assert!(over(&["model.scale='row,tensor"]).unwrap_err().to_string().contains("a quote is not closed"));
        assert!(over(&["train.rate"]).unwrap_err().to_string().contains("KEY=VALUE,VALUE"));
        assert!(over(&["train.rate="]).unwrap_err().to_string().contains("names no value"));
    }
}
