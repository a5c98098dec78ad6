//! Who has which pages of keys and values: sequences take them from one bounded store.
//!
//! A full page is remembered by its tokens and those before them, so that a text which begins like an earlier one takes the earlier
//! one's pages: a few-shot prompt is computed once.

use std::collections::{HashMap, VecDeque};

use model::ModelConfig;

use crate::kernel::{KeyValues, PAGE};

/// Numbers of pages in the order of their positions.
pub(crate) type Pages = Vec<usize>;

/// The store of pages.
pub(crate) struct Cache {
    /// The pages' memory, taken when a page is first used.
    pub(crate) key_values: KeyValues,
    /// As many.
    pages: Vec<Page>,
    free: Vec<usize>,
    limit: usize,
    /// Full pages by their key.
    known: HashMap<Key, usize>,
    /// Known pages that no sequence has, the ones to be forgotten first in front.
    idle: VecDeque<usize>,
    idle_limit: usize,
    /// Of the next page that becomes known.
    serial: u64,
}

/// The tokens of a full page and the serial number of the page before it, which stands for all tokens before; numbers are never
/// used again, so that a forgotten page's followers are not found any more.
type Key = (u64, Box<[u32]>);

#[derive(Default)]
struct Page {
    /// Sequences that have it.
    users: usize,
    /// Where it is known.
    key: Option<Key>,
    serial: u64,
}

/// How much of a sequence is known: so many pages, of which the last has this serial number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub(crate) pages: usize,
    serial: u64,
}

impl Cache {
    /// A store for at most `tokens` positions of all sequences together.
    /// Of what no sequence has any more it keeps a text's worth, or all that there is room for.
    pub(crate) fn new(config: &ModelConfig, tokens: usize, keeps_all: bool) -> Cache {
        let limit = tokens.div_ceil(PAGE);
        Cache {
            key_values: KeyValues::new(config.layers, config.kv_heads, config.head_width),
            pages: Vec::new(),
            free: Vec::new(),
            limit,
            known: HashMap::new(),
            idle: VecDeque::new(),
            idle_limit: if keeps_all { limit } else { Cache::pages_for(config.context) },
            serial: 1,
        }
    }

    /// Pages that `tokens` positions need.
    pub(crate) fn pages_for(tokens: usize) -> usize {
        tokens.div_ceil(PAGE)
    }

    /// Pages that no sequence has.
    pub(crate) fn available(&self) -> usize {
        self.limit - self.pages.len() + self.free.len() + self.idle.len()
    }

    /// The most positions of all sequences together.
    pub(crate) fn capacity(&self) -> usize {
        self.limit.saturating_mul(PAGE)
    }

    /// One more page for a sequence.
    ///
    /// # Panics
    /// If none is available.
    pub(crate) fn take(&mut self, pages: &mut Pages) {
        if self.free.is_empty() && (self.pages.len() == self.limit || self.idle.len() > self.idle_limit) {
            self.forget();
        }
        let page = self.free.pop().unwrap_or_else(|| {
            assert!(self.pages.len() < self.limit, "the cache has no page left; sequences reserve theirs before they start");
            self.key_values.add_page();
            self.pages.push(Page::default());
            self.pages.len() - 1
        });
        self.pages[page].users = 1;
        pages.push(page);
    }

    /// The pages that are known of the beginning of a text, for a sequence that will not write to them. At least one token is left to
    /// compute.
    pub(crate) fn find(&mut self, tokens: &[u32]) -> (Pages, Known) {
        let (mut pages, mut known) = (Pages::new(), Known::default());
        for tokens in tokens[..tokens.len().saturating_sub(1)].chunks_exact(PAGE) {
            let Some(page) = self.known.get(&(known.serial, tokens.into())).copied() else { break };
            if self.pages[page].users == 0 {
                self.idle.retain(|idle| *idle != page);
            }
            self.pages[page].users += 1;
            known = Known { pages: known.pages + 1, serial: self.pages[page].serial };
            pages.push(page);
        }
        (pages, known)
    }

