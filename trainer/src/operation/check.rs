//! How an operation's two forms are held against each other and against the slope of the function itself.

use burn::tensor::{Tensor, TensorData};

use crate::device::{self, Path, Storage};

/// Numbers in [-1, 1] that look random and are the same every time.
pub(crate) fn sample(count: usize, seed: u64) -> Vec<f32> {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Asserts that the fused form's value and gradients are the composed one's, and that the gradients are the function's slope
/// along a random direction. Inputs are matrices given as (values, rows); vectors are given one row and arrive as [1, n].
pub(crate) fn same_and_smooth(inputs: &[(Vec<f32>, usize)], operation: impl Fn(Path, Vec<Tensor<2>>) -> Tensor<2>) {
    let (composed_value, composed) = differentiate(Path::Composed(Storage::F32), inputs, &operation);
    let (fused_value, fused) = differentiate(Path::Fused, inputs, &operation);
    assert!(norm(&difference(&fused_value, &composed_value)) <= 1e-5 * norm(&composed_value) + 1e-6, "the values differ");
    for (at, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
        let apart = norm(&difference(fused, composed));
        assert!(apart <= 1e-5 * norm(composed) + 1e-6, "the gradients of input {at} differ by {apart} of {}", norm(composed));
    }
    for (at, gradient) in fused.iter().enumerate() {
        let direction = sample(gradient.len(), 77 + at as u64);
        let along = |step: f32| {
            let mut moved = inputs.to_vec();
            for (value, direction) in moved[at].0.iter_mut().zip(&direction) {
                *value += step * direction;
            }
            let (value, _) = differentiate(Path::Fused, &moved, &operation);
            value.iter().zip(sample(value.len(), 99)).map(|(value, weight)| f64::from(*value) * f64::from(weight)).sum::<f64>()
        };
        let step = 1e-2;
        let slope = (along(step) - along(-step)) / f64::from(2.0 * step);
        let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        assert!((slope - expected).abs() <= 1e-2 * (norm(gradient) + slope.abs()) + 1e-4, "input {at}: slope {slope}, gradient {expected}");
    }
}

/// The output, and the gradients of the inputs for a random gradient of the output.
fn differentiate(
    path: Path,
    inputs: &[(Vec<f32>, usize)],
    operation: impl Fn(Path, Vec<Tensor<2>>) -> Tensor<2>,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let device = device::cpu();
    let tensor = |(values, rows): &(Vec<f32>, usize)| {
        Tensor::<2>::from_data(TensorData::new(values.clone(), [*rows, values.len() / rows]), &device).require_grad()
    };
    let inputs: Vec<_> = inputs.iter().map(tensor).collect();
    let output = operation(path, inputs.clone());
    let shape = output.dims();
    let weights = Tensor::<2>::from_data(TensorData::new(sample(shape[0] * shape[1], 99), shape), &device);
    let gradients = (output.clone() * weights).sum().backward();
    let values = |tensor: Tensor<2>| tensor.try_into_vec_as::<f32>().unwrap();
    (values(output), inputs.iter().map(|input| values(input.grad(&gradients).expect("a gradient of every input"))).collect())
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}
