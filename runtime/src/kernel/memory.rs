//! The memory that laid-out weights lie in: pages of its own, which come zeroed when they are first written, so that threads take
//! them side by side, and large ones where the system has them, so that a matrix needs few entries of the address cache.
//! In this crate's tests it is the heap, where a sanitizer sees who reads beyond the end.

use std::ops::{Deref, DerefMut};

#[cfg(not(test))]
use memmap2::MmapMut;

use super::matrix::Line;

/// Below it there is nothing to gain from large pages.
#[cfg(not(test))]
const LARGE_PAGE: usize = 2 << 20;

/// A number of lines.
#[derive(Debug)]
pub(super) struct Lines {
    #[cfg(not(test))]
    pages: MmapMut,
    #[cfg(test)]
    pages: Vec<Line>,
    count: usize,
}

impl Lines {
    /// So many lines, all zero.
    #[cfg(not(test))]
    pub(super) fn zeroed(count: usize) -> Lines {
        let len_bytes = count * size_of::<Line>();
        // As `Vec` does where there is no memory left.
        let pages = MmapMut::map_anon(len_bytes.max(1)).expect("memory for the weights");
        #[cfg(target_os = "linux")]
        if len_bytes >= LARGE_PAGE {
            let _ = pages.advise(memmap2::Advice::HugePage); // A system without large pages is only slower.
        }
        Lines { pages, count }
    }

    #[cfg(test)]
    pub(super) fn zeroed(count: usize) -> Lines {
        Lines { pages: vec![Line([0; 64]); count], count }
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        // SAFETY: the pages hold `count` lines, start at a multiple of a line, and any bytes are a line.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr().cast(), self.count) }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), self.count) }
    }
}

impl Clone for Lines {
    fn clone(&self) -> Lines {
        let mut lines = Lines::zeroed(self.count);
        lines.copy_from_slice(self);
        lines
    }
}
