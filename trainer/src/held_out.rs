//! Rows that are not trained on, and when a run stops by the loss on them.
//!
//! Which rows they are says a hash of their tokens: neither the seed nor the order of training decides, and equal rows are together.
//! Nor are their questions learned in other rows, where a source's weight or several answers to a question have put them too.
//! The loss is the cross-entropy of the student as it would be shipped, computed by the training's own forward pass, whose linear
//! layers are the runtime's; it decides when to stop, and is no score.

use std::{collections::HashSet, ops::Range};

use data::{Cursor, Dataset, PackedRow};
use model::ModelConfig;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Lesson, TrainTable,
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
    /// Hashes of their questions.
    questions: HashSet<u64>,
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
    /// Read the dataset for its held-out rows. They go through the student `at_once` rows at a time.
    pub(crate) fn open(dataset: &Dataset, model: &ModelConfig, table: &TrainTable, rows: usize) -> Result<HeldOut, Error> {
        let (at_once, lesson) = (table.microbatch_rows(), Lesson { share: 0.0, ..table.teacher.lesson() });
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
        let held: Vec<PackedRow> = found.into_iter().map(|(_, row)| row).collect();
        let questions = held.iter().flat_map(|row| documents(row).map(|place| question(row, place))).collect();
        let batches = held.chunks(at_once).map(|rows| Batch::from_rows(rows, model, lesson)).collect::<Result<Vec<_>, _>>()?;
        if batches.iter().all(|batch| batch.supervised().places.is_empty()) {
            return Err(Error::Rows("none of the held-out rows has a supervised token; raise train.early_stop.rows".into()));
        }
        let held_out = HeldOut { largest, questions, batches };
        for row in dataset.rows(0, Cursor::default()).take(all as usize) {
            if held_out.without(row?).is_some() {
                return Ok(held_out);
            }
        }
        let needed = format!(
            "but with {} of the dataset's {all} rows held out, rows that are equal among them, no other question is left to learn; \
             hold fewer out or bring more traces",
            held.len()
        );
        Err(Error::Config { key: "early_stop.rows", found: rows.to_string(), needed })
    }

    /// A row as it is trained on: none of the held-out ones, and without what it would teach of their questions.
    pub(crate) fn without(&self, mut row: PackedRow) -> Option<PackedRow> {
        if hash(row.tokens.iter().copied()) <= self.largest {
            return None;
        }
        for place in documents(&row) {
            if self.questions.contains(&question(&row, place.clone())) {
                row.supervised[place].fill(false);
            }
        }
        row.supervised.contains(&true).then_some(row)
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

/// Where each document of a row stands.
fn documents(row: &PackedRow) -> impl Iterator<Item = Range<usize>> + use<> {
    let mut end = 0;
    row.documents.clone().into_iter().map(move |len| {
        end += len as usize;
        end - len as usize..end
    })
}

/// A hash of what a document asks; of plain text, whose first token alone is given, of all of it.
fn question(row: &PackedRow, place: Range<usize>) -> u64 {
    let given = row.supervised[place.clone()].iter().take_while(|supervised| !**supervised).count();
    let tokens = &row.tokens[place];
    hash(tokens[..if given > 1 { given } else { tokens.len() }].iter().copied())
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
    fn what_is_held_out_is_not_learned_in_another_row() {
        let row = |documents: &[(&[u32], usize)]| PackedRow {
            tokens: documents.iter().flat_map(|(tokens, _)| tokens.iter().copied()).collect(),
            supervised: documents.iter().flat_map(|(tokens, given)| (0..tokens.len()).map(move |at| at >= *given)).collect(),
            documents: documents.iter().map(|(tokens, _)| tokens.len() as u32).collect(),
            teacher: None,
        };
        let held = row(&[(&[1, 2, 3, 4], 2), (&[7, 8, 9], 1)]);
        let questions = documents(&held).map(|place| question(&held, place)).collect();
        let held_out = HeldOut { largest: hash(held.tokens.iter().copied()), questions, batches: Vec::new() };
        let is_smaller = |row: &PackedRow| hash(row.tokens.iter().copied()) <= held_out.largest;
        // Rows whose hashes are larger: another answer to the same question, the same text, and what neither has.
        let mut trained = 0;
        for other in 20..40 {
            let same = row(&[(&[1, 2, other], 2), (&[7, 8, other], 1), (&[7, 8, 9], 1)]);
            let again = row(&[(&[1, 2, other], 2)]);
            if is_smaller(&same) || is_smaller(&again) {
                continue;
            }
            trained += 1;
            let left = held_out.without(same).unwrap();
            assert_eq!(left.supervised, [false, false, false, false, true, true, false, false, false]);
            assert_eq!(held_out.without(again), None);
        }
        assert!(trained > 0);
        assert_eq!(held_out.without(held.clone()), None);
    }

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
