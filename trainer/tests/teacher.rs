//! A teacher beside the student, and the same one asked beforehand.

mod example;

use std::{
    fs,
    path::{Path, PathBuf},
};

use data::Dataset;
use example::{Place, six_steps, train_job};
use model::ModelConfig;
use serde_json::{Value, json};
use tristill_trainer::{Job, TrainTable, Trained, annotate, metrics::Line};

const TO_THE_END: u64 = u64::MAX;

/// A place, a teacher of two blocks in full precision that has learned a little, and the student's sizes.
fn taught() -> (Place, PathBuf, ModelConfig) {
    let place = Place::new(1);
    let folder = teacher(&place, json!({}));
    let student = place.model(json!({}));
    (place, folder, student)
}

/// The teacher of a place, trained with some keys changed.
fn teacher(place: &Place, changed: Value) -> PathBuf {
    let model = place.model(json!({ "layers": 2, "quant": "none" }));
    place.train(&place.path("teacher"), &six_steps(changed), &model, TO_THE_END).unwrap().checkpoint
}

fn with_teacher(folder: &Path, changed: Value) -> TrainTable {
    let mut teacher = json!({ "from": folder, "share": 0.7 });
    teacher.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    six_steps(json!({ "teacher": teacher }))
}

fn run(place: &Place, name: &str, config: &TrainTable, model: &ModelConfig, dataset: &Dataset, last_step: u64) -> Trained {
    train_job(&Job { config, model, from: None, dataset, run: &place.path(name) }, last_step).unwrap()
}

