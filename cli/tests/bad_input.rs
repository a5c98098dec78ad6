//! Bad input is a sentence with the place, what was found and what was needed; never a panic.
#![allow(missing_docs)]

mod program;

use std::fs;

use program::{Place, TINY, last_checkpoint};

fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_right_one() {
    let place = Place::new(&TINY.replace("save_every = 6", "save_evry = 6"));
    says(&place.fail(&["check", "tiny.toml"]), &["tiny.toml line 28", "save_evry", "did you mean `save_every`?"]);
    let place = Place::new(TINY);
    says(&place.fail(&["check", "tiny.toml", "--set", "train.stpes=5"]), &["stpes", "did you mean `steps`?"]);
    says(&place.fail(&["check", "tiny.toml", "--set", "trian.steps=5"]), &["trian", "did you mean `train`?"]);
}

#[test]
fn a_value_out_of_range_is_named_with_its_limit() {
    let place = Place::new(TINY);
    for (setting, parts) in [
        ("train.steps=0", ["train.steps is 0", "between 1 and"]),
        ("model.width=250", ["model.width is 250", "multiple of"]),
        ("model.kv_heads=3", ["model.kv_heads is 3", "does not divide"]),
        ("model.width=96", ["model.width is 96", "blocks of 64"]),
        ("data.vocab=10", ["data.vocab is 10", "at least"]),
        ("eval.max_tokens=0", ["eval.max_tokens", "at least 1"]),
        ("synth.max_operand=3", ["max_operand is 3", "10 to 1000"]),
        ("train.schedule=lunar", ["lunar", "two_stage"]),
    ] {
        says(&place.fail(&["check", "tiny.toml", "--set", setting]), &parts);
    }
}

#[test]
fn a_missing_file_is_named() {
    let place = Place::new(TINY);
    says(&place.fail(&["distill", "other.toml"]), &["other.toml", "No such file"]);
    place.write("missing.toml", &TINY.replace("sources = []", "sources = [{ path = \"nowhere.jsonl\" }]"));
    says(&place.fail(&["ingest", "missing.toml"]), &["nowhere.jsonl", "No such file"]);
    says(&place.fail(&["train", "tiny.toml"]), &["no dataset", "tristill ingest"]);
    says(&place.fail(&["generate", "nowhere.gguf", "--prompt", "x"]), &["nowhere.gguf", "No such file"]);
    place.write("variable.toml", &TINY.replace("sources = []", "sources = [{ path = \"${NO_SUCH_FOLDER}/x.jsonl\" }]"));
    says(&place.fail(&["check", "variable.toml"]), &["NO_SUCH_FOLDER", "not set"]);
}

