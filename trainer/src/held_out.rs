//! Rows that are not trained on, and when a run stops by the loss on them.
//!
//! Which rows they are says a hash of their tokens: neither the seed nor the order of training decides, and equal rows are together.
//! The loss is the cross-entropy of the student as it would be shipped, computed by the training's own forward pass, whose linear
//! layers are the runtime's; it decides when to stop, and is no score.

use data::{Cursor, Dataset, PackedRow};
use model::ModelConfig;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Lesson,
    fingerprint::hash,
    student::{Batch, Student},
};

/// The table `[train.early_stop]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// Steps between two looks at the held-out rows. Default 100.
    #[serde(default = "every")]
    pub every: u64,
    /// Looks without a loss below the least one after which the run stops. Default 5.
    #[serde(default = "patience")]
    pub patience: u64,
    /// Rows of the dataset that are held out. Default 64.
    #[serde(default = "rows")]
    pub rows: usize,
}

fn every() -> u64 {
    100
}
fn patience() -> u64 {
    5
}
fn rows() -> usize {
    64
}

/// The line of `metrics.jsonl` for a look at the held-out rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutLoss {
    /// Steps taken.
    pub step: u64,
    /// Mean cross-entropy of the supervised targets, in nats.
    pub held_out_loss: f32,
}

/// The rows, ready to be run.
#[derive(Debug)]
pub(crate) struct HeldOut {
    /// A row is held out if its hash is at most this.
    largest: u64,
    batches: Vec<Batch>,
}

/// What the looks so far say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Watch {
    /// The first of the least losses.
    pub(crate) best: Option<HeldOutLoss>,
    /// Looks since then.
    pub(crate) since: u64,
    /// The step of the last look.
    pub(crate) step: u64,
}

impl EarlyStop {
    /// The first key with a value that no run can have, the value, and what is needed.
    pub(crate) fn fault(&self) -> Option<(&'static str, u64)> {
        let keys = [("early_stop.every", self.every), ("early_stop.patience", self.patience), ("early_stop.rows", self.rows as u64)];
        keys.into_iter().find(|(_, value)| *value == 0)
    }

    /// The same with everything that leaves the weights as they are set to one value.
    pub(crate) fn same_training(&self) -> EarlyStop {
        EarlyStop { every: every(), patience: patience(), rows: self.rows }
    }
}

impl HeldOut {
    /// Read the dataset once for its held-out rows. They go through the student `at_once` rows at a time.
    pub(crate) fn open(dataset: &Dataset, model: &ModelConfig, rows: usize, at_once: usize) -> Result<HeldOut, Error> {
        let all = dataset.manifest().rows;
        if rows as u64 > all / 2 {
            let needed = format!("but the dataset has {all} rows, and at most half of them can be held out");
            return Err(Error::Config { key: "early_stop.rows", found: rows.to_string(), needed });
        }
        let mut found: Vec<(u64, PackedRow)> = Vec::new();
        for row in dataset.rows(0, Cursor::default()).take(all as usize) {
            let row = row?;
            let at = hash(row.tokens.iter().copied());
            let place = found.partition_point(|(other, _)| *other <= at);
            if place < rows || found.last().is_some_and(|(other, _)| *other == at) {
                found.insert(place, (at, row));
                // Rows that are equal to the last one stay with it.
                let last = found[rows.min(found.len()) - 1].0;
                found.retain(|(other, _)| *other <= last);
            }
        }
        let largest = found.last().expect("at least one row is held out").0;
        let rows: Vec<PackedRow> = found.into_iter().map(|(_, row)| row).collect();
        let batches = rows.chunks(at_once).map(|rows| Batch::from_rows(rows, model, Lesson::NONE)).collect::<Result<Vec<_>, _>>()?;
        if batches.iter().all(|batch| batch.supervised().places.is_empty()) {
            return Err(Error::Rows("none of the held-out rows has a supervised token; raise train.early_stop.rows".into()));
        }
        Ok(HeldOut { largest, batches })
    }

    /// Whether a row is one of them.
    pub(crate) fn has(&self, row: &PackedRow) -> bool {
        hash(row.tokens.iter().copied()) <= self.largest
    }

    /// A student's mean cross-entropy on them, quantised in full.
    pub(crate) fn loss(&self, student: &Student) -> f32 {
        let mut student = student.clone();
        student.quantise_in_part(1.0);
        student.prepare();
        let losses = self.batches.iter().map(|batch| student.loss(batch));
        let (total, targets) =
            losses.fold((0.0, 0), |(total, targets), (loss, more)| (total + f64::from(loss.into_scalar::<f32>()), targets + more));
        (total / targets as f64) as f32
    }
}

impl Watch {
    pub(crate) fn add(&mut self, found: HeldOutLoss) {
        let is_better = found.held_out_loss.is_finite() && self.best.is_none_or(|best| found.held_out_loss < best.held_out_loss);
        if is_better {
            self.best = Some(found);
        }
        self.since = if is_better { 0 } else { self.since + 1 };
        self.step = found.step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_counts_looks_since_the_least_loss() {
        let mut watch = Watch::default();
        let found = [(10, 2.0, 0), (20, 1.5, 0), (30, 1.5, 1), (40, f32::NAN, 2), (50, 1.4, 0), (60, 1.6, 1)].map(|(step, loss, since)| {
            watch.add(HeldOutLoss { step, held_out_loss: loss });
            watch.since == since
        });
        assert_eq!((found, watch.best.unwrap().step, watch.step), ([true; 6], 50, 60));
    }
}
