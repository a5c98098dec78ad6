//! The weight of a source in the mixture: how often each of its traces stands in the dataset. A weight that is no whole number is
//! met by chance, trace by trace, so that neither order nor neighbours matter.

use super::{Drop, Rule};
use crate::words::mix;

/// How often a trace stands in the dataset, by what identifies it.
pub(crate) fn copies(weight: f64, identity: u64, seed: u64) -> u32 {
    let whole = weight.floor();
    // 53 random bits make an even number between 0 and 1.
    let drawn = (mix(identity ^ mix(seed ^ 0x006d_6978_7475_7265)) >> 11) as f64 / (1u64 << 53) as f64;
    whole as u32 + u32::from(drawn < weight - whole)
}

/// Why a trace goes.
pub(crate) fn drop(weight: f64) -> Drop {
    Drop::new(Rule::Weight, format!("the weight of its source is {weight}, which leaves it out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_met_on_average_and_the_seed_decides() {
        let count = |weight: f64, seed: u64| (0..10_000).map(|trace| copies(weight, mix(trace), seed)).sum::<u32>();
        assert_eq!((count(1.0, 0), count(3.0, 0)), (10_000, 30_000));
        for (weight, expected) in [(0.25, 2500.0), (1.5, 15_000.0)] {
            assert!((f64::from(count(weight, 0)) - expected).abs() < 200.0, "{}", count(weight, 0));
            assert_ne!(count(weight, 0), count(weight, 1));
        }
    }
}
