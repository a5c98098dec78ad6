//! A file of traces as rows with their numbers, read in pieces, so that memory does not grow with the file. JSONL, a JSON array,
//! Parquet and tables with separators; gzip and zstd around each but Parquet, which packs itself.

mod array;
mod files;
mod lenient;
mod lines;
mod parquet;
mod stream;
mod table;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use polars::frame::DataFrame;
use serde_json::{Map, Value};

use crate::Error;
use crate::rules::{Drop, Rule};

use array::Elements;
pub(crate) use files::files;
use lines::{Line, Lines};
use stream::Stream;
use table::Records;

/// A piece ends after this many rows or bytes, whichever comes first.
const PIECE_ROWS: usize = 4096;
const PIECE_BYTES: usize = 16 << 20;

/// One row of a file, not yet understood.
#[derive(Debug)]
pub(crate) struct Row {
    /// Counted from 1: the line in which it begins, or in a JSON array and in Parquet the row.
    pub line: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Json(Vec<u8>),
    Object(Map<String, Value>),
    Columns(Arc<DataFrame>, usize),
    Bad { why: String, head: Vec<u8> },
}

impl Row {
    /// The row as an object.
    pub fn object(&self) -> Result<Map<String, Value>, Drop> {
        let bytes = match &self.content {
            Content::Json(bytes) => bytes,
            Content::Object(object) => return Ok(object.clone()),
            Content::Columns(frame, row) => return Ok(parquet::object(frame, *row)),
            Content::Bad { why, .. } => return Err(Drop::new(Rule::Malformed, why)),
        };
        let parsed = serde_json::from_slice(bytes);
        let parsed = parsed.or_else(|error| match lenient::without_words(bytes) {
            Some(plain) => serde_json::from_slice(&plain),
            None => Err(error),
        });
        match parsed {
            Ok(Value::Object(object)) => Ok(object),
            Ok(other) => Err(Drop::new(Rule::Malformed, format!("a JSON object is needed, this is {}", kind(&other)))),
            Err(error) => Err(Drop::new(Rule::Malformed, not_json(bytes, &error))),
        }
    }

    /// The beginning of the row as it stands in the file, for the sidecar.
    pub fn excerpt(&self) -> String {
        const LONGEST: usize = 240;
        let written;
        let bytes = match &self.content {
            Content::Json(bytes) | Content::Bad { head: bytes, .. } => bytes,
            Content::Object(object) => {
                written = serde_json::to_vec(object).unwrap_or_default();
                &written
            }
            Content::Columns(frame, row) => {
                written = serde_json::to_vec(&parquet::object(frame, *row)).unwrap_or_default();
                &written
            }
        };
        let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]).into_owned();
        if bytes.len() > LONGEST {
            text.push('…');
        }
        text
    }
}

fn not_json(bytes: &[u8], error: &serde_json::Error) -> String {
    match std::str::from_utf8(bytes) {
        Err(utf8) => format!("not UTF-8 from byte {} of the row on", utf8.valid_up_to() + 1),
        Ok(_) => {
            // The parser is given one row at a time, so that its own line number says nothing.
            let text = error.to_string();
            let why = text.split(" at line ").next().unwrap_or(&text);
            let nul = if bytes.contains(&0) { "; the row holds NUL bytes" } else { "" };
            format!("not JSON: {why}, at byte {} of {}{nul}", error.column(), bytes.len())
        }
    }
}

pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A file of traces that is being read.
pub(crate) struct Reader {
    path: PathBuf,
    rows: Rows,
    read_bytes: Arc<AtomicU64>,
}

#[allow(clippy::large_enum_variant)]
enum Rows {
    Lines(Lines<Stream>),
    Elements(Elements<Stream>),
    Records(Records<Stream>),
    Slices { table: parquet::Table, len_bytes: u64, open: Option<(Arc<DataFrame>, usize)> },
}

