use std::cell::RefCell;

use super::*;
use crate::{
    loss::{
        divergence::{Divergence, Lesson, Said},
        likely::Likely,
    },
    operation::check::{same_and_smooth, sample},
};

/// k places, each with some token of v as its target.
pub(crate) fn targets(k: usize, v: usize, teaching: Option<Teaching>) -> Targets {
    let places: Arc<[u32]> = (0..k as u32).collect();
    let tokens = places.iter().map(|place| place * 7919 % v as u32).collect();
    Targets { places, tokens, teaching, terms: Arc::default() }
}

#[test]
fn both_forms_are_the_same() {
    // The last two cases have more targets than fit a chunk of logits.
    for (k, d, v) in [(1usize, 1, 1), (5, 7, 9), (40, 12, 1 << 16), (1500, 4, 3)] {
        // Every other target has up to three tokens that a teacher named, with 0.4, 0.2 and 0.1.
        let named = |target: usize| if target.is_multiple_of(2) { (v - 1).min(3) } else { 0 };
        let pairs = |target: usize| (0..named(target)).map(move |at| (((target + at) % v) as u32, 0.4 / (1 << at) as f32));
        let lists: Vec<Vec<_>> = (0..k).map(|target| pairs(target).collect()).collect();
        let likely = Likely::new(lists.iter().map(Vec::as_slice));
        let lesson = Lesson { share: 0.6, divergence: Divergence::Forward, temperature: 1.0 };
        let teaching = likely.map(|likely| Teaching { lesson, said: Said::Likely(likely) });
        for teaching in [None, teaching] {
            let targets = targets(k, v, teaching);
            let inputs = [(sample(k * d, 1), k), (sample(d, 2), 1), (sample(v * d, 3), v)];
            let told = RefCell::new(Vec::new());
            same_and_smooth(&inputs, |path, inputs| {
                let [hidden, gain, head] = inputs.try_into().expect("three inputs");
                let loss = head_loss(path, hidden, gain.reshape([d]), head, targets.clone(), 1e-5).unsqueeze();
                told.borrow_mut().push(targets.told());
                loss
            });
            let told = told.into_inner();
            let taught = if targets.teaching.is_some() { k.div_ceil(2) as f64 } else { 0.0 };
            assert!(told.iter().all(|terms| terms.taught == taught && terms.loss > 0.0 || v == 1), "{told:?}");
            let apart = (told[0].divergence - told[1].divergence).abs();
            assert!(apart <= 1e-4 * told[0].divergence.abs().max(1e-3), "{told:?}");
        }
    }
}

/// Loss and gradient by the definition, in f64: cross-entropy and KL(p || q) over named tokens and tail.
fn by_definition(logits: &[f32], target: usize, share: f64, named: &[(u32, f32)]) -> (f64, Vec<f64>) {
    let exps: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp()).collect();
    let total: f64 = exps.iter().sum();
    let q: Vec<f64> = exps.iter().map(|x| x / total).collect();
    let of = |token: usize| named.iter().find(|(other, _)| *other as usize == token).map(|(_, p)| f64::from(*p));
    let p_tail = 1.0 - named.iter().map(|(_, p)| f64::from(*p)).sum::<f64>();
    let q_tail: f64 = q.iter().enumerate().filter(|(token, _)| of(*token).is_none()).map(|(_, q)| q).sum();
    let kl: f64 = named.iter().map(|(token, p)| f64::from(*p) * (f64::from(*p) / q[*token as usize]).ln()).sum();
    let kl = kl + if named.len() < q.len() { p_tail * (p_tail / q_tail).ln() } else { 0.0 };
    let soft = |token: usize| of(token).unwrap_or_else(|| p_tail * q[token] / q_tail);
    let hard = |token: usize| f64::from(u8::from(token == target));
    let gradient = (0..q.len()).map(|token| q[token] - share * soft(token) - (1.0 - share) * hard(token)).collect();
    (share * kl - (1.0 - share) * q[target].ln(), gradient)
}

#[test]
fn a_row_is_that_of_the_definition() {
    let logits = [0.3, -1.2, 2.0, 0.0, -0.5, 1.1];
    let everything = [(2, 0.5), (0, 0.2), (1, 0.1), (3, 0.1), (4, 0.05), (5, 0.05)];
    for named in [&everything[..1], &everything[..3], &everything] {
        for (share, target) in [(0.0, 2), (0.4, 5), (1.0, 0)] {
            let lesson = Lesson { share, divergence: Divergence::Forward, temperature: 1.0 };
            let said = Said::Likely(Likely::new([named].into_iter()).unwrap());
            let targets = Targets { tokens: [target].into(), ..targets(1, 6, Some(Teaching { lesson, said })) };
            let mut row = logits;
            let terms = targets.row(0, &[], &mut row);
            let (expected, gradient) = by_definition(&logits, target as usize, f64::from(share), named);
            assert!((terms.loss - expected).abs() < 1e-6, "{terms:?} {expected}");
            let apart = row.iter().zip(&gradient).map(|(x, y)| (f64::from(*x) - y).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-6, "{row:?} {gradient:?}");
            assert!(row.iter().sum::<f32>().abs() < 1e-6, "a gradient at logits sums to 0");
        }
    }
}
