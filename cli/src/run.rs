//! A run: its config, its folder, and where each stage's files lie. What is done already is seen from the files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use data::{EvalSet, Source};
use eval::{Questions, SetTable, report::write_text};
use model::{ChatTemplate, Tokenizer, hugging_face};
use serde::Serialize;
use task::Problem;
use trainer::DivergenceName;

use crate::{
    arguments::ConfigArguments,
    config::{self, RunConfig},
    progress::say,
    stages,
};

/// The names under which the programmatic teacher's held-out problems are scored.
const HELD_OUT: &str = "held_out";
const UNSEEN: &str = "unseen";
/// The name of the resolved config in a run's folder.
pub const CONFIG: &str = "config.toml";
/// The name of the file of times, which every run's folder has.
const SECONDS: &str = "stages.json";
/// The name of a file of likelihoods.
pub const LIKELIHOODS: &str = "likelihoods.jsonl";

/// A run whose config has been read and checked, or one of its stages.
#[derive(Clone)]
pub struct Run {
    /// The config's name, or the stage's.
    pub name: String,
    /// Where everything of the run lies.
    pub folder: PathBuf,
    /// With the programmatic teacher's files among the sources and the sets.
    pub config: RunConfig,
    /// The folder whose tokenizer and chat template are the run's.
    brings: Option<PathBuf>,
    dataset: PathBuf,
    stages: Vec<Run>,
}

impl Run {
    /// Read a config. Nothing is written yet.
    pub fn open(arguments: &ConfigArguments) -> Result<Run> {
        let path = &arguments.config;
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            bail!("{} has no name that a run could have", path.display());
        };
        let folder = arguments.overrides.run.clone().unwrap_or_else(|| Path::new("checkpoints").join(name));
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or(name).to_owned();
        let mut config: RunConfig = config::load(path, &arguments.overrides.set)?;
        leave_out_kept(&mut config, path);
        if let Some(synth) = &config.synth {
            let file = |name: &str| folder.join("traces").join(name).with_extension("jsonl");
            config.data.sources.insert(0, Source::new(file("train")));
            for (set, count) in [(UNSEEN, synth.unseen), (HELD_OUT, synth.held_out)] {
                if count > 0 {
                    config.eval.sets.insert(0, SetTable::new(set, file(set)));
                }
            }
        }
        for (key, from) in [("model.from", config.model.from()), ("train.teacher.from", config.train.teacher.from.as_deref())] {
            if let Some(stage) = stages::reference(from) {
                bail!("{}: {key} is stage:{stage}, but only a later [[stage]] can name one", path.display());
            }
        }
        let brings = brings_tokenizer(&config).map(|(_, from)| from.to_owned());
        if let Some((key, from)) = brings_tokenizer(&config) {
            let tokenizer = from.join("tokenizer.json");
            if config.data.vocab.is_some() || config.data.tokenizer.as_ref().is_some_and(|given| *given != tokenizer) {
                bail!("{}: data.tokenizer or data.vocab is given, but {key} brings a tokenizer; leave them out", path.display());
            }
            config.data.tokenizer = Some(tokenizer);
        }
        config::check(&config).with_context(|| path.display().to_string())?;
        let mut run = Run { name, dataset: folder.join("dataset"), folder, config, brings, stages: Vec::new() };
        run.stages = stages::stages(&run, path)?;
        if !run.has_stages() {
            let RunConfig { data, model, train, .. } = &run.config;
            let sizes = model.resolve(data.vocab.unwrap_or(1))?;
            config::check_training(train, &sizes, model.from(), |_| None).with_context(|| path.display().to_string())?;
        }
        Ok(run)
    }

    /// A stage of this run.
    pub fn stage(&self, name: &str, folder: PathBuf, dataset: PathBuf, config: RunConfig) -> Run {
        Run { name: name.to_owned(), folder, config, brings: self.brings.clone(), dataset, stages: Vec::new() }
    }

    /// Whether it has stages.
    pub fn has_stages(&self) -> bool {
        !self.stages.is_empty()
    }

    /// What is trained one after the other: the stages, or the run itself where it has none.
    pub fn parts(&self) -> &[Run] {
        if self.stages.is_empty() { std::slice::from_ref(self) } else { &self.stages }
    }

    /// The programmatic teacher's files.
    pub fn traces(&self) -> PathBuf {
        self.folder.join("traces")
    }

    /// The chat template that traces are written with: that of the folder that brings the tokenizer, or ChatML.
    pub fn chat(&self) -> Result<ChatTemplate> {
        let Some(from) = &self.brings else { return Ok(ChatTemplate::chatml()) };
        Ok(hugging_face::chat_template(from, &Tokenizer::open(&from.join("tokenizer.json"))?)?)
    }

    /// The token rows.
    pub fn dataset(&self) -> PathBuf {
        self.dataset.clone()
    }

    /// The token rows with a teacher's probabilities.
    pub fn annotated(&self) -> PathBuf {
        self.folder.join("dataset-annotated")
    }

    /// The packed student.
    pub fn student(&self) -> PathBuf {
        self.folder.join("student.gguf")
    }

    /// The facts of the run.
    pub fn report(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    /// Read the questions of every set that the run is scored on, and the examples that are shown with them. Lines that are no question
    /// are told.
    pub fn sets(&self) -> Result<Vec<(SetTable, Questions)>> {
        eval::check_examples(&self.config.eval).context("cannot use eval.examples")?;
        read_sets(&self.config.eval.sets)
    }

    /// The same as problems, multiple choice included: to look for them in the traces.
    pub fn problems(&self) -> Result<Vec<(SetTable, Vec<Problem>)>> {
        Ok(self.sets()?.into_iter().map(|(set, questions)| (set, questions.into_problems())).collect())
    }

    /// Do a stage and remember how long it took, over all processes that did a part of it.
    pub fn timed<T>(&self, stage: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let result = work();
        let mut seconds = self.seconds()?;
        *seconds.entry(stage.to_owned()).or_default() += started.elapsed().as_secs_f64();
        write_json(&self.stages(), &seconds)?;
        result
    }

    /// The seconds that each stage took.
    pub fn seconds(&self) -> Result<BTreeMap<String, f64>> {
        let path = self.stages();
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("cannot read {}; delete it, it holds only times", path.display()))
    }

    fn stages(&self) -> PathBuf {
        self.folder.join(SECONDS)
    }
}