fn lines(place: &Place, name: &str) -> Vec<Line> {
    let text = fs::read_to_string(place.path(name).join("metrics.jsonl")).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_run_with_a_teacher_is_as_exact_as_any_other_and_comes_nearer_to_it() {
    let (place, folder, model) = taught();
    for (name, changed) in [("still", json!({})), ("balanced", json!({ "balance": 2.0, "divergence": "jensen_shannon" }))] {
        let config = with_teacher(&folder, changed);
        let whole = run(&place, name, &config, &model, &place.dataset, TO_THE_END);
        let stopped = format!("{name}-stopped");
        run(&place, &stopped, &config, &model, &place.dataset, 3);
        let resumed = run(&place, &stopped, &config, &model, &place.dataset, TO_THE_END);
        let weights = |trained: &Trained| fs::read(trained.checkpoint.join("model.safetensors")).unwrap();
        assert!(weights(&resumed) == weights(&whole), "{name}");
        let balance = |trained: &Trained| {
            let state = fs::read_to_string(trained.checkpoint.join("training_state.json")).unwrap();
            serde_json::from_str::<Value>(&state).unwrap()["balance"].clone()
        };
        assert!(balance(&resumed) == balance(&whole) && balance(&whole).is_f64(), "{name}: {}", balance(&resumed));
        let lines = lines(&place, name);
        let divergence = |at: usize| lines[at].terms.divergence.unwrap();
        assert!(divergence(5) < 0.9 * divergence(0), "{name}: {} {}", divergence(0), divergence(5));
        for line in &lines {
            let (cross_entropy, share) = (line.terms.cross_entropy.unwrap(), line.terms.share.unwrap());
            let mixed = (1.0 - share) * cross_entropy + share * line.terms.divergence.unwrap();
            assert!((mixed - line.loss).abs() < 1e-4, "{line:?}");
        }
        let ratio = lines[5].terms.ratio.unwrap();
        assert!(name == "still" || (1.0..4.0).contains(&ratio), "{ratio}");
    }
}

#[test]
fn what_was_asked_beforehand_teaches_the_same_up_to_the_tail() {
    let (place, folder, model) = taught();
    let first = |config: &TrainTable, dataset: &Dataset, name: &str| {
        run(&place, name, config, &model, dataset, 1);
        lines(&place, name)[0].terms.divergence.unwrap()
    };
    let vocab = place.dataset.manifest().vocab;
    for divergence in ["forward_kl", "reverse_kl", "jensen_shannon", "confidence"] {
        let with = |changed: Value| {
            let mut table = json!({ "divergence": divergence, "temperature": 1.5 });
            table.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
            with_teacher(&folder, table)
        };
        let beside = first(&with(json!({})), &place.dataset, &format!("{divergence}-beside"));
        for (top_k, apart) in [(vocab, 2e-3), (8, f64::INFINITY)] {
            let config = with(json!({ "top_k": top_k }));
            let to = place.path(&format!("annotated-{top_k}"));
            let (annotated, is_new) = annotate(&place.dataset, &config, &model, &to, &mut |_, _| ()).unwrap();
            assert_eq!((annotated.manifest().top_k, is_new), (top_k, divergence == "forward_kl"));
            let facts = annotated.card().unwrap().teacher.unwrap();
            assert_eq!((facts.targets, facts.masked), (annotated.manifest().supervised_tokens, 0));
            assert!(if top_k == 8 { (0.01..0.99).contains(&facts.mean_tail) } else { facts.mean_tail < 1e-4 }, "{facts:?}");
            let stored = first(&config, &annotated, &format!("{divergence}-{top_k}"));
            // Taking tokens together loses what tells them apart, and nothing else.
            assert!((stored - beside).abs() <= apart * beside && stored <= beside * 1.002, "{divergence} {top_k}: {stored} {beside}");
        }
    }
}

#[test]
fn a_teacher_that_was_trained_anew_is_asked_again() {
    let (place, folder, model) = taught();
    let is_asked = || {
        let config = with_teacher(&folder, json!({ "top_k": 8 }));
        annotate(&place.dataset, &config, &model, &place.path("annotated"), &mut |_, _| ()).unwrap().1
    };
    assert!(is_asked() && !is_asked());
    fs::remove_dir_all(place.path("teacher")).unwrap();
    assert_eq!(teacher(&place, json!({ "rate": 1e-3 })), folder);
    assert!(is_asked() && !is_asked());
}

#[test]
fn a_teacher_that_cannot_teach_is_refused() {
    let (place, folder, model) = taught();
    let refused = |place: &Place, folder: &Path, model: &ModelConfig| {
        let config = with_teacher(folder, json!({}));
        let job = Job { config: &config, model, from: None, dataset: &place.dataset, run: &place.path("refused") };
        train_job(&job, 1).unwrap_err().to_string()
    };
    let other = place.path("other");
    fs::create_dir(&other).unwrap();
    for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
    }
    fs::write(other.join("tokenizer.json"), model::Tokenizer::train(std::iter::empty(), 300).unwrap().to_json()).unwrap();
    let message = refused(&place, &other, &model);
    assert!(message.contains("its tokenizer of") && message.contains("learn from its texts alone"), "{message}");
    let mut longer = model.clone();
    longer.context += 1;
    let message = refused(&place, &folder, &longer);
    assert!(message.contains("its context is 96 tokens, at least the student's 97 are needed"), "{message}");
    let message = refused(&place, &place.path("nowhere"), &model);
    assert!(message.contains("cannot read"), "{message}");
    let mut config = with_teacher(&folder, json!({ "top_k": 8, "temperature": 2.0 }));
    let to = place.path("annotated");
    let (annotated, _) = annotate(&place.dataset, &config, &model, &to, &mut |_, _| ()).unwrap();
    config.teacher.temperature = 1.0;
    let job = Job { config: &config, model: &model, from: None, dataset: &annotated, run: &place.path("refused") };
    let message = train_job(&job, 1).unwrap_err().to_string();
    assert!(message.contains("taken at temperature 2 and train.teacher.temperature is 1"), "{message}");
    let again = annotate(&annotated, &config, &model, &place.path("again"), &mut |_, _| ()).unwrap_err().to_string();
    assert!(again.contains("only one teacher is kept"), "{again}");
}

