//! What a teacher of another tokenizer said: logits over its own vocabulary, at those places alone where both have read the same bytes.

use std::{ops::Range, sync::Arc};

use super::divergence::LogitsOf;

/// Logits of a teacher that does not speak at every place.
#[derive(Clone)]
pub(crate) struct Aligned {
    /// At how many places before each it speaks; one more at the end.
    before: Arc<[usize]>,
    /// Tokens that it knows.
    vocab: usize,
    /// Its logits at those places, counted without the others.
    logits: Arc<LogitsOf>,
}

impl Aligned {
    /// From whether it speaks at each place.
    pub(crate) fn new(speaks: &[bool], vocab: usize, logits: Arc<LogitsOf>) -> Aligned {
        let mut count = 0;
        let counts = speaks.iter().map(|speaks| {
            count += usize::from(*speaks);
            count
        });
        Aligned { before: std::iter::once(0).chain(counts).collect(), vocab, logits }
    }

    pub(super) fn vocab(&self) -> usize {
        self.vocab
    }

    pub(super) fn speaks(&self, place: usize) -> bool {
        self.before[place] < self.before[place + 1]
    }

    /// The logits of some places, a row each; zeros where it does not speak.
    pub(super) fn logits(&self, places: Range<usize>) -> Vec<f32> {
        let (v, spoken) = (self.vocab, self.before[places.start]..self.before[places.end]);
        let mut rows = vec![0.0; places.len() * v];
        if !spoken.is_empty() {
            let logits = (self.logits)(spoken);
            let speaking = rows.chunks_mut(v).zip(places).filter(|(_, place)| self.speaks(*place));
            speaking.zip(logits.chunks(v)).for_each(|((row, _), logits)| row.copy_from_slice(logits));
        }
        rows
    }
}
