//! The loop. A run that was stopped at any moment and is started again ends with the same bits as one that never was.

mod look;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use burn::tensor::Device;
use data::{Cursor, Dataset, PackedRow, RowStream};
use model::{ChatTemplate, ModelConfig, Tokenizer, block::Format, inventory};
use serde_json::Value;

use crate::{
    EarlyStop, Error, HeldOutLoss, Layers, Lesson, Totals, TrainTable,
    adapter::Frozen,
    average::Average,
    balance::Balance,
    checkpoint::{self, Checkpoint},
    device,
    error::file,
    export::export,
    held_out::{HeldOut, Watch},
    loss::head::Terms,
    memory,
    metrics::{self, Evaluated, Line, LossTerms, Metrics},
    optimizer::{AdamW, BETAS},
    run_folder::{self, RunFolder},
    state::{self, TrainingState},
    student::{Batch, Student},
    teacher::Teacher,
    telemetry::{Snapshot, gradient_norms},
    workers::{Sum, Workers},
};

/// The packed student of an evaluation in mid-run.
const GLANCE: &str = "student-in-training.gguf";

/// What is to be trained.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The `[train]` table.
    pub config: &'a TrainTable,
    /// The student's sizes.
    pub model: &'a ModelConfig,
    /// The Hugging Face folder whose weights it starts from; new ones without it.
    pub from: Option<&'a Path>,
    /// What it is trained on. Its tokenizer and chat template become the student's.
    pub dataset: &'a Dataset,
    /// The run's folder: checkpoints and metrics.
    pub run: &'a Path,
}

/// What a training asks of its caller, which alone knows what a question is.
pub struct Hooks<'a> {
    /// Set when the training is to save and stop.
    pub should_stop: &'a AtomicBool,
    /// Told after each step.
    pub report: &'a mut dyn FnMut(&Progress),
    /// Scores the packed student in a file, every `train.evaluate_every` steps; `None` where it was told to stop.
    pub evaluate: &'a mut Evaluate<'a>,
}

/// Scores a packed student.
pub type Evaluate<'a> = dyn FnMut(&Path) -> Result<Option<Evaluation>, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// What an evaluation in mid-run found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The score of each set, an object that becomes part of the metrics.
    pub eval: Value,
    /// The number by which checkpoints are compared; the largest is the best.
    pub score: f64,
}

/// How far a training is, after each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Mean loss of this step's supervised targets, in nats.
    pub loss: f64,
    /// This step's learning rate.
    pub rate: f64,
    /// Norm of this step's gradients before clipping.
    pub gradient_norm: f32,
    /// How many times larger one term's gradient is than the other's, where it drowns it: the divergence's if above 1.
    pub drowned: Option<f64>,
    /// Tokens per second of this step.
    pub tokens_per_s: f64,
}

/// What a training left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The last checkpoint; of a finished run with `train.early_stop`, that of the least held-out loss.
    pub checkpoint: PathBuf,
    /// Steps taken.
    pub step: u64,
    /// The checkpoint with the best evaluation in mid-run, where there were any.
    pub best: Option<PathBuf>,
    /// The least loss on held-out rows, where there are any.
    pub held_out: Option<HeldOutLoss>,
    /// False where it was asked to stop before its last step and no early stop came first; the same call goes on.
    pub is_finished: bool,
    /// What the run has cost so far, over all processes that trained it.
    pub totals: Totals,
}

/// A run between two steps.
struct Run<'a> {
    job: &'a Job<'a>,
    folder: RunFolder,
    tokenizer: Tokenizer,
    chat: ChatTemplate,
    /// Everything that the weights depend on.
    identity: Value,
    student: Student,
    optimizer: AdamW,
    /// Goes along with the training.
    teacher: Option<Teacher>,
    balance: Balance,
    workers: Workers,
    rows: RowStream,
    step: u64,
    /// The first row of the next step.
    cursor: Cursor,
    /// The last whole checkpoint.
    last: Option<(u64, PathBuf)>,
    metrics: Metrics,
    /// The first of the best evaluations so far: its step and score.
    best: Option<(u64, f64)>,
    /// The step of the last evaluation.
    evaluated: u64,
    average: Option<Average>,
    held_out: Option<HeldOut>,
    watch: Watch,
    totals: Totals,
    started: Instant,
    /// The seconds that earlier processes took.
    earlier_s: f64,
}

