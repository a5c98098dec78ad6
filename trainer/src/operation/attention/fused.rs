//! The fused form of attention: one task for each row of the batch and key head, scores for a block of queries at a time.
//!
//! Forward keeps the logarithm of each softmax's sum; backward makes the scores again from it, as arXiv:2307.08691, algorithm 2:
//! D_i = dO_i . O_i, dS = P (dP - D), dQ = dS K, dK = dS^T Q, dV = P^T dO.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use super::Heads;
use crate::{
    operation::{
        buffer,
        fused::{Fused, Values},
        matmul::{View, ViewMut, Workers, Write, multiply},
        simd::{exp, for_each_isa, sum},
    },
    student::Layout,
};

/// Queries whose scores are in memory at once.
const QUERIES: usize = 64;

/// Input: queries, keys and values of each token side by side, [n, w].
#[derive(Clone, Debug)]
pub(super) struct FusedAttention {
    pub(super) heads: Heads,
    pub(super) layout: Arc<Layout>,
}

/// What backward needs.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    qkv_nw: Values,
    out_nd: Values,
    /// The logarithm of the sum of each softmax: for each row of the batch and key head, [repeats, t].
    logarithms: Vec<Vec<f32>>,
}

/// One row of the batch and one key head with the query heads that share it.
struct Task<'a> {
    heads: &'a Heads,
    row: usize,
    kv_head: usize,
    /// The row's part of [n, w].
    qkv_tw: &'a [f32],
    /// The start of each token's document within the row.
    starts: &'a [u32],
    positions: &'a [u32],
}

impl Fused for FusedAttention {
    type Saved = Saved;

    fn forward(&self, inputs: Vec<Values>) -> (Values, Saved) {
        let [qkv_nw] = inputs.try_into().expect("one input");
        let (n, t, e) = (self.layout.starts.len(), self.layout.length, self.heads.width);
        let d = self.heads.heads * e;
        let mut out_nd = buffer::take(n * d);
        let logarithms = out_nd
            .par_chunks_mut(t * d)
            .enumerate()
            .flat_map(|(row, out_td)| {
                let of_heads: Vec<_> = self.tasks(row, &qkv_nw).map(|task| task.forward()).collect();
                let mut logarithms = Vec::new();
                for (kv_head, (head_out, head_logarithms)) in of_heads.into_iter().enumerate() {
                    let width = head_out.len() / t;
                    scatter(&head_out, width, out_td, kv_head * width, d);
                    buffer::give(head_out);
                    logarithms.push(head_logarithms);
                }
                logarithms
            })
            .collect();
        let out_nd = Values::new(out_nd, [n, d]);
        (out_nd.clone(), Saved { qkv_nw, out_nd, logarithms })
    }

    fn backward(&self, saved: Saved, gradient_nd: Values) -> Vec<Values> {
        let (n, t, e, w) = (self.layout.starts.len(), self.layout.length, self.heads.width, self.heads.packed_width());
        let (d, kv_heads) = (self.heads.heads * e, self.heads.kv_heads);
        let mut dqkv_nw = buffer::take(n * w);
        dqkv_nw.par_chunks_mut(t * w).enumerate().for_each(|(row, dqkv_tw)| {
            let rows = row * t * d..(row + 1) * t * d;
            let (out_td, dout_td) = (&saved.out_nd[rows.clone()], &gradient_nd[rows]);
            let of_heads: Vec<_> = self
                .tasks(row, &saved.qkv_nw)
                .map(|task| task.backward(out_td, dout_td, &saved.logarithms[task.row * kv_heads + task.kv_head]))
                .collect();
            for (kv_head, gradient) in of_heads.into_iter().enumerate() {
                let queries = gradient.dq.len() / t;
                scatter(&gradient.dq, queries, dqkv_tw, kv_head * queries, w);
                scatter(&gradient.dk, e, dqkv_tw, d + kv_head * e, w);
                scatter(&gradient.dv, e, dqkv_tw, d + (kv_heads + kv_head) * e, w);
                for used in [gradient.dq, gradient.dk, gradient.dv] {
                    buffer::give(used);
                }
            }
        });
        vec![Values::new(dqkv_nw, [n, w])]
    }
}

impl FusedAttention {
    /// The tasks of one row of the batch, in the order of the key heads.
    fn tasks<'a>(&'a self, row: usize, qkv_nw: &'a [f32]) -> impl IndexedParallelIterator<Item = Task<'a>> {
        let (t, w) = (self.layout.length, self.heads.packed_width());
        (0..self.heads.kv_heads).into_par_iter().map(move |kv_head| Task {
            heads: &self.heads,
            row,
            kv_head,
            qkv_tw: &qkv_nw[row * t * w..(row + 1) * t * w],
            starts: &self.layout.starts[row * t..(row + 1) * t],
            positions: &self.layout.positions[row * t..(row + 1) * t],
        })
    }
}

