//! What is read from a block against what the reference implementation reads from it, bit for bit.
//!
//! The blocks and the expected weights come from `blocks/make.py`, which says how it is run.

use tristill_model::block::{Format, decode_row};

const WEIGHTS: usize = 512;

#[test]
fn weights_are_those_of_the_reference() {
    let mut left: &[u8] = include_bytes!("blocks/blocks.bin");
    for format in [Format::Q4_0, Format::Q8_0, Format::Q6K, Format::Tq1_0, Format::Tq2_0] {
        let (packed, rest) = left.split_at(format.row_bytes(WEIGHTS).unwrap());
        let (expected, rest) = rest.split_at(4 * WEIGHTS);
        left = rest;
        let mut row = vec![0.0; WEIGHTS];
        decode_row(format, packed, &mut row).unwrap();
        for (at, (found, expected)) in row.iter().zip(expected.as_chunks::<4>().0).enumerate() {
            // Zero has two signs, which make no difference to anything.
            let expected = f32::from_le_bytes(*expected);
            assert!(*found == expected, "{} weight {at}: {found}, {expected}", format.name());
        }
    }
    assert!(left.is_empty());
}
