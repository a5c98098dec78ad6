//! A file of traces as rows with their line numbers, read in pieces, so that memory does not grow with the file.

mod lines;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use serde_json::{Map, Value};

use crate::Error;
use crate::rules::{Drop, Rule};

use lines::{Line, Lines};

/// A piece ends after this many rows or bytes, whichever comes first.
const PIECE_ROWS: usize = 4096;
const PIECE_BYTES: usize = 16 << 20;

/// One row of a file, not yet understood.
#[derive(Debug)]
pub(crate) struct Row {
    /// Counted from 1.
    pub line: u64,
    content: Result<Vec<u8>, String>,
}

impl Row {
    /// The row as a JSON object.
    pub fn object(&self) -> Result<Map<String, Value>, Drop> {
        let bytes = self.content.as_ref().map_err(|why| Drop::new(Rule::Malformed, why))?;
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(other) => Err(Drop::new(Rule::Malformed, format!("a JSON object is needed, this is {}", kind(&other)))),
            Err(error) => Err(Drop::new(Rule::Malformed, not_json(bytes, &error))),
        }
    }

    /// The beginning of the row as it stands in the file, for the sidecar.
    pub fn excerpt(&self) -> String {
        const LONGEST: usize = 240;
        let bytes = self.content.as_deref().unwrap_or_default();
        let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]).into_owned();
        if bytes.len() > LONGEST {
            text.push('…');
        }
        text
    }
}

fn not_json(bytes: &[u8], error: &serde_json::Error) -> String {
    match std::str::from_utf8(bytes) {
        Err(utf8) => format!("not UTF-8 from byte {} of the line on", utf8.valid_up_to() + 1),
        Ok(_) => {
            // The reader is given one line at a time, so that its own line number says nothing.
            let text = error.to_string();
            let why = text.split(" at line ").next().unwrap_or(&text);
            format!("not JSON: {why}, at byte {} of {}", error.column(), bytes.len())
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
    lines: Lines<Box<dyn BufRead + Send>>,
    read_bytes: Arc<AtomicU64>,
}

impl Reader {
    /// Opens a JSONL file; gzip and zstd are recognised by their first bytes.
    pub fn open(path: &Path) -> Result<Reader, Error> {
        let file = File::open(path).map_err(Error::file("read", path))?;
        let read_bytes = Arc::new(AtomicU64::new(0));
        let mut raw = BufReader::with_capacity(1 << 18, Counting { inner: file, count: Arc::clone(&read_bytes) });
        let head = raw.fill_buf().map_err(Error::file("read", path))?;
        let stream: Box<dyn BufRead + Send> = match head {
            [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(raw))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let decoder =
                    StreamingDecoder::new(raw).map_err(|error| Error::source(path, format!("it is not a whole zstd file: {error}")))?;
                Box::new(BufReader::with_capacity(1 << 18, decoder))
            }
            _ => Box::new(raw),
        };
        Ok(Reader { path: path.to_owned(), lines: Lines::new(stream), read_bytes })
    }

    /// The next rows; none at the end. A stream that breaks off is an error: half of a file is not what was meant.
    pub fn next_piece(&mut self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        while rows.len() < PIECE_ROWS && bytes < PIECE_BYTES {
            let next = self.lines.next_line().map_err(|error| {
                Error::source(&self.path, format!("after line {}: {error}; the file is not whole, get it again", self.lines.number()))
            })?;
            let Some(line) = next else { break };
            let content = match line {
                Line::Text(text) => {
                    bytes += text.len();
                    Ok(text)
                }
                Line::TooLong { len_bytes } => {
                    Err(format!("the line has {len_bytes} bytes, at most {} are read as one row", lines::LONGEST_BYTES))
                }
            };
            rows.push(Row { line: self.lines.number(), content });
        }
        Ok(rows)
    }

    /// How many bytes of the file have been read, as it lies on the disk.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

struct Counting<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn rows_of(bytes: &[u8]) -> Result<Vec<Row>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces.jsonl");
        std::fs::write(&path, bytes).unwrap();
        let mut reader = Reader::open(&path)?;
        let mut rows = Vec::new();
        loop {
            let piece = reader.next_piece()?;
            if piece.is_empty() {
                return Ok(rows);
            }
            rows.extend(piece);
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bad_line_says_what_is_wrong_and_the_rest_goes_in() {
        let rows = rows_of(b"\xef\xbb\xbf{\"a\": 1}\r\n\n{\"a\": \n[1]\n{\"a\": \"\xff\"}\n{\"a\": 2}").unwrap();
        let found: Vec<(u64, Result<usize, String>)> =
            rows.iter().map(|row| (row.line, row.object().map(|object| object.len()).map_err(|drop| drop.detail))).collect();
        assert_eq!(found[0], (1, Ok(1)));
        assert_eq!(found[1].0, 3);
        assert!(found[1].1.as_ref().unwrap_err().starts_with("not JSON: EOF while parsing a value, at byte"), "{found:?}");
        assert!(found[2].1.as_ref().unwrap_err().ends_with("this is a list"));
        assert!(found[3].1.as_ref().unwrap_err().starts_with("not UTF-8 from byte 8"));
        assert_eq!(found[4], (6, Ok(1)));
    }

    #[test]
    fn compressed_files_are_recognised_and_half_of_one_is_an_error() {
        let whole = gzip(b"{\"a\": 1}\n{\"a\": 2}\n");
        assert_eq!(rows_of(&whole).unwrap().len(), 2);
        let twice = [whole.clone(), whole.clone()].concat();
        assert_eq!(rows_of(&twice).unwrap().len(), 4);
        let found = rows_of(&whole[..whole.len() - 6]).unwrap_err().to_string();
        assert!(found.contains("the file is not whole"), "{found}");
    }
}
