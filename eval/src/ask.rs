//! Asks a packed student every problem of a set. What it says is in `completions.jsonl` the moment it has ended, so that an evaluation
//! that is stopped goes on where it was and ends with the same bytes.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use model::Message;
use runtime::{Engine, Request, RequestId, Sampling, Student};
use sha2::{Digest, Sha256};
use task::{Completion, Fields, Finish, Problem, Prompt, PromptContent, Verdict};

use crate::error::file_error;
use crate::{Error, EvalConfig, Head, Journal, Settings};

/// What is asked of whom.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// [`student_hash`] of the packed file.
    pub student: &'a str,
    /// The set's name.
    pub set: &'a str,
    /// Its problems.
    pub problems: &'a [Problem],
    /// How they are asked.
    pub config: &'a EvalConfig,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Completions that are there, those of earlier runs included.
    pub done: u64,
    /// Completions that are wanted.
    pub wanted: u64,
    /// How many of those that are there are right.
    pub right: u64,
    /// Tokens that this run has written so far.
    pub tokens: u64,
}

/// What an evaluation gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// In the set's order if `whole`, else in the order in which they came in.
    pub completions: Vec<Completion>,
    /// Whether every problem was asked; false where the caller stopped it.
    pub whole: bool,
    /// Completions that an earlier run had left.
    pub resumed: u64,
    /// The ids of problems that were not asked, because their prompt fills the student's context.
    pub too_long: Vec<String>,
    /// Tokens that this run wrote.
    pub tokens: u64,
    /// Seconds that this run took.
    pub wall_s: f64,
}

impl EvalConfig {
    /// How an engine has to run for this evaluation.
    pub fn engine_options(&self) -> runtime::Options {
        let usual = runtime::Options::default();
        runtime::Options { threads: self.threads.unwrap_or(usual.threads), slots: self.slots, ..usual }
    }
}

/// SHA-256 of a packed file, in hex.
pub fn student_hash(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(file_error("read", path))?;
    let (mut hash, mut part) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let length = file.read(&mut part).map_err(file_error("read", path))?;
        if length == 0 {
            return Ok(format!("{:x}", hash.finalize()));
        }
        hash.update(&part[..length]);
    }
}

