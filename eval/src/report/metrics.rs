//! `metrics.jsonl` as columns of numbers. Every number that a trainer writes is shown; none has to be known here.
//!
//! A line is an object with a `step` and any of these:
//! - numbers, each a curve: `loss`, `loss.<term>` for its terms, `rate`, `gradient_norm`, `tokens_per_s`, `zeros` and whatever else;
//! - arrays with a number per layer, each a drawing with a line per layer: `layers.zeros` (the share of zeros among a layer's codes),
//!   `layers.flips` (the share of a layer's codes that the step changed), `layers.edges` (the share of its weights near the threshold
//!   between two codes), `layers.scale` (its mean scale) and whatever else;
//! - `eval`, an object with the score of each set: `{"held_out": {"accuracy": 0.5, "low": 0.4, "high": 0.6, ...}}`, as
//!   [`Score`](crate::Score) is written.
//!
//! There is no event file for TensorBoard, because no crate that writes one is kept: tensorboard-rs calls itself not active, tfrecord
//! has not changed since September 2023 and tboard since February 2024. A column of this file is what `SummaryWriter.add_scalar`
//! takes: a name, a step and a number.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::Error;
use crate::error::file_error;

/// What a run measured while it trained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    columns: BTreeMap<String, Vec<(f64, f64)>>,
    layers: BTreeMap<String, Vec<(f64, Vec<f64>)>>,
    scores: BTreeMap<String, Vec<Measured>>,
}

/// A set's score after some steps of training.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(super) struct Measured {
    /// Stands in the line, not in the score.
    #[serde(skip)]
    pub step: f64,
    pub accuracy: f64,
    pub low: f64,
    pub high: f64,
}

impl Metrics {
    /// Read a run's `metrics.jsonl`. A last line without an end is left out: a run is still writing it.
    pub fn read(path: &Path) -> Result<Metrics, Error> {
        let text = std::fs::read_to_string(path).map_err(file_error("read", path))?;
        let mut metrics = Metrics::default();
        for (line, number) in text.split_inclusive('\n').zip(1..) {
            if line.ends_with('\n') {
                metrics.add(line).map_err(|fault| Error::Line { path: path.to_owned(), line: number, fault })?;
            }
        }
        Ok(metrics)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let mut record: BTreeMap<String, Value> = serde_json::from_str(line).map_err(|error| format!("not a line of metrics: {error}"))?;
        let step = record.remove("step").and_then(|step| step.as_f64()).ok_or("it has no step")?;
        if let Some(eval) = record.remove("eval") {
            let scores: BTreeMap<String, Measured> =
                serde_json::from_value(eval).map_err(|error| format!("eval holds no score by the name of its set: {error}"))?;
            for (set, score) in scores {
                self.scores.entry(set).or_default().push(Measured { step, ..score });
            }
        }
        for (name, value) in record {
            if let Some(value) = value.as_f64() {
                self.columns.entry(name).or_default().push((step, value));
            } else if let Value::Array(values) = &value {
                let by_layer: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
                let by_layer = by_layer.ok_or_else(|| format!("{name} is an array of other things than numbers"))?;
                self.layers.entry(name).or_default().push((step, by_layer));
            }
        }
        Ok(())
    }

    /// A column's steps and values; empty where there is none of that name.
    pub(super) fn column(&self, name: &str) -> &[(f64, f64)] {
        self.columns.get(name).map_or(&[], Vec::as_slice)
    }

    /// The names of all columns.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }

    /// The names of what was measured per layer.
    pub(super) fn layer_names(&self) -> impl Iterator<Item = &str> {
        self.layers.keys().map(String::as_str)
    }

    /// The steps and the layers' values of one of them; empty where there is none of that name.
    pub(super) fn layer(&self, name: &str) -> &[(f64, Vec<f64>)] {
        self.layers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Each set's scores.
    pub(super) fn scores(&self) -> impl Iterator<Item = (&str, &[Measured])> {
        self.scores.iter().map(|(set, scores)| (set.as_str(), scores.as_slice()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run that measured everything.
    pub(in crate::report) fn everything() -> Metrics {
        let mut metrics = Metrics::default();
        for step in (10..=200).step_by(10) {
            let done = f64::from(step) / 200.0;
            let line = serde_json::json!({
                "step": step, "loss": 5.0 * (-5.0 * done).exp() + 0.02, "rate": 1e-3 * (1.0 - done), "gradient_norm": 1.0, "tokens": step,
                "layers.zeros": [0.3, 0.3 + 0.1 * done], "layers.flips": [0.01, 0.02 * (1.0 - done)], "layers.scale": [1.0, 1.0 + done],
                "eval": { "held_out": { "accuracy": done, "low": 0.9 * done, "high": 0.1 + 0.9 * done, "n": 100 } },
            });
            metrics.add(&line.to_string()).unwrap();
        }
        metrics
    }

    #[test]
    fn every_number_becomes_a_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1,\"loss\":2.5,\"note\":\"x\"}\n{\"step\":2,\"loss\":1.5,\"zeros\":0.3}\n{\"step\":3,\"lo")
            .unwrap();
        let metrics = Metrics::read(&path).unwrap();
        assert_eq!(metrics.names().collect::<Vec<_>>(), ["loss", "zeros"]);
        assert_eq!(metrics.column("loss"), [(1.0, 2.5), (2.0, 1.5)]);
        assert_eq!(metrics.column("rate"), []);
        std::fs::write(&path, "{\"step\":1}\n{\"loss\":2}\n").unwrap();
        assert!(Metrics::read(&path).unwrap_err().to_string().ends_with("line 2: it has no step"));
    }

    #[test]
    fn layers_and_scores_are_read() {
        let metrics = everything();
        assert_eq!(metrics.layer_names().collect::<Vec<_>>(), ["layers.flips", "layers.scale", "layers.zeros"]);
        assert_eq!((metrics.layer("layers.zeros").len(), metrics.layer("layers.edges").len()), (20, 0));
        let (set, scores) = metrics.scores().next().unwrap();
        assert_eq!((set, scores.len(), scores[19]), ("held_out", 20, Measured { step: 200.0, accuracy: 1.0, low: 0.9, high: 1.0 }));
    }

    #[test]
    fn a_line_that_is_none_is_told() {
        let fault = |line: &str| Metrics::default().add(line).unwrap_err();
        assert!(fault("{\"step\":1,\"layers.zeros\":[0.3,\"x\"]}").starts_with("layers.zeros is an array of other things"));
        assert!(fault("{\"step\":1,\"eval\":{\"a\":{\"accuracy\":1}}}").starts_with("eval holds no score"));
        assert!(fault("[]").starts_with("not a line of metrics"));
    }
}
