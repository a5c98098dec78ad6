//! All sources of a config as one stream of judged traces, in order, piece by piece. A piece is judged in parallel; only what
//! depends on the rows before it (duplicates) is looked at one by one, so that the result is the same for any number of threads.

use rayon::prelude::*;
use task::{Trace, Verdict};

use crate::Error;
use crate::config::{Rules, Source};
use crate::layout::{Candidate, Reading};
use crate::rules::contamination::Contamination;
use crate::rules::duplicates::{Identity, Seen};
use crate::rules::{Drop, answer, finished, marks};
use crate::source::{Reader, Row};

/// So many first rows tell the layout.
const ROWS_TO_RECOGNISE: usize = 32;

/// A trace that may go in, or why it may not.
#[derive(Debug)]
pub(crate) struct Entry {
    pub line: u64,
    /// Whether this is the first trace of its row.
    pub is_first: bool,
    /// The beginning of the row.
    pub excerpt: String,
    pub outcome: Result<Good, Drop>,
}

/// A trace that no rule has dropped so far.
#[derive(Debug)]
pub(crate) struct Good {
    pub trace: Trace,
    pub verdict: Option<Verdict>,
    pub is_masked_match: bool,
    identity: Identity,
}

/// Entries of one source.
pub(crate) struct Piece {
    pub source: usize,
    pub layout: &'static str,
    pub entries: Vec<Entry>,
}

/// The stream.
pub(crate) struct Traces<'a> {
    sources: &'a [Source],
    judge: Judge<'a>,
    seen: Seen,
    at: usize,
    open: Option<Open<'a>>,
    finished_bytes: u64,
}

struct Open<'a> {
    reader: Reader,
    /// Known once the first rows are.
    reading: Option<Reading<'a>>,
    rows: u64,
}

impl<'a> Traces<'a> {
    pub fn new(sources: &'a [Source], rules: &'a Rules, contamination: &'a Contamination<'a>) -> Self {
        Self { sources, judge: Judge { rules, contamination }, seen: Seen::default(), at: 0, open: None, finished_bytes: 0 }
    }

    /// The next piece; none at the end.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, Error> {
        while let Some(source) = self.sources.get(self.at) {
            let open = match &mut self.open {
                Some(open) => open,
                closed => closed.insert(Open { reader: Reader::open(&source.path)?, reading: None, rows: 0 }),
            };
            let left = source.limit.map_or(u64::MAX, |limit| limit - open.rows);
            let mut rows = if left == 0 { Vec::new() } else { open.reader.next_piece()? };
            rows.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            if rows.is_empty() {
                if open.rows == 0 {
                    return Err(Error::source(&source.path, "it has no rows"));
                }
                self.finished_bytes += open.reader.read_bytes();
                self.open = None;
                self.at += 1;
                continue;
            }
            let reading = match open.reading {
                Some(reading) => reading,
                None => *open.reading.insert(recognise(source, &rows)?),
            };
            open.rows += rows.len() as u64;
            let judge = self.judge;
            let judged: Vec<Vec<Entry>> = rows.par_iter().map(|row| judge.row(row, reading)).collect();
            let mut entries: Vec<Entry> = judged.into_iter().flatten().collect();
            if judge.rules.duplicates {
                for entry in &mut entries {
                    let duplicate = entry.outcome.as_ref().ok().and_then(|good| self.seen.check(good.identity).err());
                    if let Some(drop) = duplicate {
                        entry.outcome = Err(drop);
                    }
                }
            }
            return Ok(Some(Piece { source: self.at, layout: reading.name(), entries }));
        }
        Ok(None)
    }

    /// How many bytes of the files have been read, as they lie on the disk.
    pub fn read_bytes(&self) -> u64 {
        self.finished_bytes + self.open.as_ref().map_or(0, |open| open.reader.read_bytes())
    }
}

/// The rules that look at one trace alone.
#[derive(Clone, Copy)]
struct Judge<'a> {
    rules: &'a Rules,
    contamination: &'a Contamination<'a>,
}

impl Judge<'_> {
    fn row(&self, row: &Row, reading: Reading) -> Vec<Entry> {
        let found = match row.object() {
            Ok(object) => reading.read(&object),
            Err(drop) => vec![Err(drop)],
        };
        let excerpt = row.excerpt();
        let entry = |(at, found): (usize, Result<Candidate, Drop>)| Entry {
            line: row.line,
            is_first: at == 0,
            excerpt: excerpt.clone(),
            outcome: found.and_then(|candidate| self.candidate(candidate)),
        };
        found.into_iter().enumerate().map(entry).collect()
    }

    fn candidate(&self, candidate: Candidate) -> Result<Good, Drop> {
        if self.rules.finished {
            finished::check(&candidate)?;
        }
        let verdict = answer::verdict(&candidate);
        let trace = candidate.trace;
        marks::check(&trace)?;
        answer::check(&trace, verdict, self.rules.verify)?;
        self.contamination.check(&trace.question)?;
        let is_masked_match = self.contamination.is_masked_match(&trace.question);
        Ok(Good { identity: Identity::of(&trace), trace, verdict, is_masked_match })
    }
}

fn recognise<'a>(source: &'a Source, rows: &[Row]) -> Result<Reading<'a>, Error> {
    let first: Vec<_> = rows.iter().take(ROWS_TO_RECOGNISE).filter_map(|row| row.object().ok()).collect();
    Reading::of(source, &first)
}
