//! Cross-entropy of the next token: -ln softmax(logits)[target], in nats.

use burn::tensor::{Tensor, activation::log_softmax};

use crate::operation::{
    embed::indices,
    simd::{exp, for_each_isa, sum},
};

for_each_isa! {
    /// The loss of one row of logits; leaves its gradient there, softmax - 1 at the target.
    pub(super) fn row(logits: &mut [f32], target: usize) -> f32 {
        let largest = logits.iter().fold(f32::NEG_INFINITY, |largest, x| if *x > largest { *x } else { largest });
        let of_target = logits[target] - largest;
        for x in logits.iter_mut() {
            *x = exp(*x - largest);
        }
        let total = sum([logits], |[x]| x);
        let inverse = 1.0 / total;
        for x in logits.iter_mut() {
            *x *= inverse;
        }
        logits[target] -= 1.0;
        total.ln() - of_target
    }
}

/// The same in burn's operations, of each row, [k].
pub(super) fn composed(logits_kv: Tensor<2>, targets: &[u32]) -> Tensor<1> {
    let targets_k1 = indices(targets, &logits_kv.device()).reshape([targets.len(), 1]);
    log_softmax(logits_kv, 1).gather(1, targets_k1).flatten::<1>(0, 1).neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certain_prediction_costs_nothing_and_a_wrong_one_all() {
        let mut logits = [0.0, 200.0, 0.0];
        assert_eq!(row(&mut logits, 1), 0.0);
        assert!(logits.iter().all(|gradient| gradient.abs() < 1e-30));
        let mut logits = [0.0, 200.0, 0.0];
        assert_eq!(row(&mut logits, 2), 200.0);
        assert!((logits[1] - 1.0).abs() < 1e-6 && (logits[2] + 1.0).abs() < 1e-6);
        assert!(row(&mut [0.0, f32::NAN], 0).is_nan());
    }
}
