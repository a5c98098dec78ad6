//! Rows as Parquet: the only place, with `sidecar.rs`, that knows polars. A row is three lists: its tokens, the lengths of its
//! documents, and how many tokens of each document are prompt.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::*;

use crate::Error;

/// A block ends when it holds so many tokens. It is what the reader loads at once.
const BLOCK_TOKENS: usize = 1 << 18;
/// A shard ends after so many blocks: about 16 million tokens.
pub(crate) const SHARD_BLOCKS: usize = 64;

/// One packed row as it is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredRow {
    pub tokens: Vec<u32>,
    /// The length of each document; they sum to the number of tokens.
    pub documents: Vec<u32>,
    /// How many tokens of each document are prompt.
    pub prompts: Vec<u32>,
}

/// Writes blocks of rows into one shard.
pub(crate) struct ShardWriter {
    path: PathBuf,
    writer: BatchedWriter<BufWriter<File>>,
    block: Vec<StoredRow>,
    block_tokens: usize,
    blocks: Vec<u32>,
}

impl ShardWriter {
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::file("create", path))?;
        let list = || DataType::List(Box::new(DataType::UInt32));
        let schema: Schema = ["tokens", "documents", "prompts"].map(|name| Field::new(name.into(), list())).into_iter().collect();
        let writer =
            ParquetWriter::new(BufWriter::new(file)).set_parallel(false).batched(&schema).map_err(Error::parquet("write", path))?;
        Ok(Self { path: path.to_owned(), writer, block: Vec::new(), block_tokens: 0, blocks: Vec::new() })
    }

    /// Adds a row; true when the shard is full.
    pub fn push(&mut self, row: StoredRow) -> Result<bool, Error> {
        self.block_tokens += row.tokens.len();
        self.block.push(row);
        if self.block_tokens >= BLOCK_TOKENS {
            self.write_block()?;
        }
        Ok(self.blocks.len() >= SHARD_BLOCKS)
    }

    /// Writes what is left, and returns the number of rows of each block.
    pub fn finish(mut self) -> Result<Vec<u32>, Error> {
        self.write_block()?;
        self.writer.finish().map_err(Error::parquet("write", &self.path))?;
        Ok(self.blocks)
    }

    fn write_block(&mut self) -> Result<(), Error> {
        if self.block.is_empty() {
            return Ok(());
        }
        let columns = vec![
            list_column("tokens", &self.block, |row| &row.tokens),
            list_column("documents", &self.block, |row| &row.documents),
            list_column("prompts", &self.block, |row| &row.prompts),
        ];
        let mut write = |columns| self.writer.write_batch(&DataFrame::new(self.block.len(), columns)?);
        write(columns).map_err(Error::parquet("write", &self.path))?;
        self.blocks.push(self.block.len() as u32);
        self.block.clear();
        self.block_tokens = 0;
        Ok(())
    }
}

fn list_column(name: &str, rows: &[StoredRow], of: impl Fn(&StoredRow) -> &Vec<u32>) -> Column {
    let values = rows.iter().map(|row| of(row).len()).sum();
    let mut builder = ListPrimitiveChunkedBuilder::<UInt32Type>::new(name.into(), rows.len(), values, DataType::UInt32);
    for row in rows {
        builder.append_slice(of(row));
    }
    builder.finish().into_column()
}

/// Reads `count` rows of a shard from `first` on.
pub(crate) fn read_rows(path: &Path, first: usize, count: usize) -> Result<Vec<StoredRow>, Error> {
    let file = File::open(path).map_err(Error::file("read", path))?;
    let reader = ParquetReader::new(file).read_parallel(ParallelStrategy::None).with_slice(Some((first, count)));
    let frame = reader.finish().map_err(Error::parquet("read", path))?;
    if frame.height() != count {
        return Err(Error::Dataset {
            path: path.to_owned(),
            why: format!("{count} rows from row {first} on are needed, it has {}", frame.height()),
        });
    }
    let lists = |name: &str| lists(&frame, name).map_err(Error::parquet("read", path));
    let rows: Vec<StoredRow> = lists("tokens")?
        .into_iter()
        .zip(lists("documents")?)
        .zip(lists("prompts")?)
        .map(|((tokens, documents), prompts)| StoredRow { tokens, documents, prompts })
        .collect();
    match rows.iter().position(|row| !is_consistent(row)) {
        Some(at) => Err(Error::Dataset {
            path: path.to_owned(),
            why: format!("the lengths in row {} do not fit together; ingest again", first + at),
        }),
        None => Ok(rows),
    }
}

fn lists(frame: &DataFrame, name: &str) -> PolarsResult<Vec<Vec<u32>>> {
    let column = frame.column(name)?.list()?.clone();
    (0..column.len())
        .map(|at| match column.get_as_series(at) {
            Some(values) => Ok(values.u32()?.into_no_null_iter().collect()),
            None => Ok(Vec::new()),
        })
        .collect()
}

fn is_consistent(row: &StoredRow) -> bool {
    let total: u64 = row.documents.iter().map(|&len| u64::from(len)).sum();
    total == row.tokens.len() as u64
        && row.documents.len() == row.prompts.len()
        && row.documents.iter().zip(&row.prompts).all(|(len, prompt)| prompt <= len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seed: u32, len: usize) -> StoredRow {
        let tokens = (0..len as u32).map(|at| at.wrapping_mul(seed)).collect();
        StoredRow { tokens, documents: vec![1, len as u32 - 1], prompts: vec![1, 0] }
    }

    #[test]
    fn rows_come_back_from_any_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let rows: Vec<StoredRow> = (0..700).map(|seed| row(seed, 1000 + seed as usize)).collect();
        let mut writer = ShardWriter::create(&path).unwrap();
        for row in &rows {
            writer.push(row.clone()).unwrap();
        }
        let blocks = writer.finish().unwrap();
        assert!(blocks.len() > 2, "{blocks:?}");
        assert_eq!(blocks.iter().sum::<u32>(), 700);
        for (first, count) in [(0, 700), (0, 1), (699, 1), (blocks[0] as usize - 1, 2), (300, 50)] {
            assert_eq!(read_rows(&path, first, count).unwrap(), rows[first..first + count]);
        }
        assert!(read_rows(&path, 690, 20).unwrap_err().to_string().contains("20 rows from row 690"));
    }

    #[test]
    fn a_file_that_is_no_shard_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        std::fs::write(&path, b"PAR1 nothing of the kind").unwrap();
        assert!(matches!(read_rows(&path, 0, 1), Err(Error::Parquet { .. })));
    }
}
