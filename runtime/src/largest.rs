//! Which logit is the largest, for certain, from half of the head's products.
//!
//! An activation's high byte alone says a logit but for what the low bytes add, which is at most the length of their vector times that of
//! the row's weights (Cauchy-Schwarz). Rows that this leaves below the largest keep what the high bytes say; the others, few where one
//! token stands out, are computed as they are. So a greedy token is the one that all products would give.

use crate::{
    kernel::{FineActivations, IntegerMatrix, Isa, Pool, lengths, multiply_integers, multiply_places},
    linear::Table,
    shortlist::{large, largest_of_blocks},
};

/// With fewer tokens reading the head is what limits.
const LEAST_TOKENS: usize = 10;
/// Where more than one in so many blocks of rows could have the largest, as many passes as [`REST`] multiply everything at once.
const FEW: usize = 8;
const REST: usize = 15;

/// What tells how far the low bytes can reach.
pub(crate) struct Largest {
    /// The length of the longest row of each block.
    lengths: Vec<f32>,
}

/// The memory that serves from one pass to the next.
#[derive(Default)]
pub(crate) struct LargestWork {
    /// The largest of each block of rows by high bytes, `[tokens, blocks]`.
    found: Vec<f32>,
    /// Blocks of rows, and the tokens whose largest they could have.
    places: Vec<(usize, usize)>,
    /// Passes that are not to be tried.
    rest: usize,
}

impl Largest {
    /// That of a head which is large enough, where an instruction set gains from it.
    pub(crate) fn new((isa, pool): (Isa, &Pool), head: &Table) -> Option<Largest> {
        let head = large(head)?;
        FineActivations::high_is_cheaper(isa).then(|| Largest { lengths: lengths(isa, pool, head) })
    }

    /// Some tokens' logits, `[tokens, vocabulary]`: the largest of each, and all that equal it, are as the head says, and the others lie
    /// below it.
    pub(crate) fn logits(
        &self,
        (isa, pool): (Isa, &Pool),
        head: &Table,
        (hidden, fine): (&[f32], &mut FineActivations),
        work: &mut LargestWork,
        logits: &mut Vec<f32>,
    ) {
        let head = head.integers().expect("a head that this was made of");
        let tokens = hidden.len() / head.columns();
        logits.resize(tokens * head.rows(), 0.0);
        fine.quantize(isa, hidden, head.columns());
        let tried = tokens >= LEAST_TOKENS && work.rest == 0 && FineActivations::high_is_cheaper(isa);
        work.rest = work.rest.saturating_sub(1);
        if tried {
            fine.set_high_alone(true);
            multiply_integers(isa, pool, head, fine, logits);
            fine.set_high_alone(false);
            self.find(pool, head, fine, work, logits);
            if work.places.len() * FEW <= work.found.len() {
                return multiply_places(isa, pool, head, &work.places, fine, logits);
            }
            work.rest = REST;
        }
        multiply_integers(isa, pool, head, fine, logits);
    }

    /// The blocks of rows in which a token's largest logit could be.
    fn find(&self, pool: &Pool, head: &IntegerMatrix, fine: &FineActivations, work: &mut LargestWork, logits: &mut [f32]) {
        let (rows, blocks) = (head.rows(), self.lengths.len());
        work.found.resize(logits.len() / rows * blocks, 0.0);
        pool.for_each_pair((logits, rows), (&mut work.found, blocks), |_, logits, found| {
            found.iter_mut().zip(largest_of_blocks(logits)).for_each(|(found, largest)| *found = largest);
        });
        work.places.clear();
        for (token, found) in work.found.chunks_exact(blocks).enumerate() {
            let reach = reach(head, fine, token);
            let least = found.iter().zip(&self.lengths).map(|(found, length)| found - reach * length).fold(f32::NEG_INFINITY, f32::max);
            // What is not a number may be anything, and is not less.
            let is_less = |(found, length): (&f32, &f32)| found + reach * length < least;
            let others = found.iter().zip(&self.lengths).enumerate().filter(|(_, pair)| !is_less(*pair));
            work.places.extend(others.map(|(block, _)| (block, token)));
        }
        work.places.sort_unstable();
    }
}

