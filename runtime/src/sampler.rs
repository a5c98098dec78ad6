//! How the next token is chosen from the logits.
//!
//! Each request draws from a random stream of its own seed, so that its text does not depend on what else is in the batch.
//! Order, as in Hugging Face's generation: repetition penalty, temperature, top-k, top-p, min-p.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Error, kernel::exp};

/// How tokens are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it. 0 always takes the likeliest token, the lowest of equals.
    pub temperature: f32,
    /// Draw among so many of the likeliest tokens; 0 is all.
    pub top_k: usize,
    /// Draw among the likeliest tokens that together hold this probability; 1 is all. Source: arXiv:1904.09751.
    pub top_p: f32,
    /// Draw among the tokens that have this share of the likeliest one's probability; 0 is all. Source: arXiv:2407.01082.
    pub min_p: f32,
    /// Divides the positive and multiplies the negative logits of tokens that were there before; 1 is off. Source: arXiv:1909.05858.
    pub repetition_penalty: f32,
    /// Of the random stream.
    pub seed: u64,
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 }
    }

    /// Refuse what means nothing.
    pub fn check(&self) -> Result<(), Error> {
        let rules = [
            ("temperature", self.temperature, self.temperature >= 0.0 && self.temperature.is_finite(), "it must be finite and not below 0"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "it must be above 0 and at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "it must be between 0 and 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                (0.01..=100.0).contains(&self.repetition_penalty),
                "it must be between 0.01 and 100",
            ),
        ];
        match rules.into_iter().find(|(_, _, holds, _)| !holds) {
            None => Ok(()),
            Some((key, found, _, needed)) => Err(Error::Sampling { key, found: found.to_string(), needed }),
        }
    }
}

/// One request's choices.
pub(crate) struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
    /// Tokens that were there before, in order.
    seen: Vec<u32>,
    /// Tokens that may be drawn, with their logits and then their weights.
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// Become what another one is, in this one's memory.
    pub(crate) fn copy_from(&mut self, other: &Sampler) {
        (self.sampling, self.random) = (other.sampling.clone(), other.random.clone());
        self.seen.clone_from(&other.seen);
    }

    pub(crate) fn new(sampling: Sampling, prompt: &[u32]) -> Sampler {
        let mut sampler = Sampler { random: ChaCha8Rng::seed_from_u64(sampling.seed), sampling, seen: Vec::new(), candidates: Vec::new() };
        prompt.iter().for_each(|token| sampler.see(*token));
        sampler
    }

    /// Whether the next token is that of the largest logit, whatever the others are.
    pub(crate) fn takes_largest(&self) -> bool {
        self.sampling.temperature == 0.0 && self.sampling.repetition_penalty == 1.0
    }

    /// Choose the next token. Logits of tokens that were there before are changed by the penalty.
    pub(crate) fn next(&mut self, logits: &mut [f32]) -> u32 {
        let penalty = self.sampling.repetition_penalty;
        for token in &self.seen {
            let logit = &mut logits[*token as usize];
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
        let token = if self.sampling.temperature == 0.0 { likeliest(logits) } else { self.draw(logits) };
        self.see(token);
        token
    }

    fn see(&mut self, token: u32) {
        if self.sampling.repetition_penalty != 1.0
            && let Err(place) = self.seen.binary_search(&token)
        {
            self.seen.insert(place, token);
        }
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let best = logits[likeliest(logits) as usize];
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend((0..).zip(logits).filter(|(_, logit)| !logit.is_nan()).map(|(token, logit)| (token, *logit)));
        let descending = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let top_k = self.sampling.top_k;
        if (1..candidates.len()).contains(&top_k) {
            candidates.select_nth_unstable_by(top_k - 1, descending);
            candidates.truncate(top_k);
        }
        for (_, logit) in candidates.iter_mut() {
            *logit = exp((*logit - best) / self.sampling.temperature);
        }
        let sum = |candidates: &[(u32, f32)]| candidates.iter().map(|(_, weight)| f64::from(*weight)).sum::<f64>();
        if self.sampling.top_p < 1.0 {
            // Weights below this one hold less than 1 - top_p together, so that none of them is needed.
            candidates.sort_unstable_by_key(|(token, _)| *token);
            let total = sum(candidates);
            let least = total * (1.0 - f64::from(self.sampling.top_p)) / candidates.len().max(1) as f64;
            candidates.retain(|(_, weight)| f64::from(*weight) >= least);
            candidates.sort_unstable_by(descending);
            let mut held = 0.0;
            let enough = |(_, weight): &(u32, f32)| {
                held += f64::from(*weight);
                held >= total * f64::from(self.sampling.top_p)
            };
            let count = candidates.iter().position(enough).map_or(candidates.len(), |place| place + 1);
            candidates.truncate(count);
        }
        // The likeliest token's weight is 1.
        candidates.retain(|(_, weight)| *weight >= self.sampling.min_p);
        candidates.sort_unstable_by_key(|(token, _)| *token);
        let mut left = self.random.random::<f64>() * sum(candidates);
        for (token, weight) in candidates.iter() {
            left -= f64::from(*weight);
            if left < 0.0 {
                return *token;
            }
        }
        candidates.last().map_or(0, |(token, _)| *token)
    }
}

