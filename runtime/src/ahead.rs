//! How far a single sequence is decoded before what was likely is verified.
//!
//! A token is chosen from likely logits, which take a part of the head's bytes, and the next one follows on it. A few tokens later the
//! whole head is read once for all of them, and they are kept as far as it says the same; so the tokens are those without it.

use std::time::{Duration, Instant};

use crate::{Sampling, network::RUN, sampler::Sampler};

/// Nobody waits longer for the next token because others are still to come.
const LONGEST: Duration = Duration::from_millis(250);

/// Decides how far to go, from what came of earlier runs.
pub(crate) struct Ahead {
    tokens: usize,
    began: Instant,
    /// Chooses in place of the sequence's own sampler, which chooses when the logits are known.
    pub(crate) sampler: Sampler,
}

impl Ahead {
    pub(crate) fn new() -> Ahead {
        Ahead { tokens: RUN, began: Instant::now(), sampler: Sampler::new(Sampling::greedy(), &[]) }
    }

    /// A run of a sequence with this sampler begins; returns how many tokens it has at most.
    pub(crate) fn begin(&mut self, sampler: &Sampler) -> usize {
        self.began = Instant::now();
        self.sampler.copy_from(sampler);
        self.tokens
    }

    /// Whether there is time for one more token.
    pub(crate) fn has_time(&self) -> bool {
        self.began.elapsed() < LONGEST
    }

    /// What likely logits said was right throughout, or not.
    pub(crate) fn verified(&mut self, right: bool) {
        self.tokens = if right { RUN.min(self.tokens + 1) } else { self.tokens.div_ceil(2) };
    }
}
