//! Files that a killed evaluation goes on with: a head that says what was asked of whom and how, then one entry a line.
//! `completions.jsonl` holds what a student wrote, `likelihoods.jsonl` how likely it found the options of multiple choice.
//!
//! Lines are added in the order in which they come in, each in one write, so that a killed evaluation loses at most the line it was
//! writing. [`Journal::finish`] puts them into the set's order: the file then does not show when it was interrupted.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use task::Completion;

use crate::error::file_error;
use crate::file::write_file;
use crate::{Error, Likelihoods, Settings};

/// The version of the file.
const VERSION: u32 = 1;

/// The first line: what was asked of whom and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the file.
    pub completions: u32,
    /// The student's name.
    pub name: String,
    /// SHA-256 of the packed file, in hex.
    pub student: String,
    /// The set's name.
    pub set: String,
    /// SHA-256, in hex, of the questions' ids and prompts in their order. Reference answers are left out: marking can be repeated with
    /// better ones.
    pub prompts: String,
    /// How they were asked. Multiple choice draws nothing, so that only the prompt's style counts there and the rest is 0.
    #[serde(flatten)]
    pub settings: Settings,
}

impl Head {
    /// The head of a file of this version. `prompts` are the parts of everything that is asked: ids, texts, stop strings.
    pub fn new<'a>(name: &str, student: &str, set: &str, prompts: impl Iterator<Item = &'a str>, settings: Settings) -> Head {
        let mut hash = Sha256::new();
        for part in prompts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let (name, student, set) = (name.to_owned(), student.to_owned(), set.to_owned());
        Head { completions: VERSION, name, student, set, prompts: format!("{:x}", hash.finalize()), settings }
    }
}

/// One line of a journal: the answer to one question.
pub trait Entry: Serialize + DeserializeOwned {
    /// What it is called in errors.
    const WHAT: &'static str;
    /// The question's id.
    fn id(&self) -> &str;
    /// Which of several answers to the same question, from 0.
    fn sample(&self) -> u32;
}

impl Entry for Completion {
    const WHAT: &'static str = "a completion";

    fn id(&self) -> &str {
        &self.id
    }

    fn sample(&self) -> u32 {
        self.sample
    }
}

impl Entry for Likelihoods {
    const WHAT: &'static str = "a line of likelihoods";

    fn id(&self) -> &str {
        &self.id
    }

    fn sample(&self) -> u32 {
        0
    }
}

/// What a completions file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Completions {
    /// None for a file that others wrote, without a head.
    pub head: Option<Head>,
    /// In the file's order.
    pub completions: Vec<Completion>,
}

/// Read a completions file, whole or interrupted. A last line without an end counts where it is whole: others write files so. Where it
/// is not, a killed evaluation was writing it, and it is left out.
pub fn read_completions(path: &Path) -> Result<Completions, Error> {
    let Found { head, mut entries, unended, .. } = read(path)?;
    entries.extend(unended);
    Ok(Completions { head, completions: entries })
}

/// Read a file of likelihoods in the same way.
pub fn read_likelihoods(path: &Path) -> Result<Vec<Likelihoods>, Error> {
    let Found { mut entries, unended, .. } = read(path)?;
    entries.extend(unended);
    Ok(entries)
}