/// The token with the largest logit, the lowest of equals. First which part of the logits has it, without a branch for each of them.
pub(crate) fn likeliest(logits: &[f32]) -> u32 {
    const PART: usize = 1024;
    let mut best = (0, f32::NEG_INFINITY);
    for (part, logits) in logits.chunks(PART).enumerate() {
        let largest = largest(logits);
        if largest > best.1 {
            best = (PART * part, largest);
        }
    }
    let place = logits[best.0..].iter().position(|logit| *logit == best.1);
    place.map_or(0, |place| (best.0 + place) as u32)
}

/// The largest number; those that are none do not count.
fn largest(numbers: &[f32]) -> f32 {
    let (whole, rest) = numbers.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for numbers in whole {
        for (lane, number) in lanes.iter_mut().zip(numbers) {
            *lane = if *number > *lane { *number } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |largest, number| if *number > largest { *number } else { largest })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each token is drawn.
    fn counts(sampling: &Sampling, logits: &[f32]) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for seed in 0..4000 {
            counts[Sampler::new(Sampling { seed, ..sampling.clone() }, &[]).next(&mut logits.to_vec()) as usize] += 1;
        }
        counts
    }

    fn warm() -> Sampling {
        Sampling { temperature: 1.0, ..Sampling::greedy() }
    }

    #[test]
    fn greedy_takes_the_lowest_of_equals() {
        let mut sampler = Sampler::new(Sampling::greedy(), &[]);
        assert_eq!(sampler.next(&mut [1.0, 3.0, 3.0, f32::NAN]), 1);
        assert_eq!(sampler.next(&mut [f32::NAN; 3]), 0);
        for place in [0, 15, 16, 1023, 1024, 3000, 3070] {
            let mut logits = vec![-1.0; 3071];
            (logits[0], logits[place], logits[3070]) = (f32::NAN, 2.0, 2.0);
            assert_eq!(sampler.next(&mut logits), place as u32);
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0, 2.0f32.ln(), 5.0f32.ln()];
        let counts = counts(&warm(), &logits);
        for (count, share) in counts.iter().zip([1.0, 2.0, 5.0]) {
            assert!((*count as f64 / 4000.0 - share / 8.0).abs() < 0.03, "{counts:?}");
        }
    }

    #[test]
    fn each_limit_keeps_the_likeliest() {
        let logits = [1.0f32.ln(), 5.0f32.ln(), 2.0f32.ln(), 2.0f32.ln()];
        let drawn = |sampling: Sampling| counts(&sampling, &logits).iter().map(|count| *count > 0).collect::<Vec<_>>();
        assert_eq!(drawn(warm()), [true, true, true, true]);
        assert_eq!(drawn(Sampling { top_k: 2, ..warm() }), [false, true, true, false]);
        assert_eq!(drawn(Sampling { top_p: 0.5, ..warm() }), [false, true, false, false]);
        assert_eq!(drawn(Sampling { top_p: 0.6, ..warm() }), [false, true, true, false]);
        assert_eq!(drawn(Sampling { min_p: 0.3, ..warm() }), [false, true, true, true]);
        assert_eq!(drawn(Sampling { temperature: 0.01, ..warm() }), [false, true, false, false]);
    }

    #[test]
    fn a_penalty_applies_once_to_each_token_that_was_there() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::greedy() };
        let mut sampler = Sampler::new(sampling, &[0, 2, 0]);
        let mut logits = [4.0, 2.5, -1.0];
        assert_eq!(sampler.next(&mut logits), 1);
        assert_eq!(logits, [2.0, 2.5, -2.0]);
    }

    #[test]
    fn settings_that_mean_nothing_are_named() {
        for (sampling, key) in [
            (Sampling { temperature: -1.0, ..warm() }, "temperature"),
            (Sampling { temperature: f32::NAN, ..warm() }, "temperature"),
            (Sampling { top_p: 0.0, ..warm() }, "top_p"),
            (Sampling { min_p: 1.5, ..warm() }, "min_p"),
            (Sampling { repetition_penalty: 0.0, ..warm() }, "repetition_penalty"),
        ] {
            let message = sampling.check().unwrap_err().to_string();
            assert!(message.contains(key), "{message}");
        }
        warm().check().unwrap();
    }
}
