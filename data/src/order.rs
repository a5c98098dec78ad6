//! The order in which training sees the rows: a pure function of seed and epoch that needs no list of all rows. Blocks of rows
//! are shuffled, a fixed number of them is loaded together, and the rows of such a group are shuffled. A dataset of one group
//! (about eight million tokens) is thereby shuffled in full.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// Blocks that are loaded together: 32 MB of tokens.
pub(crate) const GROUP_BLOCKS: usize = 32;

/// Where in the endless stream of rows a run is: the next row that it will see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// How often all rows were seen.
    pub epoch: u64,
    /// How many rows of this epoch were seen.
    pub row: u64,
}

/// The order of the blocks in an epoch.
pub(crate) fn blocks(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    permutation(seed, epoch, 0, count)
}

/// The order of the rows of a group, which is counted from 0.
pub(crate) fn rows(seed: u64, epoch: u64, group: usize, count: usize) -> Vec<usize> {
    permutation(seed, epoch, 1 + group as u64, count)
}

/// A Fisher-Yates shuffle with draws of our own, so that no version of a library changes the order.
fn permutation(seed: u64, epoch: u64, part: u64, count: usize) -> Vec<usize> {
    let mut key = [0; 32];
    for (bytes, value) in key.chunks_exact_mut(8).zip([seed, epoch, part]) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    let mut random = ChaCha8Rng::from_seed(key);
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        // Multiply and shift: the bias is below 2^-32 for any count that fits in 32 bits.
        let at = ((u128::from(random.next_u64()) * (last as u128 + 1)) >> 64) as usize;
        order.swap(last, at);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_permutation_that_each_part_of_its_name_changes() {
        let order = blocks(1, 0, 100);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_eq!(order, blocks(1, 0, 100));
        for other in [blocks(2, 0, 100), blocks(1, 1, 100), rows(1, 0, 0, 100), rows(1, 0, 1, 100)] {
            assert_ne!(order, other);
        }
    }

    #[test]
    fn the_order_is_the_same_in_every_version() {
        assert_eq!(blocks(7, 3, 8), EXPECTED);
    }

    /// Written down once; a run that goes on after an update of this program must see the same rows.
    const EXPECTED: [usize; 8] = [3, 6, 4, 5, 2, 0, 7, 1];
}
