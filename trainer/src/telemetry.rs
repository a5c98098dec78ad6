//! What training does to each block: the codes of its weights, and the gradients. A step is measured by itself, from the codes before
//! and after it, so that a run that was stopped and continued writes the same numbers.

use model::{Kind, ModelConfig, Quant, TensorSpec, integer, inventory, ternary};
use rayon::prelude::*;
use runtime::kernel::{Isa, quantize_weights};
use serde::{Deserialize, Serialize};

use crate::{optimizer::Gradients, student::Student};

/// A weight is at the edge of its code where |w| / scale is so near to the threshold of one half.
const EDGE: f32 = 0.05;

/// Numbers of a step, one for each block; in full precision there are no codes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Layers {
    /// The share of zeros among the codes.
    #[serde(rename = "layers.zeros", default, skip_serializing_if = "Vec::is_empty")]
    pub zeros: Vec<f64>,
    /// The share of codes that the step changed.
    #[serde(rename = "layers.flips", default, skip_serializing_if = "Vec::is_empty")]
    pub flips: Vec<f64>,
    /// The share of ternary weights within a twentieth of a scale of the threshold between zero and one.
    #[serde(rename = "layers.edges", default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<f64>,
    /// The mean size of a scale.
    #[serde(rename = "layers.scale", default, skip_serializing_if = "Vec::is_empty")]
    pub scale: Vec<f64>,
    /// The norm of the mean gradient of a supervised token, before clipping.
    #[serde(rename = "layers.gradient", default, skip_serializing_if = "Vec::is_empty")]
    pub gradient: Vec<f64>,
}

/// The norm of each block's gradients; with those of the embedding and the last norm they make up the norm of all.
pub(crate) fn gradient_norms(student: &Student, gradients: &Gradients) -> Vec<f64> {
    let mut squares = vec![0.0; student.config().layers];
    for (spec, sum) in student.specs().iter().zip(gradients.squares(student.path())) {
        if let Some(layer) = spec.layer {
            squares[layer] += sum;
        }
    }
    squares.into_iter().map(|sum| sum.sqrt() / gradients.tokens() as f64).collect()
}

/// The codes of a student, block by block.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot(Vec<Block>);

#[derive(Clone, Debug, Default)]
struct Block {
    codes: Vec<i8>,
    /// Of ternary weights.
    edges: Option<usize>,
    scales: Vec<f32>,
}

impl Block {
    /// A layer's weights, or `None` if they are not quantised.
    fn of(config: &ModelConfig, spec: &TensorSpec, weights: &[f32]) -> Option<Block> {
        let (rows, columns) = (spec.shape[0], spec.shape[1]);
        let floats = |scales: &[half::f16]| scales.iter().map(|scale| scale.to_f32().abs()).collect::<Vec<f32>>();
        match (config.quant, config.quant.grid()) {
            (_, Some(grid)) => {
                let matrix = integer::quantize(weights, rows, columns, grid);
                Some(Block { scales: floats(&matrix.scales), codes: matrix.codes, edges: None })
            }
            (Quant::Ternary, None) => {
                let scales = ternary::weight_scales(weights, rows, columns, config.scale);
                let span = weights.len() / scales.len();
                let (mut codes, mut edges) = (vec![0; weights.len()], 0);
                for ((codes, weights), scale) in codes.chunks_mut(span).zip(weights.chunks(span)).zip(&scales) {
                    quantize_weights(Isa::fastest(), weights, *scale, codes);
                    let scale = scale.to_f32();
                    edges += weights.iter().filter(|weight| ((*weight / scale).abs() - 0.5).abs() < EDGE).count();
                }
                Some(Block { codes, edges: Some(edges), scales: floats(&scales) })
            }
            (Quant::None | Quant::Int8 | Quant::Int4, None) => None,
        }
    }
}

impl Snapshot {
    pub(crate) fn of(student: &Student) -> Snapshot {
        Snapshot(blocks(student).collect())
    }

    /// What a step made of these codes. Of the codes after it only those of one block are there at once.
    pub(crate) fn until(&self, student: &Student) -> Layers {
        let mut layers = Layers::default();
        for (now, before) in blocks(student).zip(&self.0) {
            let share = |count: usize| count as f64 / now.codes.len() as f64;
            layers.zeros.push(share(now.codes.iter().filter(|code| **code == 0).count()));
            layers.flips.push(share(now.codes.iter().zip(&before.codes).filter(|(now, then)| now != then).count()));
            layers.edges.extend(now.edges.map(share));
            layers.scale.push(now.scales.iter().map(|scale| f64::from(*scale)).sum::<f64>() / now.scales.len() as f64);
        }
        layers
    }
}