/// Make way for a student: a file of completions or likelihoods of another one gets a name of its own, which is given, and what this one
/// said before, under such a name, comes back.
pub fn set_aside(path: &Path, student: &str) -> Result<Option<PathBuf>, Error> {
    let Ok(file) = File::open(path) else { return Ok(None) };
    let mut line = String::new();
    BufReader::new(file).read_line(&mut line).map_err(file_error("read", path))?;
    let Some(other) = serde_json::from_str::<Head>(&line).ok().map(|head| head.student).filter(|other| other != student) else {
        return Ok(None);
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let of = |student: &str| {
        let hash: String = student.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        path.with_file_name(format!("{name}-{hash}.jsonl"))
    };
    let (aside, ours) = (of(&other), of(student));
    if aside.exists() {
        return Err(Error::Aside { path: path.to_owned(), aside });
    }
    std::fs::rename(path, &aside).map_err(file_error("rename", path))?;
    if ours.exists() {
        std::fs::rename(&ours, path).map_err(file_error("rename", &ours))?;
    }
    Ok(Some(aside))
}

/// A file that is being written.
#[derive(Debug)]
pub struct Journal<E> {
    path: PathBuf,
    file: File,
    head: Head,
    entries: Vec<E>,
}

impl<E: Entry> Journal<E> {
    /// Begin a file, or go on with one that was interrupted. `ids` are those of the set's questions.
    ///
    /// # Errors
    /// [`Error::OtherCompletions`] where the file belongs to another student, set or setting; [`Error::Line`] for a line that is not
    /// of this set.
    pub fn open<'a>(path: &Path, head: Head, ids: impl Iterator<Item = &'a str>) -> Result<Journal<E>, Error> {
        if !path.try_exists().map_err(file_error("read", path))? {
            write_whole::<E>(path, &head, &[])?;
        }
        let mut found: Found<E> = read(path)?;
        if found.whole_bytes == 0 && found.unended.is_none() {
            // Killed before the first line was whole.
            write_whole::<E>(path, &head, &[])?;
            found = read(path)?;
        }
        let Found { head: then, entries, whole_bytes, .. } = found;
        compare_heads(path, then.as_ref(), &head)?;
        let ids: HashSet<&str> = ids.collect();
        let mut seen = HashSet::new();
        for (entry, line) in entries.iter().zip(2..) {
            let (id, sample) = (entry.id(), entry.sample());
            let line_error = |fault: String| Error::Line { path: path.to_owned(), line, fault };
            if !ids.contains(id) {
                return Err(line_error(format!("the set {} has no problem {id:?}; remove the line", head.set)));
            }
            if sample >= head.settings.samples {
                return Err(line_error(format!("found sample {sample} of {}; remove the line", head.settings.samples)));
            }
            if !seen.insert((id, sample)) {
                return Err(line_error(format!("problem {id:?}, sample {sample} stands here a second time; remove the line")));
            }
        }
        let mut file = OpenOptions::new().write(true).open(path).map_err(file_error("write", path))?;
        // What a killed process left half-written goes.
        file.set_len(whole_bytes).map_err(file_error("write", path))?;
        file.seek(SeekFrom::End(0)).map_err(file_error("write", path))?;
        Ok(Journal { path: path.to_owned(), file, head, entries })
    }

    /// What is there so far.
    pub fn entries(&self) -> &[E] {
        &self.entries
    }

    /// Add an entry: in the file when this returns. What is kept is what a later run will read, to the last bit of a number.
    pub fn add(&mut self, entry: &E) -> Result<(), Error> {
        let mut line = serde_json::to_string(entry).expect("an entry can be written as JSON");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(file_error("write", &self.path))?;
        self.entries.push(serde_json::from_str(&line).expect("what was written can be read"));
        Ok(())
    }

    /// Put the entries into the set's order, in the file too, and give them.
    pub fn finish<'a>(mut self, ids: impl Iterator<Item = &'a str>) -> Result<Vec<E>, Error> {
        let places: HashMap<&str, usize> = ids.enumerate().map(|(place, id)| (id, place)).collect();
        let place = |entry: &E| (places[entry.id()], entry.sample());
        if !self.entries.is_sorted_by_key(place) {
            self.entries.sort_by_key(place);
            write_whole(&self.path, &self.head, &self.entries)?;
        }
        Ok(self.entries)
    }

    /// Give the entries of an evaluation that was stopped, in the order in which they came in.
    pub fn stop(self) -> Vec<E> {
        self.entries
    }
}

