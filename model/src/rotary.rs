//! The frequencies of the rotary embedding: base^(-2i/e) for pair i of a head of width e, arXiv:2104.09864, eq. 34, and how a model
//! that was stretched to a longer context divides them.
//!
//! The divisors are f32, because that is what a packed file stores; the trainer and the runtime both turn by [`frequencies`].

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

/// How the frequencies are stretched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum RopeScaling {
    /// Every frequency divided by one number: position interpolation, arXiv:2306.15595.
    Linear {
        /// The number.
        factor: f32,
    },
    /// Llama 3.1's: wavelengths that fit often into the first context stay, long ones are divided, those between go smoothly over.
    Llama3 {
        /// What long wavelengths are divided by.
        factor: f32,
        /// A wavelength that fits fewer times than this into the first context is long.
        low_frequency_factor: f32,
        /// A wavelength that fits more times than this stays.
        high_frequency_factor: f32,
        /// The first context, in tokens.
        original_context: usize,
    },
    /// A number for each pair, as packed files store them.
    Factors {
        /// Head width / 2 of them.
        factors: Vec<f32>,
    },
}

impl RopeScaling {
    /// What each pair's frequency is divided by, [head width / 2].
    pub fn divisors(&self, base: f32, head_width: usize) -> Vec<f32> {
        let pairs = 0..head_width / 2;
        match self {
            RopeScaling::Linear { factor } => pairs.map(|_| *factor).collect(),
            RopeScaling::Factors { factors } => factors.clone(),
            RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context } => {
                let [factor, low, high] = [*factor, *low_frequency_factor, *high_frequency_factor].map(f64::from);
                let divisor = |pair: usize| {
                    let times = *original_context as f64 * frequency(base, pair, head_width) / TAU;
                    // Source: the rotary settings that Llama 3.1 was published with.
                    let kept = ((times - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 / ((1.0 - kept) / factor + kept)) as f32
                };
                pairs.map(divisor).collect()
            }
        }
    }

    /// What was found and what was needed, if the numbers make no sense.
    pub(crate) fn fault(&self, head_width: usize) -> Option<(String, String)> {
        let positive = |number: &f32| number.is_finite() && *number > 0.0;
        let (fits, found, needed) = match self {
            RopeScaling::Linear { factor } => (positive(factor), format!("linear by {factor}"), "but a positive number was needed".into()),
            RopeScaling::Llama3 { factor, low_frequency_factor: low, high_frequency_factor: high, original_context } => (
                [factor, low, high].into_iter().all(positive) && low < high && (1..=1 << 20).contains(original_context),
                format!("llama3 by {factor} between {low} and {high} times of {original_context} tokens"),
                "but positive numbers that grow were needed".into(),
            ),
            RopeScaling::Factors { factors } => (
                factors.len() == head_width / 2 && factors.iter().all(positive),
                format!("a list of {} numbers", factors.len()),
                format!("but {} positive ones were needed", head_width / 2),
            ),
        };
        (!fits).then_some((found, needed))
    }
}

/// The angle of each pair of a head at position 1, [head width / 2].
pub(crate) fn frequencies(base: f32, head_width: usize, scaling: Option<&RopeScaling>) -> Vec<f64> {
    let mut frequencies: Vec<f64> = (0..head_width / 2).map(|pair| frequency(base, pair, head_width)).collect();
    if let Some(scaling) = scaling {
        let divisors = scaling.divisors(base, head_width);
        frequencies.iter_mut().zip(divisors).for_each(|(frequency, divisor)| *frequency /= f64::from(divisor));
    }
    frequencies
}

fn frequency(base: f32, pair: usize, head_width: usize) -> f64 {
    f64::from(base).powf(-2.0 * pair as f64 / head_width as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama_3_1() -> RopeScaling {
        RopeScaling::Llama3 { factor: 8.0, low_frequency_factor: 1.0, high_frequency_factor: 4.0, original_context: 8192 }
    }

    #[test]
    fn short_wavelengths_stay_and_long_ones_are_divided() {
        let divisors = llama_3_1().divisors(500_000.0, 128);
        assert_eq!((divisors[0], divisors[28], divisors[63]), (1.0, 1.0, 8.0));
        assert!(divisors.windows(2).all(|pair| pair[0] <= pair[1]));
        // Between: the frequency of pair 32 is 1/sqrt(base), its wavelength fits 1.8438 times into 8192 tokens.
        let kept = (8192.0 / (TAU * 500_000f64.sqrt()) - 1.0) / 3.0;
        assert!((f64::from(divisors[32]) * ((1.0 - kept) / 8.0 + kept) - 1.0).abs() < 1e-6, "{}", divisors[32]);
    }

    #[test]
    fn frequencies_are_divided() {
        let plain = frequencies(10_000.0, 8, None);
        assert_eq!(plain[2], 0.01);
        let factors = RopeScaling::Factors { factors: vec![1.0, 2.0, 3.0, 4.0] };
        assert_eq!(frequencies(10_000.0, 8, Some(&factors)), [plain[0], plain[1] / 2.0, plain[2] / 3.0, plain[3] / 4.0]);
        assert_eq!(frequencies(10_000.0, 8, Some(&RopeScaling::Linear { factor: 4.0 }))[1], plain[1] / 4.0);
    }

    #[test]
    fn numbers_that_make_no_sense_are_named() {
        assert_eq!(llama_3_1().fault(128), None);
        assert_eq!(RopeScaling::Linear { factor: 0.0 }.fault(8).unwrap().0, "linear by 0");
        assert_eq!(RopeScaling::Factors { factors: vec![1.0; 3] }.fault(8).unwrap().1, "but 4 positive ones were needed");
        let turned = RopeScaling::Llama3 { factor: 8.0, low_frequency_factor: 4.0, high_frequency_factor: 1.0, original_context: 8192 };
        assert!(turned.fault(8).unwrap().0.contains("between 4 and 1 times"));
    }
}
