//! How far the student's distribution over tokens is from a teacher's, at the supervised places: the choice of divergence, the
//! temperature, and what a teacher may have said (all logits, those of another vocabulary, or its likeliest tokens and a tail).
//!
//! At temperature tau both distributions are softmax(logits / tau). The divergence is not multiplied by tau^2, as in eq. 8 of
//! arXiv:2510.13998 and unlike arXiv:1503.02531: `share` weighs it. A teacher's stored tokens have the temperature that they were
//! stored with, which must be this one. With y_i = q_i dL/dq_i the gradient at the logits is (y_i - q_i sum_j y_j) / tau.

use std::{fmt, ops::Range, sync::Arc};

use burn::tensor::{Tensor, TensorData, activation::log_softmax};

use super::{aligned::Aligned, confidence, forward_kl, jensen_shannon, likely::Likely, reverse_kl, uld};
use crate::operation::embed::indices;

/// Which divergence; each has a file of its own beside this one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Divergence {
    /// KL(p || q) of the teacher p and the student q.
    Forward,
    /// KL(q || p).
    Reverse,
    /// Generalised Jensen-Shannon.
    JensenShannon {
        /// Between 0, which is forward, and 1, which is reverse.
        beta: f32,
    },
    /// Reverse where the teacher is sure of the target, forward where it is not.
    Confidence,
    /// Sum of |p - q| over the ranks of both.
    Uld,
}

/// What is learned of a teacher besides its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lesson {
    /// Share of the divergence in the loss of a target where the teacher said something; the rest is cross-entropy.
    pub share: f32,
    /// How the two are compared.
    pub divergence: Divergence,
    /// Tau.
    pub temperature: f32,
}

impl Lesson {
    /// Nothing.
    pub const NONE: Lesson = Lesson { share: 0.0, divergence: Divergence::Forward, temperature: 1.0 };
}

/// What a teacher said at the supervised places.
#[derive(Clone)]
pub(crate) enum Said {
    /// All logits, [k, v], made when they are asked for: those of the places in the range.
    Logits(Arc<LogitsOf>),
    /// All logits of another vocabulary, where the teacher's tokens end as the student's do. Only by rank can they be compared.
    Aligned(Aligned),
    /// The likeliest tokens of each place. All others are one, the tail, on both sides.
    Likely(Likely),
}

/// The logits of some places, row-major.
pub(crate) type LogitsOf = dyn Fn(Range<usize>) -> Vec<f32> + Send + Sync;

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Logits(_) => f.write_str("Logits"),
            Said::Aligned(_) => f.write_str("Aligned"),
            Said::Likely(likely) => likely.fmt(f),
        }
    }
}

/// A lesson at the supervised places of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Teaching {
    pub(crate) lesson: Lesson,
    pub(crate) said: Said,
}

impl Teaching {
    /// The larger one of the teacher's vocabulary and the student's, v.
    pub(super) fn widest(&self, v: usize) -> usize {
        match &self.said {
            Said::Aligned(aligned) => aligned.vocab().max(v),
            Said::Logits(_) | Said::Likely(_) => v,
        }
    }

    /// All logits of some places, where they were given.
    pub(super) fn logits(&self, places: Range<usize>) -> Vec<f32> {
        match &self.said {
            Said::Logits(make) => make(places),
            Said::Aligned(aligned) => aligned.logits(places),
            Said::Likely(_) => Vec::new(),
        }
    }

    /// Whether the teacher said something at a place.
    pub(super) fn speaks(&self, place: usize) -> bool {
        match &self.said {
            Said::Logits(_) => true,
            Said::Aligned(aligned) => aligned.speaks(place),
            Said::Likely(likely) => !likely.of(place).is_empty(),
        }
    }

