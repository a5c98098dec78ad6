//! The fused form: one task for each document and head, which computes the relations within it alone, and the gradient along with the
//! value.
//!
//! With scores S, relations P of the teacher and R of the student, and w_i the weight of token i, dL/dS_ij = w_i / heads (R_ij - P_ij).
//! Then dA = (dS + dS^T) A / sqrt(e); for the cosine form, with D = A / |A|, dD = (dS + dS^T) D and dA = (dD - (dD . D) D) / |A|.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use super::{Comparison, EPSILON, Relation};
use crate::{
    operation::{
        buffer,
        fused::{Fused, Values},
        matmul::{View, ViewMut, Workers, Write, multiply},
        simd::{exp, for_each_isa, sum},
    },
    student::Layout,
};

/// Input: the student's states, [n, w].
#[derive(Clone, Debug)]
pub(super) struct FusedRelation {
    relation: Relation,
    heads: usize,
    teacher_nw: Values,
    layout: Arc<Layout>,
    weights_n: Values,
}

/// What is multiplied with itself to give the scores of a document's m tokens in a head.
struct Related {
    /// A, or the directions D, [m, e].
    states_me: Vec<f32>,
    /// |A| of each token for the cosine form.
    lengths: Vec<f32>,
    /// The logarithms of the relations, [m, m].
    relations_mm: Vec<f32>,
}

impl Fused for FusedRelation {
    /// The gradient of the loss, [n, w].
    type Saved = Values;

    fn forward(&self, inputs: Vec<Values>) -> (Values, Values) {
        let [student_nw] = inputs.try_into().expect("one input");
        let n = self.layout.starts.len();
        let w = student_nw.len() / n;
        let e = w / self.heads;
        let documents = self.documents();
        let tasks: Vec<_> = documents.iter().flat_map(|document| (0..self.heads).map(move |head| (document, head))).collect();
        let found: Vec<_> = tasks.par_iter().map(|(document, head)| self.of_head(&student_nw, document, *head)).collect();
        let mut gradient_nw = buffer::zeros(n * w);
        let mut loss = 0.0;
        for ((document, head), (of_head, gradient_me)) in tasks.into_iter().zip(found) {
            loss += of_head;
            for (token, gradient) in document.clone().zip(gradient_me.chunks(e)) {
                gradient_nw[token * w + head * e..][..e].copy_from_slice(gradient);
            }
        }
        (Values::new(vec![loss as f32], [1]), Values::new(gradient_nw, [n, w]))
    }

    fn backward(&self, gradient_nw: Values, gradient: Values) -> Vec<Values> {
        let n = self.layout.starts.len();
        let mut scaled_nw = buffer::take(gradient_nw.len());
        scaled_nw.iter_mut().zip(gradient_nw.iter()).for_each(|(scaled, slope)| *scaled = gradient[0] * slope);
        vec![Values::new(scaled_nw, [n, gradient_nw.len() / n])]
    }
}

impl FusedRelation {
    pub(super) fn of(Comparison { relation, heads, teacher_nw, layout, weights_n }: Comparison) -> FusedRelation {
        FusedRelation { relation, heads, teacher_nw: Values::of(teacher_nw), layout, weights_n: Values::of(weights_n) }
    }

    /// The tokens of each document that has one with a weight.
    fn documents(&self) -> Vec<Range<usize>> {
        let rows = self.layout.starts.chunks(self.layout.length.max(1));
        let mut end = 0;
        let documents = rows.flat_map(|row| row.chunk_by(|one, other| one == other)).map(|tokens| {
            end += tokens.len();
            end - tokens.len()..end
        });
        documents.filter(|document| self.weights_n[document.clone()].iter().any(|weight| *weight != 0.0)).collect()
    }

    /// The loss of a document in a head, and its gradient, [m, e].
    fn of_head(&self, student_nw: &[f32], document: &Range<usize>, head: usize) -> (f64, Vec<f32>) {
        let m = document.len();
        let (ours, theirs) = (self.related(student_nw, document, head), self.related(&self.teacher_nw, document, head));
        let (mut loss, mut slopes_mm) = (0.0, vec![0.0; m * m]);
        for (at, token) in document.clone().enumerate() {
            let (weight, row) = (self.weights_n[token] / self.heads as f32, at * m..(at + 1) * m);
            if weight != 0.0 {
                let divergence = compare(&ours.relations_mm[row.clone()], &theirs.relations_mm[row.clone()], weight, &mut slopes_mm[row]);
                loss += f64::from(weight * divergence);
            }
        }
        let e = ours.states_me.len() / m;
        let mut gradient_me = vec![0.0; m * e];
        let (slopes, states) = (View::new(&slopes_mm, m, m), View::new(&ours.states_me, m, e));
        multiply(ViewMut::new(&mut gradient_me, m, e), slopes, states, self.scale(e), Write::Replace, Workers::Caller);
        multiply(ViewMut::new(&mut gradient_me, m, e), slopes.transposed(), states, self.scale(e), Write::Add, Workers::Caller);
        let directions = gradient_me.chunks_mut(e).zip(ours.states_me.chunks(e));
        for ((gradient, direction), length) in directions.zip(&ours.lengths) {
            let along = sum([&*gradient, direction], |[gradient, direction]| gradient * direction);
            gradient.iter_mut().zip(direction).for_each(|(gradient, direction)| *gradient = (*gradient - along * direction) / length);
        }
        (loss, gradient_me)
    }

    fn related(&self, states_nw: &[f32], document: &Range<usize>, head: usize) -> Related {
        let (m, w) = (document.len(), states_nw.len() / self.layout.starts.len());
        let e = w / self.heads;
        let mut states_me: Vec<f32> = document.clone().flat_map(|token| &states_nw[token * w + head * e..][..e]).copied().collect();
        let mut lengths = Vec::new();
        if self.relation == Relation::Cosine {
            for state in states_me.chunks_mut(e) {
                let length = (sum([state], |[x]| x * x) + EPSILON).sqrt();
                state.iter_mut().for_each(|x| *x /= length);
                lengths.push(length);
            }
        }
        let mut relations_mm = vec![0.0; m * m];
        let states = View::new(&states_me, m, e);
        multiply(ViewMut::new(&mut relations_mm, m, m), states, states.transposed(), self.scale(e), Write::Replace, Workers::Caller);
        relations_mm.chunks_mut(m).for_each(log_softmax);
        Related { states_me, lengths, relations_mm }
    }

    /// What products of states are multiplied with to give scores.
    fn scale(&self, e: usize) -> f32 {
        match self.relation {
            Relation::Scaled => 1.0 / (e as f32).sqrt(),
            Relation::Cosine => 1.0,
        }
    }
}

for_each_isa! {
    /// Takes scores to the logarithms of their softmax.
    fn log_softmax(scores: &mut [f32]) {
        let largest = scores.iter().fold(f32::NEG_INFINITY, |largest, x| if *x > largest { *x } else { largest });
        let logarithm = largest + sum([scores], |[x]| exp(x - largest)).ln();
        for score in scores.iter_mut() {
            *score -= logarithm;
        }
    }
}

for_each_isa! {
    /// KL(teacher || student) of a token's relations, given as logarithms, and its slope along the scores times a weight.
    fn compare(ours: &[f32], theirs: &[f32], weight: f32, slopes: &mut [f32]) -> f32 {
        for ((slope, ours), theirs) in slopes.iter_mut().zip(ours).zip(theirs) {
            *slope = weight * (exp(*ours) - exp(*theirs));
        }
        sum([ours, theirs], |[ours, theirs]| exp(theirs) * (theirs - ours))
    }
}
