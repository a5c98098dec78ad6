//! Reads problem sets, sets of multiple choice and recorded completions as their authors publish them: `.jsonl`, `.json`, `.tsv` or `.csv`,
//! each also compressed as `.gz`.
//!
//! A line that is no problem is reported with its place and never stops the rest; a file that breaks off is an error, because a score over
//! half a set is no score.

mod choices;
mod layout;
mod lines;
mod recorded;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Choice, Error, Problem};
use lines::{Line, Lines};

pub use layout::strip_calculator_spans;
pub use recorded::Recorded;

/// The longest line that is read; a longer one is a [`BadLine`].
pub const MAX_LINE_BYTES: usize = 64 << 20;
/// The largest `.json` array, unpacked.
const MAX_JSON_BYTES: u64 = 256 << 20;

/// Which fields of a set hold what. A field that is not named is found by the names that published sets use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    /// The question's field.
    pub question: Option<String>,
    /// The reference answer's field.
    pub answer: Option<String>,
    /// The field with the unique name of a problem.
    pub id: Option<String>,
    /// The field with the list of options, in sets of multiple choice.
    pub options: Option<String>,
}

/// The problems of one file, and the lines that are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProblemSet {
    /// In the file's order.
    pub problems: Vec<Problem>,
    /// In the file's order.
    pub bad: Vec<BadLine>,
}

/// A line of a set that is no problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1; in a `.json` array the element.
    pub line: u64,
    /// What was found and what was needed.
    pub what: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: {}", self.path.display(), self.line, self.what)
    }
}

/// The questions of multiple choice of one file, and the lines that are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChoiceSet {
    /// In the file's order.
    pub choices: Vec<Choice>,
    /// In the file's order.
    pub bad: Vec<BadLine>,
}

/// Reads a problem set.
///
/// # Errors
/// If the file cannot be opened or read to its end, if its name does not say what it is, or if it holds no problem at all.
pub fn read_set(path: &Path, fields: &Fields) -> Result<ProblemSet, Error> {
    let parse = |record: &Map<String, Value>| layout::problem(record, fields).map(|problem| (problem.id.clone(), problem));
    let (records, bad) = read_records(path, "problem", &parse, &|first| layout::headerless(first, fields))?;
    let problem = |(id, part): (String, layout::Partial)| Problem { id, question: part.question, answer: part.answer, steps: part.steps };
    Ok(ProblemSet { problems: records.into_iter().map(problem).collect(), bad })
}

/// Reads a set of multiple choice: MMLU's tables and records, AQuA's and ARC's.
///
/// # Errors
/// As [`read_set`].
pub fn read_choices(path: &Path, fields: &Fields) -> Result<ChoiceSet, Error> {
    let (records, bad) =
        read_records(path, "question of multiple choice", &|record| choices::choice(record, fields), &choices::headerless)?;
    let choices = records.into_iter().map(|(id, choice)| Choice { id, ..choice }).collect();
    Ok(ChoiceSet { choices, bad })
}

/// Reads what others recorded of a system's answers: records with a question and, under `field` or one of the usual names, what was said
/// to it. `field` may name a field within a field, as in `a.b`.
///
/// # Errors
/// As [`read_set`].
pub fn read_recorded(path: &Path, field: Option<&str>) -> Result<(Vec<Recorded>, Vec<BadLine>), Error> {
    let parse = |record: &Map<String, Value>| Ok((None, recorded::recorded(record, field)?));
    let (records, bad) = read_records(path, "recorded completion", &parse, &|_| None)?;
    Ok((records.into_iter().map(|(_, recorded)| recorded).collect(), bad))
}

/// Makes an id, if the record has one, and an item of a record, or says what is wrong with it.
type Parse<'a, T> = &'a dyn Fn(&Map<String, Value>) -> Result<(Option<String>, T), String>;
/// The names of a table's columns if its first row is no header.
type Headerless<'a> = &'a dyn Fn(&[String]) -> Option<Vec<String>>;

/// Items with their ids, and the lines that are none.
type Records<T> = (Vec<(String, T)>, Vec<BadLine>);

