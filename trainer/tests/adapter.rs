//! Runs that train an adapter: they go on exactly, leave the start as it was, and ship what was trained.

mod example;

use std::{collections::BTreeMap, fs, path::Path};

use example::{Place, six_steps, train_job};
use model::{
    Kind, ModelConfig, Packed,
    block::{self, Format},
    hugging_face::{Float, Form},
    inventory, ternary,
};
use serde_json::{Value, json};
use tristill_trainer::{Checkpoint, Error, Job, Student, TrainTable, Trained, convert, device, export};

const TO_THE_END: u64 = u64::MAX;

/// Six steps that train an adapter.
fn adapter(changed: Value) -> TrainTable {
    let mut table = json!({ "adapter": { "rank": 4, "alpha": 8.0 }, "rate": 2e-2 });
    table.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    six_steps(table)
}

/// A folder to start from.
fn start(place: &Place, model: &ModelConfig) -> std::path::PathBuf {
    place.train(&place.path("start"), &six_steps(json!({})), model, TO_THE_END).unwrap().checkpoint
}

fn train(place: &Place, name: &str, config: &TrainTable, model: &ModelConfig, from: &Path, last: u64) -> Result<Trained, Error> {
    train_job(&Job { config, model, from: Some(from), dataset: &place.dataset, run: &place.path(name) }, last)
}

/// The files of a checkpoint without what depends on the clock.
fn bytes_of(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(checkpoint).unwrap().map(|entry| entry.unwrap().path());
    let mut files: BTreeMap<_, _> =
        files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect();
    let state = files.get_mut("training_state.json").unwrap();
    let mut parsed: Value = serde_json::from_slice(state).unwrap();
    parsed["totals"]["wall_s"] = Value::Null;
    *state = parsed.to_string().into_bytes();
    files
}

#[test]
fn a_run_goes_on_exactly_with_any_number_of_threads_and_leaves_the_rest_as_it_was() {
    let place = Place::new(1);
    for (name, table) in [("ternary", json!({})), ("int4", json!({ "quant": "int4" })), ("none", json!({ "quant": "none" }))] {
        let model = place.model(table);
        let _ = fs::remove_dir_all(place.path("start"));
        let from = start(&place, &model);
        let config = adapter(json!({}));
        let whole = train(&place, name, &config, &model, &from, TO_THE_END).unwrap();
        let expected = bytes_of(&whole.checkpoint);
        for (stop, threads) in [(1, 1), (3, 3), (4, 5)] {
            let run = format!("{name}-{stop}");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train(&place, &run, &config, &model, &from, stop)).unwrap();
            let resumed = train(&place, &run, &config, &model, &from, TO_THE_END).unwrap();
            assert!(bytes_of(&resumed.checkpoint) == expected, "{name} stopped after step {stop} of {threads} threads");
        }

        let (before, after) = (Checkpoint::open(&from).unwrap(), Checkpoint::open(&whole.checkpoint).unwrap());
        for spec in inventory(&model) {
            let bits = |checkpoint: &Checkpoint| checkpoint.weights(&spec).into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(&before) == bits(&after), spec.kind() != Kind::Linear, "{name} {}", spec.name);
        }
        let losses: Vec<f64> = fs::read_to_string(place.path(name).join("metrics.jsonl"))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap())
            .collect();
        assert!(losses[5] < losses[0], "nothing was learned: {losses:?}");
    }
}

