//! The moving average of a student's weights, which is what a run with `train.ema` evaluates and ships.
//!
//! After step t: a += (1 - b) (w - a) with b = min(ema, (1 + t) / (10 + t)), so that the first weights are soon forgotten.
//! Source: Polyak and Juditsky 1992; the start is that of TensorFlow's `ExponentialMovingAverage` with `num_updates`.

use rayon::prelude::*;

use crate::{operation::simd::for_each_isa, student::Student};

/// The average of every tensor, in the order of the inventory.
#[derive(Debug)]
pub(crate) struct Average {
    decay: f64,
    values: Vec<Vec<f32>>,
}

/// Elements per task.
const CHUNK: usize = 1 << 14;

impl Average {
    /// One that stands at these values.
    pub(crate) fn new(decay: f64, values: Vec<Vec<f32>>) -> Average {
        Average { decay, values }
    }

    /// Take in the weights after the run's step `step`, counted from 1.
    pub(crate) fn add(&mut self, student: &Student, step: u64) {
        let keep = self.decay.min((1 + step) as f64 / (10 + step) as f64);
        for (average, (_, weights)) in self.values.iter_mut().zip(student.tensors()) {
            let chunks = average.par_chunks_mut(CHUNK).zip(weights.par_chunks(CHUNK));
            chunks.for_each(|(average, weights)| approach(average, weights, (1.0 - keep) as f32));
        }
    }

    pub(crate) fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// The student that has these weights.
    pub(crate) fn student(&self, like: &Student) -> Student {
        let mut values = self.values.iter().cloned();
        let next = |_: &_| Ok::<_, std::convert::Infallible>(values.next().expect("as many as tensors"));
        let Ok(student) = Student::from_tensors(like.config(), next, like.device());
        student.with_path(like.path())
    }
}

for_each_isa! {
    fn approach(average: &mut [f32], weights: &[f32], by: f32) {
        for (average, weight) in average.iter_mut().zip(weights) {
            *average += (weight - *average) * by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::student::tests::tiny;

    #[test]
    fn it_is_the_weighted_mean_of_all_weights() {
        let mut student = tiny(|_| {});
        let values = |student: &Student| student.tensors().into_iter().map(|(_, values)| values).collect::<Vec<_>>();
        let start = values(&student);
        let mut average = Average::new(0.5, start.clone());
        for step in 1..=4 {
            student.update(|parameter| parameter.map_flat(|values| values.add_scalar(1.0)));
            average.add(&student, step);
        }
        // The first steps keep 2/11, 3/12, 4/13 and 5/14; all weights have moved by 1, 2, 3 and 4.
        let moved =
            [(2.0, 11.0), (3.0, 12.0), (4.0, 13.0), (5.0, 14.0)].into_iter().zip(1..).fold(0.0f64, |average, ((kept, of), moved)| {
                let keep = f64::min(0.5, kept / of);
                keep * average + (1.0 - keep) * f64::from(moved)
            });
        for (found, start) in average.values().iter().flatten().zip(start.iter().flatten()) {
            assert!((f64::from(found - start) - moved).abs() < 1e-5, "{found} {start} {moved}");
        }
        assert_eq!(values(&average.student(&student)), average.values());
    }
}
