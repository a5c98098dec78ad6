//! `metrics.jsonl`: a line every `log_every` steps, one for every evaluation in mid-run and one for every look at held-out rows. A run
//! that goes on from a checkpoint first cuts off the lines of the steps that it takes again, so that no step stands in it twice.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Error, error::file, telemetry::Layers};

/// The name of the file in a run's folder.
pub const FILE: &str = "metrics.jsonl";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Steps taken.
    pub step: u64,
    /// Mean loss of the last step's supervised targets, in nats.
    pub loss: f64,
    /// The learning rate of the last step.
    pub rate: f64,
    /// The weight decay of the last step.
    pub weight_decay: f64,
    /// Norm of the last step's gradients before clipping.
    pub gradient_norm: f32,
    /// Tokens of the run so far.
    pub tokens: u64,
    /// Tokens per second since the last line or the process's start.
    pub tokens_per_s: f64,
    /// The terms of the loss, where a teacher goes along or its probabilities came with the traces.
    #[serde(flatten)]
    pub terms: LossTerms,
    /// What the last step did to each block.
    #[serde(flatten)]
    pub layers: Layers,
}

/// The terms of the last step's loss. Nothing where there is no teacher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossTerms {
    /// Mean cross-entropy of the supervised targets, in nats.
    #[serde(rename = "loss.cross_entropy", default, skip_serializing_if = "Option::is_none")]
    pub cross_entropy: Option<f64>,
    /// Mean divergence from the teacher where it said something, in nats; of `uld` a distance.
    #[serde(rename = "loss.divergence", default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    /// How far inner states are from the teacher's, as weighed; a mean over the supervised targets.
    #[serde(rename = "loss.states", default, skip_serializing_if = "Option::is_none")]
    pub states: Option<f64>,
    /// The share of the divergence in the loss there.
    #[serde(rename = "teacher.share", default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// At which part of the supervised targets the teacher said something.
    #[serde(rename = "teacher.taught", default, skip_serializing_if = "Option::is_none")]
    pub taught: Option<f64>,
    /// How many times larger than the cross-entropy's the divergence's gradient at the logits was, as weighed; a moving mean.
    #[serde(rename = "teacher.ratio", default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

/// The line of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Steps taken.
    pub step: u64,
    /// The score of each set.
    pub eval: Value,
    /// The number by which checkpoints are compared; the largest is the best.
    pub score: f64,
}

/// As much of any line as tells where it belongs.
#[derive(Deserialize)]
struct AnyLine {
    step: u64,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Metrics {
    path: PathBuf,
    out: File,
}

impl Metrics {
    /// Open a run's file, cut off after `step`.
    pub(crate) fn open(run: &Path, step: u64) -> Result<Metrics, Error> {
        let path = run.join(FILE);
        let out = OpenOptions::new().create(true).append(true).open(&path).map_err(file("create", &path))?;
        let text = fs::read(&path).map_err(file("read", &path))?;
        out.set_len(kept(&text, step)).map_err(file("write", &path))?;
        Ok(Metrics { path, out })
    }

    /// Have what was written on the disk, as a checkpoint that counts on it will be.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.out.sync_data().map_err(file("write", &self.path))
    }

    /// Add a [`Line`], an [`Evaluated`] or a [`crate::HeldOutLoss`].
    pub(crate) fn write(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let mut text = serde_json::to_string(line).expect("a line can be written");
        text.push('\n');
        self.out.write_all(text.as_bytes()).map_err(file("write", &self.path))
    }
}

/// The lines of one kind of a run so far: [`Line`], [`Evaluated`] or [`crate::HeldOutLoss`].
pub fn lines<T: DeserializeOwned>(run: &Path) -> Result<Vec<T>, Error> {
    let path = run.join(FILE);
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// How many bytes are whole lines before the first of a step beyond `step`.
fn kept(text: &[u8], step: u64) -> u64 {
    let is_beyond = |line: &[u8]| serde_json::from_slice::<AnyLine>(line).is_ok_and(|line| line.step > step);
    let is_kept = |line: &&[u8]| line.ends_with(b"\n") && !is_beyond(line);
    text.split_inclusive(|byte| *byte == b'\n').take_while(is_kept).map(|line| line.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> Line {
        let (loss, rate, weight_decay, gradient_norm) = (1.5, 1e-3, 0.1, 0.25);
        Line {
            step,
            loss,
            rate,
            weight_decay,
            gradient_norm,
            tokens: step * 100,
            tokens_per_s: 10.0,
            terms: LossTerms::default(),
            layers: Layers::default(),
        }
    }

    fn steps(folder: &Path) -> Vec<u64> {
        let text = fs::read_to_string(folder.join(FILE)).unwrap();
        text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap().step).collect()
    }

    #[test]
    fn no_step_stands_in_it_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), 0).unwrap();
        (1..=5).for_each(|step| metrics.write(&line(step)).unwrap());
        let mut metrics = Metrics::open(folder.path(), 3).unwrap();
        metrics.write(&line(4)).unwrap();
        assert_eq!(steps(folder.path()), [1, 2, 3, 4]);
    }

    #[test]
    fn a_line_that_was_cut_off_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), 0).unwrap();
        (1..=2).for_each(|step| metrics.write(&line(step)).unwrap());
        metrics.out.write_all(b"{\"step\":3,\"lo").unwrap();
        Metrics::open(folder.path(), 9).unwrap();
        assert_eq!(steps(folder.path()), [1, 2]);
    }
}
