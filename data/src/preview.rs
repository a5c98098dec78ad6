//! What training will see, for people: rows as runs of text that are given or learned.

use crate::ingest::{Job, ingest};
use crate::order::Cursor;
use crate::{Dataset, Error};

/// A token as text, and whether the student learns to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Control tokens by their names; bytes that are no whole character as U+FFFD.
    pub text: String,
    /// Whether it is learned.
    pub supervised: bool,
    /// Whether a document begins with it.
    pub starts_document: bool,
}

/// So many rows of each source are enough for a look.
const ROWS_TO_LOOK_AT: u64 = 512;

/// The first rows as training would see them, without making the dataset: the beginning of each source is ingested into a
/// folder that is removed again. A tokenizer that is to be trained is trained on this beginning alone.
pub fn check(job: &Job, rows: usize) -> Result<Vec<Vec<Piece>>, Error> {
    let place = tempfile::tempdir().map_err(Error::file("create", &std::env::temp_dir()))?;
    let mut config = job.config.clone();
    for source in &mut config.sources {
        source.limit = Some(source.limit.unwrap_or(u64::MAX).min(ROWS_TO_LOOK_AT));
    }
    let out = place.path().join("dataset");
    let ingested = ingest(&Job { config: &config, out: &out, ..*job }, &mut |_| {})?;
    ingested.dataset.preview(rows)
}

impl Dataset {
    /// The first rows in the order of seed 0.
    pub fn preview(&self, rows: usize) -> Result<Vec<Vec<Piece>>, Error> {
        let tokenizer = self.tokenizer()?;
        let wanted = rows.min(usize::try_from(self.manifest().rows).unwrap_or(usize::MAX));
        self.rows(0, Cursor::default())
            .take(wanted)
            .map(|row| {
                let row = row?;
                let mut starts = vec![false; row.tokens.len()];
                let mut at = 0;
                for &len in &row.documents {
                    starts[at] = true;
                    at += len as usize;
                }
                let pieces = row.tokens.iter().zip(row.supervised).zip(starts);
                Ok(pieces
                    .map(|((&token, supervised), starts_document)| Piece { text: tokenizer.token_text(token), supervised, starts_document })
                    .collect())
            })
            .collect()
    }
}
