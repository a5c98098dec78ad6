//! The memory that laid-out weights lie in: pages of its own, which come zeroed when they are first written, so that threads take
//! them side by side, and large ones where the system has them, so that a matrix needs few entries of the address cache.
//! In this crate's tests it is the heap, where a sanitizer sees who reads beyond the end.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex},
};

#[cfg(not(test))]
use memmap2::MmapMut as Pages;

use super::matrix::{Line, Packing, ROWS};

#[cfg(test)]
type Pages = Vec<Line>;

/// What large pages begin at a multiple of, and below which there is nothing to gain from them.
#[cfg(not(test))]
const LARGE_PAGE: usize = 2 << 20;

/// Where matrices that are made one after the other lie side by side, so that small ones have large pages too and no matrix has the rest
/// of one for itself. Pages are given back with the last matrix that has some of them.
pub(crate) struct Memory {
    region: Mutex<Option<Region>>,
    /// Lines of a region; one that is never written to costs nothing.
    count: usize,
}

/// Lines that no one has yet.
struct Region {
    start: *mut Line,
    count: usize,
    pages: Arc<Pages>,
}

/// A number of lines.
#[derive(Debug)]
pub(super) struct Lines {
    start: *mut Line,
    count: usize,
    /// Keeps them.
    _pages: Arc<Pages>,
}

// SAFETY: no two have a line in common, and any thread may give pages back.
unsafe impl Send for Lines {}
// SAFETY: as above.
unsafe impl Sync for Lines {}
// SAFETY: as above.
unsafe impl Send for Region {}

impl Memory {
    /// For about so many weights.
    pub(crate) fn of(weights: usize, packing: Packing) -> Memory {
        Memory { region: Mutex::default(), count: if cfg!(test) { 0 } else { weights.div_ceil(ROWS * packing.step()) } }
    }

    /// So many lines beside those that were taken before, all zero.
    pub(super) fn lines(&self, count: usize) -> Lines {
        let mut last = self.region.lock().expect("no one panics while holding it");
        if last.as_ref().is_none_or(|region| region.count < count) {
            *last = Some(Region::new(count.max(self.count)));
        }
        last.as_mut().expect("made above").take(count)
    }
}

impl Region {
    #[cfg(not(test))]
    fn new(count: usize) -> Region {
        let len_bytes = count.checked_mul(size_of::<Line>()).expect("fewer bytes of weights than addresses");
        let is_large = len_bytes >= LARGE_PAGE;
        // As `Vec` does where there is no memory left.
        let mut pages = Pages::map_anon((len_bytes + if is_large { LARGE_PAGE } else { 0 }).max(1)).expect("memory for the weights");
        #[cfg(target_os = "linux")]
        if is_large {
            let _ = pages.advise(memmap2::Advice::HugePage); // A system without large pages is only slower.
        }
        let start = pages.as_mut_ptr();
        let start = start.wrapping_add(if is_large { start.align_offset(LARGE_PAGE) } else { 0 });
        Region { start: start.cast(), count, pages: Arc::new(pages) }
    }

    #[cfg(test)]
    fn new(count: usize) -> Region {
        let mut pages = vec![Line([0; 64]); count];
        Region { start: pages.as_mut_ptr(), count, pages: Arc::new(pages) }
    }

    /// The first lines of those that are left.
    fn take(&mut self, count: usize) -> Lines {
        assert!(count <= self.count, "a region of {} lines has no {count}", self.count);
        let lines = Lines { start: self.start, count, _pages: Arc::clone(&self.pages) };
        (self.start, self.count) = (self.start.wrapping_add(count), self.count - count);
        lines
    }
}

impl Lines {
    /// So many lines by themselves, all zero.
    pub(super) fn zeroed(count: usize) -> Lines {
        Region::new(count).take(count)
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        // SAFETY: the pages hold `count` lines from there on, at a multiple of a line, and any bytes are a line.
        unsafe { std::slice::from_raw_parts(self.start, self.count) }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above, and no one else has them.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.count) }
    }
}

impl Clone for Lines {
    fn clone(&self) -> Lines {
        let mut lines = Lines::zeroed(self.len());
        lines.copy_from_slice(self);
        lines
    }
}
