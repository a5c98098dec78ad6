//! The published sets, whole. `TRISTILL_DATA` names their folder; without it nothing is checked, and the test says so.

#![allow(clippy::print_stderr)] // A test says why it did nothing.

use std::path::PathBuf;

use tristill_task::{Fields, Reading, Verdict, mark, read, read_set};

fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("TRISTILL_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: TRISTILL_DATA is not set");
    }
    folder
}

#[test]
fn every_gsm8k_reference_is_a_number() {
    let Some(data) = data() else { return };
    for (name, count) in [("gsm8k/train.jsonl.gz", 7473), ("gsm8k/test.jsonl.gz", 1319)] {
        let set = read_set(&data.join(name), &Fields::default()).unwrap();
        assert_eq!((set.problems.len(), set.bad.len()), (count, 0), "{name}");
        for problem in &set.problems {
            assert!(matches!(read(&problem.answer), Reading::Number { .. }), "{}: {:?}", problem.id, problem.answer);
            assert_eq!(mark(&problem.answer, &problem.answer), Verdict::Right, "{}", problem.id);
        }
    }
}
