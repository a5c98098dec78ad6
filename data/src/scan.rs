//! One input file, read and judged once: its records, and the keys that rules over all traces compare. A scan depends on nothing
//! but its file and the settings that look at a trace alone, so that it can be kept and an unchanged file need not be read again.

pub(crate) mod keys;
pub(crate) mod record;

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::Source;
use crate::judge::{Counts, Judge, Judged};
use crate::layout::{Reading, requests::Requests};
use crate::manifest::write_json;
use crate::source::{Reader, Row};
use keys::{Keys, KeysWriter};
use record::Record;

/// So many first rows tell the layout.
const ROWS_TO_RECOGNISE: usize = 32;

/// What a scan found, beside its records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The layout that the rows were read as.
    pub layout: String,
    /// Rows that were read; a row may hold several traces.
    pub rows: u64,
    /// Traces in them; a row that is none counts as one.
    pub traces: u64,
    /// Contacts with evaluation sets, by set and kind.
    pub touches: std::collections::BTreeMap<String, Counts>,
    /// Tokens for which the teacher's probabilities are there.
    pub teacher_steps: u64,
    keys: usize,
    records_bytes: u64,
}

/// A scan on the disk.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// The input file.
    pub input: PathBuf,
    pub summary: Summary,
    pub keys: Keys,
    records: PathBuf,
}

/// A file to be read, and how.
pub(crate) struct Task<'a> {
    pub input: &'a Path,
    pub source: &'a Source,
    pub judge: Judge<'a>,
    pub requests: Option<&'a Requests>,
    /// At most so many rows.
    pub limit: u64,
}

impl Scan {
    /// The scan that lies under this name, if there is one and it is whole.
    pub fn open(folder: &Path, name: &str, input: &Path) -> Option<Scan> {
        let [summary, records, keys] = files(folder, name);
        let summary: Summary = serde_json::from_str(&std::fs::read_to_string(summary).ok()?).ok()?;
        let is_whole = std::fs::metadata(&records).ok()?.len() == summary.records_bytes;
        let keys = Keys::open(&keys, summary.keys)?;
        is_whole.then(|| Scan { input: input.to_owned(), summary, keys, records })
    }

    /// Reads and judges a file. The summary is written last, so that a scan without one is no scan.
    pub fn make(folder: &Path, name: &str, task: &Task, progress: &mut dyn FnMut(u64, u64, u64)) -> Result<Scan, Error> {
        let [summary_path, records_path, keys_path] = files(folder, name);
        let mut records = File::create(&records_path)
            .map(|file| BufWriter::with_capacity(1 << 20, file))
            .map_err(Error::file("create", &records_path))?;
        let mut keys = KeysWriter::create(&keys_path)?;
        let mut summary = Summary::default();
        let mut kept = 0;
        each_piece(task, &mut |reading, read_bytes, written| {
            summary.layout = reading.name().to_owned();
            for Written { bytes, is_first, is_kept, key, touch, teacher_steps } in written {
                summary.rows += u64::from(is_first);
                summary.traces += 1;
                kept += u64::from(is_kept);
                summary.teacher_steps += teacher_steps;
                if let Some((set, how)) = touch {
                    *summary.touches.entry(set).or_default().entry(how.to_owned()).or_default() += 1;
                }
                if let Some(key) = key {
                    keys.push(&keys::Key { offset: summary.records_bytes, ..key })?;
                }
                records.write_all(&bytes).map_err(Error::file("write", &records_path))?;
                summary.records_bytes += bytes.len() as u64;
            }
            progress(read_bytes, summary.traces, kept);
            Ok(())
        })?;
        records.flush().map_err(Error::file("write", &records_path))?;
        summary.keys = keys.finish()?;
        let partial = summary_path.with_extension("partial");
        write_json(&partial, &summary)?;
        std::fs::rename(&partial, &summary_path).map_err(Error::file("create", &summary_path))?;
        Scan::open(folder, name, task.input).ok_or_else(|| Error::dataset(folder, format!("the scan {name} was written and is not whole")))
    }

    /// How long all records are together.
    pub fn records_bytes(&self) -> u64 {
        self.summary.records_bytes
    }

    /// All records, one after the other.
    pub fn records(&self) -> Result<Records, Error> {
        let file = File::open(&self.records).map_err(Error::file("read", &self.records))?;
        Ok(Records { path: self.records.clone(), file: BufReader::with_capacity(1 << 20, file), left: self.summary.records_bytes })
    }

    /// Understands the bytes of a record.
    pub fn parse(&self, bytes: &[u8]) -> Result<Record, Error> {
        parse(&self.records, bytes)
    }

