//! Rows of tokens as a forward pass takes them.

use std::sync::Arc;

use crate::loss::{
    divergence::{Lesson, Said, Teaching},
    head::Targets,
    likely::Likely,
};

/// Packed rows of equal length; b = rows, t = positions. All lists are row-major, [b, t].
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// b.
    pub rows: usize,
    /// t.
    pub length: usize,
    /// The tokens that go in.
    pub tokens: Vec<u32>,
    /// The token to be predicted at each position.
    pub targets: Vec<u32>,
    /// Whether the target is supervised.
    pub keep: Vec<bool>,
    /// Which document of its row a token belongs to; equal numbers stand together. Attention stays within a document.
    pub documents: Vec<u32>,
    /// The token's place in its document, from 0.
    pub positions: Vec<u32>,
    /// What a teacher held likely to be predicted at each position: tokens and their probabilities. Empty where it said nothing.
    pub likely: Vec<Vec<(u32, f32)>>,
    /// What is learned of that.
    pub lesson: Lesson,
}

/// Where the tokens of a batch stand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    /// b.
    pub(crate) rows: usize,
    /// t.
    pub(crate) length: usize,
    /// The position in its row where a token's document starts, [b, t].
    pub(crate) starts: Vec<u32>,
    /// The token's place in its document, [b, t].
    pub(crate) positions: Vec<u32>,
}

impl Batch {
    /// One document, nothing supervised.
    pub fn document(tokens: &[u32]) -> Batch {
        let length = tokens.len();
        Batch {
            rows: 1,
            length,
            tokens: tokens.to_vec(),
            targets: vec![0; length],
            keep: vec![false; length],
            documents: vec![0; length],
            positions: (0..length as u32).collect(),
            likely: vec![Vec::new(); length],
            lesson: Lesson::NONE,
        }
    }

    /// Where the tokens stand.
    ///
    /// # Panics
    /// If a list has another length than `rows * length`.
    pub(crate) fn layout(&self) -> Layout {
        let n = self.rows * self.length;
        let Batch { tokens, targets, keep, documents, positions, likely, .. } = self;
        let lengths = [tokens.len(), targets.len(), keep.len(), documents.len(), positions.len(), likely.len()];
        assert_eq!(lengths, [n; 6], "the lists of a batch of {} rows of {} tokens", self.rows, self.length);
        let mut starts = vec![0u32; n];
        for (starts, documents) in starts.chunks_mut(self.length.max(1)).zip(self.documents.chunks(self.length.max(1))) {
            for at in 1..documents.len() {
                starts[at] = if documents[at] == documents[at - 1] { starts[at - 1] } else { at as u32 };
            }
        }
        Layout { rows: self.rows, length: self.length, starts, positions: self.positions.clone() }
    }

    /// The same batch without the tokens that no supervised target sees: what fills up rows, and the end of each document. All
    /// documents stand in one row, because which tokens see each other is for the documents to say.
    ///
    /// # Panics
    /// If the lists have not the same length.
    pub(crate) fn needed(&self) -> Batch {
        let starts = self.layout().starts;
        let document = |at: usize| (at - at % self.length) as u32 + starts[at];
        let mut needed: Vec<usize> = Vec::with_capacity(starts.len());
        for at in (0..starts.len()).rev() {
            if self.keep[at] || needed.last().is_some_and(|next| *next == at + 1 && document(at + 1) == document(at)) {
                needed.push(at);
            }
        }
        needed.reverse();
        fn pick<T: Clone>(list: &[T], needed: &[usize]) -> Vec<T> {
            needed.iter().map(|at| list[*at].clone()).collect()
        }
        Batch {
            rows: 1,
            length: needed.len(),
            tokens: pick(&self.tokens, &needed),
            targets: pick(&self.targets, &needed),
            keep: pick(&self.keep, &needed),
            documents: needed.iter().map(|at| document(*at)).collect(),
            positions: pick(&self.positions, &needed),
            likely: pick(&self.likely, &needed),
            lesson: self.lesson,
        }
    }

    /// The supervised targets.
    ///
    /// # Panics
    /// If the lists have not the same length.
    pub(crate) fn supervised(&self) -> Targets {
        let places: Arc<[u32]> = (0..self.keep.len() as u32).filter(|at| self.keep[*at as usize]).collect();
        let tokens = places.iter().map(|at| self.targets[*at as usize]).collect();
        let likely = places.iter().map(|at| self.likely[*at as usize].as_slice());
        let said = Likely::new(likely).filter(|_| self.lesson.share > 0.0).map(Said::Likely);
        Targets { tokens, teaching: said.map(|said| Teaching { lesson: self.lesson, said }), places: places.clone(), terms: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_start_where_the_number_changes() {
        let batch = Batch {
            rows: 2,
            length: 4,
            tokens: vec![1; 8],
            targets: (0..8).collect(),
            keep: vec![false, true, false, true, false, false, false, true],
            documents: vec![0, 0, 1, 1, 1, 0, 0, 0],
            positions: vec![0, 1, 0, 1, 0, 0, 1, 2],
            likely: vec![Vec::new(); 8],
            lesson: Lesson::NONE,
        };
        assert_eq!(batch.layout().starts, [0, 0, 2, 2, 0, 1, 1, 1]);
        let targets = batch.supervised();
        assert_eq!((&targets.places[..], &targets.tokens[..]), (&[1, 3, 7][..], &[1, 3, 7][..]));
        assert!(targets.teaching.is_none());
    }

    #[test]
    fn what_no_target_sees_is_left_out() {
        let batch = Batch {
            rows: 2,
            length: 4,
            tokens: (10..18).collect(),
            targets: (20..28).collect(),
            keep: [1, 0, 0, 1, 0, 0, 1, 0].map(|keep| keep == 1).to_vec(),
            documents: vec![0, 0, 1, 1, 1, 0, 0, 0],
            positions: vec![0, 1, 0, 1, 0, 0, 1, 2],
            likely: (0..8).map(|at| vec![(at, 0.5)]).collect(),
            lesson: Lesson::NONE,
        };
        let needed = Batch {
            rows: 1,
            length: 5,
            tokens: vec![10, 12, 13, 15, 16],
            targets: vec![20, 22, 23, 25, 26],
            keep: [1, 0, 1, 0, 1].map(|keep| keep == 1).to_vec(),
            documents: vec![0, 2, 2, 5, 5],
            positions: vec![0, 0, 1, 0, 1],
            likely: [0, 2, 3, 5, 6].map(|at| vec![(at, 0.5)]).to_vec(),
            lesson: Lesson::NONE,
        };
        assert_eq!(batch.needed(), needed);
        assert_eq!(Batch { keep: vec![false; 8], ..batch }.needed().length, 0);
    }
}
