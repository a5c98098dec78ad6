//! Every device trains the same student, and a checkpoint of one goes on on another. A device that this build or this machine has
//! not says why and is skipped, unless TRISTILL_TEST_DEVICE names it.

#[allow(dead_code)] // of what the other tests use
mod example;

use std::{fs, path::Path};

use example::{Place, six_steps};
use serde_json::{Value, json};
use tristill_trainer::{DeviceName, device, metrics};

const STEPS: u64 = 20;

/// The losses in a run's metrics.
fn losses(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join(metrics::FILE)).unwrap();
    text.lines().map(|line| serde_json::from_str::<metrics::Line>(line).unwrap().loss).collect()
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

/// Twenty steps on the CPU, on the device, and on both, either first.
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
        let train = |run: &str, device: &str, last_step: u64| {
            let changed: Value = json!({ "steps": STEPS, "rate": 5e-4, "warm_up_steps": 5, "save_every": 10, "device": device });
            place.train(&place.path(run), &six_steps(changed), &model, last_step).unwrap();
        };
        let runs = [("cpu", "cpu"), (name, name), ("cpu", name), (name, "cpu")].map(|(first, second)| {
            let run = format!("{quant}-{first}-{second}");
            train(&run, first, STEPS / 2);
            train(&run, second, STEPS);
            losses(&place.path(&run))
        });
        let [cpu, others @ ..] = &runs;
        assert!(cpu[19] < 0.9 * cpu[0], "{quant}: too little was learned: {cpu:?}");
        for (other, run) in others.iter().zip(["alone", "after the CPU", "before the CPU"]) {
            assert_eq!(other.len(), STEPS as usize);
            let apart = cpu.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            eprintln!("{quant}, {name} {run}: at most {apart:.1e} apart");
            assert!(apart < tolerance, "{quant}, {name} {run}: {apart} apart\n{cpu:?}\n{other:?}");
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
