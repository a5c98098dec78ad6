use burn::tensor::{Tensor, TensorData};
use model::Role;

use super::*;
use crate::{
    device::{self, Storage},
    student::{Batch, tests::tiny},
};

pub(crate) fn batch() -> Batch {
    let mut batch = Batch::document(&[3, 1, 4, 1, 5, 9, 2, 6]);
    batch.targets = vec![1, 4, 1, 5, 9, 2, 6, 5];
    batch.keep = vec![false, false, true, true, true, true, true, true];
    batch
}

fn gradients(student: &Student) -> Gradients {
    let (loss, kept) = student.loss(&batch());
    Gradients::of(student, &loss, kept)
}

/// The values of each tensor after a step by the formula in f64, from the gradient of a fresh student.
fn expected(student: &Student, rate: f64, decay: f64, clip: f64) -> (f64, Vec<Vec<f64>>) {
    let (tensors, gradients) = (student.tensors(), gradients(student));
    let tokens = gradients.tokens() as f64;
    let gradients: Vec<Vec<f32>> =
        gradients.into_tensors().into_iter().map(|gradient| gradient.unwrap().try_into_vec_as().unwrap()).collect();
    let norm = gradients.iter().flatten().map(|g| (f64::from(*g) / tokens).powi(2)).sum::<f64>().sqrt();
    let factor = (clip / norm).min(1.0) / tokens;
    let step = |(spec, values): &(TensorSpec, Vec<f32>), gradient: &Vec<f32>| {
        let decay = if spec.kind() == Kind::Vector { 0.0 } else { decay };
        let each = |(w, g): (&f32, &f32)| {
            let (w, g) = (f64::from(*w), f64::from(*g) * factor);
            // After one step the corrected moments are g and g^2.
            w - rate * decay * w - rate * g / (g.abs() + 1e-8)
        };
        values.iter().zip(gradient).map(each).collect()
    };
    (norm, tensors.iter().zip(&gradients).map(|(tensor, gradient)| step(tensor, gradient)).collect())
}

#[test]
fn the_first_step_is_that_of_the_formula() {
    for path in [Path::Composed(Storage::F32), Path::Fused] {
        for clip in [1e-3, 1e3] {
            let mut student = tiny(|_| {}).with_path(path);
            let (norm, expected) = expected(&student, 1e-2, 0.1, clip);
            let mut optimizer = AdamW::new(&student, BETAS);
            let gradients = gradients(&student);
            let stats = optimizer.step(&mut student, gradients, 1e-2, 0.1, clip);
            assert!((f64::from(stats.gradient_norm) / norm - 1.0).abs() < 1e-5, "{path:?}: {} {norm}", stats.gradient_norm);
            for ((spec, found), expected) in student.tensors().iter().zip(expected) {
                for (found, expected) in found.iter().zip(expected) {
                    // Where a gradient is near the epsilon its rounding shows.
                    assert!((f64::from(*found) - expected).abs() < 2e-5, "{path:?} {}: {found} {expected}", spec.name);
                }
            }
        }
    }
}

#[test]
fn microbatches_add_up() {
    let student = tiny(|_| {});
    let once = gradients(&student);
    let mut twice = gradients(&student);
    twice.add(gradients(&student));
    let (nothing, none) = student.loss(&Batch::document(&[1, 2]));
    twice.add(Gradients::of(&student, &nothing, none));
    assert_eq!(twice.tokens(), 2 * once.tokens());
    for (twice, once) in twice.into_tensors().into_iter().zip(once.into_tensors()) {
        let values = |tensor: Option<Tensor<1>>| tensor.unwrap().try_into_vec_as::<f32>().unwrap();
        let doubled: Vec<f32> = values(once).into_iter().map(|x| 2.0 * x).collect();
        assert_eq!(values(twice), doubled);
    }
}

