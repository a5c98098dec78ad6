//! Which tokens are likely, from a part of the head: its rows as ternary weights, and as they are those that this finds likely.
//!
//! What is said so is verified before anyone sees it, several tokens at once ([`crate::network::Network::run_ahead`]). So it need not be
//! right, only almost always.

use crate::{
    kernel::{Activations, FineActivations, Isa, Matrix, Packing, Pool, ROWS, coarse, multiply, multiply_blocks_of},
    linear::Table,
};

/// A head of fewer weights is read from a cache in the time that a shortlist takes.
const LEAST_WEIGHTS: usize = 8 << 20;
/// Blocks of rows that are computed as they are. Of 2,100 tokens of random students with 32,000 and 128,000 rows, whose logits are normally
/// distributed, the likeliest was always among them.
const BLOCKS: usize = 256;

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
        let count = BLOCKS.min(work.largest.len());
        work.largest.select_nth_unstable_by(count - 1, |one, other| other.1.total_cmp(&one.1));
        work.blocks.clear();
        work.blocks.extend(work.largest[..count].iter().map(|(block, _)| *block));
        work.blocks.sort_unstable();

        fine.quantize(isa, hidden, hidden.len());
        multiply_blocks_of(isa, pool, head, &work.blocks, fine, logits);
    }

    /// Bytes that a token's logits read.
    pub(crate) fn len_bytes(&self, head: &Table) -> usize {
        let head = head.integers().expect("a head that a shortlist was made of");
        let blocks = head.rows().div_ceil(ROWS);
        self.0.len_bytes() + head.len_bytes() / blocks * BLOCKS.min(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{Bits, IntegerMatrix},
        random::Random,
        sampler::likeliest,
    };

    #[test]
    fn the_likeliest_are_as_the_head_says() {
        let (rows, columns) = ((1 << 15) - 7, 288);
        let pool = Pool::new(2);
        let head = Table::Integer(IntegerMatrix::random(&pool, Bits::Eight, rows, columns, 1));
        let (mut fine, mut work) = (FineActivations::default(), ShortlistWork::default());
        let (mut exact, mut found, mut right) = (Vec::new(), Vec::new(), 0);
        for isa in Isa::supported() {
            let shortlist = Shortlist::new((isa, &pool), Packing::Four, &head).unwrap();
            for token in 0..20 {
                let mut random = Random::new(9, token);
                let hidden: Vec<f32> =
                    (0..columns).map(|_| (0..6).map(|_| (random.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0).sum()).collect();
                head.logits(isa, &pool, &hidden, columns, &mut fine, &mut exact);
                shortlist.logits((isa, &pool), &head, (&hidden, &mut fine), &mut work, &mut found);
                let listed = exact.iter().zip(&found).filter(|(exact, found)| exact == found).count();
                assert!((BLOCKS * ROWS - 7..BLOCKS * ROWS + 64).contains(&listed), "{listed} of {rows} are as they are");
                let product = |one: &[f32], two: &[f32]| one.iter().zip(two).map(|(x, y)| f64::from(x * y)).sum::<f64>();
                let cosine = product(&exact, &found) / (product(&exact, &exact) * product(&found, &found)).sqrt();
                assert!(cosine > 0.85, "{cosine}");
                right += usize::from(likeliest(&exact) == likeliest(&found));
            }
        }
        let all = 20 * Isa::supported().len();
        assert!(right * 10 >= all * 9, "{right} of {all}");
    }

    #[test]
    fn a_small_head_has_none() {
        let head = Table::Integer(IntegerMatrix::random(&Pool::new(1), Bits::Eight, 300, 288, 1));
        assert!(Shortlist::new((Isa::fastest(), &Pool::new(1)), Packing::Four, &head).is_none());
    }
}