fn read_records<T>(path: &Path, needed: &'static str, parse: Parse<T>, headerless: Headerless) -> Result<Records<T>, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let (stem, kind) = plain.rsplit_once('.').ok_or_else(|| Error::Extension { path: path.to_path_buf() })?;
    let kind = kind.to_ascii_lowercase();
    if !matches!(kind.as_str(), "jsonl" | "ndjson" | "json" | "tsv" | "csv") {
        return Err(Error::Extension { path: path.to_path_buf() });
    }
    let file = File::open(path).map_err(|source| Error::Open { path: path.to_path_buf(), source })?;
    let source: Box<dyn Read> = if plain.len() < name.len() { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };

    let mut set = Collector { path, stem, parse, headerless, ids: HashMap::new(), items: Vec::new(), bad: Vec::new() };
    match kind.as_str() {
        "json" => set.json(source)?,
        "tsv" => set.table(source, '\t')?,
        "csv" => set.table(source, ',')?,
        _ => set.json_lines(source)?,
    }
    if set.items.is_empty() {
        let first = set.bad.first().map_or_else(|| "the file is empty".to_owned(), |bad| format!("line {}: {}", bad.line, bad.what));
        return Err(Error::Empty { path: path.to_path_buf(), needed, bad: set.bad.len(), first });
    }
    Ok((set.items, set.bad))
}

/// What every kind of file hands its records to.
struct Collector<'a, T> {
    path: &'a Path,
    stem: &'a str,
    parse: Parse<'a, T>,
    headerless: Headerless<'a>,
    /// Where each id was seen first.
    ids: HashMap<String, u64>,
    items: Vec<(String, T)>,
    bad: Vec<BadLine>,
}

impl<T> Collector<'_, T> {
    fn json_lines(&mut self, source: Box<dyn Read>) -> Result<(), Error> {
        let mut lines = Lines::new(BufReader::new(source), MAX_LINE_BYTES);
        let mut number = 0;
        while let Some(line) = lines.next().map_err(|source| self.broken(number, source))? {
            number += 1;
            match line {
                Line::Text(text) if text.trim().is_empty() => {}
                Line::Text(text) => match serde_json::from_str::<Value>(text) {
                    Ok(value) => self.record(number, value),
                    Err(error) => self.bad(number, format!("not a JSON object: {error}")),
                },
                Line::Bad(what) => self.bad(number, what),
            }
        }
        Ok(())
    }

    fn json(&mut self, source: Box<dyn Read>) -> Result<(), Error> {
        let mut text = Vec::new();
        source.take(MAX_JSON_BYTES + 1).read_to_end(&mut text).map_err(|source| self.broken(0, source))?;
        if text.len() as u64 > MAX_JSON_BYTES {
            return Err(Error::TooLarge { path: self.path.to_path_buf(), limit_bytes: MAX_JSON_BYTES });
        }
        let body = text.strip_prefix(lines::BYTE_ORDER_MARK).unwrap_or(&text);
        let records: Vec<Value> =
            serde_json::from_slice(body).map_err(|error| Error::Json { path: self.path.to_path_buf(), what: error.to_string() })?;
        for (record, number) in records.into_iter().zip(1..) {
            self.record(number, record);
        }
        Ok(())
    }

    fn table(&mut self, source: Box<dyn Read>, separator: char) -> Result<(), Error> {
        let mut lines = Lines::new(BufReader::new(source), MAX_LINE_BYTES);
        let mut header: Option<Vec<String>> = None;
        loop {
            let row = match table::next_row(&mut lines, separator) {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(()),
                Err(source) => return Err(self.broken(lines.number(), source)),
            };
            match (row.cells, &header) {
                (Err(what), _) => self.bad(row.line, what),
                (Ok(cells), Some(names)) => self.row(row.line, names, cells),
                (Ok(cells), None) => match (self.headerless)(&cells) {
                    Some(names) => {
                        self.row(row.line, &names, cells);
                        header = Some(names);
                    }
                    None => header = Some(cells),
                },
            }
        }
    }

    fn row(&mut self, line: u64, names: &[String], cells: Vec<String>) {
        if cells.len() != names.len() {
            return self.bad(line, format!("found {} columns, needed {} as in the first row", cells.len(), names.len()));
        }
        let record: Map<String, Value> = names.iter().cloned().zip(cells.into_iter().map(Value::String)).collect();
        self.record(line, Value::Object(record));
    }

    fn record(&mut self, line: u64, value: Value) {
        let Value::Object(record) = value else {
            return self.bad(line, "found JSON that is no object, needed an object with a question".to_owned());
        };
        let (id, item) = match (self.parse)(&record) {
            Ok(parsed) => parsed,
            Err(what) => return self.bad(line, what),
        };
        let id = id.unwrap_or_else(|| format!("{}-{line}", self.stem));
        if let Some(first) = self.ids.get(&id) {
            return self.bad(line, format!("the id {id:?} stands at line {first} already; ids name one problem each"));
        }
        self.ids.insert(id.clone(), line);
        self.items.push((id, item));
    }

    fn bad(&mut self, line: u64, what: String) {
        self.bad.push(BadLine { path: self.path.to_path_buf(), line, what });
    }

    fn broken(&self, line: u64, source: std::io::Error) -> Error {
        Error::Read { path: self.path.to_path_buf(), line, source }
    }
}
