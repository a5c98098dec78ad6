//! Two systems on the same problems: only where they differ says which is better.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Z_95, Z_POWER_80};

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// The 95 % percentile bootstrap interval of the mean of `differences`, one per problem. None for no problem.
///
/// Whole problems are drawn, so that several samples of one problem stay together. The same seed gives the same interval on every
/// machine. Quantiles are interpolated as numpy does by default.
pub fn paired_bootstrap(differences: &[f64], resamples: usize, seed: u64) -> Option<Interval> {
    let count = u32::try_from(differences.len()).ok().filter(|count| *count > 0)?;
    if resamples == 0 {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| (0..count).map(|_| differences[random.random_range(0..count) as usize]).sum::<f64>() / f64::from(count))
        .collect();
    means.sort_by(f64::total_cmp);
    Some(Interval { low: quantile(&means, 0.025), high: quantile(&means, 0.975) })
}

/// The exact two-sided McNemar p-value: how likely a split at least as uneven as `only_first` against `only_second` is among
/// problems that exactly one of two systems got right, if both were equally good.
///
/// Source: the exact binomial form of McNemar, Psychometrika 12 (1947). Terms are taken relative to the largest, so that no number
/// of problems overflows; a p-value below the smallest f64 is 0.
pub fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    let count = only_first + only_second;
    let fewer = only_first.min(only_second);
    let mode = count / 2;
    let (mut term, mut below_mode, mut tail) = (1.0f64, 0.0f64, 0.0f64);
    for k in (0..=mode).rev() {
        if k < mode {
            below_mode += term;
        }
        if k <= fewer {
            tail += term;
        }
        // C(count, k - 1) from C(count, k).
        term *= k as f64 / (count - k + 1) as f64;
        if term == 0.0 {
            break;
        }
    }
    // An even count has one largest term, an odd count two.
    let all = 2.0 * below_mode + if count.is_multiple_of(2) { 1.0 } else { 2.0 };
    (2.0 * tail / all).min(1.0)
}

/// The smallest true difference in accuracy that a two-sided McNemar test at 5 % finds with a power of 80 %, on `count` problems of
/// which `discordant` were seen to be right in one system only. None where the set is too small to find any.
///
/// Source: Connor, Biometrics 43 (1987), eq. for the sample size: `count` d² = (z sqrt(s) + z' sqrt(s - d²))², with s the discordant
/// share, solved for d. A difference d needs a discordant share of at least d, so where fewer were seen s = d is taken.
pub fn minimum_detectable_difference(count: u64, discordant: u64) -> Option<f64> {
    if count == 0 {
        return None;
    }
    let n = count as f64;
    let share = discordant as f64 / n;
    // The larger root of (n + z'²) d² - 2 z sqrt(s n) d + s (z² - z'²) = 0.
    let [z2, power2] = [Z_95 * Z_95, Z_POWER_80 * Z_POWER_80];
    let root = share * power2 * (n - z2 + power2);
    if root >= 0.0 {
        let difference = (Z_95 * (share * n).sqrt() + root.sqrt()) / (n + power2);
        if difference <= share && difference > 0.0 {
            return Some(difference);
        }
    }
    // With s = d: sqrt(n d) = z + z' sqrt(1 - d); the left side grows with d, the right side falls.
    let lacks = |d: f64| (n * d).sqrt() < Z_95 + Z_POWER_80 * (1.0 - d).sqrt();
    if lacks(1.0) {
        return None;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if lacks(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcnemar_of_few_problems_by_hand() {
        assert_eq!(mcnemar(0, 0), 1.0);
        assert_eq!(mcnemar(0, 1), 1.0);
        assert_eq!(mcnemar(5, 5), 1.0);
        assert!((mcnemar(0, 6) - 2.0 / 64.0).abs() < 1e-15);
        assert!((mcnemar(1, 6) - 2.0 * 8.0 / 128.0).abs() < 1e-15);
    }

    #[test]
    fn mcnemar_is_symmetric_and_never_overflows() {
        for (first, second) in [(3, 9), (0, 2_000), (500_000, 501_000), (1, 3_000_000)] {
            let p = mcnemar(first, second);
            assert_eq!(p, mcnemar(second, first));
            assert!((0.0..=1.0).contains(&p), "{first} against {second}: {p}");
        }
    }

    #[test]
    fn the_bootstrap_is_the_same_every_time_and_holds_the_mean() {
        let differences: Vec<f64> = (0..300).map(|i| [1.0, 0.0, 0.0, -1.0, 0.0, 0.0, 1.0][i % 7]).collect();
        let interval = paired_bootstrap(&differences, 2_000, 1).unwrap();
        assert_eq!(Some(interval), paired_bootstrap(&differences, 2_000, 1));
        assert_ne!(Some(interval), paired_bootstrap(&differences, 2_000, 2));
        let mean = differences.iter().sum::<f64>() / 300.0;
        assert!(interval.low < mean && mean < interval.high);
        assert_eq!(paired_bootstrap(&[], 10, 1), None);
    }

    #[test]
    fn two_equal_systems_have_an_interval_of_no_width() {
        assert_eq!(paired_bootstrap(&[0.0; 50], 100, 1), Some(Interval { low: 0.0, high: 0.0 }));
    }

    #[test]
    fn a_larger_set_detects_a_smaller_difference() {
        let mut last = 1.0;
        for count in [10, 50, 100, 500, 1_319, 10_000] {
            let found = minimum_detectable_difference(count, count / 5).unwrap();
            assert!(found < last, "{count}: {found}");
            last = found;
        }
        assert_eq!(minimum_detectable_difference(3, 3), None);
        assert!(minimum_detectable_difference(1_319, 0).unwrap() > 5.0 / 1_319.0);
    }
}