    /// The divergence at one place, of the student's logits; leaves its gradient in their place. `teacher` is the row of all the
    /// teacher's logits there, where they were given.
    pub(super) fn row(&self, teacher: &[f32], place: usize, target: usize, logits: &mut [f32]) -> f32 {
        let tau = self.lesson.temperature;
        logits.iter_mut().for_each(|logit| *logit /= tau);
        to_log_probabilities(logits);
        match &self.said {
            Said::Logits(_) | Said::Aligned(_) => {
                let mut log_p: Vec<f32> = teacher.iter().map(|logit| logit / tau).collect();
                to_log_probabilities(&mut log_p);
                let mut y = vec![0.0; logits.len()];
                let confidence = if self.asks_confidence() { log_p[target].exp() } else { 0.0 };
                let value = self.value(confidence, &log_p, logits, &mut y);
                let total = sum(&y);
                logits.iter_mut().zip(y).for_each(|(log_q, y)| *log_q = (y - log_q.exp() * total) / tau);
                value
            }
            Said::Likely(likely) => {
                let (named, log_p) = (likely.of(place), likely.log_buckets(place, logits.len()));
                let take = |(token, _): &(u32, f32)| std::mem::replace(&mut logits[*token as usize], f32::NEG_INFINITY);
                let mut log_q: Vec<f32> = named.iter().map(take).collect();
                let log_tail = log_sum(logits);
                log_q.extend((log_p.len() > named.len()).then_some(log_tail));
                let mut y = vec![0.0; log_q.len()];
                let value = self.value(confidence_in(target, named), &log_p, &log_q, &mut y);
                let total = sum(&y);
                // What is wanted of the tail is shared out as the student does.
                let of_tail = y.get(named.len()).copied().unwrap_or(0.0);
                logits.iter_mut().for_each(|log_q| *log_q = ((*log_q - log_tail).exp() * of_tail - log_q.exp() * total) / tau);
                for (((token, _), y), log_q) in named.iter().zip(&y).zip(&log_q) {
                    logits[*token as usize] = (y - log_q.exp() * total) / tau;
                }
                value
            }
        }
    }

    /// The divergence at each place in burn's operations, [k], 0 where the teacher said nothing; of the student's logits, [k, v].
    pub(super) fn composed(&self, logits_kv: Tensor<2>, targets: &[u32]) -> Tensor<1> {
        let ([k, _], device, tau) = (logits_kv.dims(), logits_kv.device(), self.lesson.temperature);
        let log_q_kv = log_softmax(logits_kv.div_scalar(tau), 1);
        let (log_p, log_q, confidence) = match &self.said {
            Said::Logits(_) | Said::Aligned(_) => {
                let logits = self.logits(0..k);
                let shape = [k, logits.len() / k];
                let log_p_kv = log_softmax(Tensor::<2>::from_data(TensorData::new(logits, shape), &device).div_scalar(tau), 1);
                let targets = indices(targets, &device).reshape([k, 1]);
                let of_targets = self.asks_confidence().then(|| log_p_kv.clone().gather(1, targets).exp().flatten(0, 1));
                (log_p_kv, log_q_kv, of_targets.unwrap_or_else(|| Tensor::zeros([k], &device)))
            }
            Said::Likely(likely) => {
                let (log_p, log_q) = likely.buckets(log_q_kv);
                let confidence: Vec<f32> =
                    targets.iter().enumerate().map(|(at, target)| confidence_in(*target as usize, likely.of(at))).collect();
                (log_p, log_q, Tensor::from_floats(&confidence[..], &device))
            }
        };
        match self.lesson.divergence {
            Divergence::Forward => forward_kl::composed(log_p, log_q),
            Divergence::Reverse => reverse_kl::composed(log_p, log_q),
            Divergence::JensenShannon { beta } => jensen_shannon::composed(beta, log_p, log_q),
            Divergence::Confidence => confidence::composed(confidence, log_p, log_q),
            Divergence::Uld => uld::composed(log_p, log_q),
        }
    }

    fn value(&self, confidence: f32, log_p: &[f32], log_q: &[f32], gradient: &mut [f32]) -> f32 {
        match self.lesson.divergence {
            Divergence::Forward => forward_kl::row(log_p, log_q, gradient),
            Divergence::Reverse => reverse_kl::row(log_p, log_q, gradient),
            Divergence::JensenShannon { beta } => jensen_shannon::row(beta, log_p, log_q, gradient),
            Divergence::Confidence => confidence::row(confidence, log_p, log_q, gradient),
            Divergence::Uld => uld::row(log_p, log_q, gradient),
        }
    }

    /// Whether it counts how sure the teacher is of the target, which only a teacher of the same tokens can say.
    fn asks_confidence(&self) -> bool {
        self.lesson.divergence == Divergence::Confidence
    }
}

/// The probability that a teacher gives to a target; 0 where it did not name it.
fn confidence_in(target: usize, named: &[(u32, f32)]) -> f32 {
    named.iter().find(|(token, _)| *token as usize == target).map_or(0.0, |(_, p)| *p)
}

fn sum(y: &[f32]) -> f32 {
    y.iter().map(|y| f64::from(*y)).sum::<f64>() as f32
}

/// Logits less the logarithm of the sum of their exponentials.
pub(crate) fn to_log_probabilities(logits: &mut [f32]) {
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

/// p times x, 0 where p is: what has no probability adds nothing, however far apart it is.
pub(super) fn times(p: f32, x: f32) -> f64 {
    if p == 0.0 { 0.0 } else { f64::from(p) * f64::from(x) }
}

#[cfg(test)]
mod tests;