fn write_whole<E: Entry>(path: &Path, head: &Head, entries: &[E]) -> Result<(), Error> {
    write_file(path, |out| {
        serde_json::to_writer(&mut *out, head)?;
        out.write_all(b"\n")?;
        for entry in entries {
            serde_json::to_writer(&mut *out, entry)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

/// What is in a file.
struct Found<E> {
    head: Option<Head>,
    entries: Vec<E>,
    /// How many bytes its ended lines have.
    whole_bytes: u64,
    /// The entry of a last line without an end, where that is whole.
    unended: Option<E>,
}

fn read<E: Entry>(path: &Path) -> Result<Found<E>, Error> {
    let mut reader = BufReader::new(File::open(path).map_err(file_error("read", path))?);
    let (mut head, mut entries, mut whole_bytes, mut line) = (None, Vec::new(), 0, Vec::new());
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(file_error("read", path))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        let line_error = |fault: String| Error::Line { path: path.to_owned(), line: number, fault };
        let is_head = number == 1 && serde_json::from_slice::<Value>(&line).is_ok_and(|value| value.get("completions").is_some());
        if is_head {
            let found: Head =
                serde_json::from_slice(&line).map_err(|error| line_error(format!("not a head of version {VERSION}: {error}")))?;
            if found.completions != VERSION {
                let fault = format!("the file has version {}, version {VERSION} is known; ask again under another name", found.completions);
                return Err(line_error(fault));
            }
            head = Some(found);
        } else {
            entries.push(serde_json::from_slice(&line).map_err(|error| line_error(format!("not {}: {error}", E::WHAT)))?);
        }
        whole_bytes += line.len() as u64;
    }
    Ok(Found { head, entries, whole_bytes, unended: serde_json::from_slice(&line).ok() })
}

fn compare_heads(path: &Path, then: Option<&Head>, now: &Head) -> Result<(), Error> {
    let fields = |head: Option<&Head>| match serde_json::to_value(head) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (then, now) = (fields(then), fields(Some(now)));
    match now.iter().find(|(key, value)| then.get(*key) != Some(value)) {
        None => Ok(()),
        Some((key, value)) => Err(Error::OtherCompletions {
            path: path.to_owned(),
            key: key.clone(),
            then: then.get(key).map_or_else(|| "not said".to_owned(), Value::to_string),
            now: value.to_string(),
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use task::{Finish, Problem, PromptStyle};

    pub(crate) fn problems(count: usize) -> Vec<Problem> {
        let problem =
            |i: usize| Problem { id: format!("p{i}"), question: format!("What is {i} + 1?"), answer: (i + 1).to_string(), steps: None };
        (0..count).map(problem).collect()
    }

    pub(crate) fn said(problem: usize, text: &str) -> Completion {
        Completion { id: format!("p{problem}"), sample: 0, text: text.into(), finish: Finish::Stop, tokens: text.len() as u32 }
    }

    pub(crate) fn settings() -> Settings {
        Settings { prompt: PromptStyle::Chat, max_tokens: 64, samples: 1, temperature: 0.0, top_p: 1.0, seed: 1 }
    }

    fn head(problems: &[Problem]) -> Head {
        Head::new("tiny", "abc", "sums", problems.iter().map(|problem| problem.question.as_str()), settings())
    }

    fn ids(problems: &[Problem]) -> impl Iterator<Item = &str> {
        problems.iter().map(|problem| problem.id.as_str())
    }

    fn open(path: &Path, head: Head, problems: &[Problem]) -> Result<Journal<Completion>, Error> {
        Journal::open(path, head, ids(problems))
    }

    #[test]
    fn an_interrupted_file_ends_with_the_same_bytes() {
        let (folder, problems) = (tempfile::tempdir().unwrap(), problems(5));
        let (whole, stopped) = (folder.path().join("whole.jsonl"), folder.path().join("new/stopped.jsonl"));
        let mut journal = open(&whole, head(&problems), &problems).unwrap();
        (0..5).for_each(|i| journal.add(&said(i, "The answer is 3.")).unwrap());
        journal.finish(ids(&problems)).unwrap();

        let mut journal = open(&stopped, head(&problems), &problems).unwrap();
        [3, 1].iter().for_each(|i| journal.add(&said(*i, "The answer is 3.")).unwrap());
        drop(journal);
        let bytes = std::fs::read(&stopped).unwrap();
        // Killed in the middle of a line, at every place.
        let torn = serde_json::to_string(&said(0, "The answer is 3.")).unwrap();
        for length in 0..=torn.len() {
            std::fs::write(&stopped, [&bytes, &torn.as_bytes()[..length]].concat()).unwrap();
            let mut journal = open(&stopped, head(&problems), &problems).unwrap();
            assert_eq!(journal.entries().len(), 2);
            [4, 0, 2].iter().for_each(|i| journal.add(&said(*i, "The answer is 3.")).unwrap());
            assert_eq!(journal.finish(ids(&problems)).unwrap().len(), 5);
            assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&stopped).unwrap());
        }
        // Done already: nothing changes.
        let journal = open(&stopped, head(&problems), &problems).unwrap();
        assert_eq!(journal.entries().len(), 5);
        journal.finish(ids(&problems)).unwrap();
        assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&stopped).unwrap());
    }

    #[test]
    fn completions_of_others_are_refused_with_what_differs() {
        let (folder, problems) = (tempfile::tempdir().unwrap(), problems(3));
        let path = folder.path().join("completions.jsonl");
        open(&path, head(&problems), &problems).unwrap();
        let other = |change: &dyn Fn(&mut Head)| {
            let mut head = head(&problems);
            change(&mut head);
            open(&path, head, &problems).unwrap_err().to_string()
        };
        assert!(other(&|head| head.student = "def".into()).contains("student was \"abc\" when it was written and is \"def\" now"));
        assert!(other(&|head| head.settings.max_tokens = 65).contains("max_tokens was 64"));
        assert!(other(&|head| head.prompts = "0".into()).contains("prompts was"));
        std::fs::write(&path, format!("{}\n", serde_json::to_string(&said(0, "1")).unwrap())).unwrap();
        assert!(other(&|_| ()).contains("completions was not said"));
        // One that was killed before its head was whole is begun anew.
        std::fs::write(&path, "{\"completions\":1,").unwrap();
        assert_eq!(open(&path, head(&problems), &problems).unwrap().entries().len(), 0);
    }

    #[test]
    fn what_another_student_said_is_kept_under_another_name() {
        let (folder, problems) = (tempfile::tempdir().unwrap(), problems(3));
        let path = folder.path().join("completions.jsonl");
        assert_eq!(set_aside(&path, "abc").unwrap(), None);
        open(&path, head(&problems), &problems).unwrap().add(&said(1, "2")).unwrap();
        assert_eq!(set_aside(&path, "abc").unwrap(), None);
        let aside = set_aside(&path, "def").unwrap().unwrap();
        assert_eq!(aside, folder.path().join("completions-abc.jsonl"));
        assert_eq!((path.exists(), read_completions(&aside).unwrap().completions.len()), (false, 1));
        // It comes back with its student, and nothing is written over.
        let other = || Head { student: "def".into(), ..head(&problems) };
        open(&path, other(), &problems).unwrap();
        assert_eq!(set_aside(&path, "abc").unwrap(), Some(folder.path().join("completions-def.jsonl")));
        assert_eq!((aside.exists(), read_completions(&path).unwrap().completions.len()), (false, 1));
        std::fs::write(&aside, "mine").unwrap();
        assert!(set_aside(&path, "def").unwrap_err().to_string().contains("completions-abc.jsonl, is there already"));
    }

    #[test]
    fn bad_lines_are_named_by_their_place() {
        let (folder, problems) = (tempfile::tempdir().unwrap(), problems(3));
        let path = folder.path().join("completions.jsonl");
        open(&path, head(&problems), &problems).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        let line = |completion: &Completion| serde_json::to_string(completion).unwrap();
        let second = Completion { sample: 1, ..said(0, "x") };
        for (rest, fault) in [
            ("nonsense\n".to_owned(), "line 2: not a completion"),
            (format!("{}\n", line(&said(9, "x"))), "line 2: the set sums has no problem \"p9\""),
            (format!("{0}\n{0}\n", line(&said(1, "x"))), "line 3: problem \"p1\", sample 0 stands here a second time"),
            (format!("{}\n", line(&second)), "line 2: found sample 1 of 1"),
        ] {
            std::fs::write(&path, format!("{first}{rest}")).unwrap();
            let message = open(&path, head(&problems), &problems).unwrap_err().to_string();
            assert!(message.contains(fault), "{message}");
        }
        std::fs::write(&path, first.replacen("\"completions\":1", "\"completions\":2", 1)).unwrap();
        assert!(read_completions(&path).unwrap_err().to_string().contains("has version 2, version 1 is known"));
    }

    #[test]
    fn a_file_without_a_head_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("teacher.jsonl");
        std::fs::write(&path, format!("{}\n", serde_json::to_string(&said(0, "1")).unwrap())).unwrap();
        let found = read_completions(&path).unwrap();
        assert_eq!((found.head, found.completions.len()), (None, 1));
    }

    #[test]
    fn a_last_line_without_an_end_counts_where_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("others.jsonl");
        let lines = [said(0, "1"), said(1, "2")].map(|said| serde_json::to_string(&said).unwrap()).join("\n");
        for (left_out, count) in [(0, 2), (1, 1)] {
            std::fs::write(&path, &lines[..lines.len() - left_out]).unwrap();
            assert_eq!(read_completions(&path).unwrap().completions.len(), count);
        }
    }
}