/// Train until the last step or until told to stop, and save. Goes on from the last checkpoint of the run's folder if there is one.
pub fn train(job: &Job, hooks: &mut Hooks) -> Result<Trained, Error> {
    check(job)?;
    let (config, side_by_side) = &memory::resolve(job.config, job.model, rayon::current_num_threads())?;
    let job = &Job { config, ..*job };
    let mut run = Run::open(job, *side_by_side)?;
    run.evaluate_if_due(hooks)?; // a process may have ended between a checkpoint and its evaluation
    let mut logged = (Instant::now(), run.totals.tokens);

    run.look_if_due()?;
    while !run.is_finished() && !hooks.should_stop.load(Ordering::Relaxed) {
        let (rate, weight_decay) = (config.rate_at(run.step), config.weight_decay_at(run.step));
        let (step_started, tokens_before) = (Instant::now(), run.totals.tokens);

        let lesson = Lesson { share: run.balance.share(&config.teacher), ..config.teacher.lesson() };
        let step_rows = run.next_rows()?;
        let microbatches = step_rows.chunks(config.microbatch_rows());
        let batches: Vec<_> = microbatches.map(|rows| Batch::from_rows(rows, job.model, lesson)).collect::<Result<_, _>>()?;
        run.student.quantise_in_part(config.quantised_share_at(run.step));
        let Sum { terms, gradients } = run.workers.run(&run.student, run.teacher.as_ref(), &batches);

        let supervised = gradients.tokens();
        if supervised == 0 {
            return Err(Error::Rows(format!("the {} rows of step {} have no supervised token", config.rows, run.step + 1)));
        }
        let loss = terms.loss / supervised as f64;
        if !loss.is_finite() {
            return Err(run.stop_at("the loss", loss));
        }
        let is_logged = (run.step + 1).is_multiple_of(config.log_every) || run.step + 1 == config.steps;
        let before = is_logged.then(|| (Snapshot::of(&run.student), gradient_norms(&run.student, &gradients)));
        let stats = run.optimizer.step(&mut run.student, gradients, rate, weight_decay, config.clip);
        if !stats.gradient_norm.is_finite() {
            return Err(run.stop_at("the norm of the gradients", f64::from(stats.gradient_norm)));
        }
        run.step += 1;
        if let Some(average) = &mut run.average {
            average.add(&run.student, run.step);
        }
        run.balance.see(&terms);
        run.cursor = run.rows.cursor();
        run.totals.tokens += step_rows.iter().map(|row| row.tokens.len() as u64).sum::<u64>();
        run.totals.supervised_tokens += supervised as u64;

        let speed = |since: Instant, before: u64| (run.totals.tokens - before) as f64 / since.elapsed().as_secs_f64();
        let (step, steps, gradient_norm) = (run.step, config.steps, stats.gradient_norm);
        let drowned = run.balance.drowned(lesson.share).filter(|_| terms.taught > 0.0);
        let tokens_per_s = speed(step_started, tokens_before);
        (hooks.report)(&Progress { step, steps, loss, rate, gradient_norm, drowned, tokens_per_s });
        if let Some((before, gradient)) = before {
            let layers = Layers { gradient, ..before.until(&run.student) };
            let (tokens, tokens_per_s) = (run.totals.tokens, speed(logged.0, logged.1));
            let terms = run.terms(&terms, supervised, lesson.share);
            run.metrics.write(&Line { step, loss, rate, weight_decay, gradient_norm, tokens, tokens_per_s, terms, layers })?;
            logged = (Instant::now(), tokens);
        }
        if step.is_multiple_of(config.save_every) || run.is_evaluation_due() {
            run.save()?;
            run.evaluate_if_due(hooks)?;
            run.prune()?;
            logged.0 = Instant::now();
        }
        if run.is_look_due() {
            run.look_if_due()?;
            run.prune()?;
            logged.0 = Instant::now();
        }
    }

    run.save()?;
    run.prune()?;
    let path_of = |step: u64| run_folder::checkpoint(job.run, step);
    let (best, held_out, is_finished) = (run.best.map(|(step, _)| path_of(step)), run.watch.best, run.is_finished());
    let (step, last) = run.last.expect("it was just saved");
    let checkpoint = if is_finished { held_out.map_or(last, |best| path_of(best.step)) } else { last };
    Ok(Trained { checkpoint, step, best, held_out, is_finished, totals: run.totals })
}