/// Ask every problem that `path` has no completion of yet.
///
/// `progress` is called after every batch; [`ControlFlow::Break`] stops the evaluation, and what has ended until then is kept.
///
/// # Panics
/// If the engine is not idle: events of other requests would be lost.
pub fn ask(
    engine: &mut Engine,
    asking: &Asking,
    path: &Path,
    mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Asked, Error> {
    assert!(engine.is_idle(), "other requests are on their way");
    let started = Instant::now();
    let Asking { student, set, problems, config } = *asking;
    let settings = config.settings();
    let prompts = prompts(config, problems)?;
    let parts = problems.iter().zip(&prompts).flat_map(|(problem, prompt)| parts(problem, prompt));
    let head = Head::new(engine.student().name(), student, set, parts, settings.clone());
    let ids = || problems.iter().map(|problem| problem.id.as_str());
    let mut journal: Journal<Completion> = Journal::open(path, head, ids())?;
    let resumed = journal.entries().len() as u64;

    let answers: HashMap<&str, &str> = problems.iter().map(|problem| (problem.id.as_str(), problem.answer.as_str())).collect();
    let is_right = |said: &Completion| task::mark(&said.text, answers[said.id.as_str()]) == Verdict::Right;
    let right = journal.entries().iter().filter(|said| is_right(said)).count() as u64;
    let mut at = Progress { done: resumed, wanted: problems.len() as u64 * u64::from(settings.samples), right, tokens: 0 };

    let there: HashSet<(String, u32)> = journal.entries().iter().map(|said| (said.id.clone(), said.sample)).collect();
    let all = problems.iter().zip(&prompts).flat_map(|pair| (0..settings.samples).map(move |sample| (pair, sample)));
    let mut left = all.filter(|((problem, _), sample)| !there.contains(&(problem.id.clone(), *sample)));
    let mut under_way: HashMap<RequestId, Completion> = HashMap::new();
    let mut too_long: Vec<String> = Vec::new();
    let mut whole = true;
    loop {
        // One set of requests runs, as many wait, so that no slot is ever empty.
        while under_way.len() < 2 * config.slots
            && let Some(((problem, prompt), sample)) = left.next()
        {
            let tokens = prompt_tokens(engine.student(), prompt).map_err(|source| Error::Prompt { id: problem.id.clone(), source })?;
            match engine.submit(request(tokens, prompt, &settings, problem, sample)) {
                Ok(id) => {
                    let completion = Completion { id: problem.id.clone(), sample, text: String::new(), finish: Finish::Stop, tokens: 0 };
                    under_way.insert(id, completion);
                }
                Err(runtime::Error::Context { .. }) => {
                    at.wanted -= 1;
                    if too_long.last() != Some(&problem.id) {
                        too_long.push(problem.id.clone());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        if progress(&at).is_break() {
            whole = under_way.is_empty();
            under_way.keys().for_each(|id| engine.cancel(*id));
            break;
        }
        if under_way.is_empty() {
            break;
        }
        for event in engine.step() {
            let said = under_way.get_mut(&event.request).expect("an event belongs to a request that is under way");
            said.text.push_str(&event.text);
            said.tokens += 1;
            at.tokens += 1;
            if let Some(finish) = event.finish {
                said.finish = match finish {
                    runtime::Finish::End | runtime::Finish::Stop(_) => Finish::Stop,
                    runtime::Finish::Length | runtime::Finish::Context => Finish::Length,
                };
                let said = under_way.remove(&event.request).expect("it was there a moment ago");
                at.done += 1;
                at.right += u64::from(is_right(&said));
                journal.add(&said)?;
            }
        }
    }
    let completions = if whole { journal.finish(ids())? } else { journal.stop() };
    Ok(Asked { completions, whole, resumed, too_long, tokens: at.tokens, wall_s: started.elapsed().as_secs_f64() })
}

/// Whether the examples that the prompts draw from can be read and are enough.
pub fn check_examples(config: &EvalConfig) -> Result<(), Error> {
    prompts(config, &[]).map(|_| ())
}

fn prompts(config: &EvalConfig, problems: &[Problem]) -> Result<Vec<Prompt>, Error> {
    let examples = match &config.examples {
        Some(path) if config.prompt.needs_examples() => task::read_set(path, &Fields::default())?.problems,
        _ => Vec::new(),
    };
    Ok(task::prompts(config.prompt, problems, &examples)?)
}

/// Everything of a prompt that decides what is said to it.
fn parts<'a>(problem: &'a Problem, prompt: &'a Prompt) -> impl Iterator<Item = &'a str> {
    let (kind, text) = match &prompt.content {
        PromptContent::Chat(text) => ("chat", text),
        PromptContent::Text(text) => ("text", text),
    };
    [problem.id.as_str(), kind, text].into_iter().chain(prompt.stop.iter().map(String::as_str))
}

fn prompt_tokens(student: &Student, prompt: &Prompt) -> Result<Vec<u32>, model::Error> {
    match &prompt.content {
        PromptContent::Chat(question) => {
            let text = student.chat().render(&[Message::user(question.as_str())], true)?;
            student.tokenizer().encode(&text)
        }
        PromptContent::Text(text) => student.tokenizer().encode(text),
    }
}

fn request(tokens: Vec<u32>, prompt: &Prompt, settings: &Settings, problem: &Problem, sample: u32) -> Request {
    let sampling = Sampling {
        temperature: settings.temperature,
        top_p: settings.top_p,
        seed: draw_seed(settings.seed, &problem.id, sample),
        ..Sampling::greedy()
    };
    Request { tokens, sampling, max_tokens: settings.max_tokens, stop: prompt.stop.clone(), log_probabilities: false }
}

/// A seed of its own for each completion, so that its text does not depend on which others are asked.
fn draw_seed(seed: u64, id: &str, sample: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(sample.to_le_bytes());
    hash.update(id);
    let bytes = hash.finalize();
    u64::from_le_bytes(bytes[..8].try_into().expect("a hash has 32 bytes"))
}
