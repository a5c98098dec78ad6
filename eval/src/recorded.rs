//! Completions from anywhere: those that [`ask`](crate::ask()) wrote, and those that others recorded, which are brought together with
//! the problems of a set by their questions.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;
use task::{BadLine, Completion, Finish, Problem, Recorded};

use crate::error::file_error;
use crate::{Completions, Error, read_completions};

/// A first line is not looked at beyond this.
const MAX_HEAD_BYTES: u64 = 16 << 20;

impl Completions {
    /// Read a file of completions: one with our own lines, or one of records with a question and, under `field` or a usual name, what
    /// was said to it. Gives also the lines that are neither.
    ///
    /// What others recorded belongs to the problem with the same question, whatever the space between its words; if several rows hold
    /// one question they are samples of it. How long it was in tokens, and why it ended, is not known.
    pub fn find(path: &Path, field: Option<&str>, problems: &[Problem]) -> Result<(Completions, Vec<BadLine>), Error> {
        if field.is_none() && is_ours(path)? {
            return Ok((read_completions(path)?, Vec::new()));
        }
        let (recorded, bad) = task::read_recorded(path, field)?;
        Ok((Completions { head: None, completions: bring_together(problems, recorded) }, bad))
    }

    /// How many are of no problem of a set.
    pub fn strangers(&self, problems: &[Problem]) -> usize {
        let ids: HashSet<&str> = problems.iter().map(|problem| problem.id.as_str()).collect();
        self.completions.iter().filter(|said| !ids.contains(said.id.as_str())).count()
    }
}

/// Whether the first line is one that we write.
fn is_ours(path: &Path) -> Result<bool, Error> {
    let (mut line, file) = (Vec::new(), File::open(path).map_err(file_error("read", path))?);
    BufReader::new(file.take(MAX_HEAD_BYTES)).read_until(b'\n', &mut line).map_err(file_error("read", path))?;
    let is_head = serde_json::from_slice::<Value>(&line).is_ok_and(|value| value.get("completions").is_some());
    Ok(is_head || serde_json::from_slice::<Completion>(&line).is_ok())
}

fn bring_together(problems: &[Problem], recorded: Vec<Recorded>) -> Vec<Completion> {
    let mut places: HashMap<String, Vec<&str>> = HashMap::new();
    for problem in problems {
        places.entry(words(&problem.question)).or_default().push(&problem.id);
    }
    let mut rows: HashMap<String, usize> = HashMap::new();
    let mut samples: HashMap<String, u32> = HashMap::new();
    let mut completions = Vec::new();
    for Recorded { question, said } in recorded {
        let question = words(&question);
        // Where a set asks one question several times, rows go to its problems in turn. A question of no problem stays a stranger.
        let row = rows.entry(question.clone()).or_default();
        let id = places.get(&question).map_or(question.as_str(), |ids| ids[*row % ids.len()]).to_owned();
        *row += 1;
        for text in said {
            let sample = samples.entry(id.clone()).or_default();
            completions.push(Completion { id: id.clone(), sample: *sample, text, finish: Finish::Stop, tokens: 0 });
            *sample += 1;
        }
    }
    completions
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{problems, said};

    #[test]
    fn recorded_answers_find_their_problems() {
        let mut problems = problems(3);
        problems[2].question = problems[1].question.clone();
        let recorded = |question: &str, said: &[&str]| Recorded {
            question: question.into(),
            said: said.iter().map(|text| (*text).to_owned()).collect(),
        };
        let rows = vec![
            recorded("What  is 1 + 1?\n", &["a"]),
            recorded("What is 0 + 1?", &["b", "c"]),
            recorded("What is 1 + 1?", &["d"]),
            recorded("Who?", &["e"]),
            recorded("What is 0 + 1?", &["f"]),
        ];
        let completions = bring_together(&problems, rows);
        let found: Vec<(&str, u32, &str)> = completions.iter().map(|it| (it.id.as_str(), it.sample, it.text.as_str())).collect();
        assert_eq!(found, [("p1", 0, "a"), ("p0", 0, "b"), ("p0", 1, "c"), ("p2", 0, "d"), ("Who?", 0, "e"), ("p0", 2, "f")]);
        assert_eq!(Completions { head: None, completions }.strangers(&problems), 1);
    }

    #[test]
    fn our_own_lines_are_known_by_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("said.jsonl");
        let find = |text: &str, field| {
            std::fs::write(&path, text).unwrap();
            Completions::find(&path, field, &problems(2)).map(|(found, bad)| (found.completions, bad.len()))
        };
        let ours = said(1, "#### 2");
        assert_eq!(find(&format!("{}\n", serde_json::to_string(&ours).unwrap()), None).unwrap(), (vec![ours], 0));
        let record = "{\"question\":\"What is 1 + 1?\",\"model\":{\"solution\":\"#### 2\"}}\n{}\n";
        let (found, bad) = find(record, Some("model")).unwrap();
        assert_eq!((found[0].id.as_str(), found[0].text.as_str(), bad), ("p1", "#### 2", 1));
        assert!(find(record, None).unwrap_err().to_string().contains("holds no recorded completion; 2 of its lines are none"));
    }
}
