//! What training will see, for people: traces as runs of text that are given or learned.

use model::Tokenizer;

use crate::ingest::{Job, existing, ingest};
use crate::order::Cursor;
use crate::{Card, Dataset, Error};

/// A token as text, and whether the student learns to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Control tokens by their names. A character of several tokens is the last one's; bytes that are part of none are U+FFFD.
    pub text: String,
    /// Whether it is learned.
    pub supervised: bool,
}

/// A look at a dataset.
#[derive(Clone, Debug)]
pub struct Look {
    /// Some of its traces, token by token.
    pub traces: Vec<Vec<Piece>>,
    /// Where the rows went.
    pub card: Card,
    /// False where only the beginning of each source was read.
    pub is_whole: bool,
}

/// So many rows of each source are enough for a look.
const ROWS_TO_LOOK_AT: u64 = 512;
/// So many blocks of a dataset are enough, at a million tokens.
const BLOCKS_TO_LOOK_AT: usize = 4;

/// The first traces as training would see them: those on the card of the dataset, if it is there. Else the beginning of each source
/// is ingested into a folder that is removed again; a tokenizer that is to be trained is trained on this beginning alone.
pub fn check(job: &Job, traces: usize) -> Result<Look, Error> {
    if let Some(found) = existing(job)? {
        return Ok(Look { traces: found.dataset.preview(traces)?, card: found.card, is_whole: true });
    }
    let place = tempfile::tempdir().map_err(Error::file("create", &std::env::temp_dir()))?;
    let mut config = job.config.clone();
    for source in &mut config.sources {
        source.limit = Some(source.limit.unwrap_or(u64::MAX).min(ROWS_TO_LOOK_AT));
    }
    let out = place.path().join("dataset");
    let ingested = ingest(&Job { config: &config, out: &out, ..*job }, &mut |_| {});
    if matches!(ingested, Err(Error::Empty(_))) {
        // The error speaks of a file in it.
        let _ = place.keep();
    }
    let ingested = ingested?;
    Ok(Look { traces: ingested.dataset.preview(traces)?, card: ingested.card, is_whole: false })
}

/// The text of a token after those whose bytes, of a character that is not whole yet, are in `begun`.
fn text_of(tokenizer: &Tokenizer, token: u32, begun: &mut Vec<u8>) -> String {
    if tokenizer.token_bytes(token).is_empty() {
        return String::from_utf8_lossy(&std::mem::take(begun)).into_owned() + &tokenizer.token_text(token);
    }
    begun.extend(tokenizer.token_bytes(token));
    let whole = match std::str::from_utf8(begun) {
        // What follows may make a character of the last bytes.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => begun.len(),
    };
    String::from_utf8_lossy(&begun.drain(..whole).collect::<Vec<_>>()).into_owned()
}

impl Dataset {
    /// Some traces, token by token: the first ones in an order of their own, for which few blocks are read.
    pub fn preview(&self, traces: usize) -> Result<Vec<Vec<Piece>>, Error> {
        let tokenizer = self.tokenizer()?;
        let mut shown = Vec::new();
        let rows = usize::try_from(self.manifest().rows).unwrap_or(usize::MAX);
        for row in self.rows_by(BLOCKS_TO_LOOK_AT, 0, Cursor::default()).take(rows) {
            let row = row?;
            let mut pieces = row.tokens.iter().zip(row.supervised);
            for &len in &row.documents {
                if shown.len() == traces {
                    return Ok(shown);
                }
                let mut begun = Vec::new();
                let piece = |(&token, supervised)| Piece { text: text_of(&tokenizer, token, &mut begun), supervised };
                let mut trace: Vec<Piece> = pieces.by_ref().take(len as usize).map(piece).collect();
                if let Some(last) = trace.last_mut() {
                    last.text += &String::from_utf8_lossy(&begun);
                }
                shown.push(trace);
            }
        }
        Ok(shown)
    }
}
