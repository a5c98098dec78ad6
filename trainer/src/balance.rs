//! The share of the divergence in the loss, where it is to follow the gradients: constants do not carry over from one student, teacher
//! or divergence to another, but the wanted ratio of the two gradients at the logits does.
//!
//! With r a moving mean of |g_divergence| / |g_cross-entropy| and the wanted ratio w, the share s is w / (w + r), because then
//! s |g_divergence| = w (1 - s) |g_cross-entropy|.

use serde::{Deserialize, Serialize};

use crate::{config::TeacherTable, loss::head::Terms};

/// Weight of the newest step in the moving mean.
const NEWEST: f64 = 0.05;

/// A term drowns the other where its gradient, as weighed, is so many times larger.
const DROWNED: f64 = 20.0;

/// The moving mean, which is part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Balance(Option<f64>);

impl Balance {
    /// The share of the next step.
    pub(crate) fn share(self, table: &TeacherTable) -> f32 {
        match (table.balance, self.0) {
            (Some(wanted), Some(ratio)) => (wanted / (wanted + ratio)) as f32,
            _ => table.share as f32,
        }
    }

    /// Take the gradients of a step in.
    pub(crate) fn see(&mut self, terms: &Terms) {
        let [of_cross_entropy, of_divergence] = terms.slopes;
        if of_cross_entropy > 0.0 && of_divergence > 0.0 {
            let ratio = (of_divergence / of_cross_entropy).sqrt();
            self.0 = Some(self.0.map_or(ratio, |mean| mean + NEWEST * (ratio - mean)));
        }
    }

    /// How many times larger than the cross-entropy's the divergence's gradient is, as weighed by a share.
    pub(crate) fn weighed(self, share: f32) -> Option<f64> {
        let share = f64::from(share);
        self.0.filter(|_| share < 1.0).map(|ratio| share * ratio / (1.0 - share))
    }

    /// The same, where one of the two terms drowns the other.
    pub(crate) fn drowned(self, share: f32) -> Option<f64> {
        self.weighed(share).filter(|ratio| share > 0.0 && !(1.0 / DROWNED..=DROWNED).contains(ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_brings_the_wanted_ratio_about() {
        let table = TeacherTable { balance: Some(2.0), ..TeacherTable::default() };
        let mut balance = Balance::default();
        assert_eq!((balance.share(&table), balance.weighed(0.5)), (0.5, None));
        balance.see(&Terms { slopes: [4.0, 36.0], ..Terms::default() });
        let share = balance.share(&table);
        assert!((share - 0.4).abs() < 1e-6 && (balance.weighed(share).unwrap() - 2.0).abs() < 1e-6, "{share}");
        balance.see(&Terms { slopes: [1.0, 1.0], ..Terms::default() });
        balance.see(&Terms::default());
        assert!((balance.weighed(0.5).unwrap() - 2.9).abs() < 1e-9);
        assert_eq!((balance.share(&TeacherTable::default()), balance.drowned(0.5)), (0.5, None));
        assert!(balance.drowned(0.9).is_some() && balance.drowned(0.01).is_some());
    }
}
