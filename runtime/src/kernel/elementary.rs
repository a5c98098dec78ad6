//! Functions of one number in operations that become vectors, with the same bits everywhere.

/// 1.5 * 2^23: adding it rounds a small number to a whole one, which then stands in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;

/// e^x within 2 units in the last place between -87.3 and 88.7, constant beyond; not a number stays so. Our own because a library's
/// differs from one platform to the next. Cephes' expf: 2^n times a polynomial in the rest; plain operations, so that loops over it
/// become vector code.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Written so that a comparison with not-a-number, which is false, keeps it.
    let x = if x < -87.336_54 { -87.336_54 } else { x };
    let x = if x > 88.722_83 { 88.722_83 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    // The logarithm of 2 in two parts, the first with few enough bits that n times it is exact.
    let rest = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut polynomial = 1.987_569_2e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        polynomial = polynomial * rest + coefficient;
    }
    let power = polynomial * rest * rest + rest + 1.0;
    // 2^n in two factors, because 2^128 alone would be infinite.
    let n = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()) as i32;
    let half = n >> 1;
    let two_to = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    power * two_to(half) * two_to(n - half)
}

/// round_half_even(x) within a whole `limit` below 2^22, and 0 for what is not a number. [`ROUNDER`] leaves the whole number in the low
/// bits; `as` on a float saturates, for which compilers take one number at a time.
#[inline(always)]
pub(super) fn to_whole(x: f32, limit: f32) -> i32 {
    let x = if x.is_nan() { 0.0 } else { x.clamp(-limit, limit) };
    (x + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits()) as i32
}

/// An f16 as f32: exact, in operations that become vectors. Exponent and fraction move to their places in an f32, and the
/// multiplication corrects the exponent's bias, also of subnormal numbers; infinities are refused at load.
#[inline(always)]
pub(super) fn widen(bits: u16) -> f32 {
    let size = f32::from_bits((u32::from(bits) & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(size.to_bits() | (u32::from(bits) & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_finite_f16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let number = f16::from_bits(bits);
            if number.is_finite() {
                assert_eq!(widen(bits).to_bits(), number.to_f32().to_bits());
            }
        }
    }

    #[test]
    fn the_exponential_is_that_of_f64() {
        for step in -87_000..=88_700 {
            let x = step as f32 * 1e-3;
            let apart = (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs();
            assert!(apart < 2.0 * f64::from(f32::EPSILON), "{x}: {apart:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1.2e-38 && exp(1000.0) > 3.4e38 && exp(f32::NAN).is_nan());
    }
}
