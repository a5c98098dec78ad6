//! The two forms of the operations train the same student: burn's own put together, in half precision too, and ours.

#[allow(dead_code)] // of what the other tests use
mod example;

use data::Cursor;
use example::{Place, six_steps};
use serde_json::json;
use tristill_trainer::{
    AdamW, Batch, Gradients, Lesson, Student,
    device::{self, Path, Storage},
    optimizer::BETAS,
};

/// The loss of each step.
fn losses(place: &Place, path: Path, quant: &str) -> Vec<f64> {
    let (table, model) = (six_steps(json!({ "steps": 200, "warm_up_steps": 10, "rate": 5e-4 })), place.model(json!({ "quant": quant })));
    let mut student = Student::new(&model, table.seed, &device::cpu()).with_path(path);
    let mut optimizer = AdamW::new(&student, BETAS);
    let mut rows = place.dataset.rows(table.seed, Cursor::default());
    let mut step = |step| {
        let rows: Vec<_> = rows.by_ref().take(table.rows).collect::<Result<_, _>>().unwrap();
        let (loss, supervised) = student.loss(&Batch::from_rows(&rows, &model, Lesson::NONE).unwrap());
        let gradients = Gradients::of(&student, &loss, supervised);
        optimizer.step(&mut student, gradients, table.rate_at(step), table.weight_decay_at(step), table.clip);
        f64::from(loss.into_scalar::<f32>()) / supervised as f64
    };
    (0..table.steps).map(&mut step).collect()
}

#[test]
fn two_hundred_steps_lose_alike_in_both_forms_and_in_half_precision() {
    let place = Place::new(1);
    // A code that a rounding of the last bit tips over moves a loss by far more than all such roundings together, one way or the
    // other; so means of twenty steps are compared. So for half precision.
    let single = Path::Composed(Storage::F32);
    for (quant, tolerance) in [("none", [1e-5, 1e-3, 1e-2]), ("ternary", [4e-2; 3])] {
        let composed = losses(&place, single, quant);
        assert!(composed[199] < 0.1 * composed[0], "{quant}: too little was learned: {composed:?}");
        for (path, tolerance) in [Path::Fused, Path::Composed(Storage::F16), Path::Composed(Storage::Bf16)].into_iter().zip(tolerance) {
            let other = losses(&place, path, quant);
            let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
            let apart = composed.chunks(20).zip(other.chunks(20)).map(|(a, b)| (mean(a) - mean(b)).abs()).fold(0.0, f64::max);
            assert!(apart < tolerance, "{quant}, {path:?}: {apart} apart");
        }
    }
}
