//! The uncertainty of one share.

use super::{Interval, Z_95};

/// The Wilson 95 % score interval of a share.
///
/// `share` may be a mean of per-problem shares (several samples of each problem): the variance of such a mean is at most that of
/// `count` independent yes-or-no trials, so the interval is then on the safe side. `count` = 0 gives `[0, 1]`: nothing is known.
///
/// Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), in the form of
/// Brown, Cai and DasGupta, Statistical Science 16 (2001), eq. 4.
pub fn wilson(share: f64, count: u64) -> Interval {
    if count == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let n = count as f64;
    let z2 = Z_95 * Z_95;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_95 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    // At a share of exactly 0 or 1 the bound is exact, and rounding must not push it past.
    let low = if share == 0.0 { 0.0 } else { (middle - half).max(0.0) };
    let high = if share == 1.0 { 1.0 } else { (middle + half).min(1.0) };
    Interval { low, high }
}

/// The standard error of the mean of `values`, with Bessel's correction, as lm-evaluation-harness reports it. None for fewer than
/// two values.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Some((squares / (n - 1.0) / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_its_share_and_stays_within_zero_and_one() {
        for count in 1..200u64 {
            for right in 0..=count {
                let share = right as f64 / count as f64;
                let Interval { low, high } = wilson(share, count);
                assert!((0.0..=share).contains(&low) && (share..=1.0).contains(&high), "{right} of {count}: [{low}, {high}]");
            }
        }
        assert_eq!(wilson(0.0, 0), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn one_value_has_no_standard_error() {
        assert_eq!(standard_error(&[1.0]), None);
        assert_eq!(standard_error(&[1.0, 1.0]), Some(0.0));
    }
}
