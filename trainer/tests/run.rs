//! Runs that are stopped, killed, spoiled and continued.

mod example;

use std::{collections::BTreeMap, fs, path::Path, process::Command, sync::atomic::AtomicBool};

use example::{Place, six_steps, train_job};
use serde_json::{Value, json};
use tristill_trainer::{Checkpoint, Error, Job, RateTest, Student, checkpoints, device, find_rate, latest, metrics, steepest};

const TO_THE_END: u64 = u64::MAX;

/// The files of a checkpoint.
fn files_of(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(checkpoint).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

/// The files of a checkpoint without what depends on the clock.
fn bytes_of(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files_of(checkpoint);
    let state = files.get_mut("training_state.json").unwrap();
    let mut parsed: Value = serde_json::from_slice(state).unwrap();
    parsed["totals"]["wall_s"] = Value::Null;
    *state = parsed.to_string().into_bytes();
    files
}

/// What the metrics say of each step, without the clock.
fn lines_of(run: &Path) -> Vec<metrics::Line> {
    let text = fs::read_to_string(run.join(metrics::FILE)).unwrap();
    text.lines().map(|line| metrics::Line { tokens_per_s: 0.0, ..serde_json::from_str(line).unwrap() }).collect()
}

fn steps_of(run: &Path) -> Vec<u64> {
    checkpoints(run).unwrap().into_iter().map(|(step, _)| step).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, copied).unwrap();
        }
    }
}

#[test]
fn the_best_evaluation_in_mid_run_keeps_its_checkpoint() {
    let place = Place::new(5);
    let (config, model) = (six_steps(json!({ "evaluate_every": 2, "keep_last": 1, "save_every": 100 })), place.model(json!({})));
    let run = place.path("run");
    // Stopped right after a step that is evaluated.
    place.train(&run, &config, &model, 4).unwrap();
    let trained = place.train(&run, &config, &model, TO_THE_END).unwrap();
    assert_eq!((steps_of(&run), trained.best), (vec![4, 6], Some(run.join("step-00000004"))));
    let text = fs::read_to_string(run.join(metrics::FILE)).unwrap();
    let evaluated: Vec<metrics::Evaluated> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(evaluated.iter().map(|line| (line.step, line.score)).collect::<Vec<_>>(), [(2, 0.2), (4, 0.5), (6, 0.3)]);
    assert_eq!(evaluated[1].eval, json!({ "sums": { "accuracy": 0.5, "layers": 1 } }));
    // An evaluation that a killed process did not get to is made by the next one.
    let end_of_last = text.trim_end().rfind('\n').unwrap() + 1;
    fs::write(run.join(metrics::FILE), &text[..end_of_last]).unwrap();
    place.train(&run, &config, &model, TO_THE_END).unwrap();
    assert_eq!(fs::read_to_string(run.join(metrics::FILE)).unwrap(), text);
}

