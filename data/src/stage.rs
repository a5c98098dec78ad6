//! Documents on their way from the traces to the rows: tokens in a file, what decides about them in memory (24 bytes each). So a
//! choice that needs all documents, such as which of many traces of one question stay, needs no second look at the traces.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::document::Document;

/// What is known of a staged document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Staged {
    pub source: u32,
    pub len: u32,
    pub prompt_len: u32,
    pub line: u64,
}

/// Documents in the order in which they came.
pub(crate) struct Stage {
    path: PathBuf,
    file: BufWriter<File>,
    documents: Vec<Staged>,
}

impl Stage {
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::file("create", path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 18, file), documents: Vec::new() })
    }

    pub fn push(&mut self, source: usize, line: u64, document: &Document) -> Result<(), Error> {
        let bytes: Vec<u8> = document.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        self.file.write_all(&bytes).map_err(Error::file("write", &self.path))?;
        let (len, prompt_len) = (document.tokens.len() as u32, document.prompt_len as u32);
        self.documents.push(Staged { source: source as u32, len, prompt_len, line });
        Ok(())
    }

    pub fn documents(&self) -> &[Staged] {
        &self.documents
    }

    /// All documents again, in their order.
    pub fn finish(mut self) -> Result<Replay, Error> {
        self.file.flush().map_err(Error::file("write", &self.path))?;
        let file = File::open(&self.path).map_err(Error::file("read", &self.path))?;
        Ok(Replay { path: self.path, file: BufReader::with_capacity(1 << 18, file), documents: self.documents.into_iter() })
    }
}

/// The staged documents, one after the other.
pub(crate) struct Replay {
    path: PathBuf,
    file: BufReader<File>,
    documents: std::vec::IntoIter<Staged>,
}

impl Replay {
    /// How many documents are left.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    pub fn next(&mut self) -> Result<Option<(Staged, Document)>, Error> {
        let Some(staged) = self.documents.next() else { return Ok(None) };
        let mut bytes = vec![0; staged.len as usize * 4];
        self.file.read_exact(&mut bytes).map_err(Error::file("read", &self.path))?;
        let tokens = bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect();
        Ok(Some((staged, Document { tokens, prompt_len: staged.prompt_len as usize })))
    }
}
