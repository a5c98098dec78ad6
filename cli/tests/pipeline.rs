//! The whole path with the real binary: one command does everything, each stage also stands alone, and what is done is not done
//! again.
#![allow(missing_docs)]

mod program;

use std::{fs, io::Write, process::Stdio};

use program::{Place, TINY, last_checkpoint};
use serde_json::Value;

#[test]
fn one_command_goes_from_traces_to_a_scored_student() {
    let place = Place::new(TINY);
    let said = place.succeed(&["distill", "tiny.toml"]);
    for part in ["held_out", "unseen", "95 % interval", "times smaller than f16", "tokens/s", "student.gguf"] {
        assert!(said.contains(part), "{part} is missing in:\n{said}");
    }
    let report = place.path("checkpoints/tiny/report.json");
    let facts: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    for (set, n) in [("held_out", 12), ("unseen", 6)] {
        let score = &facts["eval"][set];
        assert_eq!(score["n"], n);
        let [low, accuracy, high] = ["low", "accuracy", "high"].map(|key| score[key].as_f64().unwrap());
        assert!((0.0..=1.0).contains(&low) && low <= accuracy && accuracy <= high && high <= 1.0, "{score}");
    }
    for key in ["packed_bytes", "f16_bytes", "decode_tokens_per_s", "train_tokens_per_s", "wall_s"] {
        assert!(facts[key].as_f64().unwrap() > 0.0, "{key} is {}", facts[key]);
    }
    assert_eq!(facts["packed_bytes"], fs::metadata(place.path("checkpoints/tiny/student.gguf")).unwrap().len());

    // Done again, it trains nothing and asks nothing, and finds the same.
    let metrics = fs::read(place.path("checkpoints/tiny/metrics.jsonl")).unwrap();
    let completions = fs::read(place.path("checkpoints/tiny/eval/held_out/completions.jsonl")).unwrap();
    place.succeed(&["distill", "tiny.toml"]);
    assert_eq!(fs::read(place.path("checkpoints/tiny/metrics.jsonl")).unwrap(), metrics);
    assert_eq!(fs::read(place.path("checkpoints/tiny/eval/held_out/completions.jsonl")).unwrap(), completions);
    let again: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(again["eval"], facts["eval"]);

    let loss = |line: Option<&str>| serde_json::from_str::<Value>(line.unwrap()).unwrap()["loss"].as_f64().unwrap();
    let metrics = String::from_utf8(metrics).unwrap();
    let (first, last) = (loss(metrics.lines().next()), loss(metrics.lines().last()));
    assert!(last < 0.6 * first, "the loss went from {first} to {last}");
}

#[test]
fn each_stage_stands_alone() {
    let place = Place::new(TINY);
    let checked = place.succeed(&["check", "tiny.toml"]);
    assert!(checked.contains("steps = 30") && checked.contains('«') && checked.contains("<|im_start|>user"), "{checked}");
    assert!(!place.path("checkpoints").exists(), "a check leaves nothing behind");

    place.succeed(&["synth", "tiny.toml"]);
    place.succeed(&["ingest", "tiny.toml"]);
    place.succeed(&["train", "tiny.toml"]);
    place.succeed(&["export", "checkpoints/tiny"]);
    let scored =
        place.succeed(&["eval", "checkpoints/tiny/student.gguf", "--set", "checkpoints/tiny/traces/held_out.jsonl", "--limit", "5"]);
    let scored: Value = serde_json::from_str(&scored).unwrap();
    assert_eq!(scored["n"], 5);
    let said = place.succeed(&["generate", "checkpoints/tiny/student.gguf", "--prompt", "Mia has 3 apples.", "--max-tokens", "8"]);
    assert_eq!(
        said,
        place.succeed(&[
            "generate",
            "checkpoints/tiny/student.gguf",
            "--prompt",
            "Mia has 3 apples.",
            "--max-tokens",
            "8",
            "--threads",
            "1"
        ])
    );
    for prompt in ["128", "5000"] {
        let speeds = place.succeed(&["bench", "checkpoints/tiny/student.gguf", "--json", "--prompt", prompt]);
        let speed = &serde_json::from_str::<Value>(&speeds).unwrap()[0];
        assert!(speed["decode_tokens_per_s"].as_f64().unwrap() > 0.0, "{speeds}");
        assert!(speed["first_token_s"].as_f64() > speed["open_s"].as_f64() && speed["open_s"].as_f64() > Some(0.0), "{speeds}");
    }

    // The config that a run keeps makes the same student again.
    place.succeed(&["distill", "checkpoints/tiny/config.toml", "--run", "checkpoints/again"]);
    let weights = |run: &str| fs::read(last_checkpoint(&place.path(run)).join("model.safetensors")).unwrap();
    assert!(weights("checkpoints/tiny") == weights("checkpoints/again"));

    // A question that is too long, and bytes that are no text, do not end a talk.
    let mut talk = place.command(&["chat", "checkpoints/tiny/student.gguf", "--max-tokens", "4"]);
    let mut talk = talk.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let questions = ["Why? ".repeat(500).as_bytes(), b"\n\xff?\nHow many?\n"].concat();
    talk.stdin.take().unwrap().write_all(&questions).unwrap();
    let output = talk.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.matches("ask a shorter one").count() == 1, "{told}");
}

#[test]
fn held_out_questions_are_in_no_training_row() {
    let place = Place::new(TINY);
    place.succeed(&["ingest", "tiny.toml"]);
    let questions = |name: &str| {
        let text = fs::read_to_string(place.path(&format!("checkpoints/tiny/traces/{name}.jsonl"))).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
        rows.into_iter()
            .map(|row| row["question"].as_str().or(row["messages"][0]["content"].as_str()).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let train: std::collections::HashSet<String> = questions("train").into_iter().collect();
    assert!(train.len() > 200);
    assert!(questions("held_out").iter().chain(&questions("unseen")).all(|question| !train.contains(question)));

    // The pipeline itself sees to it: a source that holds a held-out question loses that row, by that rule.
    let leaked = &questions("held_out")[0];
    place.write("leak.jsonl", &format!("{}\n", serde_json::json!({ "question": leaked, "answer": "It is so.\n#### 5" })));
    let config = TINY.replace("sources = []", "sources = [{ path = \"leak.jsonl\" }]");
    place.write("leak.toml", &config);
    place.succeed(&["ingest", "leak.toml", "--run", "checkpoints/tiny"]);
    let card: Value = serde_json::from_str(&fs::read_to_string(place.path("checkpoints/tiny/dataset/card.json")).unwrap()).unwrap();
    assert_eq!(card["sources"][1]["dropped"], serde_json::json!({ "contaminated": 1 }), "{card}");
}
