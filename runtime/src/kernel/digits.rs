//! Five ternary digits in a byte, numbered so that few instructions tell them apart.
//!
//! The first four digits are one number of 81, the last digit says where in the byte's range that number lies:
//!
//! | byte | last digit | first four |
//! |---|---|---|
//! | 0 to 80 | 0 | byte |
//! | 84 to 127 | 2 | byte - 47, from 37 on |
//! | 128 to 208 | 1 | byte - 128 |
//! | 212 to 248 | 2 | byte - 212, up to 36 |
//!
//! So a quarter of the byte tells the last digit, which one lookup of 64 entries finds. And once bytes from 212 on have gone round to 0, which
//! is the smaller one of a byte and the same less 212, seven bits tell the first four, which one lookup of 128 entries finds.

/// Where the last digit is 2: below 128 from here on, and from [`HIGH`] on.
const LOW: u8 = 84;
pub(super) const HIGH: u8 = 128 + LOW;
/// The numbers below are with [`HIGH`], the others with [`LOW`].
const SPLIT: u8 = 81 - (128 - LOW);
const _: () = assert!(LOW >= 81 && LOW.is_multiple_of(4) && HIGH + SPLIT - 1 <= u8::MAX - 3);

/// Four bytes side by side, each of five digits: the numbers of their first four and their last ones.
#[inline(always)]
pub(super) fn pack(first_four: u32, last: u32) -> u32 {
    const ONES: u32 = 0x0101_0101;
    let (one, two) = (last & ONES, last >> 1 & ONES);
    let low = two & (first_four + ONES * u32::from(128 - SPLIT)) >> 7;
    // No byte exceeds 248, so that none carries into the next.
    first_four + one * 128 + (two - low) * u32::from(HIGH) + low * u32::from(LOW - SPLIT)
}

pub(super) const fn last(byte: u8) -> u8 {
    if byte % 128 >= LOW { 2 } else { byte / 128 }
}

/// The number of the first four digits, the first of which counts 1 and the fourth 27.
pub(super) const fn first_four(byte: u8) -> u8 {
    match byte {
        HIGH.. => byte - HIGH,
        LOW..128 => byte - (LOW - SPLIT),
        _ => byte % 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_back() {
        let mut seen = [false; 256];
        for number in 0..81u8 {
            for digit in 0..3u8 {
                // Beside the largest bytes, to see a carry.
                let packed = pack(u32::from_le_bytes([80, number, 36, number]), u32::from_le_bytes([2, digit, 2, digit])).to_le_bytes();
                assert_eq!(packed.map(first_four), [80, number, 36, number]);
                assert_eq!(packed.map(last), [2, digit, 2, digit]);
                assert!(!std::mem::replace(&mut seen[usize::from(packed[1])], true), "{number} and {digit} share a byte");
                // What the lookups rely on.
                assert_eq!(last(packed[1] / 4 * 4), digit);
                assert_eq!(first_four(packed[1].min(packed[1].wrapping_sub(HIGH)) % 128), number);
            }
        }
    }
}
