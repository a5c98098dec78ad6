//! How sure one may be of a score. Every function is plain arithmetic on counts, checked against scipy and statsmodels on random
//! cases (`tests/fixtures/statistics.json`).

mod paired;
mod proportion;
mod samples;

pub use paired::{Interval, mcnemar, minimum_detectable_difference, paired_bootstrap};
pub use proportion::{standard_error, wilson};
pub use samples::{majority, pass_at_k};

/// The 97.5 % quantile of the standard normal distribution: every interval here is a 95 % interval.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// The 80 % quantile of the standard normal distribution: a detectable difference is one found in four of five repetitions.
pub const Z_POWER_80: f64 = 0.841_621_233_572_914_2;
