//! A teacher's most likely tokens, with all others as one, the tail: p_tail = 1 - sum_i p_i, and of the student q_tail = 1 - sum_i q_i
//! over the same tokens. A divergence is then one over these buckets. Its gradient reaches the tokens of the tail in the proportions
//! that the student gives them, so that nothing of the size of the vocabulary is stored, and no mass is lost or guessed.

use std::sync::Arc;

use burn::tensor::{Bool, Int, Tensor, TensorData};

/// What a teacher held likely at some targets.
#[derive(Clone, Debug)]
pub(crate) struct Likely {
    /// For each target, where its tokens begin; one more at the end. Of a target without any the teacher said nothing.
    starts: Arc<[u32]>,
    /// Tokens and their probabilities, each above 0; a target's sum to at most 1.
    tokens: Arc<[(u32, f32)]>,
}

/// The smallest tail of a teacher's distribution: what is stored is rounded, so that less than this is not known.
const SMALLEST_TAIL: f32 = 1e-6;
/// The logarithm of nothing, near enough and finite.
const NOTHING: f32 = -1e4;

impl Likely {
    /// From a list for each target; nothing where all are empty.
    pub(crate) fn new<'a>(targets: impl Iterator<Item = &'a [(u32, f32)]>) -> Option<Likely> {
        let (mut starts, mut tokens) = (vec![0], Vec::new());
        for target in targets {
            tokens.extend_from_slice(target);
            starts.push(tokens.len() as u32);
        }
        (!tokens.is_empty()).then(|| Likely { starts: starts.into(), tokens: tokens.into() })
    }

    /// The tokens of a target.
    pub(crate) fn of(&self, target: usize) -> &[(u32, f32)] {
        &self.tokens[self.starts[target] as usize..self.starts[target + 1] as usize]
    }

    /// The logarithms of a target's probabilities, the tail's last; without a tail where every one of `vocab` tokens is named.
    pub(crate) fn log_buckets(&self, target: usize, vocab: usize) -> Vec<f32> {
        let named = self.of(target);
        let tail = 1.0 - named.iter().map(|(_, p)| f64::from(*p)).sum::<f64>();
        let tail = (named.len() < vocab).then(|| (tail as f32).max(SMALLEST_TAIL).ln());
        named.iter().map(|(_, p)| p.ln()).chain(tail).collect()
    }

    /// The logarithms of both distributions over the buckets of every target, [k, most + 1], from the student's over all tokens,
    /// [k, v]. What a target has not is filled up with probability 0 on both sides.
    pub(crate) fn buckets(&self, log_q_kv: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let ([k, v], device) = (log_q_kv.dims(), log_q_kv.device());
        let most = (0..k).map(|target| self.of(target).len()).max().unwrap_or(0);
        let columns = most + 1;
        let (mut tokens, mut log_p) = (vec![0i32; k * columns], vec![NOTHING; k * columns]);
        let (mut is_filler, mut is_tail) = (vec![true; k * columns], vec![false; k * columns]);
        for target in 0..k {
            let row = target * columns;
            for (at, (token, p)) in self.of(target).iter().enumerate() {
                (tokens[row + at], log_p[row + at], is_filler[row + at]) = (*token as i32, p.ln(), false);
            }
            let buckets = self.log_buckets(target, v);
            (is_filler[row + most], is_tail[row + most]) = (buckets.len() == self.of(target).len(), true);
            log_p[row + most] = if is_filler[row + most] { NOTHING } else { buckets[buckets.len() - 1] };
        }
        let whole = TensorData::new(tokens, [k, columns]);
        let mask = |flags: Vec<bool>| Tensor::<2, Bool>::from_data(TensorData::new(flags, [k, columns]), &device);
        let (is_filler, is_tail) = (mask(is_filler), mask(is_tail));
        let log_named = log_q_kv.gather(1, Tensor::<2, Int>::from_data(whole, &device));
        let of_named = log_named.clone().exp().mask_fill(is_filler.clone().bool_or(is_tail.clone()), 0.0);
        let log_tail = of_named.sum_dim(1).neg().add_scalar(1.0).clamp_min(f32::MIN_POSITIVE).log().expand([k, columns]);
        let log_q = log_named.mask_where(is_tail, log_tail).mask_fill(is_filler, NOTHING);
        (Tensor::from_data(TensorData::new(log_p, [k, columns]), &device), log_q)
    }
}
