//! The published sets, whole. `TRISTILL_DATA` names their folder; without it nothing is checked, and the tests say so.
#![allow(clippy::print_stderr)] // A test says why it did nothing.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use tristill_task::{Fields, ProblemSet, Reading, Verdict, mark, read, read_set};

fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("TRISTILL_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: TRISTILL_DATA is not set");
    }
    folder
}

fn whole_set(path: &Path, fields: &Fields) -> ProblemSet {
    let set = read_set(path, fields).unwrap();
    assert_eq!(set.bad, [], "{}", path.display());
    set
}

fn rows(path: PathBuf) -> impl Iterator<Item = Value> {
    let lines = BufReader::new(GzDecoder::new(File::open(path).unwrap())).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

#[test]
fn every_reference_of_the_published_sets_is_a_number() {
    let Some(data) = data() else { return };
    for (name, count) in
        [("gsm8k/train.jsonl.gz", 7473), ("gsm8k/test.jsonl.gz", 1319), ("svamp/SVAMP.jsonl.gz", 1000), ("reft/svamp_nl.jsonl.gz", 3076)]
    {
        let fields = Fields { answer: name.starts_with("reft").then(|| "answer_value".to_owned()), ..Fields::default() };
        let set = whole_set(&data.join(name), &fields);
        assert_eq!(set.problems.len(), count, "{name}");
        for problem in &set.problems {
            assert!(matches!(read(&problem.answer), Reading::Number { .. }), "{}: {:?}", problem.id, problem.answer);
        }
    }
}

#[test]
fn the_layouts_are_recognised() {
    let Some(data) = data() else { return };
    let gsm8k = whole_set(&data.join("gsm8k/test.jsonl.gz"), &Fields::default());
    assert_eq!((gsm8k.problems[0].id.as_str(), gsm8k.problems[0].steps), ("test-1", Some(2)));
    let svamp = whole_set(&data.join("svamp/SVAMP.jsonl.gz"), &Fields::default());
    assert_eq!(svamp.problems[0].id, "chal-1");
    assert!(svamp.problems[0].question.ends_with("discount of 25 dollars on each pack How much do you have to pay to buy each pack?"));
    assert_eq!(svamp.problems[0].answer, "51.0");
}

/// What four models answered to the test set, with the verdicts that the set's authors recorded: 5,276 of 5,276 agree.
#[test]
fn verdicts_are_those_recorded_with_the_model_solutions() {
    let Some(data) = data() else { return };
    let mut agreed = 0;
    for row in rows(data.join("gsm8k/example_model_solutions.jsonl.gz")) {
        for model in ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"] {
            let (solution, recorded) = (row[model]["solution"].as_str().unwrap(), row[model]["is_correct"].as_bool().unwrap());
            let verdict = mark(solution, row["ground_truth"].as_str().unwrap());
            assert_eq!(verdict == Verdict::Right, recorded, "{verdict:?}: {solution}");
            agreed += 1;
        }
    }
    assert_eq!(agreed, 4 * 1319);
}

/// A teacher's solutions. Of the 26 that are wrong, 17 differ from their reference in the sixteenth digit only, because both are binary
/// fractions that were printed by different programs, and 9 are rounded; different numbers are never taken for the same.
#[test]
fn the_teachers_traces_verify() {
    let Some(data) = data() else { return };
    let rows = rows(data.join("reft/svamp_nl.jsonl.gz"));
    let verdicts: Vec<Verdict> = rows.map(|row| mark(row["answer_cot"].as_str().unwrap(), row["answer_value"].as_str().unwrap())).collect();
    let count = |verdict| verdicts.iter().filter(|found| **found == verdict).count();
    assert_eq!((count(Verdict::Right), verdicts.len()), (3050, 3076));
}
