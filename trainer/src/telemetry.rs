//! What training does to the ternary codes of each block. A step is measured by itself, from the codes before and after it, so that
//! a run that was stopped and continued writes the same numbers.

use model::{Kind, Quant, ternary};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::student::Student;

/// A weight is at the edge of its code where |w| / scale is so near to the threshold of one half.
const EDGE: f32 = 0.05;

/// Numbers of a step, one for each block; empty in full precision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Layers {
    /// The share of zeros among the codes.
    #[serde(rename = "layers.zeros", default, skip_serializing_if = "Vec::is_empty")]
    pub zeros: Vec<f64>,
    /// The share of codes that the step changed.
    #[serde(rename = "layers.flips", default, skip_serializing_if = "Vec::is_empty")]
    pub flips: Vec<f64>,
    /// The share of weights within a twentieth of a scale of the threshold between zero and one.
    #[serde(rename = "layers.edges", default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<f64>,
    /// The mean scale.
    #[serde(rename = "layers.scale", default, skip_serializing_if = "Vec::is_empty")]
    pub scale: Vec<f64>,
}

/// The codes of a student, block by block.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot(Vec<Block>);

#[derive(Clone, Debug, Default)]
struct Block {
    codes: Vec<i8>,
    edges: usize,
    scales: Vec<f32>,
}

impl Snapshot {
    pub(crate) fn of(student: &Student) -> Snapshot {
        let config = student.config();
        if config.quant != Quant::Ternary {
            return Snapshot(Vec::new());
        }
        let matrices: Vec<_> =
            student.tensors().into_iter().filter(|(spec, _)| spec.kind() == Kind::Linear && spec.layer.is_some()).collect();
        let quantised: Vec<_> = matrices
            .par_iter()
            .map(|(spec, weights)| {
                let matrix = ternary::quantize(weights, spec.shape[0], spec.shape[1], config.scale);
                let scales: Vec<f32> = matrix.scales.iter().map(|scale| scale.to_f32()).collect();
                let span = weights.len() / scales.len();
                let is_edge = |(at, weight): (usize, &f32)| ((weight / scales[at / span]).abs() - 0.5).abs() < EDGE;
                let edges = weights.iter().enumerate().filter(|weight| is_edge(*weight)).count();
                Block { codes: matrix.codes, edges, scales }
            })
            .collect();
        let mut blocks = vec![Block::default(); config.layers];
        for ((spec, _), matrix) in matrices.iter().zip(quantised) {
            let block = &mut blocks[spec.layer.expect("filtered above")];
            block.codes.extend(matrix.codes);
            block.scales.extend(matrix.scales);
            block.edges += matrix.edges;
        }
        Snapshot(blocks)
    }

    /// What a step made of the codes `before` it.
    pub(crate) fn since(&self, before: &Snapshot) -> Layers {
        let of_blocks = |number: &dyn Fn(&Block) -> f64| self.0.iter().map(number).collect();
        let share = |count: usize, block: &Block| count as f64 / block.codes.len() as f64;
        let flips = self.0.iter().zip(&before.0).map(|(block, before)| {
            let changed = block.codes.iter().zip(&before.codes).filter(|(now, then)| now != then).count();
            share(changed, block)
        });
        Layers {
            zeros: of_blocks(&|block| share(block.codes.iter().filter(|code| **code == 0).count(), block)),
            flips: flips.collect(),
            edges: of_blocks(&|block| share(block.edges, block)),
            scale: of_blocks(&|block| block.scales.iter().map(|scale| f64::from(*scale)).sum::<f64>() / block.scales.len() as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Role;

    use super::*;
    use crate::{device, student::tests::tiny};

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
        let (then, now) = (Snapshot::of(&before), Snapshot::of(&after));
        let (same, step) = (then.since(&then), now.since(&then));
        assert!(same.flips.iter().all(|share| *share == 0.0));
        assert_eq!((step.flips.len(), step.zeros.len()), (last + 1, last + 1));
        assert!(step.flips[last] > 0.0 && step.zeros[last] > same.zeros[last] && step.scale[last] > same.scale[last]);
        assert!(same.edges.iter().all(|share| (0.02..0.2).contains(share)), "{same:?}");
        for block in 0..last {
            assert_eq!((step.flips[block], step.zeros[block]), (0.0, same.zeros[block]));
        }
    }
}
