//! A dataset on the disk: token rows in Parquet with a manifest, the tokenizer and the chat template that wrote them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{ChatTemplate, Tokenizer};

use crate::align::Targets;
use crate::order::{Cursor, GROUP_BLOCKS};
use crate::rows::{self, Block, Rows};
use crate::shard::StoredRow;
use crate::sidecar::{self, Dropped};
use crate::{Card, Error, Manifest, card, manifest};

pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";
pub(crate) const CHAT_FILE: &str = "chat_template.jinja";
pub(crate) const DROPPED_FILE: &str = "dropped.parquet";

/// One row of training: whole documents, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedRow {
    /// At most as many as the dataset's context.
    pub tokens: Vec<u32>,
    /// For each token, whether the student learns to write it. The tokens of the prompt are given.
    pub supervised: Vec<bool>,
    /// The length of each document; they sum to the number of tokens. A document must not attend to another.
    pub documents: Vec<u32>,
    /// What the teacher gave as probabilities, where the dataset has them ([`Manifest::top_k`] is not 0).
    pub teacher: Option<TeacherRow>,
}

/// The teacher's probabilities for some of a row's tokens. A target says how likely each token was *at* its place, given the tokens
/// before it: the student's output at the place before is what it is compared with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TeacherRow {
    /// Alternatives of each target: k.
    pub top_k: usize,
    /// Which tokens of the row have a target: n places, ascending, each a supervised token.
    pub at: Vec<u32>,
    /// The tokens that the teacher held most likely, `[n, k]`, the most likely first. Short lists are filled up with token 0.
    pub ids: Vec<u32>,
    /// The natural logarithms of their probabilities, `[n, k]`, filled up with minus infinity, so that what fills up weighs nothing.
    pub logprobs: Vec<f32>,
    /// The probability of all other tokens together, `[n]`: 1 less the sum of the ones above.
    pub tails: Vec<f32>,
    /// For each document of the row, the temperature at which its probabilities were taken; 0 where it has none.
    pub temperatures: Vec<f32>,
}

impl PackedRow {
    /// `top_k` is 0 where the dataset has no teacher's probabilities.
    pub(crate) fn new(stored: StoredRow, top_k: usize) -> Self {
        let mut supervised = Vec::with_capacity(stored.tokens.len());
        for (&len, &prompt) in stored.documents.iter().zip(&stored.prompts) {
            supervised.extend(std::iter::repeat_n(false, prompt as usize));
            supervised.extend(std::iter::repeat_n(true, (len - prompt) as usize));
        }
        let StoredRow { tokens, documents, targets: Targets { at, ids, logprobs, tails }, temperatures, .. } = stored;
        let teacher = (top_k > 0).then_some(TeacherRow { top_k, at, ids, logprobs, tails, temperatures });
        Self { tokens, supervised, documents, teacher }
    }

    /// The row as it is stored, with a teacher's probabilities.
    pub(crate) fn stored(&self, teacher: TeacherRow) -> StoredRow {
        let Self { tokens, supervised, documents, .. } = self;
        let mut rest = &supervised[..];
        let prompts = documents.iter().map(|&len| {
            let (document, after) = rest.split_at(len as usize);
            rest = after;
            document.iter().filter(|learned| !**learned).count() as u32
        });
        let prompts = prompts.collect();
        let TeacherRow { top_k: _, at, ids, logprobs, tails, temperatures } = teacher;
        let targets = Targets { at, ids, logprobs, tails };
        StoredRow { tokens: tokens.clone(), documents: documents.clone(), prompts, targets, temperatures }
    }
}

/// An open dataset.
#[derive(Clone, Debug)]
pub struct Dataset {
    folder: PathBuf,
    manifest: Manifest,
    blocks: Arc<[Block]>,
}

impl Dataset {
    /// Opens a dataset and checks that its files are there and whole in length.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(manifest::FILE);
        let text = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let json: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| Error::dataset(folder, format!("its manifest is not JSON: {error}; ingest again")))?;
        if json["version"] != manifest::VERSION {
            let why = format!("it is of version {}, version {} is needed; ingest again", json["version"], manifest::VERSION);
            return Err(Error::dataset(folder, why));
        }
        let manifest: Manifest = serde_json::from_value(json).map_err(|error| {
            Error::dataset(folder, format!("its manifest is not one of version {}: {error}; ingest again", manifest::VERSION))
        })?;
        for shard in &manifest.shards {
            let path = folder.join(&shard.file);
            let found = std::fs::metadata(&path).map_err(Error::file("read", &path))?.len();
            if found != shard.len_bytes {
                let why = format!("{} has {found} bytes, {} are needed; ingest again", shard.file, shard.len_bytes);
                return Err(Error::dataset(folder, why));
            }
        }
        let rows: u64 = manifest.shards.iter().flat_map(|shard| &shard.blocks).map(|&rows| u64::from(rows)).sum();
        if rows != manifest.rows || rows == 0 {
            return Err(Error::dataset(
                folder,
                format!("its manifest speaks of {} rows, its blocks of {rows}; ingest again", manifest.rows),
            ));
        }
        let blocks = rows::blocks(folder, &manifest).into();
        Ok(Self { folder: folder.to_owned(), manifest, blocks })
    }

    /// What it was made of and what it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Rows in the order of a seed, from a cursor on, epoch after epoch without end. The order is a function of seed and epoch alone.
    pub fn rows(&self, seed: u64, from: Cursor) -> Rows {
        self.rows_by(GROUP_BLOCKS, seed, from)
    }

    /// The same with another number of blocks that are loaded and shuffled together.
    pub(crate) fn rows_by(&self, group_blocks: usize, seed: u64, from: Cursor) -> Rows {
        Rows::new(Arc::clone(&self.blocks), group_blocks, &self.manifest, seed, from)
    }

    /// The tokenizer that wrote it.
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let tokenizer = Tokenizer::open(&self.folder.join(TOKENIZER_FILE))?;
        if tokenizer.fingerprint() != self.manifest.tokenizer {
            let why = format!(
                "its rows were written with tokenizer {}, its {TOKENIZER_FILE} is {}; ingest again",
                self.manifest.tokenizer,
                tokenizer.fingerprint()
            );
            return Err(Error::dataset(&self.folder, why));
        }
        Ok(tokenizer)
    }

    /// The chat template that wrote it.
    pub fn chat(&self) -> Result<ChatTemplate, Error> {
        let path = self.folder.join(CHAT_FILE);
        let source = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        Ok(ChatTemplate::parse(&source)?)
    }

    /// Where every row of the input went.
    pub fn card(&self) -> Result<Card, Error> {
        let path = self.folder.join(card::FILE);
        let text = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::dataset(&self.folder, format!("its {} does not read: {error}; ingest again", card::FILE)))
    }

    /// The rows of the input that are not in it.
    pub fn dropped(&self) -> Result<Vec<Dropped>, Error> {
        sidecar::read(&self.folder.join(DROPPED_FILE))
    }
}