impl<'a> Run<'a> {
    /// Start a run, or go on from its last checkpoint. So many microbatches may be computed side by side.
    fn open(job: &'a Job<'a>, side_by_side: usize) -> Result<Run<'a>, Error> {
        let (tokenizer, chat) = (job.dataset.tokenizer()?, job.dataset.chat()?);
        let device = device::of(job.config)?;
        // An adapter's run reads the weights that it started from to its end.
        let adapted = job.config.adapter.as_ref().map(|_| first_student(job, &device)).transpose()?;
        let frozen = adapted.as_ref().and_then(Student::frozen_weights);
        let identity = state::identity(job.config, job.model, job.from, frozen, job.dataset.manifest())?;
        let folder = RunFolder::open(job.run)?;
        let last = run_folder::latest(job.run)?;
        let (mut student, average, optimizer, state) = match &last {
            None => {
                let student = adapted.map_or_else(|| first_student(job, &device), Ok)?;
                let optimizer = AdamW::new(&student, BETAS);
                let start = |decay| Average::new(decay, student.tensors().into_iter().map(|(_, values)| values).collect());
                let average = job.config.ema.map(start);
                (student, average, optimizer, TrainingState::new(0, 0, Cursor::default(), Totals::default(), identity.clone()))
            }
            Some((_, path)) => {
                let checkpoint = Checkpoint::open(path)?;
                let state = checkpoint.state()?;
                state.check_identity(&identity, path)?;
                let (student, average) = resumed(job, &checkpoint, adapted, &device)?;
                let optimizer = checkpoint.optimizer(&student, state.optimizer_steps)?;
                (student, average, optimizer, state)
            }
        };
        student.recompute(job.config.gradient_checkpointing);
        student.store_as(job.config.storage);
        let rows_of = |early: &EarlyStop| HeldOut::open(job.dataset, job.model, job.config, early.rows);
        let held_out = job.config.early_stop.as_ref().map(rows_of).transpose()?;
        let teacher = teacher(job, &tokenizer, &device)?;
        let metrics = Metrics::open(job.run, state.step)?;
        let (mut best, mut evaluated) = (None, 0);
        for Evaluated { step, score, .. } in metrics::lines(job.run)? {
            (best, evaluated) = (better(best, step, score), step);
        }
        let microbatches = job.config.rows.div_ceil(job.config.microbatch_rows());
        let workers = Workers::new(student.path(), microbatches.min(side_by_side))?;
        let mut watch = Watch::default();
        metrics::lines(job.run)?.into_iter().for_each(|line| watch.add(line));
        Ok(Run {
            job,
            folder,
            tokenizer,
            chat,
            identity,
            student,
            optimizer,
            teacher,
            balance: state.balance,
            workers,
            rows: job.dataset.rows(job.config.seed, state.cursor),
            step: state.step,
            cursor: state.cursor,
            last,
            metrics,
            best,
            evaluated,
            average,
            held_out,
            watch,
            totals: state.totals,
            started: Instant::now(),
            earlier_s: state.totals.wall_s,
        })
    }

    /// The rows of the next step.
    fn next_rows(&mut self) -> Result<Vec<PackedRow>, Error> {
        let held_out = self.held_out.as_ref();
        let trained = |row: Result<PackedRow, data::Error>| match (row, held_out) {
            (Ok(row), Some(held_out)) => held_out.without(row).map(Ok),
            (row, _) => Some(row),
        };
        Ok(self.rows.by_ref().filter_map(trained).take(self.job.config.rows).collect::<Result<_, _>>()?)
    }

    /// Whether this step's student is to be evaluated and has not been.
    fn is_evaluation_due(&self) -> bool {
        self.step > self.evaluated && self.job.config.evaluate_every.is_some_and(|every| self.step.is_multiple_of(every))
    }

    /// Pack the checkpoint that was just saved, have it scored, and write the score down.
    fn evaluate_if_due(&mut self, hooks: &mut Hooks) -> Result<(), Error> {
        if !self.is_evaluation_due() {
            return Ok(());
        }
        let (step, checkpoint) = self.last.clone().expect("a step to be evaluated is saved");
        let packed = self.job.run.join(GLANCE);
        export(&Checkpoint::open(&checkpoint)?, &packed, "student", Format::Tq2_0)?;
        let found = (hooks.evaluate)(&packed);
        fs::remove_file(&packed).map_err(file("remove", &packed))?;
        if let Some(Evaluation { eval, score }) = found.map_err(|source| Error::Evaluation { step, checkpoint, source })? {
            self.metrics.write(&Evaluated { step, eval, score })?;
            (self.best, self.evaluated) = (better(self.best, step, score), step);
        }
        Ok(())
    }

    /// What the metrics say of a step's terms.
    fn terms(&self, terms: &Terms, supervised: usize, share: f32) -> LossTerms {
        let taught = Some(terms.taught / supervised as f64);
        if terms.taught == 0.0 {
            return LossTerms { taught: taught.filter(|_| self.teacher.is_some()), ..LossTerms::default() };
        }
        LossTerms {
            taught,
            cross_entropy: Some(terms.cross_entropy / supervised as f64),
            divergence: Some(terms.divergence / terms.taught),
            states: self.job.config.teacher.has_states().then(|| terms.states / supervised as f64),
            share: Some(f64::from(share)),
            ratio: self.balance.weighed(share),
        }
    }

    fn prune(&self) -> Result<(), Error> {
        let best = self.best.map(|(step, _)| step).into_iter().chain(self.watch.best.map(|best| best.step));
        self.folder.prune(self.job.config.keep_last, &best.collect::<Vec<_>>())
    }

    /// Write a checkpoint, unless this step has one already.
    fn save(&mut self) -> Result<(), Error> {
        if self.last.as_ref().is_some_and(|(step, _)| *step == self.step) {
            return Ok(());
        }
        // A step with a finite gradient can still end outside of f32; such weights must not push out a good checkpoint.
        for spec in inventory(self.job.model) {
            if let Some(weight) = self.student.tensor(&spec).iter().find(|weight| !weight.is_finite()) {
                return Err(self.not_a_number(&format!("a weight of {}", spec.name), f64::from(*weight)));
            }
        }
        self.totals.wall_s = self.earlier_s + self.started.elapsed().as_secs_f64();
        let mut state = TrainingState::new(self.step, self.optimizer.steps(), self.cursor, self.totals, self.identity.clone());
        state.balance = self.balance;
        let average = self.average.as_ref().map(Average::values);
        self.metrics.sync()?;
        let parts = checkpoint::Parts { tokenizer: &self.tokenizer, chat: &self.chat, state: &state, average };
        let saved = self.folder.add(self.step, |folder| checkpoint::write(folder, &self.student, &self.optimizer, &parts));
        match saved {
            Ok(path) => self.last = Some((self.step, path)),
            Err(source) => return Err(Error::Save { step: self.step, last: self.last_path(), source: Box::new(source) }),
        }
        Ok(())
    }

    /// Save what the steps before a bad one have reached, and say why there is no further one.
    fn stop_at(&mut self, what: &str, value: f64) -> Error {
        let saved = if self.step > 0 { self.save() } else { Ok(()) };
        saved.err().unwrap_or_else(|| self.not_a_number(what, value))
    }

    fn not_a_number(&self, what: &str, value: f64) -> Error {
        let (step, rate) = (self.step + 1, self.job.config.rate);
        Error::NotANumber { step, what: what.to_owned(), value, rate, last: self.last_path() }
    }

    fn last_path(&self) -> Option<PathBuf> {
        self.last.as_ref().map(|(_, path)| path.clone())
    }
}

