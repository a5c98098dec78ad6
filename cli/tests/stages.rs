//! Runs of several stages with the real binary: each goes on from the one before, wherever the process was killed.
#![allow(missing_docs)]

mod program;

use std::{fs, path::Path, process::Stdio};

use program::{Place, TINY, last_checkpoint, wait_for_steps};
use serde_json::Value;

/// From full precision over sub-norms to a ternary student whose teacher is the first one.
const STAGES: &str = r#"
[[stage]]
name = "full"
model = { quant = "none" }

[[stage]]
name = "sub_norms"
model = { quant = "none", sub_norms = true }
train = { steps = 6, rate = 1e-3 }

[[stage]]
name = "ternary"
[stage.model]
sub_norms = true
[stage.train]
steps = 18
quant_warm_up_steps = 3
teacher = { from = "stage:full" }
"#;

const NAMES: [&str; 3] = ["full", "sub_norms", "ternary"];

fn config() -> String {
    TINY.replace("[model]", "[model]\narchitecture = \"llama\"").replace("steps = 30", "steps = 12") + STAGES
}

fn stage(place: &Place, name: &str) -> std::path::PathBuf {
    place.path("checkpoints/tiny/stages").join(name)
}

fn losses(stage: &Path) -> Vec<f64> {
    let text = fs::read_to_string(stage.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect()
}

#[test]
fn a_killed_run_of_stages_ends_with_the_bytes_of_one_that_was_not() {
    let (whole, killed) = (Place::new(&config()), Place::new(&config()));
    whole.succeed(&["distill", "tiny.toml"]);
    for (name, steps) in [("full", 4), ("full", 9), ("sub_norms", 2), ("ternary", 8)] {
        let mut child = killed.command(&["distill", "tiny.toml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for_steps(&stage(&killed, name), steps, &mut child);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "the run was over before it could be killed");
    }
    killed.succeed(&["distill", "tiny.toml"]);
    for name in NAMES {
        let weights = |place: &Place| fs::read(last_checkpoint(&stage(place, name)).join("model.safetensors")).unwrap();
        assert!(weights(&whole) == weights(&killed), "the weights of {name} differ");
        assert_eq!(losses(&stage(&whole, name)), losses(&stage(&killed, name)), "{name}");
    }
    let packed = |place: &Place| fs::read(place.path("checkpoints/tiny/student.gguf")).unwrap();
    assert!(packed(&whole) == packed(&killed), "the packed students differ");

    // Each goes on from the one before, and the last one is the run's student.
    let [full, normed, ternary] = NAMES.map(|name| losses(&stage(&whole, name)));
    assert!(normed[0] < full[0] - 0.5 && ternary[0] < full[0] - 0.5, "{full:?} {normed:?} {ternary:?}");
    let report: Value = serde_json::from_slice(&fs::read(whole.path("checkpoints/tiny/report.json")).unwrap()).unwrap();
    let stages: Vec<&str> = report["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(stages, ["synth", "ingest", "train full", "train sub_norms", "train ternary", "export", "eval"]);
    assert_eq!(report["stages"][4]["loss"].as_f64(), ternary.last().copied());
    assert!(fs::read_to_string(whole.path("checkpoints/tiny/report.html")).unwrap().contains("train ternary"));
    let written = packed(&whole);
    whole.succeed(&["export", "checkpoints/tiny", "--to", "again.gguf"]);
    assert!(fs::read(whole.path("again.gguf")).unwrap() == written, "the last stage's student is another one");
    assert!(!stage(&whole, "ternary").join("dataset").exists(), "all stages have one dataset");

    // A stage that is other now is refused, and so is one whose beginning is other now.
    let message = killed.fail(&["distill", "tiny.toml", "--set", "stage.sub_norms.train.rate=2e-3"]);
    assert!(message.contains("stages/sub_norms, which has a checkpoint: train.rate was 0.001"), "{message}");
    fs::remove_dir_all(stage(&killed, "sub_norms")).unwrap();
    let message = killed.fail(&["distill", "tiny.toml", "--set", "stage.sub_norms.train.rate=2e-3"]);
    assert!(message.contains("stages/ternary/step-00000018: from.identity.train.rate was 0.001"), "{message}");
}

#[test]
fn a_stage_that_is_added_goes_on_and_its_student_is_asked_anew() {
    let one = config().replace(STAGES, "[[stage]]\nname = \"first\"\ntrain = { steps = 2 }\n");
    let place = Place::new(&one);
    place.succeed(&["distill", "tiny.toml"]);
    place.write("tiny.toml", &(one + "[[stage]]\nname = \"second\"\ntrain = { steps = 2 }\n"));
    place.succeed(&["distill", "tiny.toml"]);
    let names = fs::read_dir(place.path("checkpoints/tiny/eval/held_out")).unwrap().map(|entry| entry.unwrap().file_name());
    let kept = names.filter(|name| name.to_str().unwrap().starts_with("completions-")).count();
    assert_eq!(kept, 1, "what the first student said");
}

#[test]
fn a_stage_of_other_data_has_the_tokenizer_of_the_first() {
    let more = "[[stage]]\nname = \"more\"\ndata = { sources = [{ path = \"more.jsonl\" }] }\ntrain = { steps = 2 }\n";
    let place = Place::new(&config().replace(STAGES, &format!("[[stage]]\nname = \"first\"\ntrain = {{ steps = 2 }}\n{more}")));
    let line = |n: u32| format!("{{\"question\": \"What is {n} + 1?\", \"answer\": \"{n} + 1 = {m}\\n#### {m}\"}}\n", m = n + 1);
    let lines: String = (1..40).map(line).collect();
    place.write("more.jsonl", &lines);
    place.succeed(&["ingest", "tiny.toml"]);
    let tokenizer = |dataset: &str| fs::read(place.path("checkpoints/tiny").join(dataset).join("tokenizer.json")).unwrap();
    assert!(tokenizer("dataset") == tokenizer("stages/more/dataset"));
    place.succeed(&["train", "tiny.toml"]);
    assert_eq!(losses(&stage(&place, "more")).len(), 2);
}

#[test]
fn what_is_wrong_with_a_stage_is_told_before_anything_is_done() {
    let line = |text: &str, part: &str| 1 + text[..text.find(part).unwrap()].matches('\n').count();
    let config = config();
    let relation = "stage:full\", relation = { relation = \"scaled\", heads = 4, block = 0, teacher_block = 7, weight = 1.0 }, divergence = \"forward_kl";
    let cases: [(&str, &str, &[&str]); 14] = [
        ("train = { steps = 6", "train = { stpes = 6", &["train: unknown field `stpes`", "did you mean `steps`"]),
        ("stage:full", "stage:ful", &["stage ternary: train.teacher.from is stage:ful,", "these are full, sub_norms"]),
        ("stage:full", "stage:ternary", &["train.teacher.from is stage:ternary, an earlier stage was needed"]),
        ("stage:full", "nowhere", &["ternary: cannot use train.teacher.from: cannot read nowhere/config.json"]),
        ("stage:full", relation, &["train.teacher.relation.teacher_block is 7, which is not below the 1 blocks"]),
        ("steps = 18", "steps = 18\nadapter = { rank = 300 }", &["stage ternary: train.adapter.rank is 300, but"]),
        ("name = \"ternary\"", "name = \"full\"", &["stage full: an earlier stage has that name"]),
        ("name = \"ternary\"", "name = \"../full\"", &["its name is to be that of a folder"]),
        ("{ quant = \"none\", sub", "{ quant = \"none\", width = 512, sub", &["stage sub_norms: model: unknown field `width`"]),
        ("model = { quant = \"none\" }", "model = { from = \"x\" }", &["stage full: model.from is given, but [model] has the sizes"]),
        ("sub_norms = true\n", "from = \"x\"\n", &["stage ternary: model.from is given, but a stage starts from the one before it"]),
        ("steps = 18", "steps = 0", &["stage ternary: train.steps is 0"]),
        ("steps = 6,", "steps = 6, quant_warm_up_steps = 2,", &["train.quant_warm_up_steps is 2, but model.quant is none"]),
        ("rows = 2", "rows = 2\nteacher = { from = \"stage:full\" }", &["only a later [[stage]] can name one"]),
    ];
    for (old, new, parts) in cases {
        assert!(config.contains(old), "{old}");
        let place = Place::new(&config.replacen(old, new, 1));
        let message = place.fail(&["distill", "tiny.toml"]);
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert!(!place.path("checkpoints").exists(), "{message}");
    }
    let place = Place::new(&config.replace("steps = 6", "stpes = 6"));
    let message = place.fail(&["check", "tiny.toml"]);
    let text = config.replace("steps = 6", "stpes = 6");
    let begins = line(&text, "name = \"sub_norms\"") - 1;
    assert!(message.contains(&format!("tiny.toml line {begins}, stage sub_norms")), "{message}");
    let message = place.fail(&["check", "tiny.toml", "--set", "stage.tenary.train.steps=5"]);
    assert!(message.contains("there is no stage of the name tenary"), "{message}");
}
