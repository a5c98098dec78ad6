//! The trace door from outside: a file explained, and an ingest that is killed.
#![allow(missing_docs)]

mod program;

use std::fs;
use std::time::Duration;

use program::{Place, TINY};

/// A config whose only traces are those of a file.
fn from_file(name: &str) -> String {
    let (_, rest) = TINY.split_once("[data]").unwrap();
    format!("[data]{}", rest.replace("sources = []", &format!("sources = [{{ path = \"{name}\" }}]")))
}

fn line(number: usize) -> String {
    let answer = format!("{number} + 2 = {0}\n#### {0}", number + 2);
    serde_json::json!({ "question": format!("What is {number} and 2?"), "answer": answer }).to_string()
}

#[test]
fn a_file_is_explained_without_a_config() {
    let place = Place::new(TINY);
    let lines: Vec<String> = (0..10).map(line).chain(["{\"question\": \"Why?\"}".to_owned()]).collect();
    place.write("traces.jsonl", &lines.join("\n"));
    let said = place.succeed(&["ingest", "--explain", "traces.jsonl"]);
    for part in [
        "traces.jsonl is JSON lines, its rows have question (a text), answer (a text).",
        "It is read as question_answer: of the first 11 rows 11 traces, of which 10 are kept.",
        "3 traces as they are learned (learned text stands between «»)",
        "<|im_start|>user\nWhat is 2 and 2?<|im_end|>\n<|im_start|>assistant\n«<think>\n2 + 2 = 4\n</think>\n\n#### 4»",
        "  - 1 of 11 traces go by the rule incomplete, the first one in line 11: there is no answer",
        "  - 10 of 10 traces do not say why the teacher stopped",
    ] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
    assert!(!place.path("checkpoints").exists());
    place.write("other.jsonl", "{\"a\": 1}\n");
    assert!(place.fail(&["ingest", "--explain", "other.jsonl"]).contains("its layout is not known: its rows have a (a number)"));
}

#[test]
fn a_file_is_explained_as_the_source_that_names_it() {
    let config = from_file("traces.jsonl")
        .replace("path = \"traces.jsonl\"", "path = \"traces.jsonl\", fields = { question = \"q\", answer = \"a.text\" }");
    let place = Place::new(&config);
    place.write("traces.jsonl", "{\"q\": \"1 + 1?\", \"a\": {\"text\": \"2\"}}\n");
    let said = place.succeed(&["ingest", "tiny.toml", "--explain", "traces.jsonl"]);
    assert!(said.contains("It is read as fields") && said.contains("«2»"), "{said}");
    assert!(!place.path("checkpoints").exists());
}

#[test]
fn sources_may_be_left_out_where_the_programmatic_teacher_writes() {
    let place = Place::new(&TINY.replace("sources = []\n", ""));
    assert!(place.succeed(&["check", "tiny.toml"]).contains("<|im_start|>user"));
}

#[test]
fn a_killed_ingest_leaves_nothing_that_is_taken_for_whole() {
    let place = Place::new(&from_file("traces.jsonl"));
    place.write("traces.jsonl", &(0..40_000).map(line).collect::<Vec<_>>().join("\n"));
    let mut whole = None;
    for kill_after_ms in [u64::MAX, 100, 400, 800, 1500] {
        let folder = format!("run-{kill_after_ms}");
        let mut child = place.command(&["ingest", "tiny.toml", "--run", &folder]).stderr(std::process::Stdio::null()).spawn().unwrap();
        if kill_after_ms < u64::MAX {
            std::thread::sleep(Duration::from_millis(kill_after_ms));
            child.kill().unwrap();
        }
        let finished = child.wait().unwrap().success();
        let dataset = place.path(&folder).join("dataset");
        assert_eq!(data::Dataset::open(&dataset).is_ok(), finished, "killed after {kill_after_ms} ms");
        place.succeed(&["ingest", "tiny.toml", "--run", &folder]);
        let manifest: serde_json::Value = serde_json::from_str(&fs::read_to_string(dataset.join("manifest.json")).unwrap()).unwrap();
        let whole = whole.get_or_insert_with(|| manifest.clone());
        assert_eq!(manifest, *whole, "killed after {kill_after_ms} ms");
    }
}
