//! Activation codes that begin with a cache line, so that a matrix tile's rows lie in one line each.

use std::ops::{Deref, DerefMut};

/// Codes of a cache line.
pub(super) const LINE: usize = 64;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([i8; LINE]);

/// A vector of codes, whole lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Codes(Vec<Line>);

impl Codes {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// At least so many codes, new ones 0. They never become fewer, because growing again would fill them with zeros each time.
    pub(super) fn reserve(&mut self, count: usize) {
        self.0.resize(self.0.len().max(count.div_ceil(LINE)), Line([0; LINE]));
    }
}

impl Deref for Codes {
    type Target = [i8];

    fn deref(&self) -> &[i8] {
        // SAFETY: a line is its codes and nothing else.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE) }
    }
}

impl DerefMut for Codes {
    fn deref_mut(&mut self) -> &mut [i8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }
}
