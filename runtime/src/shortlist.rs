//! Which tokens are likely, from a part of the head: the high bits of its weights or ternary weights that are like them, and as they are
//! those of its rows that this finds likely.
//!
//! What is said so is verified before anyone sees it, several tokens at once ([`crate::network::Network::run_ahead`]). So it need not be
//! right, only almost always.

use crate::{
    kernel::{
        Activations, Bits, FineActivations, HIGH_ACTIVATION, IntegerMatrix, Isa, Matrix, Packing, Pool, ROWS, coarse, multiply,
        multiply_high, multiply_places,
    },
    linear::{Layout, Table},
};

/// A head of fewer weights is read from a cache in the time that a shortlist takes.
const LEAST_WEIGHTS: usize = 8 << 20;
/// Blocks of rows that are computed as they are, by high bits and by ternary weights. Of 960 tokens of a random student with 128,256 rows,
/// whose logits are normally distributed, the likeliest was always among those of 128 blocks by high bits; by 64 it was not five times, nor
/// six times by 256 of ternary weights. Those of trained students stand out more.
const BLOCKS_BY_HIGH: usize = 128;
const BLOCKS_BY_TERNARY: usize = 256;

/// The bits of a head that is stored in `bits`.
pub(crate) fn head_bits(layout: Layout, bits: Bits, weights: usize) -> Bits {
    if bits == Bits::Eight && layout.apart && weights >= LEAST_WEIGHTS { Bits::Apart } else { bits }
}

/// The integers of a head, if they are many.
pub(crate) fn large(head: &Table) -> Option<&IntegerMatrix> {
    head.integers().filter(|head| head.rows() * head.columns() >= LEAST_WEIGHTS)
}

/// The largest of a token's logits in each block of rows.
pub(crate) fn largest_of_blocks(logits: &[f32]) -> impl Iterator<Item = f32> {
    logits.chunks(ROWS).map(|rows| rows.iter().copied().fold(f32::NEG_INFINITY, f32::max))
}

/// What tells roughly what the logits are.
pub(crate) enum Shortlist {
    /// The head's own high bits.
    High,
    /// Its rows as ternary weights.
    Ternary(Matrix),
}

/// The memory that serves from one token to the next.
#[derive(Default)]
pub(crate) struct ShortlistWork {
    activations: Activations,
    /// Each block of rows, and the largest of its estimated logits.
    largest: Vec<(usize, f32)>,
    places: Vec<(usize, usize)>,
}

impl Shortlist {
    /// That of a head which is large enough.
    pub(crate) fn new((isa, pool): (Isa, &Pool), packing: Packing, head: &Table) -> Option<Shortlist> {
        let head = large(head)?;
        Some(if head.high().is_some() { Shortlist::High } else { Shortlist::Ternary(coarse(isa, pool, packing, head)) })
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
        let (matrix, blocks) = self.parts(head);
        match self {
            Shortlist::High => {
                work.activations.quantize_to(isa, HIGH_ACTIVATION, hidden, hidden.len());
                multiply_high(isa, pool, matrix, &work.activations, logits);
            }
            Shortlist::Ternary(_) => {
                work.activations.quantize(isa, hidden, hidden.len());
                multiply(isa, pool, matrix, &work.activations, logits);
            }
        }

        work.largest.clear();
        work.largest.extend(largest_of_blocks(logits).enumerate());
        work.largest.select_nth_unstable_by(blocks - 1, |one, other| other.1.total_cmp(&one.1));
        work.places.clear();
        work.places.extend(work.largest[..blocks].iter().map(|(block, _)| (*block, 0)));
        work.places.sort_unstable();

        fine.quantize(isa, hidden, hidden.len());
        multiply_places(isa, pool, head, &work.places, fine, logits);
    }

    /// Bytes that a token's logits read.
    pub(crate) fn len_bytes(&self, head: &Table) -> usize {
        let head = head.integers().expect("a head that a shortlist was made of");
        let (matrix, blocks) = self.parts(head);
        matrix.len_bytes() + head.len_bytes() / head.rows().div_ceil(ROWS) * blocks
    }

    /// What every row is multiplied with, and how many blocks of rows are computed as they are.
    fn parts<'a>(&'a self, head: &'a IntegerMatrix) -> (&'a Matrix, usize) {
        let (matrix, blocks) = match self {
            Shortlist::High => (head.high().expect("a head that a shortlist was made of"), BLOCKS_BY_HIGH),
            Shortlist::Ternary(matrix) => (matrix, BLOCKS_BY_TERNARY),
        };
        (matrix, blocks.min(head.rows().div_ceil(ROWS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{random::Random, sampler::likeliest};

    #[test]
    fn the_likeliest_are_as_the_head_says() {
        let (rows, columns) = ((1 << 15) - 7, 288);
        let pool = Pool::new(2);
        for bits in [Bits::Apart, Bits::Eight] {
            let head = Table::Integer(IntegerMatrix::random(&pool, bits, rows, columns, 1));
            let (mut fine, mut work) = (FineActivations::default(), ShortlistWork::default());
            let (mut exact, mut found, mut right) = (Vec::new(), Vec::new(), 0);
            let blocks = if bits == Bits::Apart { BLOCKS_BY_HIGH } else { BLOCKS_BY_TERNARY };
            for isa in Isa::supported() {
                let shortlist = Shortlist::new((isa, &pool), Packing::Four, &head).unwrap();
                for token in 0..20 {
                    let mut random = Random::new(9, token);
                    let hidden: Vec<f32> =
                        (0..columns).map(|_| (0..6).map(|_| (random.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0).sum()).collect();
                    head.logits(isa, &pool, &hidden, columns, &mut fine, &mut exact);
                    shortlist.logits((isa, &pool), &head, (&hidden, &mut fine), &mut work, &mut found);
                    let listed = exact.iter().zip(&found).filter(|(exact, found)| exact == found).count();
                    assert!((blocks * ROWS - 7..blocks * ROWS + 64).contains(&listed), "{listed} of {rows} are as they are");
                    let product = |one: &[f32], two: &[f32]| one.iter().zip(two).map(|(x, y)| f64::from(x * y)).sum::<f64>();
                    let cosine = product(&exact, &found) / (product(&exact, &exact) * product(&found, &found)).sqrt();
                    assert!(cosine > 0.85, "{cosine}");
                    right += usize::from(likeliest(&exact) == likeliest(&found));
                }
            }
            let all = 20 * Isa::supported().len();
            assert!(right * 10 >= all * 9, "{bits:?}: {right} of {all}");
        }
    }

    #[test]
    fn a_small_head_has_none() {
        let head = Table::Integer(IntegerMatrix::random(&Pool::new(1), Bits::Eight, 300, 288, 1));
        assert!(Shortlist::new((Isa::fastest(), &Pool::new(1)), Packing::Four, &head).is_none());
    }
}
