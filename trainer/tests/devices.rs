//! Every device trains the same student, and a checkpoint of one goes on on another. A device that this build or this machine has
//! not says why and is skipped, unless TRISTILL_TEST_DEVICE names it.

#[allow(dead_code)] // of what the other tests use
mod example;

use std::{fs, path::Path};

use example::{Place, merged, six_steps};
use serde_json::{Value, json};
use tristill_trainer::{DeviceName, device, metrics};

const STEPS: u64 = 20;

/// The losses in a run's metrics.
fn losses(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join(metrics::FILE)).unwrap();
    text.lines().map(|line| serde_json::from_str::<metrics::Line>(line).unwrap().loss).collect()
}

/// How far two runs' losses are apart at most.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Whether a device is here; what it says where it is not.
#[allow(clippy::print_stderr)] // a test that was skipped must say so
fn is_here(name: &str, is_built: bool) -> bool {
    let device: DeviceName = serde_json::from_value(json!(name)).unwrap();
    let Err(error) = device::open(device) else {
        assert!(is_built, "{name} is not built and opens");
        return true;
    };
    let message = error.to_string();
    let expected = if is_built { "; found here: cpu".to_owned() } else { format!("build it with `--features {name}`") };
    assert!(message.starts_with("cannot train on this device: ") && message.contains(&expected), "{message}");
    assert!(std::env::var("TRISTILL_TEST_DEVICE").ok().is_none_or(|wanted| wanted != name), "{message}");
    eprintln!("skipped: {message}");
    false
}

/// Twenty steps on the CPU, on the device, and on both, either first; and on the device with less memory.
#[allow(clippy::print_stderr)] // how far apart, for whoever tries another adapter
fn trains_like_the_cpu(name: &str, is_built: bool) {
    if !is_here(name, is_built) {
        return;
    }
    let place = Place::new(1);
    // The composed form on the device, the fused one on the CPU. A code that a rounding tips over moves a loss more than all
    // roundings together; in full precision there are only these. Seen were 4e-7 and 5e-3.
    for (quant, tolerance) in [("none", 1e-5), ("ternary", 2e-2)] {
        let model = place.model(json!({ "quant": quant }));
        let train = |run: &str, changed: &Value, last_step: u64| {
            let steps = json!({ "steps": STEPS, "rate": 5e-4, "warm_up_steps": 5, "save_every": 10 });
            place.train(&place.path(run), &six_steps(merged(steps, changed.clone())), &model, last_step)
        };
        let runs = [("cpu", "cpu"), (name, name), ("cpu", name), (name, "cpu")].map(|(first, second)| {
            let run = format!("{quant}-{first}-{second}");
            train(&run, &json!({ "device": first }), STEPS / 2).unwrap();
            train(&run, &json!({ "device": second }), STEPS).unwrap();
            losses(&place.path(&run))
        });
        let [cpu, others @ ..] = &runs;
        assert!(cpu[19] < 0.9 * cpu[0], "{quant}: too little was learned: {cpu:?}");
        for (other, run) in others.iter().zip(["alone", "after the CPU", "before the CPU"]) {
            assert_eq!(other.len(), STEPS as usize);
            let apart = apart(cpu, other);
            eprintln!("{quant}, {name} {run}: at most {apart:.1e} apart");
            assert!(apart < tolerance, "{quant}, {name} {run}: {apart} apart\n{cpu:?}\n{other:?}");
        }
        let saving = json!([{ "gradient_checkpointing": true }, { "storage": "f16" }, { "storage": "bf16" }]);
        for (at, changed) in saving.as_array().unwrap().iter().enumerate() {
            let run = format!("{quant}-saving-{at}");
            if let Err(error) = train(&run, &merged(json!({ "device": name }), changed.clone()), STEPS) {
                let message = error.to_string();
                assert!(at > 0 && message.contains(&format!(": {name} does not compute with ")), "{message}");
                eprintln!("skipped: {message}");
                continue;
            }
            let apart = apart(cpu, &losses(&place.path(&run)));
            eprintln!("{quant}, {name} with {changed}: at most {apart:.1e} apart");
            assert!(apart < if at == 0 { tolerance } else { 2e-2 }, "{quant}, {name} with {changed}: {apart} apart");
        }
    }
}

#[test]
fn wgpu_trains_like_the_cpu() {
    trains_like_the_cpu("wgpu", cfg!(feature = "wgpu"));
}

#[test]
fn ndarray_trains_like_the_cpu() {
    trains_like_the_cpu("ndarray", cfg!(feature = "ndarray"));
}

#[test]
fn cuda_trains_like_the_cpu() {
    trains_like_the_cpu("cuda", cfg!(feature = "cuda"));
}