#[test]
fn a_run_may_have_no_held_out_or_unseen_problems() {
    let place = Place::new(TINY);
    place.write("own.jsonl", "{\"question\":\"2 and 2?\",\"answer\":\"4\"}\n");
    let own = "eval.sets=[{ name = \"own\", path = \"own.jsonl\" }]";
    for none in ["synth.unseen=0", "synth.held_out=0"] {
        place.succeed(&["check", "tiny.toml", "--set", none, "--set", own]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let place = Place::new(TINY);
    let full = std::fs::File::create("/dev/full").unwrap();
    let output = place.command(&["check", "tiny.toml"]).stdout(full).output().unwrap();
    says(&program::sentence(&output), &["cannot write to standard output"]);
}

#[test]
fn what_a_run_will_need_is_looked_for_before_it_is_trained() {
    let without_vocab = TINY.replace("vocab = 320", "");
    let cases: [(&str, &[&str], &[&str]); 4] = [
        (TINY, &["eval.prompt=gsm8k", "eval.examples=nowhere.jsonl"], &["cannot use eval.examples", "nowhere.jsonl"]),
        (TINY, &["model.quant=none", "train.quant_warm_up_steps=3"], &["train.quant_warm_up_steps is 3, but model.quant is none"]),
        (TINY, &["train.adapter.rank=4"], &["train.adapter is of rank 4, but there is no model.from"]),
        (&without_vocab, &["train.teacher.from=nowhere"], &["cannot use train.teacher.from: cannot read nowhere/config.json"]),
    ];
    for (config, settings, parts) in cases {
        let place = Place::new(config);
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        says(&place.fail(&["distill", "tiny.toml"].into_iter().chain(settings).collect::<Vec<_>>()), parts);
        assert!(!place.path("checkpoints/tiny/metrics.jsonl").exists());
    }
    let place = Place::new(TINY);
    says(&place.fail(&["sweep", "tiny.toml", "--over", "train.rate=1e-3,-1"]), &["train.rate is -1"]);
    assert!(!place.path("checkpoints").exists());
}

/// A config whose only traces are those of a file.
fn from_file(name: &str) -> String {
    let (_, rest) = TINY.split_once("[data]").unwrap();
    format!("[data]{}", rest.replace("sources = []", &format!("sources = [{{ path = \"{name}\" }}]")))
}

#[test]
fn a_malformed_line_is_kept_with_its_place_and_the_rest_goes_in() {
    let place = Place::new(&from_file("traces.jsonl"));
    let good =
        |a: u32| serde_json::json!({ "question": format!("What is {a} and 2?"), "answer": format!("{a} + 2 = {}\n#### {}", a + 2, a + 2) });
    place.write("traces.jsonl", &format!("{}\n{{\"question\": \"half a li\n{}\n", good(1), good(2)));
    place.succeed(&["ingest", "tiny.toml"]);
    let folder = place.path("checkpoints/tiny/dataset");
    let card: serde_json::Value = serde_json::from_str(&fs::read_to_string(folder.join("card.json")).unwrap()).unwrap();
    assert_eq!((&card["sources"][0]["kept"], &card["sources"][0]["traces"]), (&2.into(), &3.into()), "{card}");
    let dropped = data::Dataset::open(&folder).unwrap().dropped().unwrap();
    assert_eq!(dropped.len(), 1);
    assert_eq!((dropped[0].line, dropped[0].source.ends_with("traces.jsonl")), (2, true), "{dropped:?}");
}

#[test]
fn nothing_to_learn_from_is_refused_before_training() {
    let place = Place::new(&from_file("traces.jsonl"));
    place.write("traces.jsonl", "");
    says(&place.fail(&["distill", "tiny.toml"]), &["traces.jsonl"]);
    place.write(
        "traces.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Why?\"}, {\"role\": \"assistant\", \"content\": \"\"}]}\n",
    );
    says(&place.fail(&["distill", "tiny.toml"]), &["dropped"]);
    assert!(!place.path("checkpoints/tiny/metrics.jsonl").exists());
}

#[test]
fn damaged_students_and_checkpoints_are_refused() {
    let place = Place::new(TINY);
    place.succeed(&["ingest", "tiny.toml"]);
    place.succeed(&["train", "tiny.toml", "--set", "train.steps=2"]);
    place.succeed(&["export", "checkpoints/tiny"]);
    let packed = place.path("checkpoints/tiny/student.gguf");
    let bytes = fs::read(&packed).unwrap();
    for length in [0, 3, 20, 200, bytes.len() / 2, bytes.len() - 40] {
        fs::write(&packed, &bytes[..length]).unwrap();
        says(&place.fail(&["generate", "checkpoints/tiny/student.gguf", "--prompt", "x"]), &["student.gguf", "cannot"]);
    }
    let mut other = bytes.clone();
    other[..4].copy_from_slice(b"ELF!");
    fs::write(&packed, &other).unwrap();
    says(&place.fail(&["generate", "checkpoints/tiny/student.gguf", "--prompt", "x"]), &["a GGUF file starts with"]);

    let weights = last_checkpoint(&place.path("checkpoints/tiny")).join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let mut huge = bytes.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for damaged in [&bytes[..4], &bytes[..100], &bytes[..bytes.len() - 1], &huge] {
        fs::write(&weights, damaged).unwrap();
        says(&place.fail(&["export", "checkpoints/tiny"]), &["model.safetensors"]);
    }
}

#[test]
fn what_is_refused_has_changed_nothing() {
    let place = Place::new(TINY);
    let traces =
        |sum: u32| (0..9).map(|i| format!("{{\"question\":\"{i} and {i}?\",\"answer\":\"#### {}\"}}\n", sum * i)).collect::<String>();
    place.write("own.jsonl", &traces(2));
    let own = "data.sources=[{ path = \"own.jsonl\" }]";
    let steps = ["--set", "train.steps=2", "--set", own];
    place.succeed(&[&["ingest", "tiny.toml"][..], &steps].concat());
    place.succeed(&[&["train", "tiny.toml"][..], &steps].concat());
    let state = || {
        let read = |name: &str| std::fs::read(place.path("checkpoints/tiny").join(name)).unwrap();
        ["config.toml", "dataset/manifest.json", "dataset/tokenizer.json", "traces/train.jsonl"].map(read)
    };
    let before = state();
    for (command, setting, parts) in [
        (&["ingest"][..], "data.vocab=330", ["data.vocab", "320", "330", "--run"]),
        (&["distill"], "synth.seed=4", ["synth.seed", "3", "4", "--run"]),
        (&["sweep", "--find-rate", "--run", "checkpoints/tiny"], "synth.seed=4", ["synth.seed", "3", "4", "--run"]),
        (&["train"], "model.layers=2", ["model.layers", "1", "2", "--run"]),
    ] {
        says(&place.fail(&[command, &["tiny.toml"], &steps, &["--set", setting]].concat()), &parts);
        assert!(state() == before, "{command:?} --set {setting}");
    }
    // What changes nothing, and a run that was moved, go on.
    place.succeed(&[&["train", "tiny.toml"][..], &steps, &["--set", "train.memory_gib=1", "--set", "data.keep_scans=false"]].concat());
    std::fs::write(place.path("checkpoints/tiny/config.toml"), &before[0]).unwrap();
    std::fs::rename(place.path("checkpoints/tiny"), place.path("checkpoints/moved")).unwrap();
    place.succeed(&[&["train", "tiny.toml", "--run", "checkpoints/moved"][..], &steps].concat());
    std::fs::rename(place.path("checkpoints/moved"), place.path("checkpoints/tiny")).unwrap();
    std::fs::write(place.path("checkpoints/tiny/config.toml"), &before[0]).unwrap();
    place.write("own.jsonl", &traces(3));
    says(&place.fail(&[&["ingest", "tiny.toml"][..], &steps].concat()), &["trained on the dataset there", "--run"]);
    assert!(state() == before);
}

#[test]
fn a_checkpoint_of_another_config_is_refused_with_the_difference() {
    let place = Place::new(TINY);
    place.succeed(&["ingest", "tiny.toml"]);
    place.succeed(&["train", "tiny.toml", "--set", "train.steps=2"]);
    says(&place.fail(&["train", "tiny.toml"]), &["train.steps", "2", "30"]);
    says(&place.fail(&["train", "tiny.toml", "--set", "train.steps=2", "--set", "model.layers=2"]), &["layers", "1", "2"]);
}
