//! The `[train]` table: everything about a run that is neither the student's sizes nor the data.
//!
//! What a checkpoint may disagree on is decided here too: see [`TrainTable::same_training`].

mod teacher;

use std::path::Path;

use model::{ModelConfig, Quant};
use serde::{Deserialize, Serialize};

pub use teacher::{DivergenceName, HiddenTable, RelationTable, TeacherTable};

use crate::{AdapterTable, EarlyStop, Error, device::Storage};

/// The `[train]` table of a run's config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainTable {
    /// Optimizer steps in the whole run.
    pub steps: u64,
    /// Rows per step.
    pub rows: usize,
    /// Rows per forward pass. A step's passes run side by side as far as there are threads, and their gradients are added up in
    /// order. Default: a quarter of `rows`; fewer save memory.
    #[serde(default)]
    pub microbatch_rows: Option<usize>,
    /// Memory that the run may take, in GiB: `microbatch_rows` is then the largest, at most its default, that should fit, on any machine
    /// the same.
    /// Default: no limit.
    #[serde(default)]
    pub memory_gib: Option<f64>,
    /// Gradient checkpointing: the backward pass computes blocks again instead of keeping what they computed, which takes less memory
    /// and more time. On the CPU the bits are the same. Default: no.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gradient_checkpointing: bool,
    /// The peak learning rate.
    pub rate: f64,
    /// How the learning rate goes after the warm-up. Default: `two_stage`.
    #[serde(default = "two_stage")]
    pub schedule: Schedule,
    /// The second stage's peak, for `two_stage`. Default: two thirds of `rate`, as 1.5e-3 and 1e-3 in BitNet b1.58's
    /// training tips.
    #[serde(default)]
    pub second_rate: Option<f64>,
    /// Steps in which the rate rises from 0. Default: a twentieth of `steps`, at most 375 (BitNet b1.58's training tips).
    #[serde(default)]
    pub warm_up_steps: Option<u64>,
    /// Steps in which the quantisation comes in, in a line from none to all: see [`crate::schedule`]. It helps students that start
    /// from weights in full precision. Default: none, everything is quantised from the first step on.
    #[serde(default)]
    pub quant_warm_up_steps: Option<u64>,
    /// Decoupled weight decay of the matrices. Default 0.1 (BitNet b1.58's training tips); `two_stage` turns it off at half.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Train a low-rank change of the weights that the student starts from, and nothing else. Default: every weight is trained.
    #[serde(default)]
    pub adapter: Option<AdapterTable>,
    /// What is learned of a teacher besides its text.
    #[serde(default)]
    pub teacher: TeacherTable,
    /// The largest norm of all gradients together; larger ones are scaled down. Default 1.
    #[serde(default = "clip")]
    pub clip: f64,
    /// Decides the first weights and the order of the rows. Default 1.
    #[serde(default = "seed")]
    pub seed: u64,
    /// How slowly the moving average of the weights follows them, between 0 and 1, e.g. 0.999. With it checkpoints, evaluations and
    /// the packed student are the average. Default: none, they are the weights.
    #[serde(default)]
    pub ema: Option<f64>,
    /// Stop when the loss on held-out rows of the dataset no longer falls; the checkpoint of the least one is kept and packed.
    /// `early_stop = {}` takes every default. Default: off, and every row is trained on.
    #[serde(default)]
    pub early_stop: Option<EarlyStop>,
    /// Where to train. Default: `cpu`.
    #[serde(default = "cpu")]
    pub device: DeviceName,
    /// What a device other than the CPU multiplies with and keeps for the backward pass: `f32`, `f16` or `bf16`. What is trained stays
    /// f32, so that a run may go on with another. Default: `f32`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage: Storage,
    /// Steps between checkpoints. Default 200.
    #[serde(default = "save_every")]
    pub save_every: u64,
    /// How many checkpoints to keep. Default 2.
    #[serde(default = "keep_last")]
    pub keep_last: usize,
    /// Steps between evaluations of the packed student in mid-run; the best checkpoint is kept. Default: none in mid-run.
    #[serde(default)]
    pub evaluate_every: Option<u64>,
    /// Steps between lines of `metrics.jsonl`. Default 10.
    #[serde(default = "log_every")]
    pub log_every: u64,
}

/// How the learning rate and the weight decay go after the warm-up; [`crate::schedule`] has the formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// A line to 0, and from half of the steps on a line with a lower peak and no weight decay.
    TwoStage,
    /// Half a cosine to a tenth of the peak.
    Cosine,
    /// Warm-up, stable, decay: a line to 0 in the last fifth.
    Wsd,
    /// A line to a twentieth of the peak.
    Linear,
}

/// A place to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceName {
    /// The processor, with burn-flex and our own fused operations.
    Cpu,
    /// The first graphics card that wgpu finds.
    Wgpu,
    /// The processor, with burn-ndarray.
    Ndarray,
    /// The first CUDA card.
    Cuda,
}

