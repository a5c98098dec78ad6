//! A step's microbatches side by side, each on threads of its own. Their gradients are added up in the order of the rows, so that
//! the bits depend on how a step is cut into microbatches and not on the number of threads.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{
    Error,
    device::Path,
    loss::{divergence::Teaching, head::Terms},
    optimizer::{Gradients, OrderedSum},
    student::{Batch, Student},
    teacher::Teacher,
};

/// The threads of a run.
#[derive(Debug)]
pub(crate) struct Workers {
    /// None where the calling thread does the work.
    pools: Vec<ThreadPool>,
}

/// What microbatches add up to.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    /// What all supervised targets cost.
    pub(crate) terms: Terms,
    /// The gradient of their loss.
    pub(crate) gradients: Gradients,
}

impl Workers {
    /// On the CPU, one for each microbatch of a step, as far as there are threads; the threads are shared out evenly. Other devices
    /// spread the work themselves, and all of it is given to them by the calling thread: what one thread's queue on wgpu had not
    /// finished was missing from sums that another made.
    pub(crate) fn new(path: Path, microbatches: usize) -> Result<Workers, Error> {
        match path {
            Path::Fused => Workers::with_threads(rayon::current_num_threads(), microbatches),
            Path::Composed(_) => Ok(Workers { pools: Vec::new() }),
        }
    }

    fn with_threads(threads: usize, microbatches: usize) -> Result<Workers, Error> {
        let workers = microbatches.clamp(1, threads);
        let pool =
            |worker: usize| ThreadPoolBuilder::new().num_threads(threads / workers + usize::from(worker < threads % workers)).build();
        let pools = (0..workers).map(pool).collect::<Result<_, _>>();
        Ok(Workers { pools: pools.map_err(|source| Error::Device(format!("cannot start {threads} threads: {source}")))? })
    }

    /// The loss of all microbatches and its gradient. A teacher teaches every supervised target that it has something to say of.
    pub(crate) fn run(&self, student: &Student, teacher: Option<&Teacher>, batches: &[Batch]) -> Sum {
        student.prepare();
        let (next, sum, told) = (AtomicUsize::new(0), OrderedSum::of(student), Mutex::new(vec![Terms::default(); batches.len()]));
        let work = || {
            while let Some((place, batch)) = take(&next, batches) {
                // A graph of its own: burn runs graphs that share a node one after the other.
                let student = student.fork();
                let batch = &*student.needed(batch);
                let mut targets = batch.supervised();
                let supervised = targets.places.len();
                let exemplar = teacher.and_then(|teacher| {
                    let (said, exemplar) = teacher.answer(batch, &targets.places);
                    targets.teaching = said.map(|said| Teaching { lesson: batch.lesson, said });
                    exemplar
                });
                let (loss, terms) = student.loss_of(batch, targets, exemplar.as_ref());
                told.lock().expect("no worker panics while it tells")[place] = terms;
                sum.add(place, &student, &loss, supervised);
            }
        };
        if self.pools.is_empty() {
            work();
        }
        thread::scope(|scope| self.pools.iter().for_each(|pool| drop(scope.spawn(|| pool.install(work)))));
        let mut terms = Terms::default();
        told.into_inner().expect("no worker panicked").into_iter().for_each(|of_batch| terms += of_batch);
        Sum { terms, gradients: sum.finish() }
    }
}

/// The next microbatch and its place.
fn take<'a>(next: &AtomicUsize, batches: &'a [Batch]) -> Option<(usize, &'a Batch)> {
    let place = next.fetch_add(1, Ordering::Relaxed);
    batches.get(place).map(|batch| (place, batch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{optimizer::tests::batch, student::tests::tiny};

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let student = tiny(|_| {});
        let mut recomputed = student.clone();
        recomputed.recompute(true);
        let batches = [batch(), Batch::document(&[1, 2]), batch(), batch(), batch()];
        let bits = |gradients: Gradients| {
            let tokens = gradients.tokens();
            let tensors = gradients.into_tensors().into_iter().map(|tensor| tensor.unwrap().try_into_vec_as::<f32>().unwrap());
            (tokens, tensors.collect::<Vec<_>>())
        };
        let sum = |threads, student: &Student| {
            let Sum { terms, gradients } = Workers::with_threads(threads, batches.len()).unwrap().run(student, None, &batches);
            (terms.loss.to_bits(), bits(gradients))
        };
        let alone = sum(1, &student);
        let (loss, supervised) = student.loss(&batch());
        let apart = f64::from_bits(alone.0) - 4.0 * f64::from(loss.into_scalar::<f32>());
        assert!(apart.abs() < 1e-3 && alone.1.0 == 4 * supervised, "{apart}");
        // Whole gradients, one after the other.
        let mut plain = Gradients::new();
        for batch in &batches {
            let (loss, supervised) = student.loss(batch);
            plain.add(Gradients::of(&student, &loss, supervised));
        }
        assert!(bits(plain) == alone.1);
        for threads in [2, 3, 5, 12] {
            assert!(sum(threads, &student) == alone && sum(threads, &recomputed) == alone, "{threads} threads");
        }
    }
}
