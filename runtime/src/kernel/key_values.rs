//! Keys and values of earlier tokens, in f16, in pages of 64 positions.
//!
//! A page holds all layers, so that a sequence is a list of page numbers. Keys lie sixteen positions side by side, so that a vector
//! holds the scores of sixteen positions and nothing is summed across lanes.

use std::cell::UnsafeCell;

use half::{f16, slice::HalfFloatSliceExt};

use super::Pool;

/// Positions whose keys are interleaved.
pub(super) const KEYS: usize = 16;
/// Positions in a page.
pub(crate) const PAGE: usize = 64;

/// The memory of all pages.
pub(crate) struct KeyValues {
    layers: usize,
    heads: usize,
    width: usize,
    pages: Vec<Page>,
}

/// `[layers, heads, (keys: [PAGE / KEYS, width, KEYS], values: [PAGE, width])]`, which threads write side by side.
struct Page(Box<[UnsafeCell<f16>]>);

// SAFETY: only `KeyValues::store` writes, which has all pages for itself and gives each thread heads of its own.
unsafe impl Sync for Page {}

/// Which rows of a batch have which keys and values: those of row r are `[heads, width]` each, side by side from
/// `all[r * stride + start]` on.
#[derive(Clone, Copy)]
pub(crate) struct NewKeyValues<'a> {
    pub(crate) all: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) start: usize,
}

impl KeyValues {
    /// No page yet.
    pub(crate) fn new(layers: usize, heads: usize, width: usize) -> KeyValues {
        KeyValues { layers, heads, width, pages: Vec::new() }
    }

    /// One more page. The system gives its memory when it is first written.
    pub(crate) fn add_page(&mut self) {
        // Zeros of integers, unlike those of `f16`, are memory that the system has zeroed already and gives when it is touched.
        let zeros = vec![0u16; self.layers * self.heads * self.head_length()].into_boxed_slice();
        // SAFETY: a cell has the layout of what is in it, and an `f16` that of its bits.
        self.pages.push(Page(unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [UnsafeCell<f16>]) }));
    }

    /// Numbers of one head's keys and values in a page.
    fn head_length(&self) -> usize {
        2 * self.width * PAGE
    }

    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Keep the keys and values of rows; `place` is each row's page and position in it. A number beyond those of f16 becomes the
    /// largest.
    pub(crate) fn store(&mut self, pool: &Pool, layer: usize, new: NewKeyValues, place: &(dyn Fn(usize) -> (usize, usize) + Sync)) {
        let (heads, width, length) = (self.heads, self.width, self.head_length());
        assert!(layer < self.layers && new.start + 2 * heads * width <= new.stride, "a row has other keys and values");
        let pages = &self.pages;
        pool.for_each(heads, &|head| {
            for (row, all) in new.all.chunks_exact(new.stride).enumerate() {
                let (page, at) = place(row);
                let cells = &pages[page].0[(layer * heads + head) * length..][..length];
                // SAFETY: `self` is borrowed mutably, and no other thread has this head's numbers.
                let numbers = unsafe { std::slice::from_raw_parts_mut(UnsafeCell::raw_get(cells.as_ptr()), length) };
                let (keys, values) = numbers.split_at_mut(width * PAGE);
                let of = |part: usize| &all[new.start + (part * heads + head) * width..][..width];
                // The value's place serves the key first, so that both are converted in vectors.
                let value = &mut values[at * width..(at + 1) * width];
                convert(of(0), value);
                let slots = keys[at / KEYS * width * KEYS + at % KEYS..].iter_mut().step_by(KEYS);
                slots.zip(&*value).for_each(|(slot, key)| *slot = *key);
                convert(of(1), value);
            }
        });
    }

    /// One head's keys, `[PAGE / KEYS, width, KEYS]`, and values, `[PAGE, width]`, in a page.
    pub(super) fn head(&self, page: usize, layer: usize, head: usize) -> (&[f16], &[f16]) {
        let length = self.head_length();
        let cells = &self.pages[page].0[(layer * self.heads + head) * length..][..length];
        // SAFETY: no one writes while `self` is shared.
        let numbers = unsafe { std::slice::from_raw_parts(UnsafeCell::raw_get(cells.as_ptr()).cast_const(), length) };
        numbers.split_at(self.width * PAGE)
    }
}

/// To f16, rounded to the nearest, halves to even.
fn convert(numbers: &[f32], halves: &mut [f16]) {
    halves.convert_from_f32_slice(numbers);
    for half in halves.iter_mut().filter(|half| half.is_infinite()) {
        *half = if half.is_sign_positive() { f16::MAX } else { f16::MIN };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_where_the_layout_says() {
        let (layers, heads, width) = (2, 3, 5);
        let mut key_values = KeyValues::new(layers, heads, width);
        (0..2).for_each(|_| key_values.add_page());
        let rows: Vec<f32> = (0..4 * 40).map(|at| at as f32).collect();
        let places = [(1, 0), (0, 63), (1, 17), (0, 16)];
        let new = NewKeyValues { all: &rows, stride: 40, start: 10 };
        key_values.store(&Pool::new(2), 1, new, &|row| places[row]);
        for (row, (page, at)) in places.into_iter().enumerate() {
            for head in 0..heads {
                let (keys, values) = key_values.head(page, 1, head);
                for i in 0..width {
                    let number = |part: usize| f16::from_f32((row * 40 + 10 + (part * heads + head) * width + i) as f32);
                    assert_eq!((keys[(at / KEYS * width + i) * KEYS + at % KEYS], values[at * width + i]), (number(0), number(1)));
                }
                assert!(key_values.head(page, 0, head).0.iter().all(|key| *key == f16::ZERO));
            }
        }
    }

    #[test]
    fn numbers_beyond_f16_become_the_largest() {
        let mut halves = [f16::ZERO; 4];
        convert(&[1e9, -1e9, 1.0 + 1.0 / 2048.0, f32::NAN], &mut halves);
        assert_eq!(halves[..3], [f16::MAX, f16::MIN, f16::ONE]);
        assert!(halves[3].is_nan());
    }
}