/// The student before its first step.
pub(crate) fn first_student(job: &Job, device: &Device) -> Result<Student, Error> {
    let seed = job.config.seed;
    match (job.from, &job.config.adapter) {
        (None, _) => Ok(Student::new(job.model, seed, device)),
        (Some(folder), None) => Student::from_folder(folder, job.model, &job.dataset.tokenizer()?, device, || {
            let rows = job.dataset.rows(seed, Cursor::default()).take(job.config.rows).collect::<Result<Vec<_>, _>>()?;
            Batch::from_rows(&rows, job.model, Lesson { share: 0.0, ..job.config.teacher.lesson() })
        }),
        (Some(folder), Some(table)) => {
            let frozen = Frozen::open(folder, job.model, &job.dataset.tokenizer()?)?;
            Ok(Student::adapted(job.model, frozen, table, seed, device))
        }
    }
}

/// The student of a checkpoint, and the average where there is one; an adapter's is the first student with what it has learned.
fn resumed(job: &Job, checkpoint: &Checkpoint, adapted: Option<Student>, device: &Device) -> Result<(Student, Option<Average>), Error> {
    if let Some(student) = adapted {
        let trained = checkpoint.trained(student.specs())?;
        return Ok((student.with_trained(trained), None));
    }
    let specs = inventory(job.model);
    let (mut weights, mut average) = (specs.iter().map(|spec| checkpoint.weights(spec)).collect::<Vec<_>>(), None);
    if let Some(decay) = job.config.ema {
        average = Some(Average::new(decay, std::mem::replace(&mut weights, checkpoint.trained(&specs)?)));
    }
    let mut weights = weights.into_iter();
    let student = Student::from_tensors(job.model, |_| Ok::<_, Error>(weights.next().expect("as many as tensors")), device)?;
    Ok((student, average))
}