#[test]
fn inner_states_come_nearer_to_the_teachers() {
    let (place, folder, model) = taught();
    let states = json!({
        "hidden": { "likeness": "cosine", "weight": 0.5 },
        "relation": { "relation": "scaled", "heads": 2, "block": 0, "teacher_block": 1, "weight": 0.5 },
    });
    let config = with_teacher(&folder, states);
    let whole = run(&place, "states", &config, &model, &place.dataset, TO_THE_END);
    run(&place, "states-stopped", &config, &model, &place.dataset, 2);
    let resumed = run(&place, "states-stopped", &config, &model, &place.dataset, TO_THE_END);
    let weights = |trained: &Trained| fs::read(trained.checkpoint.join("model.safetensors")).unwrap();
    assert!(weights(&resumed) == weights(&whole));
    let lines = lines(&place, "states");
    let of_states = |at: usize| lines[at].terms.states.unwrap();
    assert!(of_states(5) < of_states(0), "{} {}", of_states(0), of_states(5));

    let refused = |changed: Value| {
        let config = with_teacher(&folder, changed);
        let job = Job { config: &config, model: &model, from: None, dataset: &place.dataset, run: &place.path("refused") };
        train_job(&job, 1).unwrap_err().to_string()
    };
    let relation =
        |heads: usize, block: usize| json!({ "relation": "cosine", "heads": heads, "block": block, "teacher_block": 0, "weight": 1.0 });
    let message = refused(json!({ "relation": relation(3, 0) }));
    assert!(message.contains("train.teacher.relation.heads is 3, which does not divide all of [256, 128, 256, 128]"), "{message}");
    let message = refused(json!({ "relation": relation(2, 1) }));
    assert!(message.contains("train.teacher.relation.block is 1, which is not below the 1 blocks there are"), "{message}");
    let message = refused(json!({ "relation": relation(2, 0), "top_k": 4 }));
    assert!(message.contains("states need a teacher beside the student"), "{message}");
}

#[test]
fn a_teacher_with_another_tokenizer_teaches_by_ranks() {
    let place = Place::new(1);
    let other = Place::with_questions(1, "Of {n} umbrellas and 3 more, what is the total number?");
    let of_other = other.model(json!({ "layers": 2, "quant": "none" }));
    let folder = other.train(&other.path("teacher"), &six_steps(json!({})), &of_other, TO_THE_END).unwrap().checkpoint;
    let model = place.model(json!({}));
    let config = with_teacher(&folder, json!({ "divergence": "uld" }));
    let weights = |trained: &Trained| fs::read(trained.checkpoint.join("model.safetensors")).unwrap();
    let whole = run(&place, "whole", &config, &model, &place.dataset, TO_THE_END);
    run(&place, "stopped", &config, &model, &place.dataset, 3);
    assert!(weights(&run(&place, "stopped", &config, &model, &place.dataset, TO_THE_END)) == weights(&whole));
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let trained = pool.install(|| run(&place, &format!("threads-{threads}"), &config, &model, &place.dataset, TO_THE_END));
        assert!(weights(&trained) == weights(&whole), "{threads} threads");
    }
    let lines = lines(&place, "whole");
    assert!(lines[5].loss < lines[0].loss && lines[5].terms.divergence < lines[0].terms.divergence, "{lines:?}");
    let taught = |lines: &[Line]| lines.iter().map(|line| line.terms.taught.unwrap()).collect::<Vec<_>>();
    assert!(taught(&lines).iter().all(|taught| (0.3..=1.0).contains(taught)), "{lines:?}");

    let job = |config: &TrainTable| {
        let job = Job { config, model: &model, from: None, dataset: &place.dataset, run: &place.path("other") };
        train_job(&job, 1)
    };
    let message = job(&with_teacher(&folder, json!({}))).unwrap_err().to_string();
    assert!(message.contains(r#"train.teacher.divergence = "uld" (experimental), or learn from its texts alone"#), "{message}");
    let hidden = json!({ "divergence": "uld", "hidden": { "likeness": "cosine", "weight": 0.5 } });
    let message = job(&with_teacher(&folder, hidden)).unwrap_err().to_string();
    assert!(message.contains("train.teacher.hidden is given, but the teacher has another tokenizer"), "{message}");
    // One that has the dataset's is compared at every place.
    run(&other, "same", &config, &of_other, &other.dataset, 1);
    assert_eq!(taught(&self::lines(&other, "same")), [1.0]);
}
