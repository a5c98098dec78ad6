//! Threads that wait for the next multiply without a system call.
//!
//! A decoded token is hundreds of short tasks, so a worker spins a while for the next one and only then goes to sleep. Each part of a
//! task belongs to whoever claims it first: a worker takes its own, and the caller, when it is done with its own, those whose
//! workers have not begun. So a worker that sleeps, or that the system keeps from running, is not waited for.

use std::{
    io,
    marker::PhantomData,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::null,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
};

/// How often a worker looks for the next task before it goes to sleep: some tens of microseconds, a pause being 40 to 140 cycles.
const SPINS: usize = 1_000;

/// The pieces that a thread's share of a range is taken in, where they are not too short, and what their lengths are a multiple of: what
/// a kernel reads side by side.
const PIECES: usize = 32;
const WHOLE: usize = 4;

/// A fixed number of threads that run one task at a time together.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
    /// Held while a task runs.
    running: Mutex<()>,
    /// What [`Pool::for_each_range`] has taken of each part's share, while `running` is held.
    taken: Vec<Taken>,
}

/// A number in a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Taken(AtomicUsize);

/// A task, as the caller's stack has it.
type Task<'a> = &'a (dyn Fn(usize) + Sync);

struct Shared {
    /// Counts the tasks; a change is the signal to start.
    epoch: AtomicUsize,
    /// Parts that are not finished.
    left: AtomicUsize,
    /// The task of this epoch; read by whoever has claimed a part of it.
    task: AtomicPtr<Task<'static>>,
    stop: AtomicBool,
    panicked: AtomicBool,
    workers: Vec<Worker>,
}

/// What concerns one worker, in a cache line of its own.
#[repr(align(64))]
struct Worker {
    /// The epoch up to which its parts were claimed.
    claimed: AtomicUsize,
    asleep: AtomicBool,
}

impl Shared {
    /// Run a worker's part of the epoch's task, unless someone else does.
    fn run_part(&self, worker: usize, epoch: usize) {
        // Where the claim succeeds, the part is not finished, so that `Pool::run` has not returned and the task is this epoch's.
        if self.workers[worker].claimed.compare_exchange(epoch.wrapping_sub(1), epoch, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        // SAFETY: as above, and `Pool::run` keeps the task borrowed until `left` is zero.
        let task = unsafe { *self.task.load(Ordering::Acquire) };
        if catch_unwind(AssertUnwindSafe(|| task(worker + 1))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.left.fetch_sub(1, Ordering::Release);
    }
}

impl Pool {
    /// A pool of `threads`, of which the caller of [`Pool::run`] is one.
    ///
    /// # Panics
    /// If the system gives no more threads.
    pub fn new(threads: usize) -> Pool {
        Pool::start(threads).expect("threads can be started")
    }

    /// The same, or what the system says where it gives no more threads; none that was started is left then.
    pub fn start(threads: usize) -> io::Result<Pool> {
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            task: AtomicPtr::new(null::<Task>().cast_mut()),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            workers: (0..count).map(|_| Worker { claimed: AtomicUsize::new(0), asleep: AtomicBool::new(false) }).collect(),
        });
        let taken = (0..=count).map(|_| Taken::default()).collect();
        let mut pool =
            Pool { shared, workers: Vec::with_capacity(count), threads: Vec::with_capacity(count), running: Mutex::new(()), taken };
        for worker in 0..count {
            let shared = Arc::clone(&pool.shared);
            let started = thread::Builder::new().name(format!("kernel-{worker}")).spawn(move || work(&shared, worker))?;
            pool.threads.push(started.thread().clone());
            pool.workers.push(started);
        }
        Ok(pool)
    }

    /// How many parts [`Pool::run`] has.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Run `task(part)` once for every part below [`Pool::threads`], side by side as far as threads are free. Where the pool is
    /// already busy (with another caller's task, or the one that calls this), the caller runs all parts itself.
    pub fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        match self.turn() {
            Some(turn) => self.run_together(turn, task),
            None => (0..self.threads()).for_each(task),
        }
    }

    /// The right to all threads, where there are several and they are free.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        if self.workers.is_empty() { None } else { self.running.try_lock().ok() }
    }

    fn run_together(&self, turn: MutexGuard<'_, ()>, task: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        shared.left.store(self.workers.len(), Ordering::Relaxed);
        shared.task.store((&raw const task).cast_mut().cast(), Ordering::Relaxed);
        let epoch = shared.epoch.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        for (worker, thread) in shared.workers.iter().zip(&self.threads) {
            if worker.asleep.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| task(0)));
        (0..self.workers.len()).for_each(|worker| shared.run_part(worker, epoch));
        let mut spins = 0;
        while shared.left.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        drop(turn);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!panicked, "a kernel thread panicked");
    }
}

