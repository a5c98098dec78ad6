//! Which tokens are likely, from a part of the head: its rows as ternary weights, and as they are those that this finds likely.
//!
//! What is said so is verified before anyone sees it, several tokens at once ([`crate::network::Network::run_ahead`]). So it need not be
//! right, only almost always.

use crate::{
    kernel::{Activations, FineActivations, IntegerMatrix, Isa, Matrix, Packing, Pool, ROWS, coarse, multiply, multiply_blocks_of},
    linear::Table,
};

/// A head of fewer weights is read from a cache in the time that a shortlist takes.
const LEAST_WEIGHTS: usize = 8 << 20;
/// One of so many blocks of rows is computed as it is.
const SHARE: usize = 32;

/// A head's rows as ternary weights.
pub(crate) struct Shortlist(Matrix);

/// The memory that serves from one token to the next.
#[derive(Default)]
pub(crate) struct ShortlistWork {
    activations: Activations,
    /// Each block of rows, and the largest of its estimated logits.
    largest: Vec<(usize, f32)>,
    blocks: Vec<usize>,
}

impl Shortlist {
    /// That of a head which is large enough.
    pub(crate) fn new((isa, pool): (Isa, &Pool), packing: Packing, head: &Table) -> Option<Shortlist> {
        let head = head.integers().filter(|head| head.rows() * head.columns() >= LEAST_WEIGHTS)?;
        Some(Shortlist(coarse(isa, pool, packing, head)))
    }

    /// A token's logits: those of the blocks with the largest as the head says, the others estimated.
    pub(crate) fn logits(
        &self,
        (isa, pool): (Isa, &Pool),
        head: &Table,
        (hidden, fine): (&[f32], &mut FineActivations),
        work: &mut ShortlistWork,
        logits: &mut Vec<f32>,
    ) {
        let head = head.integers().expect("a head that a shortlist was made of");
        logits.resize(head.rows(), 0.0);
        work.activations.quantize(isa, hidden, hidden.len());
        multiply(isa, pool, &self.0, &work.activations, logits);

        work.largest.clear();
        work.largest.extend(logits.chunks(ROWS).map(|rows| rows.iter().copied().fold(f32::NEG_INFINITY, f32::max)).enumerate());
        let count = Shortlist::blocks(head);
        work.largest.select_nth_unstable_by(count - 1, |one, other| other.1.total_cmp(&one.1));
        work.blocks.clear();
        work.blocks.extend(work.largest[..count].iter().map(|(block, _)| *block));
        work.blocks.sort_unstable();

        fine.quantize(isa, hidden, hidden.len());
        multiply_blocks_of(isa, pool, head, &work.blocks, fine, logits);
    }

    /// Blocks of a head that are computed as they are.
    fn blocks(head: &IntegerMatrix) -> usize {
        head.rows().div_ceil(ROWS).div_ceil(SHARE)
    }

    /// Bytes that a token's logits read.
    pub(crate) fn len_bytes(&self, head: &Table) -> usize {
        let head = head.integers().expect("a head that a shortlist was made of");
        self.0.len_bytes() + head.len_bytes() / head.rows().div_ceil(ROWS) * Shortlist::blocks(head)
    }
}
