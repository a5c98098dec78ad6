//! Documents on their way from the traces to the rows: tokens and targets in a file, what decides about them in memory (20 bytes
//! each). So a choice that needs all documents, such as which of many traces of one question stay, needs no second look at the traces.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::align::Targets;
use crate::document::Document;

/// What is known of a staged document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Staged {
    /// The trace's number in the pool.
    pub trace: u32,
    pub len: u32,
    pub prompt_len: u32,
    /// Tokens that have a target.
    pub targets: u32,
    /// How often it goes into the dataset.
    pub copies: u32,
}

/// A document as it is staged: numbers of four bytes, little-endian.
pub(crate) fn bytes_of(document: &Document) -> Vec<u8> {
    let Targets { at, ids, logprobs, tails } = &document.targets;
    let mut bytes = Vec::with_capacity(4 * (document.tokens.len() + at.len() + 2 * ids.len() + tails.len()));
    [&document.tokens, at, ids].into_iter().flatten().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    logprobs.iter().chain(tails).for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    bytes
}

/// Documents in the order in which they came.
pub(crate) struct Stage {
    path: PathBuf,
    file: BufWriter<File>,
    documents: Vec<Staged>,
    top_k: usize,
}

impl Stage {
    /// `top_k` is the number of alternatives of each target.
    pub fn create(path: &Path, top_k: usize) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::file("create", path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 20, file), documents: Vec::new(), top_k })
    }

    /// `bytes` are those of the document, which are made where it is made, on many threads.
    pub fn push(&mut self, trace: u32, document: &Document, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::file("write", &self.path))?;
        let at = &document.targets.at;
        let (len, prompt_len, targets) = (document.tokens.len() as u32, document.prompt_len as u32, at.len() as u32);
        self.documents.push(Staged { trace, len, prompt_len, targets, copies: 1 });
        Ok(())
    }

    pub fn documents(&self) -> &[Staged] {
        &self.documents
    }

    pub fn documents_mut(&mut self) -> &mut [Staged] {
        &mut self.documents
    }

    /// Nothing more comes.
    pub fn finish(mut self) -> Result<Replays, Error> {
        self.file.flush().map_err(Error::file("write", &self.path))?;
        Ok(Replays { path: self.path, documents: self.documents, top_k: self.top_k })
    }
}

/// All staged documents, to be read as often as one of them is wanted.
pub(crate) struct Replays {
    path: PathBuf,
    documents: Vec<Staged>,
    top_k: usize,
}

impl Replays {
    pub fn documents(&self) -> &[Staged] {
        &self.documents
    }

    /// The documents of which there are more than `round` copies, in their order.
    pub fn round(&self, round: u32) -> Result<Replay<'_>, Error> {
        let file = File::open(&self.path).map_err(Error::file("read", &self.path))?;
        Ok(Replay {
            path: &self.path,
            file: BufReader::with_capacity(1 << 20, file),
            left: self.documents.iter(),
            top_k: self.top_k,
            round,
            bytes: Vec::new(),
        })
    }
}

/// Staged documents, one after the other.
pub(crate) struct Replay<'a> {
    path: &'a Path,
    file: BufReader<File>,
    left: std::slice::Iter<'a, Staged>,
    top_k: usize,
    round: u32,
    /// Of the last document.
    bytes: Vec<u8>,
}

impl Replay<'_> {
    pub fn next(&mut self) -> Result<Option<(Staged, Document)>, Error> {
        for &staged in self.left.by_ref() {
            let targets = staged.targets as usize;
            let counts = [staged.len as usize, targets, targets * self.top_k, targets * self.top_k, targets];
            if staged.copies <= self.round {
                self.file.seek_relative(counts.iter().sum::<usize>() as i64 * 4).map_err(Error::file("read", self.path))?;
                continue;
            }
            self.bytes.resize(counts.iter().sum::<usize>() * 4, 0);
            self.file.read_exact(&mut self.bytes).map_err(Error::file("read", self.path))?;
            let mut rest = self.bytes.as_slice();
            let [tokens, at, ids, logprobs, tails] = counts.map(|count| rest.split_off(..count * 4).expect("it was read"));
            let [tokens, at, ids] = [tokens, at, ids].map(|bytes| numbers(bytes, u32::from_le_bytes));
            let [logprobs, tails] = [logprobs, tails].map(|bytes| numbers(bytes, f32::from_le_bytes));
            let targets = Targets { at, ids, logprobs, tails };
            return Ok(Some((staged, Document { tokens, prompt_len: staged.prompt_len as usize, targets })));
        }
        Ok(None)
    }
}

fn numbers<T>(bytes: &[u8], of: impl Fn([u8; 4]) -> T) -> Vec<T> {
    bytes.chunks_exact(4).map(|bytes| of(bytes.try_into().expect("four bytes"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_back_as_often_as_they_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Stage::create(&folder.path().join("staged"), 2).unwrap();
        let targets =
            Targets { at: vec![1, 2], ids: vec![5, 6, 7, 0], logprobs: vec![-0.5, -1.5, -0.25, f32::NEG_INFINITY], tails: vec![0.25, 0.5] };
        let documents = [
            Document { tokens: vec![1, 2, 3], prompt_len: 1, targets },
            Document { tokens: vec![4], prompt_len: 0, targets: Targets::default() },
            Document { tokens: vec![8, 9], prompt_len: 1, targets: Targets::default() },
        ];
        for (trace, document) in documents.iter().enumerate() {
            stage.push(trace as u32, document, &bytes_of(document)).unwrap();
        }
        for (staged, copies) in stage.documents_mut().iter_mut().zip([2, 0, 1]) {
            staged.copies = copies;
        }
        let replays = stage.finish().unwrap();
        for (round, expected) in [(0, vec![0, 2]), (1, vec![0]), (2, vec![])] {
            let mut replay = replays.round(round).unwrap();
            for trace in expected {
                let (staged, document) = replay.next().unwrap().unwrap();
                assert_eq!((staged.trace, &document), (trace, &documents[trace as usize]));
            }
            assert!(replay.next().unwrap().is_none());
        }
    }
}
