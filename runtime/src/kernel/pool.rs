//! Threads that wait for the next multiply without a system call.
//!
//! A decoded token is hundreds of short tasks, so a worker spins a while for the next one and only then goes to sleep.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
};

/// How often a worker looks for the next task before it goes to sleep: some tens of microseconds, a pause being 40 to 140 cycles.
const SPINS: usize = 1_000;

/// A fixed number of threads that run one task at a time together.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
    /// Held while a task runs.
    running: Mutex<()>,
}

type Task = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Counts the tasks; a change is the signal to start.
    epoch: AtomicUsize,
    /// Workers that have not finished the task.
    left: AtomicUsize,
    task: Mutex<Option<SendTask>>,
    stop: AtomicBool,
    panicked: AtomicBool,
    /// For each worker, whether it sleeps.
    asleep: Vec<AtomicBool>,
}

#[derive(Clone, Copy)]
struct SendTask(Task);

// SAFETY: the task is `Sync`, and `Pool::run` does not return before all workers are done with it.
unsafe impl Send for SendTask {}

impl Pool {
    /// A pool of `threads`, of which the caller of [`Pool::run`] is one.
    pub fn new(threads: usize) -> Pool {
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            task: Mutex::new(None),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            asleep: (0..count).map(|_| AtomicBool::new(false)).collect(),
        });
        let workers: Vec<JoinHandle<()>> = (0..count)
            .map(|worker| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("kernel-{worker}"))
                    .spawn(move || work(&shared, worker))
                    .expect("a thread can be started")
            })
            .collect();
        let threads = workers.iter().map(|worker| worker.thread().clone()).collect();
        Pool { shared, workers, threads, running: Mutex::new(()) }
    }

    /// How many parts [`Pool::run`] runs at once.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Run `task(part)` for every part below [`Pool::threads`], each on a thread of its own. Where the pool is already busy (with
    /// another caller's task, or the one that calls this), the caller runs all parts itself.
    pub fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        let free = if self.workers.is_empty() { None } else { self.running.try_lock().ok() };
        let Some(turn) = free else {
            (0..self.threads()).for_each(task);
            return;
        };
        // SAFETY: only the lifetime changes; the workers are done with the task before this function returns.
        let forever = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Task>(task) };
        *self.shared.task.lock().expect("no one panics while holding it") = Some(SendTask(forever));
        self.shared.left.store(self.workers.len(), Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for (asleep, thread) in self.shared.asleep.iter().zip(&self.threads) {
            if asleep.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| task(0)));
        let mut spins = 0;
        while self.shared.left.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        let panicked = self.shared.panicked.swap(false, Ordering::Relaxed);
        drop(turn);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!panicked, "a kernel thread panicked");
    }
}

impl Pool {
    /// Call `task` with each chunk of the two slices, which have as many chunks of their own lengths each, spread over the threads.
    pub(crate) fn for_each_pair<A, B, F>(&self, first: (&mut [A], usize), second: (&mut [B], usize), task: F)
    where
        A: Send,
        B: Send,
        F: Fn(usize, &mut [A], &mut [B]) + Sync,
    {
        let Ok(()) = self.try_for_each_pair(first, second, |index, first: &mut [A], second: &mut [B]| {
            task(index, first, second);
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// As [`Pool::for_each_pair`] with a task that can fail; one of the failures.
    pub(crate) fn try_for_each_pair<A, B, E, F>(
        &self,
        (first, first_length): (&mut [A], usize),
        (second, second_length): (&mut [B], usize),
        task: F,
    ) -> Result<(), E>
    where
        A: Send,
        B: Send,
        E: Send,
        F: Fn(usize, &mut [A], &mut [B]) -> Result<(), E> + Sync,
    {
        let count = first.len() / first_length.max(1);
        assert_eq!(first.len(), count * first_length, "the first slice is no whole number of chunks");
        assert_eq!(second.len(), count * second_length, "the second slice has another number of chunks");
        let (first, second) = (Chunks(first.as_mut_ptr(), first_length), Chunks(second.as_mut_ptr(), second_length));
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let run = |_part| loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            // SAFETY: each index below the count is taken once, so that no two tasks have the same chunk, and both slices stay
            // borrowed until all are done.
            let result = unsafe { task(index, first.get(index), second.get(index)) };
            if let Err(error) = result {
                next.store(count, Ordering::Relaxed);
                *failure.lock().expect("no one panics while holding it") = Some(error);
            }
        };
        if count == 1 {
            run(0)
        } else {
            self.run(&run)
        }
        failure.into_inner().expect("no one panics while holding it").map_or(Ok(()), Err)
    }
}

/// A slice as chunks of a length, for threads that take different ones.
struct Chunks<T>(*mut T, usize);

// SAFETY: the threads take different chunks, whose contents may be sent.
unsafe impl<T: Send> Sync for Chunks<T> {}

impl<T> Chunks<T> {
    /// # Safety
    /// The chunk exists, and no one else has it.
    #[allow(clippy::mut_from_ref)] // Different threads take different chunks.
    unsafe fn get(&self, index: usize) -> &mut [T] {
        // SAFETY: passed on from the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(index * self.1), self.1) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.threads.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // A panic was already reported by the `run` that it happened in.
        }
    }
}

fn work(shared: &Shared, worker: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.epoch.load(Ordering::Acquire) == seen {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            // The order matters: say so, look once more, sleep. The caller counts up first and looks then.
            shared.asleep[worker].store(true, Ordering::SeqCst);
            if shared.epoch.load(Ordering::SeqCst) == seen && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.asleep[worker].store(false, Ordering::SeqCst);
        }
        seen = seen.wrapping_add(1);
        let task = shared.task.lock().expect("no one panics while holding it").expect("a task was published with the epoch");
        // SAFETY: `Pool::run` keeps the task borrowed until `left` is zero.
        let task = unsafe { &*task.0 };
        if catch_unwind(AssertUnwindSafe(|| task(worker + 1))).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.left.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_each_time() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for round in 1..=200 {
                pool.run(&|part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == round));
            }
        }
    }

    #[test]
    fn a_sleeping_pool_wakes() {
        let pool = Pool::new(3);
        let count = AtomicUsize::new(0);
        for _ in 0..3 {
            thread::sleep(std::time::Duration::from_millis(5));
            pool.run(&|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(count.into_inner(), 9);
    }

    #[test]
    fn a_task_within_a_task_runs_too() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        pool.run(&|_| {
            pool.run(&|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.into_inner(), 4);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        for part in [0, 1] {
            let panic = catch_unwind(AssertUnwindSafe(|| pool.run(&|at| assert_ne!(at, part))));
            assert!(panic.is_err());
        }
        let count = AtomicUsize::new(0);
        pool.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 2);
    }
}