/// Gradients of one task.
struct HeadGradient {
    /// [t, repeats * e].
    dq: Vec<f32>,
    /// [t, e].
    dk: Vec<f32>,
    /// [t, e].
    dv: Vec<f32>,
}

impl Task<'_> {
    /// The outputs [t, repeats * e], and the logarithms of the sums [repeats, t].
    fn forward(&self) -> (Vec<f32>, Vec<f32>) {
        let (t, e, repeats) = (self.starts.len(), self.heads.width, self.repeats());
        let (mut out, mut logarithms) = (buffer::take(t * repeats * e), vec![0.0; repeats * t]);
        let key_te = self.turned(self.key_at());
        let mut scores = Vec::new();
        for repeat in 0..repeats {
            let query_te = self.turned(self.query_at(repeat));
            for block in self.blocks() {
                let (queries, keys) = (block.queries.len(), block.keys.len());
                self.scores(&block, &query_te, &key_te, &mut scores);
                for (row, query) in scores.chunks_mut(keys).zip(block.queries.clone()) {
                    let seen = self.seen(&block, query);
                    logarithms[repeat * t + query] = softmax(row, seen.start, seen.end);
                }
                let out = &mut out[block.queries.start * repeats * e + repeat * e..];
                let out = ViewMut::strided(out, queries, e, repeats * e);
                let weights = View::new(&scores, queries, keys);
                multiply(out, weights, self.value(&block.keys), 1.0, Write::Replace, Workers::Caller);
            }
            buffer::give(query_te);
        }
        buffer::give(key_te);
        (out, logarithms)
    }

    fn backward(&self, out_td: &[f32], dout_td: &[f32], logarithms: &[f32]) -> HeadGradient {
        let (t, e, repeats, d) = (self.starts.len(), self.heads.width, self.repeats(), self.heads.heads * self.heads.width);
        let mut gradient = HeadGradient { dq: buffer::take(t * repeats * e), dk: buffer::zeros(t * e), dv: buffer::zeros(t * e) };
        let key_te = self.turned(self.key_at());
        let (mut scores, mut dscores) = (Vec::new(), Vec::new());
        let mut dquery_te = buffer::take(t * e);
        let scale = self.scale();
        for repeat in 0..repeats {
            let query_te = self.turned(self.query_at(repeat));
            let column = (self.kv_head * repeats + repeat) * e;
            for block in self.blocks() {
                let (queries, keys) = (block.queries.len(), block.keys.len());
                let dout = View::strided(&dout_td[block.queries.start * d + column..], queries, e, d);
                self.scores(&block, &query_te, &key_te, &mut scores);
                dscores.resize(queries * keys, 0.0);
                let dscores_view = ViewMut::new(&mut dscores, queries, keys);
                multiply(dscores_view, dout, self.value(&block.keys).transposed(), 1.0, Write::Replace, Workers::Caller);
                for ((row, drow), query) in scores.chunks_mut(keys).zip(dscores.chunks_mut(keys)).zip(block.queries.clone()) {
                    let at = query * d + column;
                    let seen = self.seen(&block, query);
                    let shift = dot(&out_td[at..at + e], &dout_td[at..at + e]);
                    softmax_backward(row, drow, seen.start, seen.end, logarithms[repeat * t + query], shift);
                }
                let (weights, dscores) = (View::new(&scores, queries, keys), View::new(&dscores, queries, keys));
                let block_keys = block.keys.start * e..block.keys.end * e;
                let dv = ViewMut::new(&mut gradient.dv[block_keys.clone()], keys, e);
                multiply(dv, weights.transposed(), dout, 1.0, Write::Add, Workers::Caller);
                let query = View::new(&query_te[block.queries.start * e..], queries, e);
                let dk = ViewMut::new(&mut gradient.dk[block_keys.clone()], keys, e);
                multiply(dk, dscores.transposed(), query, scale, Write::Add, Workers::Caller);
                let dq = ViewMut::new(&mut dquery_te[block.queries.start * e..block.queries.end * e], queries, e);
                multiply(dq, dscores, View::new(&key_te[block_keys], keys, e), scale, Write::Replace, Workers::Caller);
            }
            self.turn_back(&mut dquery_te);
            scatter(&dquery_te, e, &mut gradient.dq, repeat * e, repeats * e);
            buffer::give(query_te);
        }
        for used in [key_te, dquery_te] {
            buffer::give(used);
        }
        self.turn_back(&mut gradient.dk);
        gradient
    }

    fn repeats(&self) -> usize {
        self.heads.heads / self.heads.kv_heads
    }

    fn scale(&self) -> f32 {
        1.0 / (self.heads.width as f32).sqrt()
    }

    /// The first column of a query head within [t, w].
    fn query_at(&self, repeat: usize) -> usize {
        (self.kv_head * self.repeats() + repeat) * self.heads.width
    }

    fn key_at(&self) -> usize {
        (self.heads.heads + self.kv_head) * self.heads.width
    }

    /// The values of some keys.
    fn value(&self, keys: &Range<usize>) -> View<'_> {
        let (e, w) = (self.heads.width, self.heads.packed_width());
        let column = (self.heads.heads + self.heads.kv_heads + self.kv_head) * e;
        View::strided(&self.qkv_tw[keys.start * w + column..], keys.len(), e, w)
    }

    /// A head's queries or keys with rotary embedding, [t, e].
    fn turned(&self, column: usize) -> Vec<f32> {
        let (e, w) = (self.heads.width, self.heads.packed_width());
        let mut turned = buffer::take(self.starts.len() * e);
        for ((turned, packed), position) in turned.chunks_mut(e).zip(self.qkv_tw.chunks(w)).zip(self.positions) {
            turned.copy_from_slice(&packed[column..column + e]);
            self.heads.rotary.turn_row(turned, *position);
        }
        turned
    }

    /// The gradient of [`Task::turned`]: a rotation's transpose is the rotation back.
    fn turn_back(&self, gradient_te: &mut [f32]) {
        for (gradient, position) in gradient_te.chunks_mut(self.heads.width).zip(self.positions) {
            self.heads.rotary.turn_row_back(gradient, *position);
        }
    }

    /// Blocks of queries with the keys that any of them sees: from the start of the first one's document to the last one.
    fn blocks(&self) -> impl Iterator<Item = Block> {
        let t = self.starts.len();
        (0..t).step_by(QUERIES).map(move |start| {
            let end = t.min(start + QUERIES);
            Block { queries: start..end, keys: self.starts[start] as usize..end }
        })
    }

    /// The keys that a query sees, counted from the block's first key.
    fn seen(&self, block: &Block, query: usize) -> Range<usize> {
        self.starts[query] as usize - block.keys.start..query + 1 - block.keys.start
    }

    /// Scores of a block's queries and keys, those not seen among them.
    fn scores(&self, block: &Block, query_te: &[f32], key_te: &[f32], scores: &mut Vec<f32>) {
        let e = self.heads.width;
        let (queries, keys) = (block.queries.len(), block.keys.len());
        scores.resize(queries * keys, 0.0);
        let query = View::new(&query_te[block.queries.start * e..], queries, e);
        let key = View::new(&key_te[block.keys.start * e..], keys, e);
        multiply(ViewMut::new(scores, queries, keys), query, key.transposed(), self.scale(), Write::Replace, Workers::Caller);
    }
}