impl Pool {
    /// Call `task` with ranges that are together all numbers below `count`. Each thread goes through an even share of its own, the same
    /// each time, so that its caches know it, in pieces of at least `least`; one that is done takes from the shares of those that are slower.
    pub(crate) fn for_each_range(&self, count: usize, least: usize, task: &(dyn Fn(Range<usize>) + Sync)) {
        let Some(turn) = self.turn() else { return task(0..count) };
        let parts = self.threads();
        let share = |part: usize| count * part / parts..count * (part + 1) / parts;
        let piece = (count / parts).div_ceil(PIECES).max(least).next_multiple_of(WHOLE);
        if piece >= count / parts {
            return self.run_together(turn, &|part| task(share(part)));
        }
        self.taken.iter().for_each(|taken| taken.0.store(0, Ordering::Relaxed));
        self.run_together(turn, &|part| {
            for part in (part..parts).chain(0..part) {
                let share = share(part);
                loop {
                    let start = share.start + self.taken[part].0.fetch_add(piece, Ordering::Relaxed);
                    if start >= share.end {
                        break;
                    }
                    task(start..share.end.min(start + piece));
                }
            }
        });
    }

    /// Call `task` with every number below `count`, spread over the threads as they become free.
    pub(crate) fn for_each(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let run = |_part: usize| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                task(index);
            }
        };
        if count == 1 { task(0) } else { self.run(&run) }
    }

    /// Call `task` with each chunk of the two slices, which have as many chunks of their own lengths each, spread over the threads.
    /// The second may be empty with chunks of no length.
    pub(crate) fn for_each_pair<A, B, F>(&self, first: (&mut [A], usize), second: (&mut [B], usize), task: F)
    where
        A: Send,
        B: Send,
        F: Fn(usize, &mut [A], &mut [B]) + Sync,
    {
        let (count, first, second) = (first.0.len() / first.1.max(1), Chunks::new(first.0, first.1), Chunks::new(second.0, second.1));
        assert!(first.count(count) && second.count(count), "the slices are not as many chunks each");
        // SAFETY: each index below the count comes once, so that no two tasks have the same chunk, and both slices stay borrowed.
        self.for_each(count, &|index| unsafe { task(index, first.get(index), second.get(index)) });
    }

    /// As [`Pool::for_each_pair`] with a task that can fail; one of the failures.
    pub(crate) fn try_for_each_pair<A, B, E, F>(&self, first: (&mut [A], usize), second: (&mut [B], usize), task: F) -> Result<(), E>
    where
        A: Send,
        B: Send,
        E: Send,
        F: Fn(usize, &mut [A], &mut [B]) -> Result<(), E> + Sync,
    {
        let (failed, failure) = (AtomicBool::new(false), Mutex::new(None));
        self.for_each_pair(first, second, |index, first, second| {
            if !failed.load(Ordering::Relaxed)
                && let Err(error) = task(index, first, second)
            {
                failed.store(true, Ordering::Relaxed);
                *failure.lock().expect("no one panics while holding it") = Some(error);
            }
        });
        failure.into_inner().expect("no one panics while holding it").map_or(Ok(()), Err)
    }
}

/// A slice as chunks of a length, for threads that take different ones.
pub(super) struct Chunks<'a, T> {
    start: *mut T,
    length: usize,
    all: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: the threads take different chunks, whose contents may be sent.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    pub(super) fn new(slice: &'a mut [T], length: usize) -> Chunks<'a, T> {
        Chunks { start: slice.as_mut_ptr(), length, all: slice.len(), slice: PhantomData }
    }

    /// Whether there are so many chunks and nothing beside them.
    pub(super) fn count(&self, count: usize) -> bool {
        self.all == count * self.length
    }

    /// # Safety
    /// There is such a chunk, and no one else has it.
    #[allow(clippy::mut_from_ref)] // Different threads take different chunks.
    pub(super) unsafe fn get(&self, index: usize) -> &mut [T] {
        // SAFETY: passed on from the caller.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index * self.length), self.length) }
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
        let epoch = loop {
            let epoch = shared.epoch.load(Ordering::Acquire);
            if epoch != seen {
                break epoch;
            }
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            // The order matters: say so, look once more, sleep. The caller counts up first and looks then.
            let asleep = &shared.workers[worker].asleep;
            asleep.store(true, Ordering::SeqCst);
            if shared.epoch.load(Ordering::SeqCst) == seen && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
        };
        seen = epoch;
        shared.run_part(worker, epoch);
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
    fn ranges_are_every_number_once() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            for (count, least) in [0, 1, 3, 4, 5, 31, 100, 1000].into_iter().flat_map(|count| [0, 1, 9, 5000].map(|least| (count, least))) {
                let counts: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                pool.for_each_range(count, least, &|range| {
                    for count in &counts[range] {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
                let once = counts.iter().all(|count| count.load(Ordering::Relaxed) == 1);
                assert!(once, "{count} over {threads} threads, at least {least} at once");
            }
        }
    }

    #[test]
    fn who_is_done_takes_from_who_is_slow() {
        let pool = Pool::new(2);
        let count = 1000;
        let left = AtomicUsize::new(count);
        pool.for_each_range(count, 1, &|range| {
            left.fetch_sub(range.len(), Ordering::SeqCst);
            // The first piece of the second share ends only after every other piece has.
            if range.start == count / 2 {
                while left.load(Ordering::SeqCst) != 0 {
                    thread::yield_now();
                }
            }
        });
        assert_eq!(left.into_inner(), 0);
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
