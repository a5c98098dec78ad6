//! The learning-rate range test: a student is trained from its start while the rate rises from step to step, and its smoothed loss
//! says at which rates it learns. Nothing is saved.
//!
//! Source: Smith, arXiv:1506.01186, section 3.3. That the rate rises by a factor and the loss is a bias-corrected running mean is
//! fastai's `lr_find`.

use std::sync::atomic::{AtomicBool, Ordering};

use data::Cursor;

use crate::{
    Error, Job, device, memory,
    optimizer::{AdamW, BETAS},
    student::Batch,
    train,
    workers::{Sum, Workers},
};

/// Which rates are tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateTest {
    /// The first.
    pub from: f64,
    /// The last, if the loss has not run away before.
    pub to: f64,
    /// Steps from the one to the other.
    pub steps: u64,
}

/// One step of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TriedRate {
    /// Its rate.
    pub rate: f64,
    /// The smoothed loss before it, in nats.
    pub loss: f64,
}

/// How much of the running mean a step keeps.
const KEPT: f64 = 0.9;
/// The test ends where the smoothed loss is so many times the least one.
const RUN_AWAY: f64 = 1.5;

impl RateTest {
    /// The rate of a step, counted from 0.
    fn rate_at(&self, step: u64) -> f64 {
        self.from * (self.to / self.from).powf(step as f64 / (self.steps - 1).max(1) as f64)
    }
}

/// Try the rates on a job's student and rows. Ends early where the loss runs away or it is told to stop; `report` sees every step.
///
/// # Panics
/// If the test has no step, or a rate is not positive.
pub fn find_rate(job: &Job, test: &RateTest, should_stop: &AtomicBool, report: &mut dyn FnMut(TriedRate)) -> Result<Vec<TriedRate>, Error> {
    assert!(test.steps > 0 && test.from > 0.0 && test.to > 0.0, "{test:?}");
    train::check(job)?;
    let (config, side_by_side) = &memory::resolve(job.config, job.model, rayon::current_num_threads())?;
    let device = device::of(config)?;
    let mut student = train::first_student(job, &device)?;
    student.recompute(config.gradient_checkpointing);
    student.store_as(config.storage);
    let teacher = train::teacher(job, &job.dataset.tokenizer()?, &device)?;
    let mut optimizer = AdamW::new(&student, BETAS);
    let workers = Workers::new(student.path(), config.rows.div_ceil(config.microbatch_rows()).min(*side_by_side))?;
    let mut rows = job.dataset.rows(config.seed, Cursor::default());
    let (mut tried, mut mean, mut least) = (Vec::new(), 0.0, f64::INFINITY);
    for step in 0..test.steps {
        if should_stop.load(Ordering::Relaxed) {
            break;
        }
        let step_rows = rows.by_ref().take(config.rows).collect::<Result<Vec<_>, _>>()?;
        let batch = |rows| Batch::from_rows(rows, job.model, config.teacher.lesson());
        let batches = step_rows.chunks(config.microbatch_rows()).map(batch).collect::<Result<Vec<_>, _>>()?;
        let Sum { terms, gradients } = workers.run(&student, teacher.as_ref(), &batches);
        if gradients.tokens() == 0 {
            continue;
        }
        mean = KEPT * mean + (1.0 - KEPT) * terms.loss / gradients.tokens() as f64;
        let loss = mean / (1.0 - KEPT.powi(tried.len() as i32 + 1));
        if !loss.is_finite() || loss > RUN_AWAY * least {
            break;
        }
        least = least.min(loss);
        let at = TriedRate { rate: test.rate_at(step), loss };
        tried.push(at);
        report(at);
        let stats = optimizer.step(&mut student, gradients, at.rate, config.weight_decay, config.clip);
        if !stats.gradient_norm.is_finite() {
            break;
        }
    }
    Ok(tried)
}

/// The rate in the middle of the tenth of the steps over which the loss fell most, or `None` if it never fell.
pub fn steepest(tried: &[TriedRate]) -> Option<f64> {
    let span = (tried.len() / 10).max(1);
    let falls = tried.windows(span + 1).map(|window| (window[0].loss - window[span].loss, window[span / 2].rate));
    falls.filter(|(fall, _)| *fall > 0.0).max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, rate)| rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_by_a_factor() {
        let test = RateTest { from: 1e-4, to: 1e-2, steps: 5 };
        for (step, expected) in [(0, 1e-4), (2, 1e-3), (4, 1e-2)] {
            assert!((test.rate_at(step) / expected - 1.0).abs() < 1e-12);
        }
        assert_eq!(RateTest { steps: 1, ..test }.rate_at(0), 1e-4);
    }

    #[test]
    fn the_steepest_fall_is_found() {
        let losses = [5.0, 5.0, 4.9, 4.8, 4.0, 3.0, 2.9, 2.9, 3.5];
        let tried: Vec<TriedRate> = losses.into_iter().zip(1..).map(|(loss, step)| TriedRate { rate: f64::from(step), loss }).collect();
        assert_eq!(steepest(&tried), Some(5.0));
        assert_eq!(steepest(&tried[..2]), None);
        assert_eq!(steepest(&[]), None);
    }
}
