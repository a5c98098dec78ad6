//! Memory that serves again: a step takes buffers of the same lengths as the one before, and fresh memory costs a page fault for
//! every four kilobytes and a pass of zeros.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard},
};

/// Buffers that no one holds, by their length.
static FREE: LazyLock<Mutex<HashMap<usize, Free>>> = LazyLock::new(Default::default);

#[derive(Default)]
struct Free {
    buffers: Vec<Vec<f32>>,
    /// The fewest that were free at any time since the last [`trim`]: so many are not needed.
    fewest: usize,
}

/// Shorter ones are left to the allocator.
const SHORTEST: usize = 1 << 12;

/// `length` numbers of any value, for one who writes them all.
pub(crate) fn take(length: usize) -> Vec<f32> {
    if length >= SHORTEST
        && let Some(free) = free().get_mut(&length)
        && let Some(buffer) = free.buffers.pop()
    {
        free.fewest = free.fewest.min(free.buffers.len());
        return buffer;
    }
    vec![0.0; length]
}

/// `length` zeros.
pub(crate) fn zeros(length: usize) -> Vec<f32> {
    let mut buffer = take(length);
    buffer.fill(0.0);
    buffer
}

/// Give a buffer back.
pub(crate) fn give(buffer: Vec<f32>) {
    if buffer.len() >= SHORTEST {
        free().entry(buffer.len()).or_default().buffers.push(buffer);
    }
}

/// Free what has not been used since the last call, so that no more is held than a step needs.
pub(crate) fn trim() {
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
    fn a_buffer_serves_again_until_it_is_not_needed() {
        // A length that no other test uses.
        let length = SHORTEST + 12_347;
        let held = || free().get(&length).map_or(0, |free| free.buffers.len());
        give(vec![7.0; length]);
        give(vec![7.0; length]);
        trim();
        let buffer = take(length);
        assert_eq!((buffer[length - 1], held()), (7.0, 1));
        assert_eq!(zeros(length), vec![0.0; length]);
        assert_eq!(held(), 0);
        give(buffer);
        trim();
        assert_eq!(held(), 1);
        trim();
        assert_eq!(held(), 0);
    }
}
