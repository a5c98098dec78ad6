//! How far a single sequence is decoded before what was likely is verified.
//!
//! A token is chosen from likely logits, which take a part of the head's bytes, and the next one follows on it. A few tokens later the
//! whole head is read once for all of them, and they are kept as far as it says the same; so the tokens are those without it.

use std::time::{Duration, Instant};

use crate::{
    Sampling, Student,
    cache::Cache,
    draft::Drafter,
    network::{Needed, Row, Work},
    sampler::Sampler,
};

/// Nobody waits longer for the next token because others are still to come.
const LONGEST: Duration = Duration::from_millis(250);

/// Decides how far to go, from what came of earlier runs.
pub(crate) struct Ahead {
    most: usize,
    tokens: usize,
    /// Chooses in place of the sequence's own sampler, which chooses when the logits are known.
    sampler: Sampler,
}

impl Ahead {
    /// With runs of so many tokens at most.
    pub(crate) fn new(most: usize) -> Ahead {
        Ahead { most, tokens: most, sampler: Sampler::new(Sampling::greedy(), &[]) }
    }

    /// Decode a sequence, of which all tokens but the last are computed, from its one row on: as far as there is time, it does not end and
    /// the drafter has no guess, which is for a step of its own. Adds the rows after the first and returns the logits of all; `tokens`,
    /// which may become `limit`, stay as they are.
    pub(crate) fn run<'w>(
        &mut self,
        student: &Student,
        (cache, work): (&mut Cache, &'w mut Work),
        (tokens, limit): (&mut Vec<u32>, usize),
        pages: &[usize],
        (sampler, drafter): (&Sampler, &Drafter),
        (rows, needed): (&mut Vec<Row>, Needed),
    ) -> &'w mut [f32] {
        let (began, known) = (Instant::now(), tokens.len());
        self.sampler.copy_from(sampler);
        let next = &mut |logits: &mut [f32]| {
            let token = self.sampler.next(logits);
            tokens.push(token);
            let ends = student.tokenizer().end_ids().contains(&token) || began.elapsed() > LONGEST;
            let guess = drafter.draft(tokens, limit - tokens.len() - 1, &mut 1, &mut 1.0);
            let goes_on = !ends && guess.is_none_or(|guess| guess.count == 0);
            goes_on.then(|| Row { token, position: tokens.len() - 1, sequence: 0, wants_logits: true })
        };
        let logits = student.network.run_ahead(cache, (rows, self.tokens.min(limit - known), needed), &|_| pages, work, next);
        tokens.truncate(known);
        logits
    }

    /// What likely logits said was right throughout, or not.
    pub(crate) fn verified(&mut self, right: bool) {
        self.tokens = if right { self.most.min(self.tokens + 1) } else { self.tokens.div_ceil(2) };
    }
}
