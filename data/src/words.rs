//! A text as words, for comparing texts: lower case, letters and digits only, apostrophes left out, so that neither typography nor
//! punctuation hides that two texts are the same. Scripts without spaces between words give one word for each character.

use std::hash::{BuildHasherDefault, Hasher};

/// The words of a text, as hashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    /// One for each word, in order.
    pub hashes: Vec<u64>,
    /// Which of them are numbers.
    numbers: Vec<usize>,
}

impl Words {
    pub fn of(text: &str) -> Self {
        let mut words = Self::default();
        words.add(text);
        words
    }

    /// Adds the words of another text behind the ones that are there.
    pub fn add(&mut self, text: &str) {
        let mut word = Word::new();
        for character in text.chars() {
            match character {
                'a'..='z' | '0'..='9' => word.push(character as u8),
                'A'..='Z' => word.push(character.to_ascii_lowercase() as u8),
                '\'' | '`' | '’' | 'ʼ' => {}
                '\0'..='\x7f' => word.end(self),
                _ => {
                    for character in character.to_lowercase() {
                        if !character.is_alphanumeric() {
                            word.end(self);
                            continue;
                        }
                        let stands_alone = is_written_without_spaces(character);
                        if stands_alone {
                            word.end(self);
                        }
                        character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| word.push(byte));
                        if stands_alone {
                            word.end(self);
                        }
                    }
                }
            }
        }
        word.end(self);
    }

    /// The words with all numbers as one and the same word.
    pub fn without_numbers(&self) -> Vec<u64> {
        let mut hashes = self.hashes.clone();
        self.numbers.iter().for_each(|&at| hashes[at] = NUMBER);
        hashes
    }

    /// The numbers alone, in order.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.numbers.iter().map(|&at| self.hashes[at])
    }
}

/// The word that every number is, where numbers do not count.
const NUMBER: u64 = 0x23;

/// The hash of a phrase. The length is part of it.
pub(crate) fn phrase_hash(words: &[u64]) -> u64 {
    words.iter().fold(words.len() as u64 ^ 0x9e37_79b9_7f4a_7c15, |hash, word| mix(hash.rotate_left(5) ^ word))
}

/// For tables of hashes such as those of phrases: they are spread evenly already.
pub(crate) type AsItIs = BuildHasherDefault<Itself>;

/// The number itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Itself(u64);

impl Hasher for Itself {
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are looked up by it");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The word that is being read: FNV-1a, 64 bits, with a final mix.
struct Word {
    hash: u64,
    is_empty: bool,
    is_number: bool,
}

impl Word {
    fn new() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, is_empty: true, is_number: true }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.is_empty = false;
        self.is_number &= byte.is_ascii_digit();
    }

    #[inline]
    fn end(&mut self, words: &mut Words) {
        if !self.is_empty {
            if self.is_number {
                words.numbers.push(words.hashes.len());
            }
            words.hashes.push(mix(self.hash));
            *self = Self::new();
        }
    }
}

/// Han, kana, and the scripts of Southeast Asia.
fn is_written_without_spaces(character: char) -> bool {
    matches!(character as u32, 0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff)
}

/// The finaliser of SplitMix64.
pub(crate) fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(text: &str) -> Vec<u64> {
        Words::of(text).hashes
    }

    #[test]
    fn typography_does_not_hide_a_question() {
        assert_eq!(hashes("Janet’s ducks lay 16 eggs."), hashes("janet's  DUCKS lay, 16 eggs"));
        assert_ne!(hashes("16 eggs"), hashes("17 eggs"));
        assert_eq!(hashes("ÉCOLE Straße"), hashes("école straße"));
        assert_eq!(hashes("你好吗").len(), 3);
        assert_eq!(hashes("a2 don’t").len(), 2);
    }

    #[test]
    fn numbers_can_be_left_out_or_be_all_that_counts() {
        let (one, other, third) = (Words::of("16 eggs at $2"), Words::of("7 eggs at $2"), Words::of("16 hens, 2 cows"));
        assert_eq!(one.without_numbers(), other.without_numbers());
        assert_ne!(one.without_numbers(), third.without_numbers());
        assert!(one.numbers().eq(third.numbers()) && one.numbers().ne(other.numbers()));
    }

    #[test]
    fn the_order_and_the_length_of_a_phrase_count() {
        let words = hashes("one two three");
        let turned: Vec<u64> = words.iter().rev().copied().collect();
        assert_ne!(phrase_hash(&words), phrase_hash(&turned));
        assert_ne!(phrase_hash(&words[..2]), phrase_hash(&words));
    }
}
