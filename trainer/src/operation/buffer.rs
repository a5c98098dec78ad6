//! Memory that serves again: a step takes buffers of about the same lengths as the one before, and fresh memory costs a page fault
//! for every four kilobytes and a pass of zeros.

use std::{
    collections::HashMap,
    sync::{
        LazyLock, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

static FREE: LazyLock<Mutex<Free>> = LazyLock::new(Default::default);

/// Buffers that no one holds, by the length that they have room for.
#[derive(Default)]
struct Free(HashMap<usize, OfOneLength>);

#[derive(Default)]
struct OfOneLength {
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
    let found = free().take(room);
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
        free().give(buffer);
    }
}

/// A step is over. Now and then what was not used since the last time is freed, so that little more is held than steps need.
pub(crate) fn end_step() {
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    if STEPS.fetch_add(1, Ordering::Relaxed).is_multiple_of(STEPS_TO_TRIM) {
        free().trim();
    }
}

fn free() -> MutexGuard<'static, Free> {
    FREE.lock().expect("no one panics while holding it")
}

impl Free {
    fn take(&mut self, room: usize) -> Option<Vec<f32>> {
        let free = self.0.get_mut(&room)?;
        let buffer = free.buffers.pop()?;
        free.fewest = free.fewest.min(free.buffers.len());
        Some(buffer)
    }

    fn give(&mut self, buffer: Vec<f32>) {
        self.0.entry(buffer.capacity()).or_default().buffers.push(buffer);
    }

    /// Free what has not been used since the last call.
    fn trim(&mut self) {
        self.0.retain(|_, free| {
            free.buffers.drain(..free.fewest);
            free.fewest = free.buffers.len();
            !free.buffers.is_empty()
        });
    }
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
        let mut free = Free::default();
        let held = |free: &Free| free.0.get(&64).map_or(0, |free| free.buffers.len());
        free.give(vec![7.0; 64]);
        free.give(vec![7.0; 64]);
        free.trim();
        let buffer = free.take(64).unwrap();
        assert_eq!((buffer[63], held(&free)), (7.0, 1));
        assert!(free.take(65).is_none());
        assert!(free.take(64).is_some());
        assert!(free.take(64).is_none());
        free.give(buffer);
        free.trim();
        assert_eq!(held(&free), 1);
        free.trim();
        assert_eq!(held(&free), 0);
    }

    #[test]
    fn a_buffer_has_the_length_that_was_asked_for() {
        let length = 3 * SHORTEST + 1;
        give(vec![7.0; room(length)]);
        assert_eq!(take(length).len(), length);
        assert_eq!(zeros(length), vec![0.0; length]);
    }
}