/// Some queries of a row and the keys that they see.
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
}

/// Copy rows of `width` numbers to `column` of rows that are `stride` apart.
fn scatter(from: &[f32], width: usize, to: &mut [f32], column: usize, stride: usize) {
    for (from, to) in from.chunks(width).zip(to.chunks_mut(stride)) {
        to[column..column + width].copy_from_slice(from);
    }
}

for_each_isa! {
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum([a, b], |[a, b]| a * b)
    }
}

for_each_isa! {
    /// The softmax of `scores[start..end]`, zero elsewhere; returns the logarithm of the sum of the exponentials.
    fn softmax(scores: &mut [f32], start: usize, end: usize) -> f32 {
        scores[..start].fill(0.0);
        scores[end..].fill(0.0);
        let seen = &mut scores[start..end];
        let largest = seen.iter().fold(f32::NEG_INFINITY, |largest, x| if *x > largest { *x } else { largest });
        for x in seen.iter_mut() {
            *x = exp(*x - largest);
        }
        let total = sum([seen], |[x]| x);
        let inverse = 1.0 / total;
        for x in seen.iter_mut() {
            *x *= inverse;
        }
        largest + total.ln()
    }
}

for_each_isa! {
    /// Makes the weights from the scores again, and the gradient of the scores from that of the weights; zero outside of
    /// `start..end`.
    fn softmax_backward(scores: &mut [f32], gradient: &mut [f32], start: usize, end: usize, logarithm: f32, shift: f32) {
        for outside in [0..start, end..scores.len()] {
            scores[outside.clone()].fill(0.0);
            gradient[outside].fill(0.0);
        }
        for (score, gradient) in scores[start..end].iter_mut().zip(&mut gradient[start..end]) {
            *score = exp(*score - logarithm);
            *gradient = *score * (*gradient - shift);
        }
    }
}
