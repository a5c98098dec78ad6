//! Relations between tokens that should come near a teacher's: for queries, keys or values A, cut into r heads whatever the model's own
//! heads are, R = softmax(A A^T / sqrt(e)) over the tokens of a document, and the loss of token i is mean_heads KL(R_i teacher || R_i).
//! Widths may differ, since only tokens are compared. Source: MiniLMv2, arXiv:2012.15828, eq. 4 to 6.
//!
//! The cosine form normalises the rows of A and leaves sqrt(e) out, as BitDistill's program does (its paper, arXiv:2510.13998, eq. 12,
//! has the other).

mod fused;

use std::sync::Arc;

use burn::tensor::{Bool, Tensor, TensorData, activation::log_softmax};
use serde::{Deserialize, Serialize};

use crate::{
    device::Path,
    operation::fused::{Inputs, run},
    student::Layout,
};
use fused::FusedRelation;

/// How two tokens of a head are related.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Product of the states, divided by the root of the head's width.
    Scaled,
    /// Cosine of the angle between them.
    Cosine,
}

/// Added to squared lengths, so that a state of zeros has a direction.
const EPSILON: f32 = 1e-12;

/// What a student's states [n, w] are held against, and how.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) relation: Relation,
    pub(crate) heads: usize,
    /// The teacher's states, [n, w'].
    pub(crate) teacher_nw: Tensor<2>,
    pub(crate) layout: Arc<Layout>,
    /// What the loss of each token is multiplied with.
    pub(crate) weights_n: Tensor<1>,
}

/// The loss of the student's states, summed over the tokens.
///
/// # Panics
/// If a width is not a multiple of the heads.
pub(crate) fn relation(path: Path, student_nw: Tensor<2>, comparison: Comparison) -> Tensor<1> {
    let (n, heads) = (comparison.layout.starts.len(), comparison.heads);
    for [states, width] in [student_nw.dims(), comparison.teacher_nw.dims()] {
        assert!(states == n && width.is_multiple_of(heads), "{states} states of width {width} for {n} tokens and {heads} heads");
    }
    match path {
        Path::Composed(_) => composed(student_nw, comparison),
        Path::Fused => run(FusedRelation::of(comparison), Inputs::default().and(student_nw)),
    }
}

fn composed(student_nw: Tensor<2>, Comparison { relation, heads, teacher_nw, layout, weights_n }: Comparison) -> Tensor<1> {
    let (b, t) = (layout.rows, layout.length);
    let apart = apart_b1tt(&layout, &student_nw).expand([b, heads, t, t]);
    let log_relations = |states_nw: Tensor<2>| {
        let e = states_nw.dims()[1] / heads;
        let states_brte = states_nw.reshape([b, t, heads, e]).swap_dims(1, 2);
        let scores = match relation {
            Relation::Scaled => states_brte.clone().matmul(states_brte.transpose()).div_scalar((e as f32).sqrt()),
            Relation::Cosine => {
                let lengths = states_brte.clone().square().sum_dim(3).add_scalar(EPSILON).sqrt();
                let directions = states_brte / lengths;
                directions.clone().matmul(directions.transpose())
            }
        };
        // Finite, so that what has no share adds 0 and not 0 times infinity.
        log_softmax(scores.mask_fill(apart.clone(), -1e9), 3)
    };
    let (of_teacher, of_student) = (log_relations(teacher_nw.detach()), log_relations(student_nw));
    let of_tokens = (of_teacher.clone().exp() * (of_teacher - of_student).mask_fill(apart.clone(), 0.0)).sum_dim(3).mean_dim(1);
    (of_tokens.reshape([b * t]) * weights_n).sum()
}

