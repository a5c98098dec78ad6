//! Statistics equal scipy and statsmodels on the random cases of `fixtures/statistics.json`, which
//! `benches/statistics_reference.py` wrote.

use serde_json::Value;
use tristill_eval::statistics::{mcnemar, minimum_detectable_difference, paired_bootstrap, pass_at_k, standard_error, wilson};

fn cases(kind: &str) -> Vec<Vec<Value>> {
    let all: Value = serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap();
    let rows: Vec<Vec<Value>> = serde_json::from_value(all[kind].clone()).unwrap();
    assert!(rows.len() >= 20, "{kind} has only {} cases", rows.len());
    rows
}

fn near(found: f64, wanted: &Value, tolerance: f64, case: &[Value]) {
    let wanted = wanted.as_f64().unwrap();
    let error = (found - wanted).abs();
    assert!(error <= tolerance * wanted.abs().max(1e-300) || error < 1e-15, "{found} is not {wanted}: {case:?}");
}

#[test]
fn wilson_equals_statsmodels() {
    for case in cases("wilson") {
        let (right, count) = (case[0].as_u64().unwrap(), case[1].as_u64().unwrap());
        let interval = wilson(right as f64 / count as f64, count);
        near(interval.low, &case[2], 1e-9, &case);
        near(interval.high, &case[3], 1e-9, &case);
    }
}

#[test]
fn standard_error_equals_scipy() {
    for case in cases("standard_error") {
        let values: Vec<f64> = serde_json::from_value(case[0].clone()).unwrap();
        near(standard_error(&values).unwrap(), &case[1], 1e-12, &case);
    }
}

#[test]
fn mcnemar_equals_statsmodels() {
    for case in cases("mcnemar") {
        near(mcnemar(case[0].as_u64().unwrap(), case[1].as_u64().unwrap()), &case[2], 1e-9, &case);
    }
}

#[test]
fn pass_at_k_equals_the_hypergeometric_distribution() {
    for case in cases("pass_at_k") {
        let [samples, right, k] = [0, 1, 2].map(|place: usize| case[place].as_u64().unwrap() as u32);
        near(pass_at_k(samples, right, k).unwrap(), &case[3], 1e-9, &case);
    }
}

#[test]
fn bootstrap_equals_scipy_within_its_own_noise() {
    for case in cases("bootstrap") {
        let counts: [usize; 3] = [0, 1, 2].map(|place: usize| case[place].as_u64().unwrap() as usize);
        let differences: Vec<f64> = [1.0, -1.0, 0.0].iter().zip(counts).flat_map(|(value, count)| vec![*value; count]).collect();
        let interval = paired_bootstrap(&differences, 10_000, 1).unwrap();
        // A quantile of 10,000 draws is uncertain by about 0.03 standard errors, and means move in steps of 1/n.
        let (error, step) = (standard_error(&differences).unwrap(), 1.0 / differences.len() as f64);
        for (found, wanted) in [(interval.low, &case[3]), (interval.high, &case[4])] {
            let distance = (found - wanted.as_f64().unwrap()).abs();
            assert!(distance <= 0.15 * error + step, "{found} is not {wanted}: {case:?}");
        }
    }
}

#[test]
fn detectable_difference_solves_connors_formula() {
    for case in cases("detectable") {
        let found = minimum_detectable_difference(case[0].as_u64().unwrap(), case[1].as_u64().unwrap()).unwrap();
        near(found, &case[2], 1e-9, &case);
    }
}
