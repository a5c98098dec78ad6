//! The scans of all inputs, in a folder beside the dataset. Those that are there already are used, those that no input needs any more
//! are deleted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::DataConfig;
use crate::inputs::Inputs;
use crate::judge::Judge;
use crate::layout::requests::Requests;
use crate::manifest::{self, sha256, sha256_of_file};
use crate::rules::contamination::Contamination;
use crate::scan::{Scan, Task};
use crate::{Error, EvalSet, Progress, Stage};

/// The folder of scans; removed with this value, if they are not to be kept.
pub(crate) struct ScanFolder {
    path: PathBuf,
    is_kept: bool,
    used: BTreeSet<String>,
}

impl ScanFolder {
    pub fn open(dataset: &Path, is_kept: bool) -> Result<Self, Error> {
        let mut name = dataset.file_name().unwrap_or_default().to_owned();
        name.push(".scans");
        let path = dataset.with_file_name(name);
        std::fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        Ok(Self { path, is_kept, used: BTreeSet::new() })
    }

    /// Reads what has not been read before. The scans come in the order of the files; an input without rows is an error only where
    /// its whole source has none.
    pub fn scan(
        &mut self,
        config: &DataConfig,
        inputs: &Inputs,
        contamination: &Contamination,
        sets: &[EvalSet],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Scan>, Error> {
        let judge = Judge { rules: &config.rules, system: config.system, contamination };
        let mut rows = vec![0; config.sources.len()];
        let (mut done, mut traces, mut kept) = (0, 0, 0);
        let mut scans = Vec::new();
        for (at, seen) in &inputs.files {
            let (source, input) = (&config.sources[*at], &seen.input);
            let limit = source.limit.map_or(u64::MAX, |limit| limit.saturating_sub(rows[*at]));
            let requests = source.requests.as_deref().map(sha256_of_file).transpose()?;
            let settings = json!([
                manifest::VERSION,
                env!("CARGO_PKG_VERSION"),
                task::GRADER_VERSION,
                input.sha256,
                input.path.extension().map(|it| it.to_string_lossy()),
                source.layout,
                source.fields,
                limit,
                requests,
                source.teacher.is_some(),
                config.rules.of_one_trace(),
                config.system,
                fingerprint(sets),
            ]);
            let name = sha256(settings.to_string().as_bytes())[..32].to_owned();
            let scan = match Scan::open(&self.path, &name, &input.path) {
                Some(scan) => scan,
                None => {
                    let requests = source.requests.as_deref().map(Requests::open).transpose()?;
                    let task = Task { input: &input.path, source, judge, requests: requests.as_ref(), limit };
                    let mut read = |bytes, of_traces, of_kept| {
                        let (traces, kept) = (traces + of_traces, kept + of_kept);
                        progress(Progress { stage: Stage::Read, done: done + bytes, total: inputs.total_bytes(), traces, kept });
                    };
                    read(0, 0, 0);
                    Scan::make(&self.path, &name, &task, &mut read)?
                }
            };
            self.used.insert(name);
            done += input.len_bytes;
            traces += scan.summary.traces;
            kept += scan.keys.count() as u64;
            rows[*at] += scan.summary.rows;
            scans.push(scan);
        }
        match rows.iter().position(|&rows| rows == 0) {
            Some(at) => Err(Error::source(&config.sources[at].path, "it has no rows")),
            None => Ok(scans),
        }
    }

    /// Deletes what this ingest did not use.
    pub fn sweep(&self) -> Result<(), Error> {
        let used: BTreeSet<String> = self.used.iter().flat_map(|name| Scan::file_names(name)).collect();
        for entry in std::fs::read_dir(&self.path).map_err(Error::file("read", &self.path))? {
            let entry = entry.map_err(Error::file("read", &self.path))?;
            if !used.contains(entry.file_name().to_string_lossy().as_ref()) {
                std::fs::remove_file(entry.path()).map_err(Error::file("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

impl std::ops::Drop for ScanFolder {
    fn drop(&mut self) {
        if !self.is_kept {
            // What is left over is deleted by the next ingest.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// What tells evaluation sets apart.
pub(crate) fn fingerprint(sets: &[EvalSet]) -> serde_json::Value {
    sets.iter().map(|EvalSet { name, problems }| json!([name, sha256(json!(problems).to_string().as_bytes())])).collect()
}
