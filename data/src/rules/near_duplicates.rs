//! Near duplicates: traces that share most of their phrases of five words, while their questions state the same numbers and their
//! answers end on the same one. A problem with other numbers is another problem, however alike the words are.
//!
//! Candidates are found with MinHash and banding (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4): of
//! `BANDS` bands of `ROWS` minima each, one must agree, which two traces of Jaccard index s do with probability 1 - (1 - s^ROWS)^BANDS.
//! At 0.85 that is 0.999992, at 0.9 all but two in a hundred million. What agrees is compared phrase by phrase, and what
//! is dropped was compared so with one that stays.

use crate::words::{Words, mix, phrase_hash};

/// Words in a phrase.
const PHRASE: usize = 5;
/// Bands, and minima in each.
pub(crate) const BANDS: usize = 20;
const ROWS: usize = 5;

/// The different phrases of a text, sorted. A text of fewer words than a phrase is one phrase.
pub(crate) struct Phrases(Vec<u64>);

impl Phrases {
    pub fn of(words: &Words) -> Self {
        let mut phrases = all(words);
        phrases.sort_unstable();
        phrases.dedup();
        Self(phrases)
    }

    /// The Jaccard index: phrases in common over phrases of either.
    pub fn likeness(&self, other: &Self) -> f64 {
        let (mut one, mut two, mut common) = (self.0.as_slice(), other.0.as_slice(), 0);
        while let (Some((first, rest_one)), Some((second, rest_two))) = (one.split_first(), two.split_first()) {
            common += usize::from(first == second);
            if first <= second {
                one = rest_one;
            }
            if second <= first {
                two = rest_two;
            }
        }
        common as f64 / (self.0.len() + other.0.len() - common) as f64
    }
}

fn all(words: &Words) -> Vec<u64> {
    match words.hashes.len() {
        ..PHRASE => vec![phrase_hash(&words.hashes)],
        _ => words.hashes.windows(PHRASE).map(phrase_hash).collect(),
    }
}

/// One key for each band; near duplicates have at least one in common. `numbers` must be the same.
pub(crate) fn bands(words: &Words, numbers: &[u64]) -> [u64; BANDS] {
    let numbers = phrase_hash(numbers);
    // The permutations are h -> a h + b modulo 2^32 with odd a.
    const PERMUTATIONS: [(u32, u32); BANDS * ROWS] = permutations();
    let mut minima = [u32::MAX; BANDS * ROWS];
    for phrase in all(words) {
        let phrase = (phrase >> 32) as u32;
        for (minimum, (factor, offset)) in minima.iter_mut().zip(PERMUTATIONS) {
            *minimum = (*minimum).min(phrase.wrapping_mul(factor).wrapping_add(offset));
        }
    }
    std::array::from_fn(|band| {
        let rows = &minima[band * ROWS..(band + 1) * ROWS];
        rows.iter().fold(mix(numbers ^ (band as u64)), |key, &row| mix(key.rotate_left(5) ^ u64::from(row)))
    })
}

/// Drawn once, from SplitMix64 with seed 1, and the same for ever.
const fn permutations() -> [(u32, u32); BANDS * ROWS] {
    let mut drawn = [(0, 0); BANDS * ROWS];
    let (mut at, mut state) = (0, 1u64);
    while at < drawn.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^= value >> 31;
        drawn[at] = (value as u32 | 1, (value >> 32) as u32);
        at += 1;
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text of words `from` to `to`.
    fn run(from: u32, to: u32) -> Words {
        Words::of(&(from..to).map(|word| format!("w{word}x")).collect::<Vec<_>>().join(" "))
    }

    fn share_a_band(one: &Words, other: &Words) -> bool {
        bands(one, &[7]).iter().zip(bands(other, &[7])).any(|(a, b)| *a == b)
    }

    #[test]
    fn likeness_is_the_jaccard_index_of_the_phrases() {
        let likeness = |one: &Words, other: &Words| Phrases::of(one).likeness(&Phrases::of(other));
        // 96 phrases each, 76 of them in common.
        assert_eq!(likeness(&run(0, 100), &run(20, 120)), 76.0 / 116.0);
        assert_eq!(likeness(&run(0, 100), &run(0, 100)), 1.0);
        assert_eq!(likeness(&run(0, 3), &run(0, 3)), 1.0);
        assert_eq!(likeness(&run(0, 3), &run(1, 4)), 0.0);
        assert_eq!(likeness(&run(0, 0), &run(0, 0)), 1.0);
    }

    #[test]
    fn bands_agree_as_often_as_the_formula_says() {
        // 96 phrases of which some are shared: Jaccard indices of 0.9 and of 0.5.
        let trials = 4000;
        let found = |shift: u32| {
            let of =
                |trial: u32| share_a_band(&run(trial * 1000, trial * 1000 + 104), &run(trial * 1000 + shift, trial * 1000 + 104 + shift));
            (0..trials).filter(|&trial| of(trial)).count() as f64 / f64::from(trials)
        };
        let expected = |likeness: f64| 1.0 - (1.0 - likeness.powi(ROWS as i32)).powi(BANDS as i32);
        assert_eq!(found(5), 1.0); // 95 of 105
        let (likeness, tolerance) = (67.0f64 / 133.0, 0.04);
        assert!((found(33) - expected(likeness)).abs() < tolerance, "{} {}", found(33), expected(likeness));
        assert!(found(70) < 0.02);
    }

    #[test]
    fn other_numbers_are_another_problem() {
        let words = run(0, 50);
        assert!(bands(&words, &[1]).iter().zip(bands(&words, &[2])).all(|(a, b)| *a != b));
    }
}
