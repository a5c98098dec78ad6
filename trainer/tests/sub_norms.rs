//! Sub-norms that are added to a student which was trained without: it stays the student it was, and what is exported is what is trained.

mod example;

use std::{path::Path, sync::Arc};

use data::Cursor;
use example::{Place, six_steps, train_job};
use model::{FromTable, ModelConfig, block::Format};
use runtime::{Engine, Options};
use serde_json::json;
use tristill_trainer::{Batch, Checkpoint, Job, Lesson, Student, device, export};

const STEPS: u64 = 60;

fn rows(place: &Place, model: &ModelConfig, count: usize) -> Batch {
    let rows: Vec<_> = place.dataset.rows(1, Cursor::default()).take(count).map(Result::unwrap).collect();
    Batch::from_rows(&rows, model, Lesson::NONE).unwrap()
}

/// The mean loss of the dataset's first rows, in nats.
fn loss(student: &Student, batch: &Batch) -> f32 {
    let (loss, supervised) = student.loss(batch);
    loss.into_scalar::<f32>() / supervised as f32
}

#[test]
fn a_student_stays_what_it_was_and_its_file_is_what_it_is() {
    let place = Place::new(1);
    for architecture in ["llama", "qwen2", "qwen3"] {
        let plain = place.model(json!({ "layers": 2, "architecture": architecture, "quant": "none" }));
        let config = six_steps(json!({ "steps": STEPS, "rows": 4, "save_every": 1000, "log_every": 1000 }));
        let folder = place.train(&place.path(&format!("{architecture}-plain")), &config, &plain, STEPS).unwrap().checkpoint;
        let (checkpoint, normed) = (Checkpoint::open(&folder).unwrap(), plain.clone().with_sub_norms());
        let (batch, tokenizer) = (rows(&place, &plain, 8), place.dataset.tokenizer().unwrap());

        let before = Student::from_tensors(&plain, |spec| Ok::<_, ()>(checkpoint.weights(spec)), &device::cpu()).unwrap();
        let few = || Ok(rows(&place, &plain, 4));
        let fitted = Student::from_folder(&folder, &normed, &tokenizer, &device::cpu(), few).unwrap();
        let [before, fitted] = [&before, &fitted].map(|student| loss(student, &batch));
        assert!(fitted < before + 0.3, "{architecture}: {before} {fitted}");

        // Trained on with ternary layers, packed, and run.
        let table = json!({ "from": folder, "quant": "ternary", "sub_norms": true });
        let ternary = serde_json::from_value::<FromTable>(table).unwrap().change(plain).unwrap();
        let run = place.path(&format!("{architecture}-ternary"));
        let job = Job { config: &six_steps(json!({})), model: &ternary, from: Some(&folder), dataset: &place.dataset, run: &run };
        let trained = train_job(&job, 6).unwrap();
        same_as_packed(&Checkpoint::open(&trained.checkpoint).unwrap(), &run.join("student.gguf"), &batch);
    }
}

/// The runtime's logits are the trainer's but for the rounding of the embedding.
fn same_as_packed(checkpoint: &Checkpoint, path: &Path, batch: &Batch) {
    let exported = export(checkpoint, path, "sub-norms", Format::Tq2_0).unwrap();
    assert_eq!(exported.stock_refusal.is_none(), checkpoint.config.architecture == model::Architecture::Bitnet);
    let student = Student::from_tensors(&checkpoint.config, |spec| Ok::<_, ()>(checkpoint.weights(spec)), &device::cpu()).unwrap();
    let mut engine = Engine::new(Arc::new(runtime::Student::open(path).unwrap()), &Options::default()).unwrap();
    let text = &batch.tokens[..batch.documents.iter().position(|document| *document != 0).unwrap()];
    let (expected, found) = (student.logits(text), engine.logits(text).unwrap());
    let largest = expected.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
    let apart = expected.iter().zip(&found).fold(0.0f32, |apart, (a, b)| apart.max((a - b).abs()));
    assert!(expected.len() == found.len() && apart < 5e-2 * largest, "logits differ by {apart}, the largest is {largest}");
}
