//! A packed student before its questions: it is asked what it has not answered yet, then all its answers are marked.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use anyhow::{Context, Result};
use eval::report::{Machine, Report, pick_samples};
use eval::{Asked, Asking, ChoiceScore, Choosing, EvalConfig, Questions, Score, SetTable};
use runtime::{Engine, Student};
use task::{Choice, Problem};

use crate::{
    interrupt::{self, Interrupted},
    progress::{Progress, say},
    run::{completions, likelihoods, write_json},
};

/// Samples of each set that the report shows.
const SAMPLES: usize = 6;

/// Tell a score in one line, and what of the set it is not a score of.
pub(super) fn say_score(set: &str, score: &Score) {
    for (count, what) in
        [(score.unmarkable, "problems whose reference is no exact number"), (score.strangers, "completions of no problem of the set")]
    {
        if count > 0 {
            say(&format!("   warning {set}: {count} {what} do not count"));
        }
    }
    let interval = format!("95 % interval {:.1} to {:.1}", 100.0 * score.low, 100.0 * score.high);
    say(&format!("     score {set}: {:.1} % of {} right ({interval})", 100.0 * score.accuracy, score.n));
}

/// A packed student before its questions.
pub struct Exam<'a> {
    /// Runs the student.
    pub engine: Engine,
    /// SHA-256 of the packed file, in hex.
    pub hash: String,
    config: &'a EvalConfig,
}

impl Exam<'_> {
    /// Open a packed student for an evaluation.
    pub fn open<'a>(student: &Path, config: &'a EvalConfig) -> Result<Exam<'a>> {
        let opened = Student::open(student).with_context(|| format!("cannot open {}", student.display()))?;
        let engine = Engine::new(Arc::new(opened), &config.engine_options())?;
        Ok(Exam { engine, hash: eval::student_hash(student)?, config })
    }

    /// Where it is asked.
    pub fn machine(&self) -> Machine {
        Machine { cpu: cpu(), threads: self.engine.threads(), kernel: self.engine.isa().to_string() }
    }

    /// Ask every set and put scores and samples into the report's facts. Gives the tokens per second, if any were written.
    pub fn sit_all(&mut self, sets: &[(SetTable, Questions)], folder: &Path, facts: &mut Report) -> Result<Option<f64>> {
        let (mut tokens, mut wall_s) = (0, 0.0);
        for (SetTable { name, .. }, questions) in sets {
            match questions {
                Questions::Numbers(problems) => {
                    let (asked, score) = self.sit(name, problems, folder)?;
                    facts.samples.insert(name.clone(), pick_samples(problems, &asked.completions, SAMPLES));
                    facts.eval.insert(name.clone(), score);
                    (tokens, wall_s) = (tokens + asked.tokens, wall_s + asked.wall_s);
                }
                Questions::Choices(choices) => {
                    facts.choices.insert(name.clone(), self.choose(name, choices, folder)?);
                }
            }
        }
        Ok((tokens > 0).then(|| tokens as f64 / wall_s))
    }

    /// Ask every problem that has no answer yet, then mark all of them. What the student said lies in the folder's `eval/<set>/`.
    pub fn sit(&mut self, set: &str, problems: &[Problem], folder: &Path) -> Result<(Asked, Score)> {
        let path: PathBuf = completions(folder, set);
        let asking = Asking { student: &self.hash, set, problems, config: self.config };
        let mut bar = Bar::new(set);
        let asked = eval::ask(&mut self.engine, &asking, &path, |at| bar.at(at)).with_context(|| format!("cannot ask {set}"))?;
        bar.end(asked.whole, asked.completions.len(), &path)?;
        self.say_too_long(set, asked.too_long.len());
        let score = eval::score(problems, &asked.completions, Some(&self.config.settings()));
        write_json(&path.with_file_name("score.json"), &score)?;
        say_score(set, &score);
        Ok((asked, score))
    }

    /// The same for multiple choice.
    pub fn choose(&mut self, set: &str, choices: &[Choice], folder: &Path) -> Result<ChoiceScore> {
        let path: PathBuf = likelihoods(folder, set);
        let choosing = Choosing { student: &self.hash, set, choices, style: self.config.prompt };
        let mut bar = Bar::new(set);
        let chosen = eval::choose(&mut self.engine, &choosing, &path, |at| bar.at(at)).with_context(|| format!("cannot ask {set}"))?;
        bar.end(chosen.whole, chosen.likelihoods.len(), &path)?;
        self.say_too_long(set, chosen.too_long.len());
        let score = eval::score_choices(choices, &chosen.likelihoods);
        write_json(&path.with_file_name("score.json"), &score)?;
        let [letters, texts, by_length] = [&score.letters, &score.texts, &score.texts_by_length].map(|share| 100.0 * share.accuracy);
        let shares = format!("{letters:.1} % by letter, {texts:.1} % by text, {by_length:.1} % by text per character");
        say(&format!("     score {set}: of {} {shares}, guessing {:.1} %", score.n, 100.0 * score.chance));
        Ok(score)
    }

    /// Put what another student of the same run said to the sets under a name of its own.
    pub fn set_aside(&self, sets: &[(SetTable, Questions)], folder: &Path) -> Result<()> {
        for (SetTable { name, .. }, questions) in sets {
            let path = match questions {
                Questions::Numbers(_) => completions(folder, name),
                Questions::Choices(_) => likelihoods(folder, name),
            };
            if let Some(aside) = eval::set_aside(&path, &self.hash)? {
                say(&format!("{name:>10} asked anew: what another student said is now {}", aside.display()));
            }
        }
        Ok(())
    }

    fn say_too_long(&self, set: &str, count: usize) {
        if count > 0 {
            let context = self.engine.student().config().context;
            say(&format!("   warning {count} questions of {set} were not asked: their prompts fill the context of {context} tokens"));
        }
    }
}

/// The bar of one set, with the accuracy so far.
struct Bar<'a> {
    set: &'a str,
    started: Instant,
    bar: Option<Progress>,
}

impl Bar<'_> {
    fn new(set: &str) -> Bar<'_> {
        Bar { set, started: Instant::now(), bar: None }
    }

    /// Show how far it is; break when it is to stop.
    fn at(&mut self, at: &eval::Progress) -> ControlFlow<()> {
        let bar = self.bar.get_or_insert_with(|| Progress::start(self.set, at.wanted, at.done));
        let right = 100.0 * at.right as f64 / at.done.max(1) as f64;
        let tokens_per_s = at.tokens as f64 / self.started.elapsed().as_secs_f64();
        bar.at(at.done, at.wanted, &format!("{right:.1} % right, {tokens_per_s:.0} tokens/s"));
        if interrupt::flag().load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The set is over, or was stopped, which is an error here with everything saved.
    fn end(self, whole: bool, count: usize, path: &Path) -> Result<()> {
        if let Some(bar) = self.bar {
            bar.end();
        }
        if whole {
            return Ok(());
        }
        let path = path.display();
        Err(Interrupted(format!("stopped after {count} answers, which are in {path}; the same command asks the rest")).into())
    }
}

/// The processor's name, where the system tells it.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}
