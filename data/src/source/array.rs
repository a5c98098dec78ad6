//! The elements of one JSON array, one after the other, without the array ever being in memory as a whole.

use std::io::{BufRead, Error, ErrorKind};

use super::lines::{HEAD_BYTES, LONGEST_BYTES, Line};

/// The elements of a stream that holds an array. Each counts as a row, from 1.
pub(super) struct Elements<R> {
    stream: R,
    number: u64,
    longest_bytes: usize,
    place: Place,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Before the opening bracket.
    Before,
    /// Behind the opening bracket or a comma.
    Inside,
    /// Behind the closing bracket.
    After,
}

impl<R: BufRead> Elements<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, number: 0, longest_bytes: LONGEST_BYTES, place: Place::Before }
    }

    /// The number of the last element, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next element. What stands behind the array is one more, so that it is not lost without a word.
    pub fn next_element(&mut self) -> Result<Option<Line>, Error> {
        if self.place == Place::Before {
            while self.byte()?.is_some_and(|byte| byte != b'[') {}
            self.place = Place::Inside;
        }
        let mut element = Element::new(self.longest_bytes);
        if self.place == Place::After {
            while let Some(byte) = self.byte()? {
                element.push(byte);
            }
            return Ok(element.finish().inspect(|_| self.number += 1));
        }
        let (mut depth, mut in_text, mut escaped) = (0u64, false, false);
        loop {
            let Some(byte) = self.byte()? else {
                return Err(Error::new(ErrorKind::UnexpectedEof, "the JSON array is not closed"));
            };
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'{' | b'[' => depth += 1,
                b']' if depth == 0 => {
                    self.place = Place::After;
                    break;
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                b',' if depth == 0 => break,
                _ => {}
            }
            element.push(byte);
        }
        match element.finish() {
            Some(line) => {
                self.number += 1;
                Ok(Some(line))
            }
            // The array's end; whatever stands behind it comes next.
            None if self.place == Place::After => self.next_element(),
            None => {
                self.number += 1;
                Ok(Some(Line::Text(Vec::new())))
            }
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, Error> {
        let byte = self.stream.fill_buf()?.first().copied();
        self.stream.consume(usize::from(byte.is_some()));
        Ok(byte)
    }
}

/// The bytes of an element, as many as may be kept.
struct Element {
    bytes: Vec<u8>,
    len_bytes: u64,
    longest_bytes: usize,
}

impl Element {
    fn new(longest_bytes: usize) -> Self {
        Self { bytes: Vec::new(), len_bytes: 0, longest_bytes }
    }

    fn push(&mut self, byte: u8) {
        self.len_bytes += 1;
        if self.bytes.len() < self.longest_bytes {
            self.bytes.push(byte);
        }
    }

    /// None where it is blank.
    fn finish(mut self) -> Option<Line> {
        if self.len_bytes > self.bytes.len() as u64 {
            self.bytes.truncate(HEAD_BYTES);
            return Some(Line::TooLong { len_bytes: self.len_bytes, head: self.bytes });
        }
        let text = self.bytes.trim_ascii();
        (!text.is_empty()).then(|| Line::Text(text.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str) -> Result<Vec<String>, String> {
        let mut elements = Elements { longest_bytes: 30, ..Elements::new(std::io::BufReader::with_capacity(4, text.as_bytes())) };
        let mut found = Vec::new();
        while let Some(element) = elements.next_element().map_err(|error| error.to_string())? {
            found.push(match element {
                Line::Text(text) => String::from_utf8(text).unwrap(),
                Line::TooLong { len_bytes, .. } => format!("{len_bytes} bytes"),
            });
            assert_eq!(elements.number(), found.len() as u64);
        }
        Ok(found)
    }

    #[test]
    fn elements_are_cut_at_the_commas_between_them() {
        assert_eq!(elements(" [ ]\n").unwrap(), [""; 0]);
        assert_eq!(
            elements(r#"[{"a": [1, 2], "b": "],{\"}"}, 7 , {"c": {}}]"#).unwrap(),
            [r#"{"a": [1, 2], "b": "],{\"}"}"#, "7", r#"{"c": {}}"#]
        );
        assert_eq!(elements(&format!("[{{\"a\": \"{}\"}},{{}}]", "x".repeat(40))).unwrap(), ["49 bytes", "{}"]);
    }

    #[test]
    fn what_is_wrong_with_an_array_is_a_row_or_an_error() {
        assert_eq!(elements("[1,,2,]").unwrap(), ["1", "", "2"]);
        assert_eq!(elements("[1}] rest").unwrap(), ["1}", "rest"]);
        assert_eq!(elements("[{\"a\": 1}, {\"a\"").unwrap_err(), "the JSON array is not closed");
    }
}