#[test]
fn a_run_that_was_stopped_anywhere_ends_with_the_same_bits() {
    let place = Place::new(1);
    let (config, model) = (six_steps(json!({})), place.model(json!({})));
    let whole = place.train(&place.path("whole"), &config, &model, TO_THE_END).unwrap();
    assert!(whole.is_finished);
    assert_eq!((whole.step, steps_of(&place.path("whole"))), (6, vec![4, 6]));
    let lines = lines_of(&place.path("whole"));
    assert_eq!(lines.iter().map(|line| line.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(lines[5].loss < lines[0].loss, "nothing was learned: {lines:?}");
    assert!((0.2..0.6).contains(&lines[5].layers.zeros[0]), "{lines:?}");

    for stop in 1..6 {
        let run = place.path(&format!("stopped-{stop}"));
        let stopped = place.train(&run, &config, &model, stop).unwrap();
        assert!(!stopped.is_finished);
        assert_eq!((stopped.step, stopped.checkpoint.clone()), (stop, latest(&run).unwrap().unwrap().1));
        let resumed = place.train(&run, &config, &model, TO_THE_END).unwrap();
        assert_eq!(bytes_of(&resumed.checkpoint), bytes_of(&whole.checkpoint), "stopped after step {stop}");
        assert_eq!(lines_of(&run), lines);
        assert_eq!((resumed.totals.tokens, resumed.totals.supervised_tokens), (whole.totals.tokens, whole.totals.supervised_tokens));
        assert!(resumed.totals.wall_s > stopped.totals.wall_s);
    }

    let again = place.train(&place.path("whole"), &config, &model, TO_THE_END).unwrap();
    assert_eq!(again, whole);
}

/// Trains in full and in two parts, and asserts that the bits are the same; returns the metrics.
fn resumes_exactly(place: &Place, name: &str, train: Value, model: Value, stops: std::ops::Range<u64>) -> Vec<metrics::Line> {
    let (config, model) = (six_steps(train), place.model(model));
    let whole = place.train(&place.path(name), &config, &model, TO_THE_END).unwrap();
    let lines = lines_of(&place.path(name));
    for stop in stops {
        let run = place.path(&format!("{name}-{stop}"));
        place.train(&run, &config, &model, stop).unwrap();
        let resumed = place.train(&run, &config, &model, TO_THE_END).unwrap();
        assert_eq!(bytes_of(&resumed.checkpoint), bytes_of(&whole.checkpoint), "{name} stopped after step {stop}");
        assert_eq!(lines_of(&run), lines, "{name} stopped after step {stop}");
    }
    lines
}

#[test]
fn every_kind_of_weights_is_trained_and_goes_on_exactly() {
    let place = Place::new(1);
    for (quant, activations) in [("int8", "int8"), ("int4", "none"), ("ternary", "int4")] {
        let model = json!({ "quant": quant, "activations": activations });
        let lines = resumes_exactly(&place, quant, json!({}), model, 3..4);
        assert!(lines[5].loss < lines[0].loss, "nothing was learned: {lines:?}");
    }
}

#[test]
fn quantisation_that_comes_in_slowly_starts_as_full_precision_and_goes_on_exactly() {
    let place = Place::new(1);
    let slow = resumes_exactly(&place, "slow", json!({ "quant_warm_up_steps": 4 }), json!({}), 2..6);
    let full = resumes_exactly(&place, "full", json!({}), json!({ "quant": "none" }), 3..3);
    let at_once = resumes_exactly(&place, "at-once", json!({}), json!({}), 3..3);
    assert!((slow[0].loss - full[0].loss).abs() < 1e-5, "{} {}", slow[0].loss, full[0].loss);
    assert!((slow[0].loss - at_once[0].loss).abs() > 1e-5, "{} {}", slow[0].loss, at_once[0].loss);
    // None is the same run as none said.
    let (config, model) = (six_steps(json!({ "quant_warm_up_steps": 0 })), place.model(json!({})));
    place.train(&place.path("at-once"), &config, &model, TO_THE_END).unwrap();
    let refused =
        |train: Value, model: Value| place.train(&place.path("no"), &six_steps(train), &place.model(model), 1).unwrap_err().to_string();
    let message = refused(json!({ "quant_warm_up_steps": 2 }), json!({ "quant": "none" }));
    assert!(message.starts_with("train.quant_warm_up_steps is 2, but model.quant is none"), "{message}");
}

#[test]
fn the_average_is_what_ships_and_goes_on_exactly() {
    let place = Place::new(1);
    let averaged = resumes_exactly(&place, "averaged", json!({ "ema": 0.9 }), json!({}), 2..4);
    // The average is looked at and not trained with.
    let plain = resumes_exactly(&place, "plain", json!({}), json!({}), 3..3);
    assert_eq!(averaged, plain);
    let files = |name: &str| files_of(&place.path(name).join("step-00000006"));
    let (averaged, plain) = (files("averaged"), files("plain"));
    assert_eq!(averaged["trained.safetensors"], plain["model.safetensors"]);
    assert_ne!(averaged["model.safetensors"], plain["model.safetensors"]);
    Checkpoint::open(&place.path("averaged/step-00000006")).unwrap();
    let (config, model) = (six_steps(json!({})), place.model(json!({})));
    let message = place.train(&place.path("averaged"), &config, &model, TO_THE_END).unwrap_err().to_string();
    assert!(message.contains("train.ema was 0.9 in the run that wrote it and is null now"), "{message}");
}

#[test]
fn a_run_stops_when_the_held_out_loss_no_longer_falls() {
    let place = Place::new(1);
    let rows = place.dataset.manifest().rows;
    assert!(rows >= 8, "{rows} rows are too few");
    // At so high a rate little is learned.
    let table = |changed: Value| {
        let mut table = json!({ "steps": 60, "rows": 2, "warm_up_steps": 0, "rate": 2e-3, "save_every": 7, "keep_last": 1,
            "early_stop": { "every": 2, "patience": 3, "rows": 3 } });
        table.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        six_steps(table)
    };
    let (config, model) = (table(json!({ "rate": 0.2 })), place.model(json!({})));
    let whole = place.train(&place.path("whole"), &config, &model, TO_THE_END).unwrap();
    let best = whole.held_out.unwrap();
    assert!(whole.is_finished && whole.step < 60, "{whole:?}");
    assert_eq!((whole.step, whole.checkpoint.clone()), (best.step + 6, place.path(&format!("whole/step-{:08}", best.step))));
    let looks = |run: &str| {
        let text = fs::read_to_string(place.path(run).join(metrics::FILE)).unwrap();
        text.lines().filter(|line| line.contains("held_out_loss")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(looks("whole").len() as u64, whole.step / 2);
    // Stopped before, at and after a look, and started once more at the end.
    for stop in [3, 4, best.step + 1] {
        let run = format!("stopped-{stop}");
        place.train(&place.path(&run), &config, &model, stop).unwrap();
        for _ in 0..2 {
            let resumed = place.train(&place.path(&run), &config, &model, TO_THE_END).unwrap();
            assert_eq!((resumed.step, resumed.held_out, looks(&run)), (whole.step, whole.held_out, looks("whole")));
            assert_eq!(bytes_of(&resumed.checkpoint), bytes_of(&whole.checkpoint));
        }
    }
    // How often is looked and for how long is waited changes no weight, which rows are held out does.
    let longer = table(json!({ "rate": 0.2, "early_stop": { "every": 3, "patience": 9, "rows": 3 } }));
    let gone_on = place.train(&place.path("whole"), &longer, &model, whole.step + 2).unwrap();
    assert_eq!(gone_on.step, whole.step + 2);
    let fewer = table(json!({ "rate": 0.2, "early_stop": { "rows": 2 } }));
    let message = place.train(&place.path("whole"), &fewer, &model, TO_THE_END).unwrap_err().to_string();
    assert!(message.contains("train.early_stop.rows was 3"), "{message}");
    let most = table(json!({ "early_stop": { "rows": rows } }));
    let message = place.train(&place.path("most"), &most, &model, TO_THE_END).unwrap_err().to_string();
    assert!(message.starts_with(&format!("train.early_stop.rows is {rows}, but the dataset has {rows} rows")), "{message}");
}

#[test]
fn rates_are_tried_until_the_loss_runs_away() {
    let place = Place::new(1);
    let (config, model) = (six_steps(json!({ "steps": 1, "warm_up_steps": 0 })), place.model(json!({})));
    let run = place.path("run");
    let job = Job { config: &config, model: &model, from: None, dataset: &place.dataset, run: &run };
    let find = |to: f64, stop: bool| {
        let (mut told, test) = (0, RateTest { from: 1e-5, to, steps: 40 });
        let tried = find_rate(&job, &test, &AtomicBool::new(stop), &mut |_| told += 1).unwrap();
        assert_eq!(tried.len(), told);
        tried
    };
    let tried = find(3e-2, false);
    assert!(tried.len() >= 20 && tried == find(3e-2, false));
    let steepest = steepest(&tried).expect("the loss falls");
    assert!((1e-4..3e-2).contains(&steepest), "{steepest} {tried:?}");
    assert!(find(1e6, false).len() < 40, "a loss at a rate of a million runs away");
    assert!(find(1e-2, true).is_empty() && !run.exists());
}

#[test]
fn a_run_that_saves_memory_is_the_same_run() {
    let place = Place::new(1);
    let model = place.model(json!({ "layers": 2 }));
    let table = |changed: Value| {
        let mut table = serde_json::to_value(six_steps(changed)).unwrap();
        table.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        table
    };
    let mut budget = table(json!({ "memory_gib": 4.0 }));
    budget.as_object_mut().unwrap().remove("microbatch_rows");
    let budget: tristill_trainer::TrainTable = serde_json::from_value(budget).unwrap();
    let found = place.train(&place.path("budget"), &budget, &model, 3).unwrap();
    assert!(!found.is_finished);
    // With so much memory it is the default, a quarter of three rows.
    let written = six_steps(json!({ "microbatch_rows": 1 }));
    let recomputed = six_steps(json!({ "microbatch_rows": 1, "gradient_checkpointing": true }));
    let [found, written] = [("budget", &recomputed), ("written", &written)]
        .map(|(run, config)| bytes_of(&place.train(&place.path(run), config, &model, TO_THE_END).unwrap().checkpoint));
    assert_eq!(found, written);
}

#[test]
fn a_run_that_was_killed_in_the_middle_of_a_save_goes_on_from_the_one_before() {
    let place = Place::new(1);
    let (config, model) = (six_steps(json!({ "keep_last": 9 })), place.model(json!({})));
    let (whole, killed) = (place.path("whole"), place.path("killed"));
    let expected = place.train(&whole, &config, &model, TO_THE_END).unwrap();

    // As the process leaves it: metrics of later steps, the last line cut off, a checkpoint half written.
    copy(&whole.join("step-00000002"), &killed.join("step-00000002"));
    copy(&whole.join("step-00000004"), &killed.join(".partial-00000004"));
    fs::remove_file(killed.join(".partial-00000004/training_state.json")).unwrap();
    let text = fs::read_to_string(whole.join(metrics::FILE)).unwrap();
    fs::write(killed.join(metrics::FILE), &text[..text.len() * 3 / 4]).unwrap();

    let resumed = place.train(&killed, &config, &model, TO_THE_END).unwrap();
    assert_eq!(bytes_of(&resumed.checkpoint), bytes_of(&expected.checkpoint));
    assert_eq!(lines_of(&killed), lines_of(&whole));
    assert_eq!(steps_of(&killed), [2, 4, 6]);
    assert!(!killed.join(".partial-00000004").exists());
}

#[test]
fn a_checkpoint_is_a_hugging_face_folder() {
    let place = Place::new(1);
    let model = place.model(json!({}));
    let trained = place.train(&place.path("run"), &six_steps(json!({})), &model, 1).unwrap();
    let names: Vec<String> = bytes_of(&trained.checkpoint).into_keys().collect();
    let expected = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_state.json",
    ];
    assert_eq!(names, expected);
    let checkpoint = Checkpoint::open(&trained.checkpoint).unwrap();
    assert_eq!(checkpoint.config, model);
    assert_eq!(checkpoint.tokenizer.fingerprint(), place.dataset.tokenizer().unwrap().fingerprint());
    assert_eq!(checkpoint.chat, place.dataset.chat().unwrap());
}

#[test]
fn a_run_that_starts_from_a_folder_is_as_exact_as_any_other() {
    let place = Place::new(1);
    let (config, model) = (six_steps(json!({})), place.model(json!({})));
    let folder = place.train(&place.path("first"), &config, &model, TO_THE_END).unwrap().checkpoint;
    let train = |name: &str, from: &Path, last_step: u64| {
        let run = place.path(name);
        train_job(&Job { config: &config, model: &model, from: Some(from), dataset: &place.dataset, run: &run }, last_step)
    };
    let whole = train("whole", &folder, TO_THE_END).unwrap();
    train("stopped", &folder, 3).unwrap();
    assert_eq!(bytes_of(&train("stopped", &folder, TO_THE_END).unwrap().checkpoint), bytes_of(&whole.checkpoint));
    let (first, tuned) = (lines_of(&place.path("first")), lines_of(&place.path("whole")));
    assert!(tuned[0].loss < first[0].loss && tuned[0].loss < first[5].loss + 0.1, "{} then {}", first[5].loss, tuned[0].loss);

    let message = train("stopped", &place.path("first"), TO_THE_END).unwrap_err().to_string();
    assert!(message.contains("from was"), "{message}");
    let wider = place.model(json!({ "feed_forward": 512 }));
    let refused = |model: &model::ModelConfig, tokenizer: &model::Tokenizer| {
        Student::from_folder(&folder, model, tokenizer, &device::cpu(), || unreachable!()).err().map(|error| error.to_string())
    };
    let tokenizer = place.dataset.tokenizer().unwrap();
    assert!(refused(&wider, &tokenizer).unwrap().contains("its sizes are not those of the student"));
    let other = model::Tokenizer::train(std::iter::empty(), 300).unwrap();
    assert!(refused(&model, &other).unwrap().contains("its tokenizer is not the one"));
    assert_eq!(refused(&model, &tokenizer), None);
}

#[test]
fn another_config_is_refused_with_the_first_difference() {
    let place = Place::new(1);
    let run = place.path("run");
    let (config, model) = (six_steps(json!({})), place.model(json!({})));
    place.train(&run, &config, &model, 1).unwrap();
    let refused = |place: &Place, train: Value, student: Value| {
        place.train(&run, &six_steps(train), &place.model(student), 2).unwrap_err().to_string()
    };
    let message = refused(&place, json!({ "rate": 1e-3 }), json!({}));
    assert!(message.contains("step-00000001: train.rate was 0.002 in the run that wrote it and is 0.001 now; use that value"), "{message}");
    let message = refused(&place, json!({ "steps": 7 }), json!({ "layers": 2 }));
    assert!(message.contains("train.steps was 6"), "{message}");
    let message = refused(&place, json!({}), json!({ "layers": 2 }));
    assert!(message.contains("model.layers was 1"), "{message}");
    let message = refused(&Place::new(7), json!({}), json!({}));
    assert!(message.contains("dataset was"), "{message}");
    // How often to save and log changes no weight.
    place.train(&run, &six_steps(json!({ "save_every": 5, "log_every": 3, "keep_last": 1 })), &model, 2).unwrap();
}

#[test]
fn a_student_that_the_dataset_does_not_fit_is_refused() {
    let place = Place::new(1);
    let train = |model| place.train(&place.path("run"), &six_steps(json!({})), &model, 1).unwrap_err().to_string();
    let message = train(place.model(json!({ "context": 64 })));
    assert!(message.contains("its rows have up to 96 tokens, model.context is 64"), "{message}");
    let mut other = place.model(json!({}));
    let vocab = other.vocab;
    other.vocab -= 1;
    let message = train(other);
    assert!(message.contains(&format!("its tokenizer has {vocab} tokens, the student {}", vocab - 1)), "{message}");
}

/// Change one number of a checkpoint's tensor file, found by the name of its tensor.
fn poison(file: &Path, tensor: &str, value: f32) {
    let mut bytes = fs::read(file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let table: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let at = 8 + header + table[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_run_and_loses_nothing() {
    let place = Place::new(1);
    let run = place.path("run");
    let (config, model) = (six_steps(json!({})), place.model(json!({})));
    let good = place.train(&run, &config, &model, 3).unwrap().checkpoint;
    let before = files_of(&good);

    // A weight that is not a number shows in the loss at once.
    copy(&run, &place.path("bad-weight"));
    poison(&place.path("bad-weight").join("step-00000003/model.safetensors"), "model.norm.weight", f32::NAN);
    let message = place.train(&place.path("bad-weight"), &config, &model, TO_THE_END).unwrap_err().to_string();
    assert!(message.starts_with("stopped before step 4: the loss is NaN; the last good checkpoint is"), "{message}");
    assert!(message.ends_with("lower train.rate (now 0.002) in a new run"), "{message}");

    // A bad moment spoils the weights in step 4, which is due to be saved and must not be.
    poison(&good.join("optimizer.safetensors"), "model.norm.weight.first_moment", f32::INFINITY);
    let message = place.train(&run, &config, &model, TO_THE_END).unwrap_err().to_string();
    assert!(message.contains("a weight of model.norm.weight is"), "{message}");
    assert!(message.contains("the last good checkpoint is") && message.contains("step-00000003"), "{message}");
    assert_eq!(steps_of(&run), [2, 3]);
    fs::write(good.join("optimizer.safetensors"), &before["optimizer.safetensors"]).unwrap();
    assert!(place.train(&run, &config, &model, TO_THE_END).unwrap().is_finished);
}

#[test]
fn steps_before_a_bad_one_are_saved() {
    let place = Place::new(1);
    let run = place.path("run");
    // Steps so large that the weights soon leave f32.
    let config = six_steps(json!({ "rate": 1e37, "warm_up_steps": 0, "weight_decay": 0.0, "save_every": 100 }));
    let error = place.train(&run, &config, &place.model(json!({})), TO_THE_END).unwrap_err();
    let Error::NotANumber { step, last, .. } = error else { panic!("{error}") };
    assert!(step > 1, "the first step is finite");
    let last = last.expect("what was reached is saved");
    assert_eq!(last, run.join(format!("step-{:08}", step - 1)));
    Checkpoint::open(&last).unwrap();
    // The rows of the step that was not taken are still to come.
    let again = place.train(&run, &config, &place.model(json!({})), TO_THE_END).unwrap_err();
    assert!(matches!(again, Error::NotANumber { step: same, .. } if same == step), "{again}");
}

#[test]
fn microbatches_add_up_to_the_same_step() {
    let place = Place::new(1);
    let first_line = |rows: usize| {
        let run = place.path(&format!("by-{rows}"));
        place.train(&run, &six_steps(json!({ "rows": 4, "microbatch_rows": rows })), &place.model(json!({})), 1).unwrap();
        lines_of(&run).remove(0)
    };
    let whole = first_line(4);
    for rows in [1, 3] {
        let line = first_line(rows);
        assert!((line.loss / whole.loss - 1.0).abs() < 1e-6, "{line:?} {whole:?}");
        assert!((line.gradient_norm / whole.gradient_norm - 1.0).abs() < 1e-5, "{line:?} {whole:?}");
    }
}

#[test]
fn a_damaged_checkpoint_is_a_sentence() {
    let place = Place::new(1);
    let run = place.path("run");
    let model = place.model(json!({}));
    let good = place.train(&run, &six_steps(json!({})), &model, 1).unwrap().checkpoint;
    let whole = files_of(&good);
    let opened = |name: &str, bytes: &[u8]| {
        fs::write(good.join(name), bytes).unwrap();
        let opened = place.train(&run, &six_steps(json!({})), &model, 1).map_err(|error| error.to_string());
        fs::write(good.join(name), &whole[name]).unwrap();
        opened.map(|_| ())
    };
    for name in ["model.safetensors", "optimizer.safetensors"] {
        for len in [0, 7, 1000, whole[name].len() - 1] {
            let message = opened(name, &whole[name][..len]).unwrap_err();
            assert!(message.contains(&format!("{name}: it is damaged or cut off at {len} bytes")), "{message}");
        }
        let message = opened(name, &[0xff; 64]).unwrap_err();
        assert!(message.contains("damaged"), "{message}");
    }
    let message = opened("model.safetensors", &whole["optimizer.safetensors"]).unwrap_err();
    for part in ["model.embed_tokens.weight is missing", "model.norm.weight.first_moment is no tensor of this student"] {
        assert!(message.contains(part), "{message}");
    }
    for name in ["config.json", "tokenizer.json", "training_state.json"] {
        let message = opened(name, &whole[name][..whole[name].len() / 2]).unwrap_err();
        assert!(message.contains(name), "{name}: {message}");
    }
    let config = String::from_utf8(whole["config.json"].clone()).unwrap();
    let message = opened("config.json", config.replace("\"vocab_size\": ", "\"vocab_size\": 1").as_bytes()).unwrap_err();
    assert!(message.contains(&format!("has the shape [{0}, 256], [1{0}, 256] was needed", model.vocab)), "{message}");
    let message = opened("config.json", config.replace("\"intermediate_size\": 256", "\"intermediate_size\": 512").as_bytes()).unwrap_err();
    assert!(message.contains("model.layers.0.mlp.down_proj.weight has the shape [256, 256], [256, 512] was needed"), "{message}");
    fs::remove_file(good.join("training_state.json")).unwrap();
    let message = place.train(&run, &six_steps(json!({})), &model, 1).unwrap_err().to_string();
    assert!(message.starts_with("cannot read") && message.contains("training_state.json"), "{message}");
}

/// The folder in which the child of the next test trains.
const FULL_DISK: &str = "TRISTILL_TEST_FULL_DISK";

/// A limit on the size of a file makes writes fail in the middle, as a full disk does, and needs no rights.
#[cfg(unix)]
#[test]
fn a_full_disk_is_a_sentence_and_loses_nothing() {
    let config = six_steps(json!({}));
    if let Ok(folder) = std::env::var(FULL_DISK) {
        let dataset = data::Dataset::open(&Path::new(&folder).join("dataset")).unwrap();
        let model = serde_json::from_value::<model::ModelTable>(example::table()).unwrap().resolve(dataset.manifest().vocab).unwrap();
        let run = Path::new(&folder).join("run");
        let job = Job { config: &config, model: &model, from: None, dataset: &dataset, run: &run };
        let error = train_job(&job, TO_THE_END).unwrap_err();
        fs::write(Path::new(&folder).join("message"), error.to_string()).unwrap();
        return;
    }
    let place = Place::new(1);
    let (run, model) = (place.path("run"), place.model(json!({})));
    place.train(&run, &config, &model, 3).unwrap();
    let weights = fs::metadata(run.join("step-00000003/model.safetensors")).unwrap().len();
    // The weights still fit, the optimizer does not. The limit counts blocks of 512 bytes.
    let limit = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", weights * 3 / 2 / 512);
    let child = Command::new("sh")
        .args(["-c", &limit])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_is_a_sentence_and_loses_nothing"])
        .env(FULL_DISK, place.path(""))
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let message = fs::read_to_string(place.path("message")).unwrap();
    assert!(message.starts_with("cannot save the checkpoint of step 4: cannot write "), "{message}");
    assert!(message.contains("optimizer.safetensors") && message.contains("the last good checkpoint is"), "{message}");
    assert!(message.ends_with("step-00000003"), "{message}");
    assert_eq!(steps_of(&run), [2, 3]);
    assert!(!run.join(".partial-00000004").exists(), "the space was not given back");

    let expected = place.train(&place.path("whole"), &config, &model, TO_THE_END).unwrap();
    let resumed = place.train(&run, &config, &model, TO_THE_END).unwrap();
    assert_eq!(bytes_of(&resumed.checkpoint), bytes_of(&expected.checkpoint));
}
