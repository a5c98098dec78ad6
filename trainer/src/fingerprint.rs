//! A hash that is the same on every machine and in every version of the program, for what a run must find again as it was.

use rayon::prelude::*;

/// FNV-1a over the words' bytes with a last mixing step.
pub(crate) fn hash(words: impl IntoIterator<Item = u32>) -> u64 {
    let bytes = words.into_iter().flat_map(u32::to_le_bytes);
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

/// Weights that one task hashes.
const CHUNK: usize = 1 << 16;

/// The hash of each chunk of some weights, one after the other.
pub(crate) fn chunks(weights: &[f32]) -> Vec<u64> {
    weights.par_chunks(CHUNK).map(|chunk| hash(chunk.iter().map(|weight| weight.to_bits()))).collect()
}

/// The hash of hashes, in hexadecimal.
pub(crate) fn of_all(hashes: &[u64]) -> String {
    format!("{:016x}", hash(hashes.iter().flat_map(|hash| [*hash as u32, (hash >> 32) as u32])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_in_every_version() {
        assert_ne!(hash([1, 2]), hash([2, 1]));
        assert_eq!(hash([1, 2, 300]), 0xD45A_52BF_7118_64A4);
    }

    #[test]
    fn one_changed_bit_shows() {
        let mut weights = vec![0.5; CHUNK + 3];
        let before = of_all(&chunks(&weights));
        weights[CHUNK + 1] = f32::from_bits(0.5f32.to_bits() + 1);
        assert_ne!(of_all(&chunks(&weights)), before);
        assert_eq!(before.len(), 16);
    }
}