/// A student's blocks one after the other; none where it is not quantised.
fn blocks(student: &Student) -> impl Iterator<Item = Block> {
    let config = student.config();
    let layers = if config.quant == Quant::None { 0 } else { config.layers };
    let specs: Vec<_> = inventory(config).into_iter().filter(|spec| spec.kind() == Kind::Linear).collect();
    (0..layers).map(move |layer| {
        let matrices = specs.par_iter().filter(|spec| spec.layer == Some(layer));
        let quantised: Vec<_> = matrices.filter_map(|spec| Block::of(config, spec, &student.tensor(spec))).collect();
        let mut block = Block::default();
        for matrix in quantised {
            block.codes.extend(matrix.codes);
            block.scales.extend(matrix.scales);
            block.edges = matrix.edges.map(|edges| edges + block.edges.unwrap_or(0));
        }
        block
    })
}

#[cfg(test)]
mod tests {
    use model::Role;

    use super::*;
    use crate::{
        device,
        optimizer::{AdamW, BETAS, tests::batch},
        student::tests::tiny,
    };

    #[test]
    fn the_gradients_of_all_blocks_and_of_the_rest_are_the_norm() {
        let mut student = tiny(|t| t.quant = Quant::Int4);
        let (loss, tokens) = student.loss(&batch());
        let gradients = Gradients::of(&student, &loss, tokens);
        let blocks = gradient_norms(&student, &gradients);
        let all = gradients.squares(student.path()).into_iter().zip(student.specs());
        let rest: f64 = all.filter(|(_, spec)| spec.layer.is_none()).map(|(sum, _)| sum).sum::<f64>() / (tokens as f64).powi(2);
        let expected = (blocks.iter().map(|norm| norm * norm).sum::<f64>() + rest).sqrt();
        let stats = AdamW::new(&student, BETAS).step(&mut student, gradients, 1e-3, 0.0, 1.0);
        assert!((f64::from(stats.gradient_norm) / expected - 1.0).abs() < 1e-6, "{stats:?} {expected}");
        assert!(blocks.len() == student.config().layers && blocks.iter().all(|norm| *norm > 0.0));
    }

    #[test]
    fn codes_of_several_bits_have_no_edge() {
        let student = tiny(|t| t.quant = Quant::Int8);
        let layers = Snapshot::of(&student).until(&student);
        assert!(layers.edges.is_empty() && layers.flips == [0.0, 0.0] && layers.scale.iter().all(|scale| *scale > 0.0));
        let full = tiny(|t| t.quant = Quant::None);
        assert_eq!(Snapshot::of(&full).until(&full), Layers::default());
    }

    #[test]
    fn what_changed_is_counted() {
        let before = tiny(|_| {});
        // One matrix of the last block becomes all zeros but for one weight in each row, whose code is one.
        let last = before.config().layers - 1;
        let mut tensors = before.tensors().into_iter();
        let changed = Student::from_tensors(
            before.config(),
            |spec| {
                let (_, mut values) = tensors.next().unwrap();
                if (spec.layer, spec.role) == (Some(last), Role::Output) {
                    let row = spec.shape[1];
                    values.iter_mut().enumerate().for_each(|(at, value)| *value = if at % row == 0 { row as f32 } else { 0.0 });
                }
                Ok::<_, std::convert::Infallible>(values)
            },
            &device::cpu(),
        );
        let Ok(after) = changed;
        let then = Snapshot::of(&before);
        let (same, step) = (then.until(&before), then.until(&after));
        assert!(same.flips.iter().all(|share| *share == 0.0));
        assert_eq!((step.flips.len(), step.zeros.len()), (last + 1, last + 1));
        assert!(step.flips[last] > 0.0 && step.zeros[last] > same.zeros[last] && step.scale[last] > same.scale[last]);
        assert!(same.edges.iter().all(|share| (0.02..0.2).contains(share)), "{same:?}");
        for block in 0..last {
            assert_eq!((step.flips[block], step.zeros[block]), (0.0, same.zeros[block]));
        }
    }
}
