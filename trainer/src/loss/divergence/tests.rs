use super::*;
use crate::{
    loss::head::{head_loss, tests::targets},
    operation::check::{same_and_smooth, sample},
};

const ALL: [Divergence; 6] = [
    Divergence::Forward,
    Divergence::Reverse,
    Divergence::JensenShannon { beta: 0.5 },
    Divergence::JensenShannon { beta: 0.9 },
    Divergence::JensenShannon { beta: 0.0 },
    Divergence::Confidence,
];

fn logits(k: usize, v: usize) -> Vec<f32> {
    sample(k * v, 5).iter().map(|x| 2.0 * x).collect()
}

fn all_logits(k: usize, v: usize) -> Said {
    let logits = logits(k, v);
    Said::Logits(Arc::new(move |places: Range<usize>| logits[places.start * v..places.end * v].to_vec()))
}

/// As many tokens of each place's distribution.
fn likely(k: usize, v: usize, most: usize) -> Said {
    let named = |logits: &[f32]| {
        let mut log_p = logits.to_vec();
        to_log_probabilities(&mut log_p);
        (0..most).map(|at| (at as u32 * 11 % v as u32, log_p[at * 11 % v].exp())).collect::<Vec<_>>()
    };
    let places: Vec<Vec<(u32, f32)>> = logits(k, v).chunks(v).map(named).collect();
    Said::Likely(Likely::new(places.iter().map(Vec::as_slice)).unwrap())
}

fn teaching(divergence: Divergence, temperature: f32, said: Said) -> Teaching {
    Teaching { lesson: Lesson { share: 1.0, divergence, temperature }, said }
}

#[test]
fn both_forms_are_the_same_and_the_gradient_is_the_slope() {
    for divergence in ALL {
        // The second case has more places than fit a chunk of logits.
        for (k, d, v) in [(3usize, 7, 10), (1100, 8, 4)] {
            for (temperature, said) in [(1.0, all_logits(k, v)), (2.5, all_logits(k, v)), (1.0, likely(k, v, 3)), (2.0, likely(k, v, 3))] {
                let targets = targets(k, v, Some(teaching(divergence, temperature, said)));
                let inputs = [(sample(k * d, 1), k), (sample(d, 2), 1), (sample(v * d, 3), v)];
                same_and_smooth(&inputs, |path, inputs| {
                    let [hidden, gain, head] = inputs.try_into().expect("three inputs");
                    head_loss(path, hidden, gain.reshape([d]), head, targets.clone(), 1e-5).unsqueeze()
                });
            }
        }
    }
}

/// Value and gradient of one place.
fn one(divergence: Divergence, temperature: f32, said: Said, student: &[f32]) -> (f32, Vec<f32>) {
    let teaching = teaching(divergence, temperature, said);
    let mut logits = student.to_vec();
    let value = teaching.row(&teaching.logits(0..1), 0, 0, &mut logits);
    (value, logits)
}

#[test]
fn a_student_that_agrees_has_nothing_to_learn() {
    let v = 9;
    for divergence in ALL {
        for (temperature, said) in [(1.0, all_logits(1, v)), (3.0, all_logits(1, v)), (1.0, likely(1, v, 3)), (1.0, likely(1, v, v))] {
            let (value, gradient) = one(divergence, temperature, said, &logits(1, v));
            assert!(value.abs() < 1e-6 && gradient.iter().all(|x| x.abs() < 1e-6), "{divergence:?} {value} {gradient:?}");
        }
    }
}

#[test]
fn naming_every_token_is_giving_all_logits() {
    let (v, student) = (7, sample(7, 21));
    for divergence in ALL {
        let (value, gradient) = one(divergence, 1.0, likely(1, v, v), &student);
        let (expected, of_all) = one(divergence, 1.0, all_logits(1, v), &student);
        assert!((value - expected).abs() < 1e-6 && value > 0.01, "{divergence:?} {value} {expected}");
        assert!(gradient.iter().zip(of_all).all(|(x, y)| (x - y).abs() < 1e-6), "{divergence:?} {gradient:?}");
    }
}

#[test]
fn what_is_certain_gives_finite_numbers() {
    let far = [300.0f32, 0.0, -300.0];
    for divergence in ALL {
        let all = Said::Logits(Arc::new(|_| vec![-300.0, 0.0, 300.0]));
        let (value, gradient) = one(divergence, 1.0, all, &far);
        assert!(value.is_finite() && gradient.iter().all(|x| x.is_finite()), "{divergence:?} {value} {gradient:?}");
        let certain = Said::Likely(Likely::new([[(2, 1.0)].as_slice()].into_iter()).unwrap());
        let (value, gradient) = one(divergence, 1.0, certain, &far);
        assert!(value.is_finite() && gradient.iter().all(|x| x.is_finite()), "{divergence:?} {value} {gradient:?}");
    }
}

/// What `generalized_jsd_loss` of TRL 1.16.0 (PyPI `trl`, `experimental/gkd`, in f64) gives for these logits: beta, temperature, value
/// and gradient.
const TRL: [(f32, f32, f32, [f32; 6]); 7] = [
    (0.0, 1.0, 1.650_504_8, [-0.080_229_42, -0.058_417_05, 0.508_569_6, -0.025_044_28, -0.550_248_7, 0.205_369_83]),
    (0.1, 1.0, 0.135_407_07, [-0.009_061_29, -0.005_136_96, 0.036_469_2, -0.003_785_83, -0.033_173_47, 0.014_688_34]),
    (0.5, 1.0, 0.346_541_97, [-0.033_163_49, -0.012_945_48, 0.082_335_42, -0.017_875_84, -0.051_167_97, 0.032_817_36]),
    (0.9, 1.0, 0.148_176_1, [-0.017_313_69, -0.005_342_55, 0.036_024_11, -0.010_775_27, -0.016_438_13, 0.013_845_53]),
    (1.0, 1.0, 1.890_228_3, [-0.245_659_4, -0.070_258_97, 0.495_662_2, -0.160_012_23, -0.199_245_6, 0.179_513_98]),
    (0.5, 2.0, 0.115_606_89, [-0.010_453_45, -0.008_697_72, 0.030_543_88, -0.006_344_78, -0.023_962_64, 0.018_914_72]),
    (1.0, 2.0, 0.515_475_2, [-0.061_354_17, -0.041_076_14, 0.147_416_89, -0.043_363_34, -0.090_163_74, 0.088_540_49]),
];

#[test]
fn the_generalised_divergence_is_that_of_trl() {
    let (student, teacher) = ([0.3, -1.2, 2.0, 0.0, -0.5, 1.1], [1.0, 0.2, -0.7, 0.4, 2.2, -1.5]);
    for (beta, temperature, expected, of_logits) in TRL {
        let said = Said::Logits(Arc::new(move |_| teacher.to_vec()));
        let (value, gradient) = one(Divergence::JensenShannon { beta }, temperature, said, &student);
        assert!((value - expected).abs() < 1e-6 * expected.max(1.0), "{beta} {temperature}: {value} {expected}");
        assert!(gradient.iter().zip(of_logits).all(|(x, y)| (x - y).abs() < 1e-6), "{beta} {temperature}: {gradient:?}");
    }
}
