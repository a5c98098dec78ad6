//! The looks of a run at the rows that it holds out, and its end where their loss no longer falls (`train.early_stop`).

use super::Run;
use crate::{EarlyStop, Error, HeldOutLoss};

impl Run<'_> {
    /// Whether there is no further step: all were taken, or the held-out loss has not fallen for too long.
    pub(super) fn is_finished(&self) -> bool {
        let has_waited = |early: &EarlyStop| self.watch.since >= early.patience;
        self.step == self.job.config.steps || self.job.config.early_stop.as_ref().is_some_and(has_waited)
    }

    /// Whether the held-out rows are to be looked at after this step and have not been.
    pub(super) fn is_look_due(&self) -> bool {
        let is_due = |early: &EarlyStop| self.step.is_multiple_of(early.every) || self.step == self.job.config.steps;
        self.step > self.watch.step && self.job.config.early_stop.as_ref().is_some_and(is_due)
    }

    /// Look at the held-out rows, write their loss down, and save the student if it is the least.
    pub(super) fn look_if_due(&mut self) -> Result<(), Error> {
        let (true, Some(held_out)) = (self.is_look_due(), &self.held_out) else { return Ok(()) };
        let average = self.average.as_ref().map(|average| average.student(&self.student));
        let loss = held_out.loss(average.as_ref().unwrap_or(&self.student));
        if !loss.is_finite() {
            return Err(self.stop_at("the loss on the held-out rows", f64::from(loss)));
        }
        let found = HeldOutLoss { step: self.step, held_out_loss: loss };
        self.metrics.write(&found)?;
        self.watch.add(found);
        if self.watch.best == Some(found) { self.save() } else { Ok(()) }
    }
}
