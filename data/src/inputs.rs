//! The input files of an ingest and what they hold. A file with the length and the time of the last ingest is not read to know that
//! it holds the same.

use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::config::Source;
use crate::manifest::sha256_of_file;
use crate::source::files;
use crate::{Error, Input};

/// When each input was last seen, beside the manifest.
pub(crate) const SEEN_FILE: &str = "seen.json";

/// A file, when it was last changed and what it held then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub input: Input,
    modified_ns: u128,
}

/// The input files, with the source that each belongs to.
pub(crate) struct Inputs {
    pub files: Vec<(usize, Seen)>,
    before: Vec<Seen>,
}

impl Inputs {
    /// Finds the files of all sources. `dataset` is where the last ingest wrote what it saw.
    pub fn find(sources: &[Source], dataset: &Path) -> Result<Self, Error> {
        let before = std::fs::read_to_string(dataset.join(SEEN_FILE)).ok().and_then(|text| serde_json::from_str(&text).ok());
        let mut inputs = Self { files: Vec::new(), before: before.unwrap_or_default() };
        for (at, source) in sources.iter().enumerate() {
            for path in files(&source.path)? {
                let seen = inputs.look(&path)?;
                inputs.files.push((at, seen));
            }
        }
        Ok(inputs)
    }

    /// What a file holds.
    fn look(&self, path: &Path) -> Result<Seen, Error> {
        let facts = std::fs::metadata(path).map_err(Error::file("read", path))?;
        let modified_ns = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_nanos());
        let is_same = |old: &&Seen| {
            old.input.path == path && old.input.len_bytes == facts.len() && old.modified_ns == modified_ns && modified_ns != 0
        };
        if let Some(old) = self.before.iter().find(is_same) {
            return Ok(old.clone());
        }
        let (len_bytes, sha256) = sha256_of_file(path)?;
        Ok(Seen { input: Input { path: path.to_owned(), len_bytes, sha256 }, modified_ns })
    }

    /// The files as the manifest names them.
    pub fn of_manifest(&self) -> Vec<Input> {
        self.files.iter().map(|(_, seen)| seen.input.clone()).collect()
    }

    /// What is known of the files, but for where they lie: name, length and SHA-256.
    pub fn named(&self) -> Vec<(Option<String>, u64, &str)> {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.files.iter().map(|(_, Seen { input, .. })| (name(&input.path), input.len_bytes, input.sha256.as_str())).collect()
    }

    /// The files as the next ingest will want them.
    pub fn seen(&self) -> Vec<&Seen> {
        self.files.iter().map(|(_, seen)| seen).collect()
    }

    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|(_, seen)| seen.input.len_bytes).sum()
    }
}
