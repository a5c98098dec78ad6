//! Causal attention with grouped queries over packed rows: a token sees the tokens of its own document up to itself.
//!
//! o_i = sum_j softmax_j(q_i . k_j / sqrt(e)) v_j, arXiv:1706.03762, eq. 1; groups of query heads share a key head,
//! arXiv:2305.13245. Rotary embedding of queries and keys is part of it.

mod fused;

use std::sync::Arc;

use burn::tensor::{Bool, Device, Tensor, TensorData, activation::softmax};

use super::{
    fused::{Inputs, run},
    rotary::Rotary,
};
use crate::{
    device::{Path, Storage},
    student::Layout,
};
use fused::FusedAttention;

/// The heads of an attention layer.
#[derive(Clone, Debug)]
pub(crate) struct Heads {
    /// Query heads, h.
    pub(crate) heads: usize,
    /// Key and value heads; divides `heads`.
    pub(crate) kv_heads: usize,
    /// Width of one head, e.
    pub(crate) width: usize,
    pub(crate) rotary: Rotary,
}

impl Heads {
    /// Width of a token's queries, keys and values side by side, w.
    pub(crate) fn packed_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.width
    }
}

/// Attention over `qkv_nw`, each token's queries, keys and values side by side; gives [n, h * e].
pub(crate) fn attention(path: Path, qkv_nw: Tensor<2>, heads: &Heads, layout: &Arc<Layout>, device: &Device) -> Tensor<2> {
    match path {
        Path::Composed(storage) => composed(qkv_nw, heads, layout, device, storage),
        Path::Fused => run(FusedAttention { heads: heads.clone(), layout: layout.clone() }, Inputs::default().and(qkv_nw)),
    }
}

fn composed(qkv_nw: Tensor<2>, heads: &Heads, layout: &Layout, device: &Device, storage: Storage) -> Tensor<2> {
    let (b, t) = (layout.rows, layout.length);
    let Heads { heads: h, kv_heads: kv, width: e, ref rotary } = *heads;
    let (n, repeats) = (b * t, h / kv);
    assert_eq!(qkv_nw.dims(), [n, heads.packed_width()]);

    let part = |from: usize, count: usize| qkv_nw.clone().slice([0..n, from * e..(from + count) * e]).reshape([n, count, e]);
    let (query, key, value) = (part(0, h), part(h, kv), part(h + kv, kv));
    let query = rotary.turn(query, &layout.positions, device);
    let key = rotary.turn(key, &layout.positions, device);

    let by_head = |x: Tensor<3>, count: usize| storage.keep(x).reshape([b, t, count, e]).swap_dims(1, 2);
    // The query heads that share a key head lie below one another, so that keys need not be repeated. They are divided before the
    // product, which half precision might not hold.
    let query = by_head(query.div_scalar((e as f32).sqrt()), h).reshape([b, kv, repeats * t, e]);
    let (key, value) = (by_head(key, kv), by_head(value, kv));

    // The softmax is computed in f32 whatever is kept.
    let scores = Storage::F32.keep(query.matmul(key.transpose())).reshape([b, h, t, t]);
    let hidden = hidden_b1tt(layout, device).expand([b, h, t, t]);
    let weights = storage.keep(softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3)).reshape([b, kv, repeats * t, t]);
    Storage::F32.keep(weights.matmul(value)).reshape([b, h, t, e]).swap_dims(1, 2).reshape([n, h * e])
}

/// True where a token (third dimension) must not see another (fourth).
fn hidden_b1tt(layout: &Layout, device: &Device) -> Tensor<4, Bool> {
    let (b, t) = (layout.rows, layout.length);
    let mut hidden = vec![true; b * t * t];
    for (n, seen) in hidden.chunks_mut(t).enumerate() {
        seen[layout.starts[n] as usize..=n % t].fill(false);
    }
    Tensor::from_data(TensorData::new(hidden, [b, 1, t, t]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::check::{same_and_smooth, sample};

    fn layout(rows: usize, starts: &[u32]) -> Arc<Layout> {
        let positions = starts.iter().enumerate().map(|(at, start)| at as u32 - start).collect::<Vec<_>>();
        Arc::new(Layout { rows, length: starts.len(), starts: starts.repeat(rows), positions: positions.repeat(rows) })
    }

    #[test]
    fn both_forms_are_the_same() {
        let device = crate::device::cpu();
        // One block of queries and several, documents that end within a block and at its edge, groups of heads of every kind.
        let long: Vec<u32> = (0..150)
            .map(|at| {
                if at < 64 {
                    0
                } else if at < 100 {
                    64
                } else {
                    100
                }
            })
            .collect();
        let cases: [(usize, &[u32], usize, usize, usize); 5] =
            [(1, &[0], 1, 1, 2), (3, &[0, 0, 2, 2, 2, 5, 6], 4, 2, 6), (2, &[0; 9], 6, 1, 4), (1, &long, 2, 2, 8), (2, &[0; 130], 2, 1, 4)];
        for (rows, starts, heads, kv_heads, width) in cases {
            let frequencies: Vec<f64> = (0..width / 2).map(|pair| 100f64.powf(-2.0 * pair as f64 / width as f64)).collect();
            let heads = Heads { heads, kv_heads, width, rotary: Rotary::new(200, &frequencies) };
            let layout = layout(rows, starts);
            let n = rows * starts.len();
            // Scores far enough apart that the softmax is not flat.
            let qkv = sample(n * heads.packed_width(), n as u64).into_iter().map(|x| 2.0 * x).collect();
            same_and_smooth(&[(qkv, n)], |path, mut inputs| attention(path, inputs.remove(0), &heads, &layout, &device));
        }
    }
}
