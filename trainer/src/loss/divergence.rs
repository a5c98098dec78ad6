//! How far the student's distribution over tokens is from a teacher's, at the supervised places: the choice of divergence, the
//! temperature, and what a teacher may have said (all logits, or its likeliest tokens and a tail).
//!
//! At temperature tau both distributions are softmax(logits / tau). The divergence is not multiplied by tau^2, as in eq. 8 of
//! arXiv:2510.13998 and unlike arXiv:1503.02531: who wants gradients of one size at every temperature multiplies outside. A teacher's
//! stored tokens have the temperature that they were stored with. With y_i = q_i dL/dq_i the gradient at the logits is
//! (y_i - q_i sum_j y_j) / tau.

use std::{fmt, ops::Range, sync::Arc};

use burn::tensor::{Tensor, TensorData, activation::log_softmax};

use super::{
    confidence, forward_kl,
    head::{RowLoss, head_loss},
    jensen_shannon, reverse_kl,
    teacher::Likely,
};
use crate::{
    device::Path,
    operation::{embed::select_rows, norm::rms_norm},
};

/// Which divergence; each in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Divergence {
    /// KL(p || q).
    Forward,
    /// KL(q || p).
    Reverse,
    /// Generalised Jensen-Shannon.
    JensenShannon {
        /// Between 0 and 1.
        beta: f32,
    },
    /// Reverse where the teacher is sure of the target, forward where it is not.
    Confidence,
}

/// What a teacher said at the supervised places.
#[derive(Clone)]
pub(crate) enum Teacher {
    /// All logits, [k, v], made when they are asked for: those of the places in the range.
    Logits(Arc<dyn Fn(Range<usize>) -> Vec<f32> + Send + Sync>),
    /// The likeliest tokens of each place. All others are one, the tail, on both sides.
    Likely(Likely),
}

/// A divergence from a teacher.
#[derive(Clone, Debug)]
pub(crate) struct Teaching {
    pub(crate) divergence: Divergence,
    /// Tau.
    pub(crate) temperature: f32,
    /// Which of the n tokens are supervised.
    pub(crate) places: Arc<[u32]>,
    /// The target at each of them.
    pub(crate) targets: Arc<[u32]>,
    pub(crate) teacher: Teacher,
}

impl fmt::Debug for Teacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Teacher::Logits(_) => f.write_str("Logits"),
            Teacher::Likely(likely) => write!(f, "Likely({} tokens)", likely.tokens.len()),
        }
    }
}

/// The smallest tail of a teacher's distribution: what is stored is rounded, so that less than this is not known.
const SMALLEST_TAIL: f32 = 1e-6;

/// The divergence of the residual stream `hidden_nd` under `head_vd`, summed over the supervised places.
pub(crate) fn divergence(
    path: Path,
    hidden_nd: Tensor<2>,
    gain_d: Tensor<1>,
    head_vd: Tensor<2>,
    teaching: Teaching,
    norm_epsilon: f32,
) -> Tensor<1> {
    let places = teaching.places.clone();
    match path {
        Path::Composed => composed(hidden_nd, gain_d, head_vd, &teaching, norm_epsilon),
        Path::Fused => head_loss(teaching, hidden_nd, gain_d, head_vd, places, norm_epsilon),
    }
}

fn composed(hidden_nd: Tensor<2>, gain_d: Tensor<1>, head_vd: Tensor<2>, teaching: &Teaching, norm_epsilon: f32) -> Tensor<1> {
    let device = hidden_nd.device();
    let (k, v) = (teaching.places.len(), head_vd.dims()[0]);
    let hidden_kd = rms_norm(select_rows(hidden_nd, &teaching.places, &device), gain_d, norm_epsilon);
    let log_q_kv = log_softmax(hidden_kd.matmul(head_vd.transpose()).div_scalar(teaching.temperature), 1);
    let all = teaching.chunk(0..k);
    let constant = |rows: Vec<f32>, columns: usize| Tensor::<2>::from_data(TensorData::new(rows, [k, columns]), &device);
    let confidence: Vec<f32> = (0..k).map(|at| teaching.confidence(&all, at, v)).collect();
    let (log_p, log_q) = match &teaching.teacher {
        Teacher::Logits(_) => (log_softmax(constant(all.logits, v).div_scalar(teaching.temperature), 1), log_q_kv),
        Teacher::Likely(likely) => {
            let rows = (0..k).map(|at| {
                let (named, row_1v) = (likely.of(at), log_q_kv.clone().slice([at..at + 1, 0..v]));
                let mut is_rest = vec![1.0; v];
                named.iter().for_each(|(token, _)| is_rest[*token as usize] = 0.0);
                let is_rest_1v = Tensor::<2>::from_data(TensorData::new(is_rest, [1, v]), &device);
                let column = |token: u32| row_1v.clone().slice([0..1, token as usize..token as usize + 1]);
                let mut parts: Vec<Tensor<2>> = named.iter().map(|(token, _)| column(*token)).collect();
                parts.push((row_1v.clone().exp() * is_rest_1v).sum_dim(1).log());
                Tensor::cat(parts, 1)
            });
            let log_p: Vec<f32> = (0..k).flat_map(|at| log_buckets(likely.of(at))).collect();
            let columns = log_p.len() / k;
            assert!(log_p.len() == columns * k, "the composed form takes equally many tokens at every place");
            (constant(log_p, columns), Tensor::cat(rows.collect(), 0))
        }
    };
    let of_rows = match teaching.divergence {
        Divergence::Forward => forward_kl::composed(log_p, log_q),
        Divergence::Reverse => reverse_kl::composed(log_p, log_q),
        Divergence::JensenShannon { beta } => jensen_shannon::composed(beta, log_p, log_q),
        Divergence::Confidence => confidence::composed(Tensor::from_floats(&confidence[..], &device), log_p, log_q),
    };
    of_rows.sum()
}