    /// Remember the pages of a sequence that became full, of which `tokens` are computed.
    pub(crate) fn remember(&mut self, pages: &[usize], tokens: &[u32], known: &mut Known) {
        for (page, tokens) in pages.iter().zip(tokens.chunks_exact(PAGE)).skip(known.pages) {
            let key = (known.serial, Box::from(tokens));
            let serial = match self.known.get(&key) {
                // Another sequence computed the same.
                Some(same) => self.pages[*same].serial,
                None => {
                    self.known.insert(key.clone(), *page);
                    (self.pages[*page].key, self.pages[*page].serial) = (Some(key), self.serial);
                    self.serial += 1;
                    self.serial - 1
                }
            };
            *known = Known { pages: known.pages + 1, serial };
        }
    }

    /// A sequence's pages, back.
    pub(crate) fn give_back(&mut self, pages: Pages) {
        // A text's end is forgotten before its beginning.
        for page in pages.into_iter().rev() {
            self.pages[page].users -= 1;
            match (self.pages[page].users, &self.pages[page].key) {
                (0, Some(_)) => self.idle.push_back(page),
                (0, None) => self.free.push(page),
                _ => {}
            }
        }
    }

    /// Free the page that has been idle longest.
    fn forget(&mut self) {
        if let Some(page) = self.idle.pop_front() {
            if let Some(key) = self.pages[page].key.take() {
                self.known.remove(&key);
            }
            self.free.push(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(tokens: usize) -> Cache {
        let config = crate::tests::table(model::Architecture::Llama).resolve(300).unwrap();
        Cache::new(&config, tokens, false)
    }

    /// Compute a text: the pages that were known and all pages.
    fn run(cache: &mut Cache, tokens: &[u32]) -> (usize, Pages) {
        let (mut pages, mut known) = cache.find(tokens);
        let found = known.pages;
        (found..Cache::pages_for(tokens.len())).for_each(|_| cache.take(&mut pages));
        cache.remember(&pages, tokens, &mut known);
        assert_eq!(known.pages, tokens.len() / PAGE);
        (found, pages)
    }

    #[test]
    fn a_beginning_is_found_while_it_runs_and_after() {
        let mut cache = cache(1000);
        let text: Vec<u32> = (0..200).collect();
        let (found, first) = run(&mut cache, &text);
        assert_eq!(found, 0);
        let (found, second) = run(&mut cache, &text[..130]);
        assert_eq!((found, &second[..2]), (2, &first[..2]));
        assert_ne!(second[2], first[2]);
        cache.give_back(first.clone());
        cache.give_back(second);
        assert_eq!(cache.available(), 16);
        let (pages, known) = cache.find(&text);
        assert_eq!((known.pages, &pages[..]), (3, &first[..3]));
        // One token has to be left to compute, and the same tokens elsewhere are another page.
        assert_eq!(cache.find(&text[..128]).1.pages, 1);
        assert_eq!(cache.find(&text[64..]).1.pages, 0);
        let mut other = text.clone();
        other[63] = 7;
        assert_eq!(cache.find(&other).1.pages, 0);
    }

    #[test]
    fn what_was_forgotten_is_not_found() {
        let texts: Vec<Vec<u32>> = (0..3).map(|text| (text..text + 129).collect()).collect();
        // Where idle pages are more than the three of the context of 160, the oldest make way; of a larger cache that is to be filled none.
        for (keeps_all, left) in [(false, [1, 2, 2]), (true, [2, 2, 2])] {
            let mut cache = Cache::new(&crate::tests::table(model::Architecture::Llama).resolve(300).unwrap(), 1000, keeps_all);
            for text in &texts {
                let (found, pages) = run(&mut cache, text);
                assert_eq!(found, 0);
                cache.give_back(pages);
            }
            assert_eq!(texts.iter().map(|text| cache.find(text).1.pages).collect::<Vec<_>>(), left);
        }
    }

    #[test]
    fn idle_pages_make_room() {
        let mut cache = cache(192);
        let (_, pages) = run(&mut cache, &(0..192).collect::<Vec<u32>>());
        cache.give_back(pages);
        assert_eq!(cache.available(), 3);
        let (found, pages) = run(&mut cache, &(1..193).collect::<Vec<u32>>());
        assert_eq!((found, pages.len(), cache.available()), (0, 3, 0));
    }
}
