//! `metrics.jsonl` as columns of numbers. Every number that a trainer writes is shown; none has to be known here.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::Error;
use crate::error::file_error;

/// What a run measured while it trained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    columns: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Metrics {
    /// Read a run's `metrics.jsonl`. A last line without an end is left out: a run is still writing it.
    pub fn read(path: &Path) -> Result<Metrics, Error> {
        let text = std::fs::read_to_string(path).map_err(file_error("read", path))?;
        let mut metrics = Metrics::default();
        for (line, number) in text.split_inclusive('\n').zip(1..) {
            if !line.ends_with('\n') {
                break;
            }
            let fault = |fault: String| Error::Line { path: path.to_owned(), line: number, fault };
            let record: BTreeMap<String, Value> =
                serde_json::from_str(line).map_err(|error| fault(format!("not a line of metrics: {error}")))?;
            let step = record.get("step").and_then(Value::as_f64).ok_or_else(|| fault("it has no step".into()))?;
            for (name, value) in record {
                if let Some(value) = value.as_f64().filter(|_| name != "step") {
                    metrics.columns.entry(name).or_default().push((step, value));
                }
            }
        }
        Ok(metrics)
    }

    /// A column's steps and values; empty where there is none of that name.
    pub(super) fn column(&self, name: &str) -> &[(f64, f64)] {
        self.columns.get(name).map_or(&[], Vec::as_slice)
    }

    /// The names of all columns.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