/// The better one of an evaluation and a later one.
fn better(best: Option<(u64, f64)>, step: u64, score: f64) -> Option<(u64, f64)> {
    best.filter(|(_, best)| *best >= score).or(Some((step, score)))
}

/// The teacher that goes along with a training, where one does.
pub(crate) fn teacher(job: &Job, tokenizer: &Tokenizer, device: &Device) -> Result<Option<Teacher>, Error> {
    let table = &job.config.teacher;
    let open = |folder: &PathBuf| Teacher::open(folder, table.divergence, job.model, tokenizer, device)?.with_states(table, job.model);
    table.beside().map(open).transpose()
}

/// Whether student and dataset belong together.
pub(crate) fn check(job: &Job) -> Result<(), Error> {
    job.config.check()?;
    job.config.check_for(job.model, job.from)?;
    let (model, manifest) = (job.model, job.dataset.manifest());
    let refuse = |found: String| Err(Error::Rows(found));
    if model.vocab < manifest.vocab {
        return refuse(format!("its tokenizer has {} tokens, the student {}", manifest.vocab, model.vocab));
    }
    if model.context < manifest.context {
        return refuse(format!("its rows have up to {} tokens, model.context is {}; ingest again", manifest.context, model.context));
    }
    if manifest.supervised_tokens == 0 {
        return refuse(format!("none of its {} tokens is supervised", manifest.tokens));
    }
    Ok(())
}
