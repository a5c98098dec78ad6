//! The memory that laid-out weights lie in: pages of its own, which come zeroed when they are first written, so that threads take
//! them side by side, and large ones where the system has them, so that a matrix needs few entries of the address cache.
//! In this crate's tests it is the heap, where a sanitizer sees who reads beyond the end.

use std::{
    ops::{Deref, DerefMut},
    sync::Mutex,
};
#[cfg(not(test))]
use std::sync::Arc;

#[cfg(not(test))]
use memmap2::MmapMut;

use super::matrix::Line;

/// What large pages begin at a multiple of.
#[cfg(not(test))]
const LARGE_PAGE: usize = 2 << 20;
/// Bytes of a region: so many that what its last page has too much is little.
#[cfg(not(test))]
const REGION: usize = 64 << 20;

/// Where matrices that are made one after the other lie side by side, so that small ones have large pages too. It is given back when the
/// last of them is.
#[derive(Default)]
pub(crate) struct Memory {
    #[cfg(not(test))]
    last: Mutex<Option<(Region, usize)>>,
    #[cfg(test)]
    last: Mutex<()>,
}

/// Pages, and how many lines they hold from the first large one on.
#[cfg(not(test))]
#[derive(Clone)]
struct Region {
    pages: Arc<MmapMut>,
    start: usize,
    count: usize,
}

/// A number of lines.
#[derive(Debug)]
pub(super) struct Lines {
    #[cfg(not(test))]
    start: *mut Line,
    #[cfg(not(test))]
    count: usize,
    /// Keeps them.
    #[cfg(not(test))]
    _pages: Arc<MmapMut>,
    #[cfg(test)]
    lines: Vec<Line>,
}

// SAFETY: no two have a line in common, and pages may be given back by any thread.
#[cfg(not(test))]
unsafe impl Send for Lines {}
// SAFETY: as above.
#[cfg(not(test))]
unsafe impl Sync for Lines {}

impl Memory {
    /// So many lines behind those that were taken before, all zero.
    #[cfg(not(test))]
    pub(super) fn lines(&self, count: usize) -> Lines {
        let mut last = self.last.lock().expect("no one panics while holding it");
        let (region, taken) = match last.take() {
            Some((region, taken)) if region.count - taken >= count => (region, taken),
            _ => (Region::new((count * size_of::<Line>()).max(REGION)), 0),
        };
        let lines = region.lines(taken, count);
        *last = Some((region, taken + count));
        lines
    }

    #[cfg(test)]
    pub(super) fn lines(&self, count: usize) -> Lines {
        let _taken = self.last.lock().expect("no one panics while holding it");
        Lines::zeroed(count)
    }
}

#[cfg(not(test))]
impl Region {
    fn new(len_bytes: usize) -> Region {
        let large = len_bytes >= LARGE_PAGE;
        // As `Vec` does where there is no memory left.
        let pages = MmapMut::map_anon((len_bytes + if large { LARGE_PAGE } else { 0 }).max(1)).expect("memory for the weights");
        #[cfg(target_os = "linux")]
        if large {
            let _ = pages.advise(memmap2::Advice::HugePage); // A system without large pages is only slower.
        }
        let start = if large { pages.as_ptr().align_offset(LARGE_PAGE) } else { 0 };
        Region { pages: Arc::new(pages), start, count: len_bytes / size_of::<Line>() }
    }

    /// Lines that no one else takes.
    fn lines(&self, first: usize, count: usize) -> Lines {
        assert!(first + count <= self.count, "a region has fewer lines");
        // Pages are at multiples of a line, and they are written through these lines alone.
        let start = self.pages.as_ptr().wrapping_add(self.start).cast::<Line>().cast_mut().wrapping_add(first);
        Lines { start, count, _pages: Arc::clone(&self.pages) }
    }
}

impl Lines {
    /// So many lines by themselves, all zero.
    #[cfg(not(test))]
    pub(super) fn zeroed(count: usize) -> Lines {
        Region::new(count * size_of::<Line>()).lines(0, count)
    }

    #[cfg(test)]
    pub(super) fn zeroed(count: usize) -> Lines {
        Lines { lines: vec![Line([0; 64]); count] }
    }
}

impl Deref for Lines {
    type Target = [Line];

    #[cfg(not(test))]
    fn deref(&self) -> &[Line] {
        // SAFETY: the pages hold `count` lines from there on, and any bytes are a line.
        unsafe { std::slice::from_raw_parts(self.start, self.count) }
    }

    #[cfg(test)]
    fn deref(&self) -> &[Line] {
        &self.lines
    }
}

impl DerefMut for Lines {
    #[cfg(not(test))]
    fn deref_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above, and no one else has these lines.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.count) }
    }

    #[cfg(test)]
    fn deref_mut(&mut self) -> &mut [Line] {
        &mut self.lines
    }
}

impl Clone for Lines {
    fn clone(&self) -> Lines {
        let mut lines = Lines::zeroed(self.len());
        lines.copy_from_slice(self);
        lines
    }
}
