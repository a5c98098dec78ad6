//! Seeded choices. The bytes of ChaCha8 are turned into choices here and not by a library's distributions, so that no new
//! version of one can change what a seed writes.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A stream of choices.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    /// One of the independent streams of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(key);
        random.set_stream(stream);
        Self(random)
    }

    /// From `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        let span = u64::from(high) - u64::from(low) + 1;
        // Multiply and shift: the bias is below 2^-32 for any span that fits in 32 bits.
        let offset = (u128::from(self.0.next_u64()) * u128::from(span)) >> 64;
        low + offset as u32
    }

    /// Below `length`, which must not be 0.
    pub(super) fn index(&mut self, length: usize) -> usize {
        self.between(0, length as u32 - 1) as usize
    }

    /// One of `items`, which must not be empty.
    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.index(items.len())]
    }
}