/// True where two tokens of a row are not of one document.
fn apart_b1tt(layout: &Layout, like: &Tensor<2>) -> Tensor<4, Bool> {
    let (b, t) = (layout.rows, layout.length);
    let pairs =
        layout.starts.chunks(t.max(1)).flat_map(|starts| starts.iter().flat_map(move |one| starts.iter().map(move |other| one != other)));
    Tensor::from_data(TensorData::new(pairs.collect::<Vec<bool>>(), [b, 1, t, t]), &like.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        device::{self, Storage},
        operation::check::{same_and_smooth, sample},
    };

    fn layout(rows: usize, starts: &[u32]) -> Arc<Layout> {
        let length = starts.len() / rows;
        Arc::new(Layout { rows, length, starts: starts.to_vec(), positions: vec![0; starts.len()] })
    }

    fn states(values: &[f32], n: usize) -> Tensor<2> {
        Tensor::<1>::from_floats(values, &device::cpu()).reshape([n, values.len() / n])
    }

    /// The loss by its definition, in f64.
    fn by_definition(kind: Relation, heads: usize, student: &[f32], teacher: &[f32], starts: &[u32], weights: &[f32]) -> f64 {
        let n = starts.len();
        let relations = |states: &[f32], head: usize, i: usize| {
            let w = states.len() / n;
            let e = w / heads;
            let of = |token: usize| states[token * w + head * e..][..e].iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let score = |j: usize| {
                let (a, b) = (of(i), of(j));
                match kind {
                    Relation::Scaled => dot(&a, &b) / (e as f64).sqrt(),
                    Relation::Cosine => dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt(),
                }
            };
            let exps: Vec<f64> = (0..n).filter(|j| starts[*j] == starts[i]).map(|j| score(j).exp()).collect();
            let total: f64 = exps.iter().sum();
            exps.into_iter().map(|x| x / total).collect::<Vec<f64>>()
        };
        let of_token = |i: usize| {
            let of_head = |head: usize| {
                let (p, q) = (relations(teacher, head, i), relations(student, head, i));
                p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>()
            };
            (0..heads).map(of_head).sum::<f64>() / heads as f64
        };
        (0..n).map(|i| f64::from(weights[i]) * of_token(i)).sum()
    }

    #[test]
    fn the_value_is_that_of_the_definition_whatever_the_widths_are() {
        let starts = [0, 0, 0, 3, 3, 5, 5];
        let (student, teacher) = (sample(7 * 4, 1), sample(7 * 12, 2).iter().map(|x| 3.0 * x).collect::<Vec<f32>>());
        let weights = [1.0, 0.5, 0.0, 1.0, 2.0, 1.0, 1.0];
        for kind in [Relation::Scaled, Relation::Cosine] {
            for heads in [1, 2, 4] {
                let expected = by_definition(kind, heads, &student, &teacher, &starts, &weights);
                for path in [Path::Composed(Storage::F32), Path::Fused] {
                    let (teacher_nw, weights_n) = (states(&teacher, 7), Tensor::from_floats(weights, &device::cpu()));
                    let comparison = Comparison { relation: kind, heads, teacher_nw, layout: layout(1, &starts), weights_n };
                    let found: f32 = relation(path, states(&student, 7), comparison).into_scalar();
                    assert!((f64::from(found) - expected).abs() < 1e-5 && expected > 1e-3, "{path:?} {kind:?} {heads}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn both_paths_give_the_same_gradients_and_they_are_slopes() {
        let (starts, teacher) = ([0, 0, 2, 2, 0, 0, 0, 0], sample(8 * 6, 2));
        for kind in [Relation::Scaled, Relation::Cosine] {
            same_and_smooth(&[(sample(8 * 4, 1).iter().map(|x| 2.0 * x).collect(), 8)], |path, inputs| {
                let [student] = inputs.try_into().expect("one input");
                let weights_n = Tensor::from_floats([1.0, 0.5, 1.0, 1.0, 0.0, 2.0, 1.0, 1.0], &device::cpu());
                let (teacher_nw, layout) = (states(&teacher, 8), layout(2, &starts));
                relation(path, student, Comparison { relation: kind, heads: 2, teacher_nw, layout, weights_n }).unsqueeze()
            });
        }
    }
}
