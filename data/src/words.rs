//! A text as words, for comparing questions: lower case, letters and digits only, apostrophes left out, so that neither
//! typography nor punctuation hides that two questions are the same.

/// The hash of each word of a text.
pub(crate) fn word_hashes(text: &str) -> Vec<u64> {
    each_word(text).map(|word| hash(word.as_bytes())).collect()
}

/// The hash of each word, where all numbers are the same word.
pub(crate) fn word_hashes_without_numbers(text: &str) -> Vec<u64> {
    let number = hash(b"#");
    each_word(text).map(|word| if word.bytes().all(|byte| byte.is_ascii_digit()) { number } else { hash(word.as_bytes()) }).collect()
}

/// The hash of a phrase. The length is part of it.
pub(crate) fn phrase_hash(words: &[u64]) -> u64 {
    words.iter().fold(words.len() as u64 ^ 0x9e37_79b9_7f4a_7c15, |hash, word| mix(hash.rotate_left(5) ^ word))
}

fn each_word(text: &str) -> impl Iterator<Item = String> {
    let plain: String =
        text.chars().filter(|character| !matches!(character, '\'' | '’' | 'ʼ' | '`')).flat_map(char::to_lowercase).collect();
    plain
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

/// FNV-1a, 64 bits, with a final mix.
fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The finaliser of SplitMix64.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typography_does_not_hide_a_question() {
        assert_eq!(word_hashes("Janet’s ducks lay 16 eggs."), word_hashes("janet's  DUCKS lay, 16 eggs"));
        assert_ne!(word_hashes("16 eggs"), word_hashes("17 eggs"));
        assert_eq!(word_hashes_without_numbers("16 eggs"), word_hashes_without_numbers("7 eggs"));
    }

    #[test]
    fn the_order_and_the_length_of_a_phrase_count() {
        let words = word_hashes("one two three");
        let turned: Vec<u64> = words.iter().rev().copied().collect();
        assert_ne!(phrase_hash(&words), phrase_hash(&turned));
        assert_ne!(phrase_hash(&words[..2]), phrase_hash(&words));
    }
}