#[test]
fn the_packed_student_has_the_codes_that_were_trained_with() {
    let place = Place::new(1);
    let model = place.model(json!({ "scale": "tensor" }));
    // From codes alone, as ternary models are published: the adapter has to move weights by half a scale.
    let folder = place.path("packed");
    let packed = Form { float: Float::Bf16, is_packed: true };
    convert(&Checkpoint::open(&start(&place, &model)).unwrap(), &folder, packed, &mut |_, _| ()).unwrap();
    let trained = train(&place, "run", &adapter(json!({ "rate": 0.1 })), &model, &folder, TO_THE_END).unwrap();

    let checkpoint = Checkpoint::open(&trained.checkpoint).unwrap();
    let file = place.path("student.gguf");
    export(&checkpoint, &file, "student", Format::Tq2_0).unwrap();
    let bytes = fs::read(&file).unwrap();
    let (before, mut moved) = (Checkpoint::open(&folder).unwrap(), 0);
    for tensor in Packed::parse(&bytes).unwrap().tensors.iter().filter(|tensor| tensor.format.is_ternary()) {
        let (rows, columns) = (tensor.spec.shape[0], tensor.spec.shape[1]);
        let codes = |checkpoint: &Checkpoint| ternary::quantize(&checkpoint.weights(&tensor.spec), rows, columns, model.scale);
        let (expected, stored) = (codes(&checkpoint), &bytes[tensor.range.clone()]);
        for (at, bytes) in stored.chunks(tensor.format.block().1).enumerate() {
            let mut found = [0; ternary::GROUP];
            let scale = block::decode_ternary(bytes, tensor.format, &mut found).unwrap();
            assert_eq!((&found[..], scale), (&expected.codes[at * ternary::GROUP..][..ternary::GROUP], expected.scales[0]));
        }
        moved += codes(&before).codes.iter().zip(&expected.codes).filter(|(before, after)| before != after).count();
    }
    assert!(moved > 0, "no code was changed");
    // The merged folder is the same student to one who trains on.
    let tokens = [5, 6, 7, 8, 9];
    let no_rows = || panic!("it has the sub-norms that it needs");
    let merged = Student::from_folder(&trained.checkpoint, &model, &checkpoint.tokenizer, &device::cpu(), no_rows).unwrap();
    let on = train(&place, "run", &adapter(json!({ "rate": 0.1 })), &model, &folder, TO_THE_END).unwrap();
    assert_eq!(on.checkpoint, trained.checkpoint);
    assert!(merged.logits(&tokens).iter().all(|logit| logit.is_finite()));
}

#[test]
fn what_no_adapter_can_be_is_refused() {
    let place = Place::new(1);
    let model = place.model(json!({}));
    let from = start(&place, &model);
    let message = |config: TrainTable| train(&place, "run", &config, &model, &from, 1).unwrap_err().to_string();
    let refused = message(adapter(json!({ "adapter": { "rank": 129 } })));
    let part = "train.adapter.rank is 129, but model.layers.0.self_attn.k_proj.weight is [128, 256], whose rank is at most 128";
    assert_eq!(refused, part);
    assert!(message(adapter(json!({ "adapter": { "rank": 0 } }))).contains("train.adapter.rank is 0, which is not at least 1"));
    assert!(message(adapter(json!({ "adapter": { "alpha": -1.0 } }))).contains("train.adapter.alpha is -1, which is not a positive"));
    assert!(message(adapter(json!({ "ema": 0.9 }))).contains("train.ema is 0.9, but train.adapter is given too"));
    let new = place.train(&place.path("new"), &adapter(json!({})), &model, 1).unwrap_err().to_string();
    assert!(new.starts_with("train.adapter is of rank 4, but there is no model.from"), "{new}");

    // A start that is another one when the run goes on.
    let copy = place.path("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    train(&place, "run", &adapter(json!({})), &model, &copy, 2).unwrap();
    let path = copy.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let changed = train(&place, "run", &adapter(json!({})), &model, &copy, 3).unwrap_err().to_string();
    assert!(changed.contains("weights of from was"), "{changed}");
    let other = train(&place, "run", &adapter(json!({ "adapter": { "rank": 5 } })), &model, &copy, 3).unwrap_err().to_string();
    assert!(other.contains("train.adapter.rank was 4"), "{other}");
}

#[test]
fn an_adapter_by_others_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
    fs::write(folder.path().join("adapter_model.safetensors"), "").unwrap();
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("is a LoRA adapter and no whole model") && message.contains("train.adapter"), "{message}");
    // Beside whole weights it is of no account.
    fs::write(folder.path().join("model.safetensors"), "").unwrap();
    assert!(Checkpoint::open(folder.path()).unwrap_err().to_string().contains("config.json"));
}
