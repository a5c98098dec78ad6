//! Keys and values of the tokens so far, in f32, in pages of 64 positions that sequences take from one bounded store.
//!
//! A page holds all layers, so that a sequence is a list of page numbers. Keys lie sixteen positions side by side, as attention
//! reads them.

use model::ModelConfig;

use crate::layer::{KEYS, PAGE};

/// Numbers of pages in the order of their positions.
pub(crate) type Pages = Vec<usize>;

/// The store of pages.
pub(crate) struct Cache {
    heads: usize,
    width: usize,
    /// Numbers of one page.
    page_length: usize,
    /// Pages made so far; memory is taken when a page is first used.
    pages: Vec<Box<[f32]>>,
    free: Vec<usize>,
    limit: usize,
}

impl Cache {
    /// A store for at most `tokens` positions of all sequences together.
    pub(crate) fn new(config: &ModelConfig, tokens: usize) -> Cache {
        let page_length = config.layers * 2 * config.kv_width() * PAGE;
        let limit = tokens.div_ceil(PAGE);
        Cache { heads: config.kv_heads, width: config.head_width, page_length, pages: Vec::new(), free: Vec::new(), limit }
    }

    /// Pages that `tokens` positions need.
    pub(crate) fn pages_for(tokens: usize) -> usize {
        tokens.div_ceil(PAGE)
    }

    /// Pages that no sequence has.
    pub(crate) fn available(&self) -> usize {
        self.limit - self.pages.len() + self.free.len()
    }

    /// The most positions of all sequences together.
    pub(crate) fn capacity(&self) -> usize {
        self.limit * PAGE
    }

    /// One more page for a sequence.
    ///
    /// # Panics
    /// If none is available.
    pub(crate) fn take(&mut self, pages: &mut Pages) {
        let page = self.free.pop().unwrap_or_else(|| {
            assert!(self.pages.len() < self.limit, "the cache has no page left; sequences reserve theirs before they start");
            self.pages.push(vec![0.0; self.page_length].into_boxed_slice());
            self.pages.len() - 1
        });
        pages.push(page);
    }

    /// A sequence's pages, back.
    pub(crate) fn give_back(&mut self, pages: Pages) {
        self.free.extend(pages);
    }

    /// Keep one token's keys and values, `[kv heads, head width]` each.
    pub(crate) fn store(&mut self, pages: &[usize], layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let (width, at) = (self.width, position % PAGE);
        let page = &mut self.pages[pages[position / PAGE]];
        let heads = page[layer * self.heads * 2 * width * PAGE..].chunks_exact_mut(2 * width * PAGE);
        for ((head, keys), values) in heads.zip(keys.chunks_exact(width)).zip(values.chunks_exact(width)) {
            let (key_half, value_half) = head.split_at_mut(width * PAGE);
            for (slot, key) in key_half[at / KEYS * width * KEYS + at % KEYS..].iter_mut().step_by(KEYS).zip(keys) {
                *slot = *key;
            }
            value_half[at * width..(at + 1) * width].copy_from_slice(values);
        }
    }

    /// One head's keys and values in a page, as `layer::attend` takes them.
    pub(crate) fn head(&self, page: usize, layer: usize, head: usize) -> (&[f32], &[f32]) {
        let length = self.width * PAGE;
        let start = (layer * self.heads + head) * 2 * length;
        self.pages[page][start..start + 2 * length].split_at(length)
    }
}
