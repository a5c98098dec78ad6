//! `manifest.json`: what a dataset was made of and what it holds. Two datasets with the same fingerprint hold the same bytes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;

/// Raised whenever the same input and settings would give other bytes than before.
pub(crate) const VERSION: u32 = 3;

/// The name of the file in a dataset's folder.
pub(crate) const FILE: &str = "manifest.json";

/// What a dataset was made of and what it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the dataset's form.
    pub version: u32,
    /// SHA-256 over version, settings and inputs.
    pub fingerprint: String,
    /// The longest row in tokens.
    pub context: usize,
    /// The number of tokens that the tokenizer knows.
    pub vocab: usize,
    /// The tokenizer's fingerprint.
    pub tokenizer: String,
    /// SHA-256 of the chat template.
    pub chat_template: String,
    /// Packed rows.
    pub rows: u64,
    /// Traces in them.
    pub documents: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Tokens that are learned.
    pub supervised_tokens: u64,
    /// Alternatives of each of the teacher's targets; 0 where the dataset has none.
    pub top_k: usize,
    /// The files of rows.
    pub shards: Vec<Shard>,
    /// The files of traces.
    pub inputs: Vec<Input>,
    /// Everything else that decides about the bytes.
    pub settings: serde_json::Value,
}

/// One file of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its name in the folder.
    pub file: String,
    /// Its length.
    pub len_bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// The number of rows in each block.
    pub blocks: Vec<u32>,
}

/// One file of traces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Where it lies; a pattern in the config stands for several files.
    pub path: PathBuf,
    /// Its length.
    pub len_bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

/// The SHA-256 of some bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The length and the SHA-256 of a file.
pub(crate) fn sha256_of_file(path: &Path) -> Result<(u64, String), Error> {
    let mut file = File::open(path).map_err(Error::file("read", path))?;
    let (mut hash, mut len_bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer).map_err(Error::file("read", path))? {
            0 => return Ok((len_bytes, hex(&hash.finalize()))),
            count => {
                hash.update(&buffer[..count]);
                len_bytes += count as u64;
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a value as JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).expect("our own records can be written as JSON");
    text.push('\n');
    std::fs::write(path, text).map_err(Error::file("write", path))
}
