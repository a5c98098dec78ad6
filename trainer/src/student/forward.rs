//! The forward pass from tokens to the residual stream after the last block.
//!
//! h = embed(x); per block: h += Wo norm(attention(Wqkv norm(h))), h += Wd norm(gate(Wgu norm(h))), where the norms before Wo and Wd are
//! those of a student with sub-norms.
//! BitNet b1.58 2B4T, arXiv:2504.12285, section 2. n = b * t tokens of all rows.

use std::sync::Arc;

use burn::tensor::Tensor;
use model::Role;

use super::{Batch, DOWN, GATE_UP, GROUPS, Layout, OUTPUT, Plan, QKV, Student, recompute};
use crate::operation::{
    attention::attention,
    embed::embed,
    gate::gate,
    linear::{Group, linear},
    norm::rms_norm,
};

impl Student {
    /// The residual stream after the last block, [n, d], or only the rows at `places`: beyond its attention the last block is not
    /// computed for tokens that nothing is predicted from. With it the queries, keys and values of a block, if asked for.
    pub(super) fn hidden(&self, batch: &Batch, places: Option<&[u32]>, block: Option<usize>) -> (Tensor<2>, Option<[Tensor<2>; 3]>) {
        self.hidden_seen(batch, places, block, &mut |_, _, _| ())
    }

    /// The same; `see` is shown what goes into each linear group of each block.
    pub(super) fn hidden_seen(
        &self,
        batch: &Batch,
        places: Option<&[u32]>,
        block: Option<usize>,
        see: &mut dyn FnMut(usize, usize, &Tensor<2>),
    ) -> (Tensor<2>, Option<[Tensor<2>; 3]>) {
        let Plan { config, device, path, .. } = &self.plan;
        let layout = Arc::new(batch.layout());
        let mut watched = None;
        let mut hidden_nd = embed(*path, self.matrix(None, Role::Embedding), &batch.tokens, device);
        for layer in 0..config.layers {
            let (is_last, is_watched) = (layer + 1 == config.layers, block == Some(layer));
            // The backward pass begins with the last block, so that it would be computed again at once.
            if self.is_recomputed && !is_last && !is_watched {
                hidden_nd = recompute::block(self, layer, hidden_nd, &layout);
                continue;
            }
            let (after_nd, qkv_nw) = self.block(layer, hidden_nd, &layout, places.filter(|_| is_last), see);
            hidden_nd = after_nd;
            if is_watched {
                let (n, keys_at, values_at) = (batch.tokens.len(), config.query_width(), config.query_width() + config.kv_width());
                let spans = [0..keys_at, keys_at..values_at, values_at..values_at + config.kv_width()];
                watched = Some(spans.map(|span| qkv_nw.clone().slice([0..n, span])));
            }
        }
        (hidden_nd, watched)
    }

    /// A block: the residual stream after it, [n, d] or its rows at `places`, and the queries, keys and values in it, [n, w].
    pub(super) fn block(
        &self,
        layer: usize,
        mut hidden_nd: Tensor<2>,
        layout: &Arc<Layout>,
        places: Option<&[u32]>,
        see: &mut dyn FnMut(usize, usize, &Tensor<2>),
    ) -> (Tensor<2>, Tensor<2>) {
        let Plan { config, heads, device, path, .. } = &self.plan;
        let mut group = |group: usize, x_ni, residual_no| {
            see(layer, group, &x_ni);
            let gain = match group {
                QKV => Some(Role::AttentionNorm),
                OUTPUT => config.has_sub_norms().then_some(Role::AttentionSubNorm),
                GATE_UP => Some(Role::FeedForwardNorm),
                DOWN => config.has_sub_norms().then_some(Role::FeedForwardSubNorm),
                _ => unreachable!("a block has {GROUPS} linear groups"),
            };
            let gain_i = gain.map(|role| self.vector(Some(layer), role));
            let (layers, prepared) = (self.layers(layer, group), &self.prepared[layer][group]);
            linear(*path, Group { x_ni, gain_i, layers, residual_no, prepared }, self.precision())
        };
        let qkv = group(QKV, hidden_nd.clone(), None);
        let qkv_nw = self.with_head_extras(layer, qkv);
        let mut mixed = attention(*path, qkv_nw.clone(), heads, layout, device);
        if let Some(places) = places {
            mixed = embed(*path, mixed, places, device);
            hidden_nd = embed(*path, hidden_nd, places, device);
        }
        hidden_nd = group(OUTPUT, mixed, Some(hidden_nd));
        let gate_up = group(GATE_UP, hidden_nd.clone(), None);
        (group(DOWN, gate(*path, gate_up, config.activation), Some(hidden_nd)), qkv_nw)
    }

    /// Qwen 2's biases and Qwen 3's norms on queries and keys, where this student has them.
    fn with_head_extras(&self, layer: usize, mut qkv_nw: Tensor<2>) -> Tensor<2> {
        let config = &self.plan.config;
        if config.has_qkv_biases() {
            let biases = [Role::QueryBias, Role::KeyBias, Role::ValueBias].map(|role| self.vector(Some(layer), role));
            qkv_nw = qkv_nw + Tensor::cat(biases.into(), 0).unsqueeze();
        }
        if config.has_head_norms() {
            let ([n, w], e) = (qkv_nw.dims(), config.head_width);
            let (keys_at, values_at) = (config.query_width(), config.query_width() + config.kv_width());
            let normed = |from: usize, to: usize, role| {
                let heads = qkv_nw.clone().slice([0..n, from..to]).reshape([n * (to - from) / e, e]);
                rms_norm(heads, self.vector(Some(layer), role), config.norm_epsilon).reshape([n, to - from])
            };
            let (queries, keys) = (normed(0, keys_at, Role::QueryNorm), normed(keys_at, values_at, Role::KeyNorm));
            qkv_nw = Tensor::cat(vec![queries, keys, qkv_nw.slice([0..n, values_at..w])], 1);
        }
        qkv_nw
    }
}
