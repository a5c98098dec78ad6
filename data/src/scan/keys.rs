//! What the rules that compare traces need to know of each: numbers in columns, on the disk, so that memory does not grow with the
//! traces. Blocks of rows lie one after the other, and in a block column after column.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::rules::near_duplicates::BANDS;
use crate::scan::record::Facts;
use crate::words::mix;

/// Rows in a block.
const BLOCK: usize = 4096;

/// The columns of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Where its record begins.
    Offset,
    /// [`Facts`] as bits.
    Facts,
    /// Question and text, with case and white space evened out.
    Identity,
    /// The question, evened out likewise.
    Question,
    /// The trace's own name; 0 where it has none.
    Id,
    /// One of the bands of the near duplicates.
    Band(usize),
}

const COLUMNS: usize = 5 + BANDS;

impl Column {
    fn index(self) -> usize {
        match self {
            Column::Offset => 0,
            Column::Facts => 1,
            Column::Identity => 2,
            Column::Question => 3,
            Column::Id => 4,
            Column::Band(band) => 5 + band,
        }
    }
}

/// The key of a trace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Key {
    pub offset: u64,
    pub facts: Facts,
    pub identity: u64,
    pub question: u64,
    pub id: u64,
    pub bands: [u64; BANDS],
}

/// The key of a trace's name.
pub(crate) fn id(name: &str) -> u64 {
    if name.is_empty() {
        return 0;
    }
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    mix(hash).max(1)
}

/// Writes keys.
pub(crate) struct KeysWriter {
    path: PathBuf,
    file: BufWriter<File>,
    block: Vec<[u64; COLUMNS]>,
    count: usize,
}

impl KeysWriter {
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::file("create", path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 18, file), block: Vec::new(), count: 0 })
    }

    pub fn push(&mut self, key: &Key) -> Result<(), Error> {
        let mut row = [0; COLUMNS];
        row[..5].copy_from_slice(&[key.offset, key.facts.to_bits(), key.identity, key.question, key.id]);
        row[5..].copy_from_slice(&key.bands);
        self.block.push(row);
        self.count += 1;
        if self.block.len() == BLOCK { self.write_block() } else { Ok(()) }
    }

    /// How many keys there are.
    pub fn finish(mut self) -> Result<usize, Error> {
        self.write_block()?;
        self.file.flush().map_err(Error::file("write", &self.path))?;
        Ok(self.count)
    }

    fn write_block(&mut self) -> Result<(), Error> {
        for column in 0..COLUMNS {
            for row in &self.block {
                self.file.write_all(&row[column].to_le_bytes()).map_err(Error::file("write", &self.path))?;
            }
        }
        self.block.clear();
        Ok(())
    }
}

/// Keys that were written.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    path: PathBuf,
    count: usize,
}

impl Keys {
    /// Keys of which it is known how many there are; none where the file has another length.
    pub fn open(path: &Path, count: usize) -> Option<Self> {
        let len_bytes = std::fs::metadata(path).ok()?.len();
        (len_bytes == (count * COLUMNS * 8) as u64).then(|| Self { path: path.to_owned(), count })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Single values.
    pub fn lookup(&self) -> Result<KeyLookup, Error> {
        let file = File::open(&self.path).map_err(Error::file("read", &self.path))?;
        Ok(KeyLookup { path: self.path.clone(), file, count: self.count })
    }

    /// Calls `take` with every value of a column, in order.
    pub fn each(&self, column: Column, mut take: impl FnMut(u64)) -> Result<(), Error> {
        let mut file = File::open(&self.path).map_err(Error::file("read", &self.path))?;
        let mut bytes = vec![0; BLOCK * 8];
        for first in (0..self.count).step_by(BLOCK) {
            let part = &mut bytes[..BLOCK.min(self.count - first) * 8];
            read_at(&mut file, place(self.count, column, first), part).map_err(Error::file("read", &self.path))?;
            part.chunks_exact(8).for_each(|value| take(u64::from_le_bytes(value.try_into().expect("eight bytes"))));
        }
        Ok(())
    }
}

/// Single values of keys.
pub(crate) struct KeyLookup {
    path: PathBuf,
    file: File,
    count: usize,
}

impl KeyLookup {
    pub fn get(&mut self, column: Column, row: usize) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        read_at(&mut self.file, place(self.count, column, row), &mut bytes).map_err(Error::file("read", &self.path))?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Where the value of a row stands in the file.
fn place(count: usize, column: Column, row: usize) -> u64 {
    let first = row / BLOCK * BLOCK;
    let rows = BLOCK.min(count - first);
    ((first * COLUMNS + column.index() * rows + row - first) * 8) as u64
}

fn read_at(file: &mut File, at: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_back_over_the_borders_of_blocks() {
        let folder = tempfile::tempdir().unwrap();
        for count in [0, 1, BLOCK, BLOCK + 1, 2 * BLOCK + 77] {
            let path = folder.path().join("keys");
            let mut writer = KeysWriter::create(&path).unwrap();
            for row in 0..count as u64 {
                let bands = std::array::from_fn(|band| row * 100 + band as u64);
                let facts = Facts { is_kept: true, ..Facts::default() };
                writer.push(&Key { offset: row * 7, facts, identity: row, question: !row, id: id("x"), bands }).unwrap();
            }
            assert_eq!(writer.finish().unwrap(), count);
            let keys = Keys::open(&path, count).unwrap();
            let column = |column: Column| {
                let mut values = Vec::new();
                keys.each(column, |value| values.push(value)).unwrap();
                values
            };
            assert_eq!(column(Column::Offset), (0..count as u64).map(|row| row * 7).collect::<Vec<_>>());
            assert_eq!(column(Column::Question), (0..count as u64).map(|row| !row).collect::<Vec<_>>());
            assert_eq!(column(Column::Band(19)), (0..count as u64).map(|row| row * 100 + 19).collect::<Vec<_>>());
            if count > 0 {
                let mut lookup = keys.lookup().unwrap();
                for row in [0, count / 2, count - 1] {
                    assert_eq!(lookup.get(Column::Band(3), row).unwrap(), row as u64 * 100 + 3);
                }
            }
            assert!(Keys::open(&path, count + 1).is_none());
        }
    }
}