#[test]
fn a_restored_optimizer_goes_on_with_the_same_bits() {
    let train = |student: &mut Student, optimizer: &mut AdamW, steps: usize| {
        for _ in 0..steps {
            let gradients = gradients(student);
            optimizer.step(student, gradients, 1e-2, 0.1, 1.0);
        }
    };
    let mut student = tiny(|_| {});
    let mut optimizer = AdamW::new(&student, BETAS);
    train(&mut student, &mut optimizer, 2);

    let mut tensors = student.tensors().into_iter();
    let stored = |_: &TensorSpec| Ok::<_, ()>(tensors.next().unwrap().1);
    let mut other = Student::from_tensors(student.config(), stored, &device::cpu()).unwrap();
    let (mut first, mut second) = (optimizer.moments(Moment::First).into_iter(), optimizer.moments(Moment::Second).into_iter());
    let stored = |_: &TensorSpec, which| match which {
        Moment::First => Ok::<_, ()>(first.next().unwrap()),
        Moment::Second => Ok(second.next().unwrap()),
    };
    let mut other_optimizer = AdamW::from_state(&other, BETAS, optimizer.steps(), stored).unwrap();

    train(&mut student, &mut optimizer, 3);
    train(&mut other, &mut other_optimizer, 3);
    assert_eq!(student.tensors(), other.tensors());
    assert_eq!(optimizer.steps(), other_optimizer.steps());
    assert_eq!(optimizer.moments(Moment::Second), other_optimizer.moments(Moment::Second));
}

#[test]
fn a_gradient_that_is_no_number_changes_nothing() {
    let mut tensors = tiny(|_| {}).tensors();
    tensors.iter_mut().find(|(spec, _)| spec.role == Role::FinalNorm).unwrap().1[3] = f32::NAN;
    let mut values = tensors.iter().map(|(_, values)| values.clone());
    let mut student = Student::from_tensors(tiny(|_| {}).config(), |_| Ok::<_, ()>(values.next().unwrap()), &device::cpu()).unwrap();
    let mut optimizer = AdamW::new(&student, BETAS);
    let gradients = gradients(&student);
    let stats = optimizer.step(&mut student, gradients, 1e-2, 0.1, 1.0);
    assert!(stats.gradient_norm.is_nan());
    assert_eq!(optimizer.steps(), 0);
    let bits = |tensors: Vec<(TensorSpec, Vec<f32>)>| -> Vec<u32> { tensors.iter().flat_map(|(_, x)| x).map(|x| x.to_bits()).collect() };
    assert_eq!(bits(student.tensors()), bits(tensors));
}

#[test]
fn a_loss_falls() {
    for path in [Path::Composed(Storage::F32), Path::Fused] {
        let mut student = tiny(|_| {}).with_path(path);
        let mut optimizer = AdamW::new(&student, BETAS);
        let mut losses = Vec::new();
        for _ in 0..30 {
            let (loss, kept) = student.loss(&batch());
            losses.push(loss.clone().into_scalar::<f32>() / kept as f32);
            let gradients = Gradients::of(&student, &loss, kept);
            optimizer.step(&mut student, gradients, 1e-2, 0.1, 1.0);
        }
        assert!((losses[0] - (tiny(|_| {}).config().vocab as f32).ln()).abs() < 0.5, "{losses:?}");
        assert!(losses[29] < 0.5, "{path:?}: {losses:?}");
    }
}

#[test]
fn gradients_of_tensor_data_are_flat_in_row_order() {
    // The moments are stored flat by name: the order within a matrix must be that of its rows.
    let student = tiny(|_| {});
    let (loss, _) = student.loss(&batch());
    let mut all = loss.backward();
    let embedding = &student.parameters()[0];
    let flat = embedding.take_gradient(&mut all).unwrap();
    let [length] = flat.dims();
    let (vocab, width) = (student.config().vocab, student.config().width);
    assert_eq!(length, vocab * width);
    let values: Vec<f32> = flat.try_into_vec_as().unwrap();
    let rebuilt = Tensor::<2>::from_data(TensorData::new(values.clone(), [vocab, width]), &device::cpu());
    assert_eq!(rebuilt.slice([5..6, 0..width]).try_into_vec_as::<f32>().unwrap(), values[5 * width..6 * width]);
}
