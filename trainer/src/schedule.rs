//! The learning rate and the weight decay of each step: pure functions of the step, so that a resumed run needs no state.
//!
//! Steps count from 0. Every schedule rises in a line to its peak at the last warm-up step; `left` then falls from 1 to 0.

use crate::config::{Schedule, TrainTable};

/// Where `cosine` ends, as a share of the peak. Source: open-r1's distillation recipe, `cosine_with_min_lr` 0.1.
const COSINE_FLOOR: f64 = 0.1;
/// Where `linear` ends, as a share of the peak.
const LINEAR_FLOOR: f64 = 0.05;
/// The share of the steps in which `wsd` decays. Source: arXiv:2405.18392, section 4.
const WSD_DECAY: f64 = 0.2;

impl TrainTable {
    /// The learning rate of step `step`.
    pub fn rate_at(&self, step: u64) -> f64 {
        let warm_up_steps = self.warm_up_steps();
        if step < warm_up_steps {
            return self.rate * (step + 1) as f64 / warm_up_steps as f64;
        }
        let left = (self.steps.saturating_sub(step)) as f64 / (self.steps - warm_up_steps) as f64;
        match self.schedule {
            // Source: BitNet b1.58's training tips (microsoft/unilm), "two-stage learning rate": one line to 0, on which the
            // peak is exchanged for a lower one at half of the steps, so that the rate drops there.
            Schedule::TwoStage if self.is_second_stage(step) => self.second_rate() * left,
            Schedule::TwoStage => self.rate * left,
            Schedule::Cosine => {
                let share = 0.5 * (1.0 - (std::f64::consts::PI * left).cos());
                self.rate * (COSINE_FLOOR + (1.0 - COSINE_FLOOR) * share)
            }
            Schedule::Wsd => {
                let decay_steps = (self.steps as f64 * WSD_DECAY).max(1.0);
                self.rate * ((self.steps.saturating_sub(step)) as f64 / decay_steps).min(1.0)
            }
            Schedule::Linear => self.rate * (LINEAR_FLOOR + (1.0 - LINEAR_FLOOR) * left),
        }
    }

    /// The weight decay of step `step`. `two_stage` turns it off at half: a ternary weight's size says how sure its code is,
    /// which decay would undo (BitNet b1.58's training tips).
    pub fn weight_decay_at(&self, step: u64) -> f64 {
        if self.schedule == Schedule::TwoStage && self.is_second_stage(step) { 0.0 } else { self.weight_decay }
    }

    /// How much of the quantisation step `step` has: lambda = min(step / `quant_warm_up_steps`, 1) in x + lambda (Q(x) - x), for
    /// weights and activations, the difference without gradient. Source: Hugging Face's "Fine-tuning LLMs to 1.58bit", where 1,000
    /// steps carried an 8B model over and made no difference to one of 135M.
    pub fn quantised_share_at(&self, step: u64) -> f32 {
        match self.quant_warm_up_steps {
            Some(steps) if step < steps => (step as f64 / steps as f64) as f32,
            _ => 1.0,
        }
    }

    fn is_second_stage(&self, step: u64) -> bool {
        step >= self.steps.div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::table;

    const ALL: [Schedule; 4] = [Schedule::TwoStage, Schedule::Cosine, Schedule::Wsd, Schedule::Linear];

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    #[test]
    fn every_schedule_warms_up_in_a_line() {
        for schedule in ALL {
            let table = table(schedule);
            close(table.rate_at(0), 1.5e-3 / 100.0);
            close(table.rate_at(49), 1.5e-3 / 2.0);
            close(table.rate_at(99), 1.5e-3);
            close(table.rate_at(100), 1.5e-3);
        }
    }

    #[test]
    fn no_schedule_rises_after_the_warm_up_or_reaches_zero_before_the_end() {
        for schedule in ALL {
            let table = table(schedule);
            let rates: Vec<f64> = (100..1000).map(|step| table.rate_at(step)).collect();
            assert!(rates.windows(2).all(|pair| pair[1] <= pair[0]), "{schedule:?}");
            assert!(rates.iter().all(|rate| *rate > 0.0), "{schedule:?}");
        }
    }

    #[test]
    fn the_quantisation_comes_in_in_a_line() {
        let table = TrainTable { quant_warm_up_steps: Some(200), ..table(Schedule::Linear) };
        assert_eq!([0, 50, 199, 200, 999].map(|step| table.quantised_share_at(step)), [0.0, 0.25, 0.995, 1.0, 1.0]);
        assert_eq!(TrainTable { quant_warm_up_steps: None, ..table }.quantised_share_at(0), 1.0);
    }

    #[test]
    fn two_stages_drop_rate_and_weight_decay_at_half() {
        let table = table(Schedule::TwoStage);
        close(table.rate_at(499), 1.5e-3 * 501.0 / 900.0);
        close(table.rate_at(500), 1e-3 * 500.0 / 900.0);
        close(table.rate_at(999), 1e-3 / 900.0);
        assert_eq!((table.weight_decay_at(499), table.weight_decay_at(500)), (0.1, 0.0));
    }

    #[test]
    fn each_schedule_ends_where_it_says() {
        close(table(Schedule::Cosine).rate_at(550), 1.5e-3 * 0.55);
        close(table(Schedule::Cosine).rate_at(1000), 1.5e-3 * 0.1);
        close(table(Schedule::Linear).rate_at(1000), 1.5e-3 * 0.05);
        close(table(Schedule::Wsd).rate_at(799), 1.5e-3);
        close(table(Schedule::Wsd).rate_at(900), 1.5e-3 / 2.0);
        assert_eq!(table(Schedule::Wsd).weight_decay_at(999), 0.1);
    }

    #[test]
    fn a_run_of_one_step_without_warm_up_has_its_peak_rate() {
        for schedule in ALL {
            let table = TrainTable { steps: 1, warm_up_steps: Some(0), second_rate: None, ..table(schedule) };
            close(table.rate_at(0), 1.5e-3);
        }
    }
}
