//! Lines of a stream with an upper limit on their length, so that a file without line ends cannot fill the memory.

use std::io::{BufRead, Error, Read};

/// A longer row is passed over and reported.
pub(super) const LONGEST_BYTES: usize = 32 << 20;

/// So much of a row that is too long is kept, to show it.
pub(super) const HEAD_BYTES: usize = 256;

/// One line, or whatever else is one row, as bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Text(Vec<u8>),
    TooLong { len_bytes: u64, head: Vec<u8> },
}

/// The lines of a stream.
pub(super) struct Lines<R> {
    stream: R,
    number: u64,
    longest_bytes: usize,
}

impl<R: BufRead> Lines<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, number: 0, longest_bytes: LONGEST_BYTES }
    }

    /// The number of the last line, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line that is not blank, without white space around it.
    pub fn next_line(&mut self) -> Result<Option<Line>, Error> {
        while let Some(line) = self.next_raw()? {
            match line {
                Line::Text(text) if text.trim_ascii().is_empty() => {}
                Line::Text(mut text) => {
                    text.truncate(text.trim_ascii_end().len());
                    text.drain(..text.len() - text.trim_ascii_start().len());
                    return Ok(Some(Line::Text(text)));
                }
                line => return Ok(Some(line)),
            }
        }
        Ok(None)
    }

    /// The next line as it stands, without its line feed.
    pub fn next_raw(&mut self) -> Result<Option<Line>, Error> {
        let mut text = Vec::new();
        let limit = self.longest_bytes as u64 + 1;
        let count = (&mut self.stream).take(limit).read_until(b'\n', &mut text)? as u64;
        if count == 0 {
            return Ok(None);
        }
        self.number += 1;
        if text.last() == Some(&b'\n') {
            text.pop();
        } else if count == limit {
            let before = count + self.stream.skip_until(b'\n')? as u64;
            text.truncate(HEAD_BYTES);
            return Ok(Some(Line::TooLong { len_bytes: before, head: text }));
        }
        if self.number == 1 && text.starts_with(b"\xef\xbb\xbf") {
            text.drain(..3);
        }
        Ok(Some(Line::Text(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], longest_bytes: usize) -> Vec<(u64, Line)> {
        let mut lines = Lines { stream: std::io::BufReader::with_capacity(3, bytes), number: 0, longest_bytes };
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push((lines.number(), line));
        }
        found
    }

    #[test]
    fn lines_keep_their_numbers_and_long_ones_are_passed_over() {
        let text = |text: &str| Line::Text(text.as_bytes().to_vec());
        let long = Line::TooLong { len_bytes: 9, head: b"cdefgh".to_vec() };
        assert_eq!(lines(b"ab\r\n\n  \ncdefghij\nklmno\n", 5), [(1, text("ab")), (4, long), (5, text("klmno"))]);
        assert_eq!(lines(b"\n\n", 5), []);
        assert_eq!(lines(b" a ", 5), [(1, text("a"))]);
    }
}
