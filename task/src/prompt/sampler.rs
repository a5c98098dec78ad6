//! lm-eval draws its examples with Python's `random.Random(1234).sample`; this is that generator.
//!
//! Source: M. Matsumoto and T. Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998), with the array seeding of 2002, and the selection
//! without replacement that Python's documentation describes.

const STATE_WORDS: usize = 624;
const SHIFT: usize = 397;
/// lm-eval's default seed for examples.
const SEED: u32 = 1234;

pub(super) struct ShotSampler {
    state: [u32; STATE_WORDS],
    position: usize,
}

impl ShotSampler {
    pub(super) fn new() -> ShotSampler {
        let mut state = seeded_by_number(19_650_218);
        let (mut i, word) = (1, |value: u32| value ^ (value >> 30));
        for _ in 0..STATE_WORDS {
            state[i] = (state[i] ^ word(state[i - 1]).wrapping_mul(1_664_525)).wrapping_add(SEED);
            i = next_seeded(&mut state, i);
        }
        for _ in 1..STATE_WORDS {
            state[i] = (state[i] ^ word(state[i - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i = next_seeded(&mut state, i);
        }
        state[0] = 0x8000_0000;
        ShotSampler { state, position: STATE_WORDS }
    }

    /// `count` different indices below `length`, in the order drawn. Python draws this way if `length` is above 21 and `count` at most 5,
    /// and else from a shrinking list.
    pub(super) fn sample(&mut self, length: usize, count: usize) -> Vec<usize> {
        assert!(count <= 5 && count <= length, "five examples at most, and no more than there are");
        let mut drawn: Vec<usize> = Vec::with_capacity(count);
        if length <= 21 {
            let mut pool: Vec<usize> = (0..length).collect();
            for last in (length - count..length).rev() {
                let index = self.below(last + 1);
                drawn.push(pool[index]);
                pool[index] = pool[last];
            }
            return drawn;
        }
        while drawn.len() < count {
            let index = self.below(length);
            if !drawn.contains(&index) {
                drawn.push(index);
            }
        }
        drawn
    }

    /// A number below `limit`, from as many leading bits as it needs.
    fn below(&mut self, limit: usize) -> usize {
        let bits = usize::BITS - limit.leading_zeros();
        loop {
            let number = (self.next_u32() >> (32 - bits)) as usize;
            if number < limit {
                return number;
            }
        }
    }

    fn next_u32(&mut self) -> u32 {
        if self.position == STATE_WORDS {
            for i in 0..STATE_WORDS {
                let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE_WORDS] & 0x7fff_ffff);
                let twisted = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + SHIFT) % STATE_WORDS] ^ (joined >> 1) ^ twisted;
            }
            self.position = 0;
        }
        let mut word = self.state[self.position];
        self.position += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }
}

fn seeded_by_number(seed: u32) -> [u32; STATE_WORDS] {
    let mut state = [seed; STATE_WORDS];
    for i in 1..STATE_WORDS {
        let before = state[i - 1];
        state[i] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
    }
    state
}

/// The next index of the array seeding, which goes around and skips the first word.
fn next_seeded(state: &mut [u32; STATE_WORDS], i: usize) -> usize {
    if i + 1 < STATE_WORDS {
        return i + 1;
    }
    state[0] = state[STATE_WORDS - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CPython 3.11 draws.
    #[test]
    fn the_draws_are_those_of_python() {
        let mut sampler = ShotSampler::new();
        assert_eq!(sampler.sample(7473, 5), [6374, 3610, 957, 61, 742]);
        assert_eq!(sampler.sample(7473, 5), [7462, 6610, 4769, 286, 5501]);
        assert_eq!(sampler.sample(7473, 5), [5677, 687, 806, 6279, 2905]);
        let mut sampler = ShotSampler::new();
        assert_eq!(
            [sampler.sample(8, 5), sampler.sample(21, 5), sampler.sample(22, 5)],
            [[7, 0, 6, 5, 4], [2, 3, 11, 7, 0], [0, 11, 20, 19, 15]]
        );
    }
}
