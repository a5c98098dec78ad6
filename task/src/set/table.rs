//! Rows of tables. Tab-separated text knows no quotes; comma-separated text is that of RFC 4180, where a quoted cell may hold line ends.

use std::io::{self, BufRead};

use super::MAX_LINE_BYTES;
use super::lines::{Line, Lines};

pub(super) struct Row {
    /// Where it begins, counted from 1.
    pub line: u64,
    pub cells: Result<Vec<String>, String>,
}

/// The next row that is not blank.
pub(super) fn next_row<R: BufRead>(lines: &mut Lines<R>, separator: char) -> io::Result<Option<Row>> {
    let mut cells = Cells::default();
    let mut first_line = None;
    let mut length = 0;
    loop {
        let number = lines.number() + 1;
        let text = match lines.next()? {
            Some(Line::Text(text)) => text,
            Some(Line::Bad(what)) => return Ok(Some(Row { line: first_line.unwrap_or(number), cells: Err(what) })),
            None => {
                let unclosed = || Err("a quoted cell is not closed before the end of the file".to_owned());
                return Ok(first_line.map(|line| Row { line, cells: unclosed() }));
            }
        };
        if first_line.is_none() && text.trim().is_empty() {
            continue;
        }
        let line = *first_line.get_or_insert(number);
        if separator == '\t' {
            return Ok(Some(Row { line, cells: Ok(text.split('\t').map(str::to_owned).collect()) }));
        }
        length += text.len();
        if length > MAX_LINE_BYTES {
            let what = format!("a row has more than {MAX_LINE_BYTES} bytes");
            return Ok(Some(Row { line, cells: Err(what) }));
        }
        cells.feed(text, separator);
        if !cells.is_open() {
            return Ok(Some(Row { line, cells: cells.finish() }));
        }
    }
}

/// The cells of one row, fed line by line.
#[derive(Default)]
struct Cells {
    done: Vec<String>,
    cell: String,
    state: State,
    /// The cell that has text behind its closing quote.
    bad_cell: Option<usize>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Start,
    Plain,
    Quoted,
    /// A quote inside a quoted cell: its end, or the first of two that stand for one.
    Quote,
}

impl Cells {
    fn feed(&mut self, line: &str, separator: char) {
        for character in line.chars() {
            match (self.state, character) {
                (State::Start, '"') => self.state = State::Quoted,
                (State::Quoted, '"') => self.state = State::Quote,
                (State::Quote, '"') => {
                    self.cell.push('"');
                    self.state = State::Quoted;
                }
                (State::Quoted, _) => self.cell.push(character),
                (State::Start | State::Plain | State::Quote, _) if character == separator => {
                    self.done.push(std::mem::take(&mut self.cell));
                    self.state = State::Start;
                }
                (State::Start | State::Plain, _) => {
                    self.cell.push(character);
                    self.state = State::Plain;
                }
                (State::Quote, _) => {
                    self.bad_cell.get_or_insert(self.done.len() + 1);
                }
            }
        }
        if self.is_open() {
            self.cell.push('\n');
        }
    }

    fn is_open(&self) -> bool {
        self.state == State::Quoted
    }

    fn finish(mut self) -> Result<Vec<String>, String> {
        self.done.push(self.cell);
        match self.bad_cell {
            Some(cell) => Err(format!("text stands behind the closing quote of cell {cell}")),
            None => Ok(self.done),
        }
    }
}