impl Reader {
    /// Opens a file. What it is, is seen from its first bytes; only a table with separators is told by its name.
    pub fn open(path: &Path) -> Result<Reader, Error> {
        let read_bytes = Arc::new(AtomicU64::new(0));
        let mut stream = stream::open(path, &read_bytes).map_err(Error::file("read", path))?;
        let head = stream.fill_buf().map_err(|error| broken(path, 0, &error))?;
        let first = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start().first();
        let rows = if head.starts_with(b"PAR1") {
            let table = parquet::Table::open(path).map_err(|why| Error::source(path, why))?;
            let len_bytes = std::fs::metadata(path).map_err(Error::file("read", path))?.len();
            read_bytes.store(0, Ordering::Relaxed);
            Rows::Slices { table, len_bytes, open: None }
        } else if let Some(separator) = separator(path) {
            let records = Records::new(stream, separator).map_err(|error| broken(path, 1, &error))?;
            Rows::Records(records.map_err(|why| Error::source(path, why))?)
        } else if first == Some(&b'[') {
            Rows::Elements(Elements::new(stream))
        } else {
            Rows::Lines(Lines::new(stream))
        };
        Ok(Reader { path: path.to_owned(), rows, read_bytes })
    }

    /// What the file was found to be, in words.
    pub fn form(&self) -> &'static str {
        match self.rows {
            Rows::Lines(_) => "JSON lines",
            Rows::Elements(_) => "a JSON array",
            Rows::Records(_) => "a table with separators",
            Rows::Slices { .. } => "Parquet",
        }
    }

    /// Columns that are of no kind that a trace could hold.
    pub fn passed_over(&self) -> &[String] {
        match &self.rows {
            Rows::Slices { table, .. } => &table.passed_over,
            Rows::Lines(_) | Rows::Elements(_) | Rows::Records(_) => &[],
        }
    }

    /// The next rows; none at the end. A file that breaks off is an error: half of a file is not what was meant.
    pub fn next_piece(&mut self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        while rows.len() < PIECE_ROWS && bytes < PIECE_BYTES {
            let Some(row) = self.next_row()? else { break };
            if let Content::Json(text) = &row.content {
                bytes += text.len();
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn next_row(&mut self) -> Result<Option<Row>, Error> {
        let path = &self.path;
        let (line, content) = match &mut self.rows {
            Rows::Lines(lines) => {
                let line = lines.next_line().map_err(|error| broken(path, lines.number(), &error))?;
                (lines.number(), line.map(content))
            }
            Rows::Elements(elements) => {
                let line = elements.next_element().map_err(|error| broken(path, elements.number(), &error))?;
                (elements.number(), line.map(content))
            }
            Rows::Records(records) => {
                let record = records.next_record().map_err(|error| broken(path, records.number(), &error))?;
                let content = |record| match record {
                    Ok(object) => Content::Object(object),
                    Err((why, head)) => Content::Bad { why, head },
                };
                (records.number(), record.map(content))
            }
            Rows::Slices { table, len_bytes, open } => {
                if open.as_ref().is_none_or(|(frame, row)| *row == frame.height()) {
                    *open = table.next_slice().map_err(|why| Error::source(path, why))?.map(|frame| (frame, 0));
                    let share = table.at() as f64 / table.rows().max(1) as f64;
                    self.read_bytes.store((*len_bytes as f64 * share) as u64, Ordering::Relaxed);
                }
                let Some((frame, row)) = open else { return Ok(None) };
                *row += 1;
                ((table.at() - frame.height() + *row) as u64, Some(Content::Columns(Arc::clone(frame), *row - 1)))
            }
        };
        Ok(content.map(|content| Row { line, content }))
    }

    /// How many bytes of the file have been read, as it lies on the disk.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

fn content(line: Line) -> Content {
    match line {
        Line::Text(text) => Content::Json(text),
        Line::TooLong { len_bytes, head } => {
            Content::Bad { why: format!("the row has {len_bytes} bytes, at most {} are read as one row", lines::LONGEST_BYTES), head }
        }
    }
}

fn broken(path: &Path, after: u64, error: &std::io::Error) -> Error {
    Error::source(path, format!("after line {after}: {error}; the file is not whole, get it again"))
}

/// What separates the cells of a table, by the file's name.
fn separator(path: &Path) -> Option<u8> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let plain = [".gz", ".zst", ".zstd"].iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(&name);
    match plain.rsplit_once('.')?.1 {
        "csv" => Some(b','),
        "tsv" | "tab" => Some(b'\t'),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
