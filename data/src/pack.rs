//! Whole documents into rows of a fixed length, best fit first: a document goes where the least room is left over. No document is
//! cut, because a chain of thought without its beginning teaches nothing. Source: best-fit decreasing, Johnson 1973; for training
//! rows Ding et al. 2024, arXiv:2404.10830.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use crate::document::Document;
use crate::manifest::sha256_of_file;
use crate::shard::{ShardWriter, StoredRow};
use crate::stage::Replays;
use crate::{Error, Progress, Shard, Stage};

/// Documents are packed in windows of so many, or of so many tokens.
const WINDOW_DOCUMENTS: usize = 1 << 16;
const WINDOW_TOKENS: usize = 1 << 22;

/// Packs the staged documents into shards. `temperature` gives that of a trace's targets. While a window is read and packed, the one
/// before it is written on a thread of its own.
pub(crate) fn pack(
    context: usize,
    documents: &Replays,
    has_teacher: bool,
    temperature: &dyn Fn(u32) -> f32,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Shard>, Error> {
    let total = documents.documents().iter().map(|staged| u64::from(staged.copies)).sum();
    let rounds = documents.documents().iter().map(|staged| staged.copies).max().unwrap_or(0);
    progress(Progress { stage: Stage::Pack, done: 0, total, traces: total, kept: total });
    std::thread::scope(|scope| {
        let (sender, windows) = mpsc::sync_channel::<Vec<StoredRow>>(1);
        let writing = scope.spawn(move || {
            let mut shards = Shards::new(folder, has_teacher);
            windows.into_iter().flatten().try_for_each(|row| shards.push(row))?;
            shards.finish()
        });
        let mut done = 0;
        'rounds: for round in 0..rounds {
            let mut replay = documents.round(round)?;
            loop {
                let (mut window, mut tokens) = (Vec::new(), 0);
                while window.len() < WINDOW_DOCUMENTS && tokens < WINDOW_TOKENS {
                    let Some((staged, document)) = replay.next()? else { break };
                    tokens += document.tokens.len();
                    window.push((temperature(staged.trace), document));
                }
                if window.is_empty() {
                    break;
                }
                let lengths: Vec<usize> = window.iter().map(|(_, document)| document.tokens.len()).collect();
                let stored = |row: Vec<usize>| {
                    let mut stored = StoredRow { tokens: Vec::with_capacity(context), ..StoredRow::default() };
                    row.into_iter().for_each(|index| add(&mut stored, &window[index].1, window[index].0));
                    stored
                };
                // A writer that has gone away says why when it is joined.
                if sender.send(best_fit(&lengths, context).into_iter().map(stored).collect()).is_err() {
                    break 'rounds;
                }
                done += window.len() as u64;
                progress(Progress { stage: Stage::Pack, done, total, traces: total, kept: total });
            }
        }
        drop(sender);
        writing.join().expect("writing does not panic")
    })
}

/// Puts a document at the end of a row.
fn add(row: &mut StoredRow, document: &Document, temperature: f32) {
    let first = row.tokens.len() as u32;
    row.tokens.extend_from_slice(&document.tokens);
    row.documents.push(document.tokens.len() as u32);
    row.prompts.push(document.prompt_len as u32);
    let targets = &document.targets;
    row.targets.at.extend(targets.at.iter().map(|at| first + at));
    row.targets.ids.extend_from_slice(&targets.ids);
    row.targets.logprobs.extend_from_slice(&targets.logprobs);
    row.targets.tails.extend_from_slice(&targets.tails);
    row.temperatures.push(if targets.at.is_empty() { 0.0 } else { temperature });
}

/// A sequence of shards, one of which is being written.
pub(crate) struct Shards {
    folder: PathBuf,
    has_teacher: bool,
    open: Option<(String, ShardWriter)>,
    finished: Vec<Shard>,
}

impl Shards {
    pub(crate) fn new(folder: &Path, has_teacher: bool) -> Self {
        Self { folder: folder.to_owned(), has_teacher, open: None, finished: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: StoredRow) -> Result<(), Error> {
        let (_, writer) = match &mut self.open {
            Some(open) => open,
            closed => {
                let name = format!("rows-{:05}.parquet", self.finished.len());
                let writer = ShardWriter::create(&self.folder.join(&name), self.has_teacher)?;
                closed.insert((name, writer))
            }
        };
        if writer.push(row)? { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), Error> {
        if let Some((file, writer)) = self.open.take() {
            let blocks = writer.finish()?;
            let (len_bytes, sha256) = sha256_of_file(&self.folder.join(&file))?;
            self.finished.push(Shard { file, len_bytes, sha256, blocks });
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Vec<Shard>, Error> {
        self.close()?;
        Ok(self.finished)
    }
}

/// The documents of each row, as indices into `lengths`. Every length is at least 1 and at most `capacity`.
/// The rows come in the order of their first documents, the documents of a row in their own order.
pub(crate) fn best_fit(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut longest_first: Vec<usize> = (0..lengths.len()).collect();
    longest_first.sort_by_key(|&index| (std::cmp::Reverse(lengths[index]), index));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // The rows that have a certain room left.
    let mut by_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in longest_first {
        let length = lengths[index];
        let room = by_room.range(length..).next().map(|(&room, _)| room);
        let (row, left) = match room {
            Some(room) => {
                let with_room = by_room.get_mut(&room).expect("this room was found");
                let row = with_room.pop().expect("no entry is empty");
                if with_room.is_empty() {
                    by_room.remove(&room);
                }
                (row, room - length)
            }
            None => {
                rows.push(Vec::new());
                (rows.len() - 1, capacity - length)
            }
        };
        rows[row].push(index);
        if left > 0 {
            by_room.entry(left).or_default().push(row);
        }
    }
    for row in &mut rows {
        row.sort_unstable();
    }
    rows.sort_unstable_by_key(|row| row[0]);
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_document_goes_where_the_least_room_is_left() {
        assert_eq!(best_fit(&[6, 5, 4, 3, 2], 10), [vec![0, 2], vec![1, 3, 4]]);
        assert_eq!(best_fit(&[10, 1, 10], 10), [vec![0], vec![1], vec![2]]);
        assert!(best_fit(&[], 10).is_empty());
    }

    proptest! {
        #[test]
        fn every_document_is_in_one_row_and_no_row_is_too_long(lengths in prop::collection::vec(1usize..=64, 0..200)) {
            let rows = best_fit(&lengths, 64);
            let mut seen: Vec<usize> = rows.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for row in &rows {
                prop_assert!(row.iter().map(|&index| lengths[index]).sum::<usize>() <= 64);
            }
            // Any two rows together are more than full, so that at most twice the least number of rows is used.
            let total: usize = lengths.iter().sum();
            prop_assert!(rows.len() <= 2 * total.div_ceil(64).max(1));
        }
    }
}