/// How far a token's logit can be from what the high bytes say, for a row of length 1.
fn reach(head: &IntegerMatrix, fine: &FineActivations, token: usize) -> f32 {
    // Of each of the two sums of products: every group's sum, its product and the addition are rounded, and the whole at the end.
    let rounding = f64::from(f32::EPSILON) * (head.groups() + 4) as f64;
    let (all, low) = fine.lengths(token);
    ((low + rounding * all) * 1.000_001) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{Bits, ROWS},
        random::Random,
        sampler::likeliest,
    };

    const ROWS_OF_HEAD: usize = (1 << 15) + 9;
    const COLUMNS: usize = 256;

    /// Hidden values of some tokens.
    fn hidden(tokens: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed, 0);
        let mut number = || (0..6).map(|_| (random.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0).sum();
        (0..tokens * COLUMNS).map(|_| number()).collect()
    }

    /// With every instruction set that gains from it: all logits, those that are found, and the passes that are not to be tried then.
    fn check(bits: Bits, hidden: &[f32], look: impl Fn(&[f32], &[f32], usize)) {
        let pool = Pool::new(2);
        let head = Table::Integer(IntegerMatrix::random(&pool, bits, ROWS_OF_HEAD, COLUMNS, 1));
        for isa in Isa::supported() {
            let Some(largest) = Largest::new((isa, &pool), &head) else { continue };
            let (mut fine, mut work, mut all, mut found) = (FineActivations::default(), LargestWork::default(), Vec::new(), Vec::new());
            head.logits(isa, &pool, hidden, COLUMNS, &mut fine, &mut all);
            largest.logits((isa, &pool), &head, (hidden, &mut fine), &mut work, &mut found);
            look(&all, &found, work.rest);
        }
    }

    #[test]
    fn the_largest_are_as_the_head_says() {
        for bits in [Bits::Eight, Bits::Apart, Bits::Four, Bits::Six] {
            for tokens in [1, LEAST_TOKENS, 17] {
                check(bits, &hidden(tokens, tokens as u64), |all, found, rest| {
                    for (all, found) in all.chunks(ROWS_OF_HEAD).zip(found.chunks(ROWS_OF_HEAD)) {
                        let best = likeliest(all) as usize;
                        assert_eq!((likeliest(found) as usize, found[best]), (best, all[best]), "{bits:?}");
                    }
                    let rough = all.iter().zip(found).filter(|(all, found)| all != found).count();
                    assert_eq!((rough > all.len() / 2, rest), (tokens >= LEAST_TOKENS, 0), "{bits:?}: {rough} of {}", all.len());
                });
            }
        }
    }

    #[test]
    fn high_bytes_are_not_tried_again_soon_where_they_say_little() {
        // One number that is far larger than the others takes all high bytes.
        let mut peaked = hidden(LEAST_TOKENS, 1);
        peaked.chunks_mut(COLUMNS).for_each(|hidden| hidden[7] = 1e4);
        for hidden in [peaked, vec![f32::NAN; LEAST_TOKENS * COLUMNS], vec![0.0; LEAST_TOKENS * COLUMNS]] {
            check(Bits::Eight, &hidden, |all, found, rest| {
                let same = all.iter().zip(found).filter(|(all, found)| all.to_bits() == found.to_bits()).count();
                assert_eq!((same, rest), (all.len(), REST));
            });
        }
    }

    #[test]
    fn the_low_bytes_reach_as_far_as_said_and_no_further() {
        let pool = Pool::new(1);
        for bits in [Bits::Eight, Bits::Apart, Bits::Four, Bits::Six] {
            let head = IntegerMatrix::random(&pool, bits, 40, COLUMNS, 1);
            let mut weights = [0.0; COLUMNS];
            head.row(17, &mut weights);
            // Every low byte as large as it can be, in the direction of a row's weight.
            let code = |at: usize| (128 * (at % 50)) as f32 + if weights[at] < 0.0 { -64.0 } else { 63.0 };
            let hidden: Vec<f32> = (0..COLUMNS).map(|at| if at == 0 { 16_256.0 } else { code(at) }).collect();
            for isa in Isa::supported().into_iter().filter(|isa| FineActivations::high_is_cheaper(*isa)) {
                let (mut fine, mut all, mut rough) = (FineActivations::default(), [0.0; 40], [0.0; 40]);
                fine.quantize(isa, &hidden, COLUMNS);
                multiply_integers(isa, &pool, &head, &fine, &mut all);
                fine.set_high_alone(true);
                multiply_integers(isa, &pool, &head, &fine, &mut rough);
                let reach = reach(&head, &fine, 0);
                for (row, (all, rough)) in all.iter().zip(rough).enumerate() {
                    let furthest = reach * lengths(isa, &pool, &head)[row / ROWS];
                    let off = (all - rough).abs();
                    assert!(off <= furthest && (row != 17 || off > 0.8 * furthest), "{isa}, {bits:?}, row {row}: {off} of {furthest}");
                }
            }
        }
    }
}
