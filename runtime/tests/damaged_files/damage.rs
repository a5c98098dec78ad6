//! Ways to damage a GGUF file, aimed at where a reader could be misled: its lengths, kinds, values and the order of its parts.

use std::ops::Range;

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// A sound file and where its parts are.
pub struct Damage {
    bytes: Vec<u8>,
    /// Fields of 8 bytes: counts, lengths of texts and lists, dimensions, offsets.
    lengths: Vec<usize>,
    /// Fields of 4 bytes: kinds of values, formats of tensors, numbers of dimensions.
    kinds: Vec<usize>,
    /// The whole of each value with its key, and of each tensor's head.
    entries: Vec<Range<usize>>,
    /// The value of each entry, with its kind.
    values: Vec<Range<usize>>,
    /// Where the tensors' bytes start.
    data: usize,
}

const EXTREMES: [u64; 12] = [0, 1, 2, 0x7f, 0xff, 0xffff, i32::MAX as u64, u32::MAX as u64, 1 << 32, 1 << 40, i64::MAX as u64, u64::MAX];

impl Damage {
    /// Find the parts of a sound file.
    pub fn new(bytes: Vec<u8>) -> Damage {
        let mut parts = Damage { bytes, lengths: vec![8, 16], kinds: vec![4], entries: vec![], values: vec![], data: 0 };
        let (tensors, values) = (parts.u64(8), parts.u64(16));
        let mut at = 24;
        for _ in 0..values {
            let start = at;
            at = parts.text(at);
            let value = at;
            at = parts.value(at);
            parts.entries.push(start..at);
            parts.values.push(value..at);
        }
        for _ in 0..tensors {
            let start = at;
            at = parts.text(at);
            let dimensions = parts.u32(at) as usize;
            parts.kinds.extend([at, at + 4 + 8 * dimensions]);
            parts.lengths.extend((0..dimensions).map(|dimension| at + 4 + 8 * dimension).chain([at + 8 + 8 * dimensions]));
            at += 16 + 8 * dimensions;
            parts.entries.push(start..at);
        }
        parts.data = at.next_multiple_of(32);
        parts
    }

    /// The file as it was.
    pub fn sound(&self) -> &[u8] {
        &self.bytes
    }

    /// A damaged copy, and what was done to it.
    pub fn draw(&self, random: &mut ChaCha8Rng) -> (&'static str, Vec<u8>) {
        let mut bytes = self.bytes.clone();
        let length = bytes.len();
        let kind = match random.random_range(0..10) {
            0 | 1 => {
                // Most of a file is weights, where damage is dull; so most of the damage is before them.
                let end = if random.random_bool(0.8) { self.data } else { length };
                for _ in 0..random.random_range(1..=8) {
                    bytes[random.random_range(0..end)] ^= 1 << random.random_range(0..8);
                }
                "bits flipped"
            }
            2 => {
                let at = random.random_range(self.data..length);
                let count = random.random_range(1..=64).min(length - at);
                let byte = *[0, 0x7c, 0x7f, 0x80, 0xff].choose(random).unwrap();
                bytes[at..at + count].fill(byte);
                "weights overwritten"
            }
            3 => {
                let start = if random.random_bool(0.5) { 0 } else { self.data };
                bytes.truncate(random.random_range(start..length));
                "cut short"
            }
            4 => {
                let at = *self.lengths.choose(random).unwrap();
                bytes[at..at + 8].copy_from_slice(&extreme(self.u64(at), length, random).to_le_bytes());
                "a length changed"
            }
            5 => {
                let at = *self.kinds.choose(random).unwrap();
                let kind = if random.random_bool(0.8) { random.random_range(0..40) } else { random.random() };
                bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(kind));
                "a kind changed"
            }
            6 => {
                let (mut one, mut other) = (self.entries.choose(random).unwrap(), self.entries.choose(random).unwrap());
                if one.start > other.start {
                    (one, other) = (other, one);
                }
                if one != other {
                    let middle = one.end..other.start;
                    bytes = [
                        &self.bytes[..one.start],
                        &self.bytes[other.clone()],
                        &self.bytes[middle],
                        &self.bytes[one.clone()],
                        &self.bytes[other.end..],
                    ]
                    .concat();
                }
                "two entries swapped"
            }
            7 => {
                let count = random.random_range(1..=(length - self.data) / 4);
                let [one, other] = [0, 1].map(|_| random.random_range(self.data..=length - count));
                bytes[one..one + count].copy_from_slice(&self.bytes[other..other + count]);
                "weights moved"
            }
            8 => {
                let (into, from) = (self.values.choose(random).unwrap(), self.values.choose(random).unwrap());
                // The tensors stay where they are only if the head's length does not change much; both are of use.
                bytes = [&self.bytes[..into.start], &self.bytes[from.clone()], &self.bytes[into.end..]].concat();
                "a value taken from another"
            }
            _ => {
                let scalars: Vec<&Range<usize>> = self.values.iter().filter(|value| matches!(value.len(), 5 | 8 | 12)).collect();
                let value = scalars.choose(random).unwrap();
                let start = value.start + 4;
                let old = self.bytes[start..value.end].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
                let new = if random.random_bool(0.2) { random.random() } else { extreme(old, length, random) };
                bytes[start..value.end].copy_from_slice(&new.to_le_bytes()[..value.end - start]);
                "a value changed"
            }
        };
        (kind, bytes)
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    /// Note a text; returns where it ends.
    fn text(&mut self, at: usize) -> usize {
        self.lengths.push(at);
        at + 8 + self.u64(at) as usize
    }

    /// Note a value, which starts with its kind; returns where it ends.
    fn value(&mut self, at: usize) -> usize {
        self.kinds.push(at);
        match self.u32(at) {
            8 => self.text(at + 4),
            9 => {
                self.kinds.push(at + 4);
                self.lengths.push(at + 8);
                let (kind, count) = (self.u32(at + 4), self.u64(at + 8) as usize);
                match kind {
                    8 => (0..count).fold(at + 16, |at, _| self.text(at)),
                    kind => at + 16 + count * size_of_scalar(kind),
                }
            }
            kind => at + 4 + size_of_scalar(kind),
        }
    }
}

fn size_of_scalar(kind: u32) -> usize {
    match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        _ => 8,
    }
}

/// A number that a length or a size should not be.
fn extreme(old: u64, length: usize, random: &mut ChaCha8Rng) -> u64 {
    let length = length as u64;
    let near = [old.wrapping_sub(1), old + 1, old.wrapping_mul(2), old / 2, old ^ 1 << 31, length, length / 2, 1 << 20, 4096];
    *if random.random_bool(0.5) { near.choose(random) } else { EXTREMES.choose(random) }.unwrap()
}