impl DeviceName {
    /// The cargo feature that brings it.
    pub(crate) fn feature(self) -> &'static str {
        match self {
            DeviceName::Cpu => "default",
            DeviceName::Wgpu => "wgpu",
            DeviceName::Ndarray => "ndarray",
            DeviceName::Cuda => "cuda",
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
fn two_stage() -> Schedule {
    Schedule::TwoStage
}
fn weight_decay() -> f64 {
    0.1
}
fn clip() -> f64 {
    1.0
}
fn seed() -> u64 {
    1
}
fn cpu() -> DeviceName {
    DeviceName::Cpu
}
fn save_every() -> u64 {
    200
}
fn keep_last() -> usize {
    2
}
fn log_every() -> u64 {
    10
}

/// Step numbers have eight digits in folder names, and steps are divided as f64.
const MAX_STEPS: u64 = 99_999_999;
/// No step has more rows.
const MAX_ROWS: usize = 1 << 20;

impl TrainTable {
    /// The first setting that no run can have.
    pub fn check(&self) -> Result<(), Error> {
        let steps = self.steps;
        require((1..=MAX_STEPS).contains(&steps), "steps", steps, format!("which is not between 1 and {MAX_STEPS}"))?;
        require((1..=MAX_ROWS).contains(&self.rows), "rows", self.rows, format!("which is not between 1 and {MAX_ROWS}"))?;
        let microbatch_rows = self.microbatch_rows();
        require(
            (1..=self.rows).contains(&microbatch_rows),
            "microbatch_rows",
            microbatch_rows,
            format!("which is not between 1 and train.rows = {}", self.rows),
        )?;
        for (key, rate) in [("rate", self.rate), ("second_rate", self.second_rate())] {
            let fits = (rate as f32).is_finite() && rate as f32 > 0.0;
            require(fits, key, format_args!("{rate:e}"), "which is not a positive number of 32 bits".into())?;
        }
        if let (Some(second_rate), false) = (self.second_rate, self.schedule == Schedule::TwoStage) {
            require(false, "second_rate", second_rate, "which only the schedule two_stage has".into())?;
        }
        let warm_up_steps = self.warm_up_steps();
        require(warm_up_steps < steps, "warm_up_steps", warm_up_steps, format!("which is not below train.steps = {steps}"))?;
        if let Some(quant_steps) = self.quant_warm_up_steps {
            let needed = format!("which is not below train.steps = {steps}; the student that is shipped is quantised in full");
            require(quant_steps < steps, "quant_warm_up_steps", quant_steps, needed)?;
        }
        let weight_decay = self.weight_decay;
        require((0.0..=10.0).contains(&weight_decay), "weight_decay", weight_decay, "which is not between 0 and 10".into())?;
        self.teacher.check()?;
        if let Some(gib) = self.memory_gib {
            require(gib > 0.0 && gib.is_finite(), "memory_gib", gib, "which is not a positive number; leave it out for no limit".into())?;
            let needed = "but train.microbatch_rows is given too, which it finds; leave one of them out".into();
            require(self.microbatch_rows.is_none(), "memory_gib", gib, needed)?;
        }
        if let Some(ema) = self.ema {
            require(ema > 0.0 && ema < 1.0, "ema", ema, "which is not between 0 and 1; leave it out for none".into())?;
            let needed = "but train.adapter is given too, and the average of merged weights is that of no adapter; leave one of them out";
            require(self.adapter.is_none(), "ema", ema, needed.into())?;
        }
        if let Some(balance) = self.teacher.balance {
            let needed = "but the gradients that it balances are only known on the cpu; leave it out or set train.device = \"cpu\"";
            require(self.device == DeviceName::Cpu, "teacher.balance", balance, needed.into())?;
        }
        let needed = "but on the cpu everything is f32; leave it out";
        require(self.storage == Storage::F32 || self.device != DeviceName::Cpu, "storage", self.storage.name(), needed.into())?;
        if let Some((key, value)) = self.early_stop.as_ref().and_then(EarlyStop::fault) {
            require(false, key, value, "which is not at least 1".into())?;
        }
        require(self.clip.is_finite() && self.clip > 0.0, "clip", self.clip, "which is not a positive number".into())?;
        require(self.save_every >= 1, "save_every", self.save_every, "which is not at least 1".into())?;
        require(self.keep_last >= 1, "keep_last", self.keep_last, "which is not at least 1".into())?;
        require(self.evaluate_every != Some(0), "evaluate_every", 0, "which is not at least 1; leave it out for none".into())?;
        require(self.log_every >= 1, "log_every", self.log_every, "which is not at least 1".into())
    }

    /// The first setting that no run can have of such a student, which starts from the weights of a folder or from new ones.
    pub fn check_for(&self, model: &ModelConfig, from: Option<&Path>) -> Result<(), Error> {
        let steps = self.quant_warm_up_steps.unwrap_or(0);
        let needed = "but model.quant is none: there is no quantisation to come in; leave it out".into();
        require(steps == 0 || model.quant != Quant::None, "quant_warm_up_steps", steps, needed)?;
        self.adapter.as_ref().map_or(Ok(()), |adapter| adapter.check(from, model))
    }

    /// Rows per forward pass.
    pub fn microbatch_rows(&self) -> usize {
        self.microbatch_rows.unwrap_or(self.rows.div_ceil(4))
    }

    /// The second stage's peak.
    pub fn second_rate(&self) -> f64 {
        self.second_rate.unwrap_or(self.rate * 2.0 / 3.0)
    }

    /// Steps in which the rate rises.
    pub fn warm_up_steps(&self) -> u64 {
        self.warm_up_steps.unwrap_or((self.steps / 20).min(375))
    }

    /// This table with every setting that leaves the weights as they are set to one value and every default spelled out: two
    /// runs train the same weights if and only if these are equal. A run may go on with other saving, logging, device or storage.
    pub fn same_training(&self) -> TrainTable {
        TrainTable {
            microbatch_rows: Some(self.microbatch_rows()),
            gradient_checkpointing: false,
            second_rate: (self.schedule == Schedule::TwoStage).then(|| self.second_rate()),
            warm_up_steps: Some(self.warm_up_steps()),
            quant_warm_up_steps: self.quant_warm_up_steps.filter(|steps| *steps > 0),
            early_stop: self.early_stop.as_ref().map(EarlyStop::same_training),
            device: DeviceName::Cpu,
            storage: Storage::F32,
            save_every: save_every(),
            keep_last: keep_last(),
            evaluate_every: None,
            log_every: log_every(),
            ..self.clone()
        }
    }
}

fn require(holds: bool, key: &'static str, found: impl ToString, needed: String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Config { key, found: found.to_string(), needed }) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn table(schedule: Schedule) -> TrainTable {
        let table = serde_json::json!({ "steps": 1000, "rows": 8, "rate": 1.5e-3, "warm_up_steps": 100 });
        TrainTable { schedule, ..serde_json::from_value(table).unwrap() }
    }

    #[test]
    fn a_short_table_has_the_published_defaults() {
        let table: TrainTable = serde_json::from_str(r#"{ "steps": 40000, "rows": 8, "rate": 1.5e-3 }"#).unwrap();
        table.check().unwrap();
        assert_eq!((table.warm_up_steps(), table.weight_decay, table.schedule), (375, 0.1, Schedule::TwoStage));
        assert!((table.second_rate() - 1e-3).abs() < 1e-15);
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = serde_json::from_str::<TrainTable>(r#"{ "steps": 1, "rows": 1, "rate": 1.0, "batch": 2 }"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `batch`"), "{error}");
    }

    #[test]
    fn each_limit_names_its_key() {
        type Spoil = fn(&mut TrainTable);
        let cases: [(&str, Spoil); 21] = [
            ("train.steps is 0", |t| t.steps = 0),
            ("train.steps is 100000000", |t| t.steps = 100_000_000),
            ("train.rows is 0", |t| t.rows = 0),
            ("train.microbatch_rows is 9, which is not between 1 and train.rows = 8", |t| t.microbatch_rows = Some(9)),
            ("train.rate is NaN", |t| t.rate = f64::NAN),
            ("train.second_rate is -1", |t| t.second_rate = Some(-1.0)),
            ("train.second_rate is 0.1, which only", |t| (t.schedule, t.second_rate) = (Schedule::Linear, Some(0.1))),
            ("train.warm_up_steps is 1000", |t| t.warm_up_steps = Some(1000)),
            ("train.quant_warm_up_steps is 1000, which is not below", |t| t.quant_warm_up_steps = Some(1000)),
            ("train.weight_decay is -0.1", |t| t.weight_decay = -0.1),
            ("train.clip is 0", |t| t.clip = 0.0),
            ("train.memory_gib is 0, which is not a positive number", |t| t.memory_gib = Some(0.0)),
            ("train.memory_gib is 2, but train.microbatch_rows", |t| (t.memory_gib, t.microbatch_rows) = (Some(2.0), Some(1))),
            ("train.ema is 1, which is not between 0 and 1", |t| t.ema = Some(1.0)),
            ("train.early_stop.rows is 0", |t| t.early_stop = Some(EarlyStop { every: 1, patience: 1, rows: 0 })),
            ("train.storage is bf16, but on the cpu", |t| t.storage = Storage::Bf16),
            ("train.keep_last is 0", |t| t.keep_last = 0),
            ("train.teacher.share is 1.5", |t| t.teacher.share = 1.5),
            ("train.teacher.top_k is 8, but there is no teacher", |t| t.teacher.top_k = Some(8)),
            ("train.teacher.divergence is uld, but that ranks all", |t| t.teacher.divergence = DivergenceName::Uld),
            ("train.teacher.divergence is uld, but that ranks all", |t| {
                t.teacher = TeacherTable { from: Some("x".into()), top_k: Some(8), divergence: DivergenceName::Uld, ..t.teacher.clone() };
            }),
        ];
        for (expected, spoil) in cases {
            let mut table = table(Schedule::TwoStage);
            spoil(&mut table);
            let message = table.check().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