/// What a teacher's logits are at some of the places.
pub(crate) struct Chunk {
    /// The number of the first place.
    first: usize,
    /// Nothing where the teacher named tokens.
    logits: Vec<f32>,
}

impl RowLoss for Teaching {
    type Chunk = Chunk;

    fn chunk(&self, places: Range<usize>) -> Chunk {
        let first = places.start;
        let logits = match &self.teacher {
            Teacher::Logits(make) => make(places),
            Teacher::Likely(_) => Vec::new(),
        };
        Chunk { first, logits }
    }

    fn row(&self, chunk: &Chunk, at: usize, logits: &mut [f32]) -> f32 {
        let (v, tau) = (logits.len(), self.temperature);
        let confidence = self.confidence(chunk, at, v);
        logits.iter_mut().for_each(|logit| *logit /= tau);
        to_log_probabilities(logits);
        match &self.teacher {
            Teacher::Logits(_) => {
                let log_p = self.log_p(chunk, at, v);
                let mut y = vec![0.0; v];
                let value = self.value(confidence, &log_p, logits, &mut y);
                let total = sum(&y);
                logits.iter_mut().zip(y).for_each(|(log_q, y)| *log_q = (y - log_q.exp() * total) / tau);
                value
            }
            Teacher::Likely(likely) => {
                let named = likely.of(chunk.first + at);
                let take = |(token, _): &(u32, f32)| std::mem::replace(&mut logits[*token as usize], f32::NEG_INFINITY);
                let mut log_q: Vec<f32> = named.iter().map(take).collect();
                let log_rest = log_sum(logits);
                log_q.push(log_rest);
                let mut log_p = log_buckets(named);
                if named.len() == v {
                    // A teacher that named every token has no tail.
                    (log_p.pop(), log_q.pop());
                }
                let mut y = vec![0.0; log_q.len()];
                let value = self.value(confidence, &log_p, &log_q, &mut y);
                let total = sum(&y);
                // What is wanted of the tail is shared out as the student does.
                let of_rest = y.get(named.len()).copied().unwrap_or(0.0);
                logits.iter_mut().for_each(|log_q| *log_q = ((*log_q - log_rest).exp() * of_rest - log_q.exp() * total) / tau);
                for (((token, _), y), log_q) in named.iter().zip(&y).zip(&log_q) {
                    logits[*token as usize] = (y - log_q.exp() * total) / tau;
                }
                value
            }
        }
    }
}

impl Teaching {
    fn value(&self, confidence: f32, log_p: &[f32], log_q: &[f32], gradient: &mut [f32]) -> f32 {
        match self.divergence {
            Divergence::Forward => forward_kl::row(log_p, log_q, gradient),
            Divergence::Reverse => reverse_kl::row(log_p, log_q, gradient),
            Divergence::JensenShannon { beta } => jensen_shannon::row(beta, log_p, log_q, gradient),
            Divergence::Confidence => confidence::row(confidence, log_p, log_q, gradient),
        }
    }

    /// The probability that the teacher gives to the target; 0 where it did not name it.
    fn confidence(&self, chunk: &Chunk, at: usize, v: usize) -> f32 {
        if self.divergence != Divergence::Confidence {
            return 0.0;
        }
        let target = self.targets[chunk.first + at];
        match &self.teacher {
            Teacher::Logits(_) => self.log_p(chunk, at, v)[target as usize].exp(),
            Teacher::Likely(likely) => likely.of(chunk.first + at).iter().find(|(token, _)| *token == target).map_or(0.0, |(_, p)| *p),
        }
    }

    /// The logarithms of all of the teacher's probabilities at a place.
    fn log_p(&self, chunk: &Chunk, at: usize, v: usize) -> Vec<f32> {
        let mut log_p: Vec<f32> = chunk.logits[at * v..(at + 1) * v].iter().map(|logit| logit / self.temperature).collect();
        to_log_probabilities(&mut log_p);
        log_p
    }
}

fn sum(y: &[f32]) -> f32 {
    y.iter().map(|y| f64::from(*y)).sum::<f64>() as f32
}

/// Logits less the logarithm of the sum of their exponentials.
fn to_log_probabilities(logits: &mut [f32]) {
    let total = log_sum(logits);
    logits.iter_mut().for_each(|logit| *logit -= total);
}

/// ln sum_i e^x_i.
fn log_sum(x: &[f32]) -> f32 {
    let largest = x.iter().fold(f32::NEG_INFINITY, |largest, x| largest.max(*x));
    if largest == f32::NEG_INFINITY {
        return largest;
    }
    largest + x.iter().map(|x| f64::from((x - largest).exp())).sum::<f64>().ln() as f32
}

/// The logarithms of the probabilities of named tokens and of the tail that they leave.
fn log_buckets(named: &[(u32, f32)]) -> Vec<f32> {
    let tail = 1.0 - named.iter().map(|(_, p)| f64::from(*p)).sum::<f64>();
    named.iter().map(|(_, p)| p.ln()).chain([(tail as f32).max(SMALLEST_TAIL).ln()]).collect()
}

/// p times x, 0 where p is: what has no probability adds nothing, however far apart it is.
pub(super) fn times(p: f32, x: f32) -> f64 {
    if p == 0.0 { 0.0 } else { f64::from(p) * f64::from(x) }
}

#[cfg(test)]
mod tests;
