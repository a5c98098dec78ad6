//! The records of a table with separators (CSV, TSV) whose first record names the columns. A quotation mark that is never closed
//! takes in the rest of the file; that is one bad row which says so.

use std::io::{BufRead, Error};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};
use serde_json::{Map, Value};

use super::lines::{HEAD_BYTES, LONGEST_BYTES, Line, Lines};

/// One record, or what is wrong with it and how it begins.
pub(super) type Record = Result<Map<String, Value>, (String, Vec<u8>)>;

/// The records of a stream.
pub(super) struct Records<R> {
    lines: Lines<R>,
    parser: Reader,
    columns: Vec<String>,
    /// The line in which the last record begins.
    number: u64,
}

impl<R: BufRead> Records<R> {
    /// Reads the first record, which names the columns; or says what is wrong with it.
    pub fn new(stream: R, separator: u8) -> Result<Result<Self, String>, Error> {
        let parser = ReaderBuilder::new().delimiter(separator).terminator(Terminator::Any(b'\n')).build();
        let mut records = Self { lines: Lines::new(stream), parser, columns: Vec::new(), number: 0 };
        let names = match records.next_cells()? {
            None => return Ok(Ok(records)),
            Some(Err((why, _))) => return Ok(Err(format!("the names of its columns cannot be read: {why}"))),
            Some(Ok(names)) => names,
        };
        for (at, name) in names.iter().enumerate() {
            if name.trim().is_empty() {
                return Ok(Err(format!("column {} of {} has no name; its first record must name the columns", at + 1, names.len())));
            }
            if names[..at].contains(name) {
                return Ok(Err(format!("two of its columns are called {name:?}; its first record must name the columns")));
            }
        }
        records.columns = names;
        Ok(Ok(records))
    }

    /// The line in which the last record begins, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next record. Every cell is a text.
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        let Some(cells) = self.next_cells()? else { return Ok(None) };
        let named = |cells: Vec<String>| {
            if cells.len() == self.columns.len() {
                return Ok(self.columns.iter().cloned().zip(cells.into_iter().map(Value::String)).collect());
            }
            let mut head = cells.join(" | ").into_bytes();
            head.truncate(HEAD_BYTES);
            Err((format!("it has {} cells, the table has {} columns", cells.len(), self.columns.len()), head))
        };
        Ok(Some(cells.and_then(named)))
    }

    #[allow(clippy::type_complexity)]
    fn next_cells(&mut self) -> Result<Option<Result<Vec<String>, (String, Vec<u8>)>>, Error> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let (mut written, mut cells) = (0, 0);
        let mut head: Option<Vec<u8>> = None;
        loop {
            let line = match self.lines.next_raw()? {
                Some(line) => line,
                None => {
                    self.parser.reset();
                    let swallowed = self.lines.number() + 1 - self.number;
                    let why = format!("a quotation mark is not closed in the {swallowed} lines up to the end of the file");
                    return Ok(head.map(|head| Err((why, head))));
                }
            };
            let mut text = match line {
                Line::Text(text) if head.is_none() && text.trim_ascii().is_empty() => continue,
                Line::Text(text) if written + text.len() <= LONGEST_BYTES => text,
                line => {
                    let (len_bytes, start) = match line {
                        Line::Text(text) => ((written + text.len()) as u64, text[..text.len().min(HEAD_BYTES)].to_vec()),
                        Line::TooLong { len_bytes, head } => (len_bytes, head),
                    };
                    if head.is_none() {
                        self.number = self.lines.number();
                    }
                    self.parser.reset();
                    let why = format!("the record has {len_bytes} bytes and more, at most {LONGEST_BYTES} are read as one row");
                    return Ok(Some(Err((why, head.unwrap_or(start)))));
                }
            };
            if text.last() == Some(&b'\r') {
                text.pop();
            }
            text.push(b'\n');
            if head.is_none() {
                self.number = self.lines.number();
                head = Some(text[..text.len().min(HEAD_BYTES)].to_vec());
            }
            // No line gives more bytes than it has, nor more cells than it has bytes.
            bytes.resize(written + text.len(), 0);
            ends.resize(cells + text.len(), 0);
            let (result, _, new_bytes, new_cells) = self.parser.read_record(&text, &mut bytes[written..], &mut ends[cells..]);
            written += new_bytes;
            cells += new_cells;
            if result == ReadRecordResult::Record {
                let starts = [0].into_iter().chain(ends.iter().copied());
                let texts = starts.zip(&ends[..cells]).map(|(start, &end)| String::from_utf8(bytes[start..end].to_vec()));
                let texts: Result<Vec<String>, _> = texts.collect();
                return Ok(Some(texts.map_err(|_| ("not UTF-8".to_owned(), head.unwrap_or_default()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &[u8], separator: u8) -> Result<Vec<(u64, String)>, String> {
        let mut records = Records::new(text, separator).unwrap()?;
        let mut found = Vec::new();
        while let Some(record) = records.next_record().unwrap() {
            let shown = match record {
                Ok(map) => Value::Object(map).to_string(),
                Err((why, _)) => why,
            };
            found.push((records.number(), shown));
        }
        Ok(found)
    }

    #[test]
    fn cells_may_hold_separators_quotes_and_line_feeds() {
        let text = b"\xef\xbb\xbfquestion,answer\r\n\"1, 2\",\"say \"\"so\"\"\"\r\n\n\"a\nb\",c\n";
        let expected =
            [(2, r#"{"question":"1, 2","answer":"say \"so\""}"#.to_owned()), (4, r#"{"question":"a\nb","answer":"c"}"#.to_owned())];
        assert_eq!(records(text, b',').unwrap(), expected);
        assert_eq!(records(b"a\tb\n1,5\t\n", b'\t').unwrap(), [(2, r#"{"a":"1,5","b":""}"#.to_owned())]);
        assert_eq!(records(b"", b',').unwrap(), []);
    }

    #[test]
    fn a_bad_record_says_what_is_wrong_and_the_rest_goes_in() {
        let found = records(b"a,b\n1\n\xff,2\n3,4\n\"5,6\n7,8\n", b',').unwrap();
        let expected = [
            (2, "it has 1 cells, the table has 2 columns"),
            (3, "not UTF-8"),
            (4, r#"{"a":"3","b":"4"}"#),
            (5, "a quotation mark is not closed in the 2 lines up to the end of the file"),
        ];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
        assert_eq!(
            records(b"a,a\n1,2\n", b',').unwrap_err(),
            "two of its columns are called \"a\"; its first record must name the columns"
        );
        assert!(records(b"a,\n1,2\n", b',').unwrap_err().starts_with("column 2 of 2 has no name"));
    }
}
