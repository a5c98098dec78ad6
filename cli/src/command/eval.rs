//! `tristill eval`: a packed student's answers to a set of problems, and their score.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use anyhow::{Context, Result};
use eval::{Asked, Asking, EvalConfig, Score, SetTable};
use runtime::{Engine, Student};
use task::Problem;

use crate::{
    arguments::EvalArguments,
    interrupt::{self, Interrupted},
    progress::{Progress, print, say},
    run::{completions, read_set, write_json},
};

pub fn command(arguments: &EvalArguments) -> Result<()> {
    let name = arguments.set.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('.').next()).unwrap_or("set");
    let set = SetTable { limit: arguments.limit, ..SetTable::new(name, arguments.set.clone()) };
    let config = EvalConfig {
        max_tokens: arguments.max_tokens,
        threads: arguments.threads.threads,
        sets: vec![set.clone()],
        ..EvalConfig::default()
    };
    config.check()?;
    let problems = read_set(&set)?;
    let folder = arguments.to.clone().unwrap_or_else(|| arguments.student.parent().unwrap_or(Path::new(".")).to_owned());
    let mut exam = Exam::open(&arguments.student, &config)?;
    let (_, score) = exam.sit(name, &problems, &folder)?;
    print(&format!("{}\n", serde_json::to_string_pretty(&score)?));
    Ok(())
}

/// A packed student before its questions.
pub struct Exam<'a> {
    /// Runs the student.
    pub engine: Engine,
    config: &'a EvalConfig,
    hash: String,
}

impl Exam<'_> {
    /// Open a packed student for an evaluation.
    pub fn open<'a>(student: &Path, config: &'a EvalConfig) -> Result<Exam<'a>> {
        let opened = Student::open(student).with_context(|| format!("cannot open {}", student.display()))?;
        let engine = Engine::new(Arc::new(opened), &config.engine_options())?;
        Ok(Exam { engine, config, hash: eval::student_hash(student)? })
    }

    /// Ask every problem that has no answer yet, then mark all of them. What the student said lies in the folder's `eval/<set>/`.
    pub fn sit(&mut self, set: &str, problems: &[Problem], folder: &Path) -> Result<(Asked, Score)> {
        let path: PathBuf = completions(folder, set);
        let asking = Asking { student: &self.hash, set, problems, config: self.config };
        let stop = interrupt::flag();
        let started = Instant::now();
        let mut bar: Option<Progress> = None;
        let asked = eval::ask(&mut self.engine, &asking, &path, |at| {
            let bar = bar.get_or_insert_with(|| Progress::start(set, at.wanted, at.done));
            let right = 100.0 * at.right as f64 / at.done.max(1) as f64;
            let tokens_per_s = at.tokens as f64 / started.elapsed().as_secs_f64();
            bar.at(at.done, at.wanted, &format!("{right:.1} % right, {tokens_per_s:.0} tokens/s"));
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .with_context(|| format!("cannot ask {set}"))?;
        if let Some(bar) = bar {
            bar.end();
        }
        if !asked.whole {
            let count = asked.completions.len();
            return Err(Interrupted(format!(
                "stopped after {count} answers, which are in {}; the same command asks the rest",
                path.display()
            ))
            .into());
        }
        if !asked.too_long.is_empty() {
            let context = self.engine.student().config().context;
            say(&format!(
                "   warning {} problems of {set} were not asked: their prompts fill the context of {context} tokens",
                asked.too_long.len()
            ));
        }
        let score = eval::score(problems, &asked.completions, self.config.prompt.harness_task());
        write_json(&path.with_file_name("score.json"), &score)?;
        let interval = format!("95 % interval {:.1} to {:.1}", 100.0 * score.low, 100.0 * score.high);
        say(&format!("     score {set}: {:.1} % of {} right ({interval})", 100.0 * score.accuracy, score.n));
        Ok((asked, score))
    }
}
