//! Lines of a stream with an upper limit on their length, so that a file without line ends cannot fill the memory.

use std::io::{BufRead, Error};

/// A longer line is passed over and reported.
pub(super) const LONGEST_BYTES: usize = 32 << 20;

/// One line without its line end.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Text(Vec<u8>),
    TooLong { len_bytes: u64 },
}

/// The lines of a stream that are not blank.
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

    /// The next line that is not blank.
    pub fn next_line(&mut self) -> Result<Option<Line>, Error> {
        while let Some(line) = self.any_line()? {
            match line {
                Line::Text(text) if text.is_empty() => {}
                line => return Ok(Some(line)),
            }
        }
        Ok(None)
    }

    fn any_line(&mut self) -> Result<Option<Line>, Error> {
        let mut text = Vec::new();
        let mut len_bytes: u64 = 0;
        loop {
            let piece = self.stream.fill_buf()?;
            if piece.is_empty() {
                if len_bytes == 0 {
                    return Ok(None);
                }
                break;
            }
            let end = piece.iter().position(|&byte| byte == b'\n');
            let part = &piece[..end.unwrap_or(piece.len())];
            let used = part.len() + usize::from(end.is_some());
            if text.len() + part.len() <= self.longest_bytes && len_bytes == text.len() as u64 {
                text.extend_from_slice(part);
            }
            len_bytes += part.len() as u64;
            self.stream.consume(used);
            if end.is_some() {
                break;
            }
        }
        self.number += 1;
        if len_bytes != text.len() as u64 {
            return Ok(Some(Line::TooLong { len_bytes }));
        }
        if self.number == 1 && text.starts_with(b"\xef\xbb\xbf") {
            text.drain(..3);
        }
        Ok(Some(Line::Text(text.trim_ascii().to_vec())))
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
        assert_eq!(lines(b"ab\r\n\n  \ncdefghij\nklmno\n", 5), [(1, text("ab")), (4, Line::TooLong { len_bytes: 8 }), (5, text("klmno"))]);
        assert_eq!(lines(b"\n\n", 5), []);
        assert_eq!(lines(b"a", 5), [(1, text("a"))]);
    }
}
