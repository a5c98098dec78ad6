//! A run that is killed or stopped at any moment and started again ends with the same bits as one that never was.
#![allow(missing_docs)]
#![cfg(unix)]

mod program;

use std::{
    fs,
    process::{Child, Stdio},
};

use program::{Place, TINY, last_checkpoint, sentence, wait_for_steps};

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_killed_run_ends_with_the_bits_of_one_that_was_not() {
    let config = TINY.replace("steps = 30", "steps = 60");
    let whole = Place::new(&config);
    whole.succeed(&["ingest", "tiny.toml"]);
    whole.succeed(&["train", "tiny.toml"]);

    let killed = Place::new(&config);
    killed.succeed(&["ingest", "tiny.toml"]);
    let run = killed.path("checkpoints/tiny");
    // Twice, at moments that fall where they fall: between saves, within a save, within a step.
    for steps in [8, 25] {
        let mut child = killed.command(&["train", "tiny.toml"]).stderr(Stdio::null()).spawn().unwrap();
        wait_for_steps(&run, steps, &mut child);
        signal(&child, "-KILL");
        assert!(!child.wait().unwrap().success(), "the run was over before it could be killed; give it more steps");
    }
    killed.succeed(&["train", "tiny.toml"]);

    let weights = |place: &Place| fs::read(last_checkpoint(&place.path("checkpoints/tiny")).join("model.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&killed), "the weights differ");
    // What is not a time is the same too, and no step stands twice.
    let losses = |place: &Place| -> Vec<(u64, f64)> {
        let text = fs::read_to_string(place.path("checkpoints/tiny/metrics.jsonl")).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        rows.map(|row| (row["step"].as_u64().unwrap(), row["loss"].as_f64().unwrap())).collect()
    };
    assert_eq!(losses(&whole), losses(&killed));
}

#[test]
fn ctrl_c_saves_and_says_so() {
    let place = Place::new(&TINY.replace("steps = 30", "steps = 100000").replace("save_every = 6", "save_every = 100000"));
    place.succeed(&["ingest", "tiny.toml"]);
    let run = place.path("checkpoints/tiny");
    let mut child = place.command(&["train", "tiny.toml"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_steps(&run, 3, &mut child);
    for other in ["ingest", "train", "distill"] {
        assert!(place.fail(&[other, "tiny.toml"]).contains("another process is at work in checkpoints/tiny"), "{other}");
    }
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(errors.contains("stopped at step") && errors.contains("goes on from there"), "{errors}");
    assert!(last_checkpoint(&run).join("model.safetensors").exists());
}

#[test]
fn a_full_disk_is_a_sentence_and_loses_nothing() {
    let place = Place::new(TINY);
    place.succeed(&["ingest", "tiny.toml"]);
    place.succeed(&["train", "tiny.toml", "--set", "train.steps=6"]);
    let before = last_checkpoint(&place.path("checkpoints/tiny"));
    // No file may become longer than this, which is what a disk without room does to the first long one.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let program = env!("CARGO_BIN_EXE_tristill");
    let limited = |arguments: &[&str]| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, program]).args(arguments).current_dir(place.path(""));
        command.output().unwrap()
    };
    let message = sentence(&limited(&["export", "checkpoints/tiny"]));
    assert!(message.contains("student.gguf"), "{message}");
    assert!(!place.path("checkpoints/tiny/student.gguf").exists());

    let message = sentence(&limited(&["train", "tiny.toml", "--run", "checkpoints/other", "--set", "train.steps=6"]));
    assert!(message.contains("checkpoints/other"), "{message}");
    assert!(before.join("model.safetensors").exists());
    place.succeed(&["export", "checkpoints/tiny"]);
}