/// Leave out of a config that a run keeps what its programmatic teacher wrote: for the run that is meant it writes anew.
fn leave_out_kept(config: &mut RunConfig, path: &Path) {
    if config.synth.is_none() || !path.with_file_name(SECONDS).exists() {
        return;
    }
    let is_kept = |file: &Path, name: &str| {
        let kept = path.with_file_name("traces").join(name).with_extension("jsonl");
        file == kept || file.canonicalize().is_ok_and(|file| kept.canonicalize().is_ok_and(|kept| file == kept))
    };
    config.data.sources.retain(|source| !is_kept(&source.path, "train"));
    config.eval.sets.retain(|set| !is_kept(&set.path, &set.name));
}

/// The folder whose tokenizer and chat template are the run's, and the key that names it: what the student starts from, or its teacher.
fn brings_tokenizer(config: &RunConfig) -> Option<(&'static str, &Path)> {
    // One that is compared by ranks may have another tokenizer than the student.
    let teacher = config.train.teacher.from.as_deref().filter(|_| config.train.teacher.divergence != DivergenceName::Uld);
    let teacher = teacher.map(|folder| ("train.teacher.from", folder));
    config.model.from().map(|folder| ("model.from", folder)).or(teacher)
}

/// What the student of a run's folder said to a set's problems.
pub fn completions(folder: &Path, set: &str) -> PathBuf {
    folder.join("eval").join(set).join("completions.jsonl")
}

/// How likely the student of a run's folder found the options of a set of multiple choice.
pub fn likelihoods(folder: &Path, set: &str) -> PathBuf {
    folder.join("eval").join(set).join(LIKELIHOODS)
}

/// The name of a set that is given as a file: the file's, as far as its first point, with _ for what a set's name cannot have.
pub fn set_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.split('.').next().filter(|name| !name.is_empty()).unwrap_or("set");
    name.replace(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')), "_")
}

/// Read one set. Lines that are no question are told; a set without questions is an error.
pub fn read_set(set: &SetTable) -> Result<Questions> {
    let (questions, bad) = set.read()?;
    const SHOWN: usize = 5;
    for line in bad.iter().take(SHOWN) {
        say(&format!("warning: {line}"));
    }
    if bad.len() > SHOWN {
        say(&format!("warning: {} more lines of {} are no question", bad.len() - SHOWN, set.path.display()));
    }
    Ok(questions)
}

/// Read several sets in the same way.
pub fn read_sets(sets: &[SetTable]) -> Result<Vec<(SetTable, Questions)>> {
    sets.iter().map(|set| Ok((set.clone(), read_set(set)?))).collect()
}

/// The sets as the ingest looks for them in the traces.
pub fn eval_sets(sets: &[(SetTable, Vec<Problem>)]) -> Vec<EvalSet<'_>> {
    sets.iter().map(|(set, problems)| EvalSet { name: &set.name, problems }).collect()
}

/// Write a value as indented JSON, to a temporary name, then renamed.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).with_context(|| format!("cannot write {} as JSON", path.display()))?;
    text.push('\n');
    Ok(write_text(path, &text)?)
}
