use std::{ops::Range, sync::Arc};

use crate::{
    loss::{
        aligned::Aligned,
        divergence::{Divergence, Lesson, Said, Teaching},
        head::{head_loss, tests::targets},
    },
    operation::check::{same_and_smooth, sample},
};

/// A teacher of `vocab` tokens that speaks at some of the places.
fn teaching(speaks: &[bool], vocab: usize, temperature: f32, logits: Vec<f32>) -> Teaching {
    let logits = Arc::new(move |spoken: Range<usize>| logits[spoken.start * vocab..spoken.end * vocab].to_vec());
    let lesson = Lesson { share: 0.7, divergence: Divergence::Uld, temperature };
    Teaching { lesson, said: Said::Aligned(Aligned::new(speaks, vocab, logits)) }
}

/// Value and gradient of one place.
fn one(student: &[f32], teacher: &[f32], temperature: f32) -> (f32, Vec<f32>) {
    let teaching = teaching(&[true], teacher.len(), temperature, teacher.to_vec());
    let mut logits = student.to_vec();
    let value = teaching.row(&teaching.logits(0..1), 0, 0, &mut logits);
    (value, logits)
}

fn ln(p: &[f32]) -> Vec<f32> {
    p.iter().map(|p| p.ln()).collect()
}

#[test]
fn ranks_are_compared_and_the_shorter_list_is_filled_up() {
    // |0.6 - 0.5| + |0.3 - 0.5| + |0.1 - 0|, whichever of the two is the longer one.
    let (long, short) = (ln(&[0.1, 0.6, 0.3]), ln(&[0.5, 0.5]));
    for (student, teacher) in [(&long, &short), (&short, &long)] {
        assert!((one(student, teacher, 1.0).0 - 0.4).abs() < 1e-6);
    }
    // q_i (s_i - sum_j q_j s_j) with the signs s = (-1, 1, 1) of 0.3 - 0.4, 0.2 - 0.15 and 0.5 - 0.45.
    let (value, gradient) = one(&ln(&[0.3, 0.2, 0.5]), &ln(&[0.4, 0.15, 0.45, 1e-30]), 1.0);
    let signs = [-1.0, 1.0, 1.0];
    let mean = 0.3 * signs[0] + 0.2 * signs[1] + 0.5 * signs[2];
    assert!((value - 0.2).abs() < 1e-6, "{value}");
    for ((gradient, q), sign) in gradient.iter().zip([0.3, 0.2, 0.5]).zip(signs) {
        assert!((gradient - q * (sign - mean)).abs() < 1e-6, "{gradient}");
    }
}

#[test]
fn a_student_that_ranks_alike_has_nothing_to_learn() {
    let student = sample(9, 3);
    let mut turned: Vec<f32> = student.iter().rev().copied().collect();
    turned.push(-200.0);
    let (value, gradient) = one(&student, &turned, 2.0);
    assert!(value.abs() < 1e-6 && gradient.iter().all(|x| x.abs() < 1e-6), "{value} {gradient:?}");
    let (value, gradient) = one(&[300.0, 0.0, -300.0], &[0.0; 5], 1.0);
    assert!((value - 1.6).abs() < 1e-6 && gradient.iter().all(|x| x.is_finite()), "{value} {gradient:?}");
    assert!(one(&[f32::NAN, 0.0], &[0.0; 5], 1.0).0.is_nan());
}

#[test]
fn the_gradient_is_the_slope_away_from_ties() {
    for (v, vocab) in [(12, 30), (30, 12), (17, 17)] {
        let scaled = |count, seed| sample(count, seed).iter().map(|x| 2.0 * x).collect::<Vec<f32>>();
        let (student, teacher) = (scaled(v, 5), scaled(vocab, 6));
        for temperature in [1.0, 2.5] {
            let (_, gradient) = one(&student, &teacher, temperature);
            for (at, gradient) in gradient.iter().enumerate() {
                let moved = |step: f32| {
                    let mut student = student.clone();
                    student[at] += step;
                    f64::from(one(&student, &teacher, temperature).0)
                };
                let slope = (moved(2e-3) - moved(-2e-3)) / 4e-3;
                assert!((slope - f64::from(*gradient)).abs() < 1e-4, "{v} {vocab} {temperature} {at}: {slope} {gradient}");
            }
        }
    }
}

#[test]
fn both_forms_are_the_same_where_it_speaks_and_where_it_does_not() {
    // With the teacher's many tokens, of which few are likely, the last case has more places than fit a chunk of logits. Ties are far
    // enough away for a slope.
    for (k, vocab, every) in [(3, 13, 1), (3, 13, 3), (3, 4, 3), (40, 1 << 15, 3)] {
        let (d, v) = (7, 10);
        let speaks: Vec<bool> = (0..k).map(|at| at % every == every / 2).collect();
        let spoken = speaks.iter().filter(|speaks| **speaks).count();
        let likely = sample(spoken * vocab.min(13), 9);
        let rows = likely.chunks(vocab.min(13)).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(-30.0, vocab - row.len())));
        let targets = targets(k, v, Some(teaching(&speaks, vocab, 1.5, rows.collect())));
        let inputs = [(sample(k * d, 1), k), (sample(d, 2), 1), (sample(v * d, 3), v)];
        same_and_smooth(&inputs, |path, inputs| {
            let [hidden, gain, head] = inputs.try_into().expect("three inputs");
            let loss = head_loss(path, hidden, gain.reshape([d]), head, targets.clone(), 1e-5).unsqueeze();
            assert_eq!(targets.told().taught, spoken as f64);
            loss
        });
    }
}
