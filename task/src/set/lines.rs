//! Lines of bounded length: one that is too long or is not UTF-8 costs itself and nothing else, and is never held in memory whole.

use std::io::{self, BufRead};

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One line without its end.
pub(super) enum Line<'a> {
    Text(&'a str),
    /// What is wrong with it.
    Bad(String),
}

pub(super) struct Lines<R> {
    source: R,
    limit_bytes: usize,
    number: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(source: R, limit_bytes: usize) -> Lines<R> {
        Lines { source, limit_bytes, number: 0, buffer: Vec::new() }
    }

    /// The number of the line that was read last, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let mut length = 0usize;
        loop {
            let chunk = match self.source.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                if length == 0 {
                    return Ok(None);
                }
                break;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            length += taken;
            if length <= self.limit_bytes {
                self.buffer.extend_from_slice(&chunk[..taken]);
            }
            self.source.consume(taken);
            if end.is_some() {
                break;
            }
        }
        self.number += 1;
        if length > self.limit_bytes {
            return Ok(Some(Line::Bad(format!("the line has {length} bytes, at most {} are read", self.limit_bytes))));
        }
        let mut line = self.buffer.as_slice();
        if self.number == 1 {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some(match std::str::from_utf8(line) {
            Ok(text) => Line::Text(text),
            Err(error) => Line::Bad(format!("not UTF-8 after byte {}", error.valid_up_to())),
        }))
    }
}
