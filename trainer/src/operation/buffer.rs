//! Memory that serves again: a step takes buffers of about the same lengths as the one before, and fresh memory costs a page fault
//! for every four kilobytes and a pass of zeros.

use std::{
    collections::HashMap,
    sync::{
        LazyLock, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Buffers that no one holds, by the length that they have room for.
static FREE: LazyLock<Mutex<HashMap<usize, Free>>> = LazyLock::new(Default::default);

#[derive(Default)]
struct Free {
    buffers: Vec<Vec<f32>>,
    /// The fewest that were free at any time since the last trimming: so many are not needed.
    fewest: usize,
}

/// One step's microbatches are longer than another's, so that a single step says little about what is needed.
const STEPS_TO_TRIM: usize = 16;
/// Shorter ones are left to the allocator.
const SHORTEST: usize = 1 << 12;

/// `length` numbers of any value, for one who writes them all.
pub(crate) fn take(length: usize) -> Vec<f32> {
    if length < SHORTEST {
        return vec![0.0; length];
    }
    let room = room(length);
    let found = free().get_mut(&room).and_then(|free| {
        let buffer = free.buffers.pop()?;
        free.fewest = free.fewest.min(free.buffers.len());
        Some(buffer)
    });
    let mut buffer = found.unwrap_or_else(|| vec![0.0; room]);
    buffer.resize(length, 0.0);
    buffer
}

/// The room of a buffer of that length: one of four between a power of two and the next, because microbatches differ in length.
fn room(length: usize) -> usize {
    length.next_multiple_of(length.next_power_of_two() / 8)
}

/// `length` zeros.
pub(crate) fn zeros(length: usize) -> Vec<f32> {
    let mut buffer = take(length);
    buffer.fill(0.0);
    buffer
}

/// Give a buffer back.
pub(crate) fn give(buffer: Vec<f32>) {
    // Those made elsewhere have other rooms, which no one asks for.
    if buffer.capacity() >= SHORTEST && buffer.capacity() == room(buffer.capacity()) {
        free().entry(buffer.capacity()).or_default().buffers.push(buffer);
    }
}

/// A step is over. Now and then what was not used since the last time is freed, so that little more is held than steps need.
pub(crate) fn end_step() {
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    if STEPS.fetch_add(1, Ordering::Relaxed).is_multiple_of(STEPS_TO_TRIM) {
        trim();
    }
}

/// Free what has not been used since the last call.
fn trim() {
    free().retain(|_, free| {
        free.buffers.drain(..free.fewest);
        free.fewest = free.buffers.len();
        !free.buffers.is_empty()
    });
}

fn free() -> MutexGuard<'static, HashMap<usize, Free>> {
    FREE.lock().expect("no one panics while holding it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_little_larger_than_its_buffer() {
        for length in [SHORTEST, SHORTEST + 1, 5000, 8191, 8192, 8193, 1 << 20, (1 << 20) + 1] {
            let room = room(length);
            assert!(room >= length && room <= length + length / 4, "{length}: {room}");
            assert_eq!(super::room(room), room);
        }
    }

    #[test]
    fn a_buffer_serves_again_until_it_is_not_needed() {
        // A room that no other test uses.
        let length = 7 << 22;
        let held = || free().get(&length).map_or(0, |free| free.buffers.len());
        give(vec![7.0; length]);
        give(vec![7.0; length]);
        trim();
        let buffer = take(length - 12_345);
        assert_eq!((buffer.len(), buffer[length - 20_000], held()), (length - 12_345, 7.0, 1));
        assert_eq!(zeros(length), vec![0.0; length]);
        assert_eq!(held(), 0);
        give(buffer);
        trim();
        assert_eq!(held(), 1);
        trim();
        assert_eq!(held(), 0);
    }
}
