//! Hugging Face folders with the real binary: a run starts from one, and what it was made of is written back.
#![allow(missing_docs)]

mod program;

use std::fs;

use program::{Place, TINY};
use serde_json::Value;

/// The losses of a run's steps.
fn losses(place: &Place, run: &str) -> Vec<f64> {
    let text = fs::read_to_string(place.path(&format!("checkpoints/{run}/metrics.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect()
}

/// The config of a run that starts from `folder`, with other lines in its tables.
fn from(folder: &str, model: &str, data: &str) -> String {
    let (before, rest) = TINY.split_once("[model]").unwrap();
    let (_, after) = rest.split_once("[train]").unwrap();
    let before = before.replace("vocab = 320", data);
    format!("{before}[model]\nfrom = \"{folder}\"\n{model}\n[train]{}", after.replace("steps = 30", "steps = 3"))
}

#[test]
fn a_run_starts_from_the_weights_of_a_folder() {
    let place = Place::new(TINY);
    place.succeed(&["ingest", "tiny.toml"]);
    place.succeed(&["train", "tiny.toml"]);
    place.succeed(&["convert", "checkpoints/tiny", "--to", "folder", "--type", "bf16"]);
    place.write("tuned.toml", &from("folder", "", ""));
    place.succeed(&["distill", "tuned.toml"]);
    let (first, tuned) = (losses(&place, "tiny"), losses(&place, "tuned"));
    assert!(tuned[0] < 0.6 * first[0], "new weights start at {}, these at {}", first[0], tuned[0]);
    let resolved = fs::read_to_string(place.path("checkpoints/tuned/config.toml")).unwrap();
    assert!(resolved.contains("from = \"folder\"") && resolved.contains("tokenizer = \"folder/tokenizer.json\""), "{resolved}");

    // Other layers on the same weights.
    place.write("float.toml", &from("folder", "quant = \"none\"\ncontext = 128", ""));
    place.succeed(&["ingest", "float.toml"]);
    place.succeed(&["train", "float.toml"]);
    assert_eq!(losses(&place, "float").len(), 3);
}

#[test]
fn what_does_not_go_with_a_folder_is_refused() {
    let place = Place::new(TINY);
    place.succeed(&["ingest", "tiny.toml"]);
    place.succeed(&["train", "tiny.toml", "--set", "train.steps=1", "--set", "train.warm_up_steps=0"]);
    place.succeed(&["convert", "checkpoints/tiny", "--to", "folder"]);
    for (model, data, parts) in [
        ("", "vocab = 320", ["data.vocab is given", "leave them out"]),
        ("width = 256", "", ["unknown field `width`", "`context`, `quant`, `scale`"]),
        ("context = 999", "", ["model.context is 999", "more than the 256 of folder"]),
    ] {
        place.write("wrong.toml", &from("folder", model, data));
        let message = place.fail(&["train", "wrong.toml"]);
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    place.write("nowhere.toml", &from("nowhere", "", ""));
    let message = place.fail(&["train", "nowhere.toml"]);
    assert!(message.contains("cannot read nowhere/config.json"), "{message}");
    let message = place.fail(&["convert", "folder", "--to", "packed", "--packed"]);
    assert!(message.contains("a scale for each row"), "{message}");
    let message = place.fail(&["convert", "folder", "--to", "folder"]);
    assert!(message.contains("folder: it is there already"), "{message}");

    // A tensor that is cut off the folder is named by every command.
    let path = place.path("folder/config.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2")).unwrap();
    for command in [["export", "folder"].as_slice(), &["convert", "folder", "--to", "other"]] {
        let message = place.fail(command);
        assert!(message.contains("model.layers.1.mlp.down_proj.weight is missing"), "{message}");
    }
}