    /// Single records, by the offset in their key.
    pub fn lookup(&self) -> Result<Lookup, Error> {
        let file = File::open(&self.records).map_err(Error::file("read", &self.records))?;
        Ok(Lookup { path: self.records.clone(), file })
    }

    /// The names of the files that belong to it.
    pub fn file_names(name: &str) -> [String; 3] {
        [format!("{name}.json"), format!("{name}.records"), format!("{name}.keys")]
    }
}

fn files(folder: &Path, name: &str) -> [PathBuf; 3] {
    Scan::file_names(name).map(|file| folder.join(file))
}

/// A judged trace whose record is bytes already.
struct Written {
    bytes: Vec<u8>,
    is_first: bool,
    is_kept: bool,
    key: Option<keys::Key>,
    touch: Option<(String, &'static str)>,
    teacher_steps: u64,
}

impl From<Judged> for Written {
    fn from(Judged { record, key, touch, teacher_steps }: Judged) -> Self {
        let (is_first, is_kept) = match &record {
            Record::Kept(found) => (found.is_first, true),
            Record::Lost(found) => (found.is_first, false),
        };
        Self { bytes: record.to_bytes(), is_first, is_kept, key, touch, teacher_steps }
    }
}

/// Reads a file piece by piece. While a piece is judged on all threads, the next one is read on a thread of its own.
#[allow(clippy::type_complexity)]
fn each_piece(task: &Task, take: &mut dyn FnMut(Reading, u64, Vec<Written>) -> Result<(), Error>) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let (sender, pieces) = std::sync::mpsc::sync_channel(1);
        let mut reader = Reader::open(task.input)?;
        let passed_over = reader.passed_over().join(", ");
        let mut left = task.limit;
        scope.spawn(move || {
            while left > 0 {
                let piece = reader.next_piece().map(|mut rows| {
                    rows.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    (rows, reader.read_bytes())
                });
                left -= piece.as_ref().map_or(left, |(rows, _)| rows.len() as u64);
                let is_last = piece.as_ref().map_or(true, |(rows, _)| rows.is_empty());
                // Whoever does not want more has an error of their own.
                if sender.send(piece).is_err() || is_last {
                    return;
                }
            }
        });
        let mut known = None;
        for piece in pieces {
            let (rows, read_bytes) = piece?;
            if rows.is_empty() {
                break;
            }
            let reading = match known {
                Some(reading) => reading,
                None => *known.insert(recognise(task, &rows, &passed_over)?),
            };
            let judged = rows.into_par_iter().flat_map_iter(|row| task.judge.row(&row, reading, task.source, task.requests));
            take(reading, read_bytes, judged.map(Written::from).collect())?;
        }
        Ok(())
    })
}

fn recognise<'a>(task: &Task<'a>, rows: &[Row], passed_over: &str) -> Result<Reading<'a>, Error> {
    let first: Vec<_> = rows.iter().take(ROWS_TO_RECOGNISE).filter_map(|row| row.object().ok()).collect();
    Reading::of(task.source, task.input, &first).map_err(|error| match error {
        Error::Source { path, why } if !passed_over.is_empty() => {
            Error::Source { path, why: format!("{why}; columns of kinds that hold no text are not read: {passed_over}") }
        }
        error => error,
    })
}

/// The records of a scan, one after the other.
pub(crate) struct Records {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
}

impl Records {
    /// The bytes of the next records: at most `count`, of at most about `bytes` together; none at the end.
    pub fn next_piece(&mut self, count: usize, bytes: usize) -> Result<Vec<Vec<u8>>, Error> {
        let (mut piece, mut taken) = (Vec::new(), 0);
        while self.left > 0 && piece.len() < count && taken < bytes {
            let record = read_record(&mut self.file).map_err(Error::file("read", &self.path))?;
            taken += record.len();
            self.left = self.left.saturating_sub(record.len() as u64 + 4);
            piece.push(record);
        }
        Ok(piece)
    }
}

/// Single records of a scan.
pub(crate) struct Lookup {
    path: PathBuf,
    file: File,
}

impl Lookup {
    /// The record that begins at `offset`.
    pub fn at(&mut self, offset: u64) -> Result<Record, Error> {
        let mut read = || {
            self.file.seek(SeekFrom::Start(offset))?;
            read_record(&mut self.file)
        };
        let bytes = read().map_err(Error::file("read", &self.path))?;
        parse(&self.path, &bytes)
    }
}

fn read_record(from: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Record, Error> {
    Record::from_bytes(bytes).ok_or_else(|| Error::source(path, "a record in it is damaged; delete the folder it lies in"))
}
