//! The teacher's files: training traces in the `messages` layout that ingestion reads like any other teacher's, and the two
//! held-out sets as problems.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use task::Trace;

use super::{Error, SynthConfig, synthesize};

/// What was written, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Training traces: id, messages, reference.
    pub train: PathBuf,
    /// Problems of the templates that training sees.
    pub held_out: PathBuf,
    /// Problems of templates that it does not see.
    pub unseen: PathBuf,
    /// How long the training traces are, by number of steps.
    pub lengths: BTreeMap<u32, Lengths>,
}

/// Characters in the training traces of one number of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Traces.
    pub traces: usize,
    /// Characters of all questions.
    pub question_chars: usize,
    /// Characters of the longest question.
    pub longest_question_chars: usize,
    /// Characters of all chains of thought.
    pub reasoning_chars: usize,
    /// Characters of the longest chain of thought.
    pub longest_reasoning_chars: usize,
}

/// Writes `train.jsonl`, `held_out.jsonl` and `unseen.jsonl` into `folder`, which is made if it is missing.
pub fn write(config: &SynthConfig, folder: &Path) -> Result<Written, Error> {
    let synthesis = synthesize(config)?;
    fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
    Ok(Written {
        train: write_lines(folder.join("train.jsonl"), synthesis.traces.iter().map(Line::new))?,
        held_out: write_lines(folder.join("held_out.jsonl"), synthesis.held_out.iter())?,
        unseen: write_lines(folder.join("unseen.jsonl"), synthesis.unseen.iter())?,
        lengths: lengths(&synthesis.traces),
    })
}

/// A trace in the `messages` layout.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    messages: [Message<'a>; 2],
    reference: Option<&'a str>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: std::borrow::Cow<'a, str>,
}

impl<'a> Line<'a> {
    fn new(trace: &'a Trace) -> Self {
        let user = Message { role: "user", content: (&trace.question).into() };
        let assistant = Message { role: "assistant", content: trace.completion().into() };
        Self { id: &trace.id, messages: [user, assistant], reference: trace.reference.as_deref() }
    }
}

/// Writes beside `path` and renames, so that a file of that name is always whole.
fn write_lines(path: PathBuf, records: impl Iterator<Item = impl Serialize>) -> Result<PathBuf, Error> {
    let unfinished = path.with_extension("jsonl.unfinished");
    let finish = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create(&unfinished)?);
        for record in records {
            serde_json::to_writer(&mut file, &record)?;
            file.write_all(b"\n")?;
        }
        file.into_inner()?.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    match finish() {
        Ok(()) => Ok(path),
        Err(source) => {
            // The first failure is the one to report; the leftover may not even exist.
            let _ = fs::remove_file(&unfinished);
            Err(Error::Write { path, source })
        }
    }
}

fn lengths(traces: &[Trace]) -> BTreeMap<u32, Lengths> {
    let mut by_steps = BTreeMap::<u32, Lengths>::new();
    for trace in traces {
        // The teacher writes one line for each step.
        let lengths = by_steps.entry(trace.reasoning.lines().count() as u32).or_default();
        let (question_chars, reasoning_chars) = (trace.question.chars().count(), trace.reasoning.chars().count());
        lengths.traces += 1;
        lengths.question_chars += question_chars;
        lengths.longest_question_chars = lengths.longest_question_chars.max(question_chars);
        lengths.reasoning_chars += reasoning_chars;
        lengths.longest_reasoning_chars = lengths.longest_reasoning_chars.max(reasoning_chars);
    }
    by_steps
}
