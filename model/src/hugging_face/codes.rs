//! Ternary codes as Hugging Face folders pack them: four to a byte, as code + 1. Byte row r of m holds the rows r, r + m, r + 2m and
//! r + 3m of the matrix from the low bits up. Source: the BitNet integration of transformers.

/// Pack a row-major matrix of codes, or `None` if its rows are not a multiple of four.
pub fn pack(codes: &[i8], rows: usize, columns: usize) -> Option<Vec<u8>> {
    let quarter = rows / 4 * columns;
    let byte = |at: usize| (0..4).map(|part| ((codes[at + part * quarter] + 1) as u8) << (2 * part)).sum();
    rows.is_multiple_of(4).then(|| (0..quarter).map(byte).collect())
}

/// The codes of a packed matrix, row-major, or `None` if a byte holds one that is not -1, 0 or 1.
pub fn unpack(bytes: &[u8]) -> Option<Vec<i8>> {
    let mut codes = vec![0; 4 * bytes.len()];
    for (part, codes) in codes.chunks_exact_mut(bytes.len().max(1)).enumerate() {
        codes.iter_mut().zip(bytes).for_each(|(code, byte)| *code = (byte >> (2 * part) & 3) as i8 - 1);
    }
    are_codes(bytes).then_some(codes)
}

/// Whether every code in the bytes is -1, 0 or 1.
pub fn are_codes(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |threes, byte| threes | (byte & byte >> 1 & 0x55)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lie_where_others_look_for_them() {
        // The published example: two byte rows of two columns, eight rows of codes.
        let bytes = [0b1010_0001, 0b0001_1000, 0b1001_0000, 0b0000_1010];
        let codes = [0, -1, -1, 1, -1, 1, -1, 1, 1, 0, 0, -1, 1, -1, 1, -1];
        assert_eq!(unpack(&bytes).unwrap(), codes);
        assert_eq!(pack(&codes, 8, 2).unwrap(), bytes);
    }

    #[test]
    fn what_is_no_code_is_refused() {
        assert_eq!(unpack(&[0b0011_0000]), None);
        assert_eq!(pack(&[0; 6], 3, 2), None);
        assert_eq!(unpack(&[]), Some(vec![]));
    }
}
