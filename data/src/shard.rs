//! Rows as Parquet. A row is three lists: its tokens, the lengths of its documents, and how many tokens of each document are prompt;
//! where a teacher's probabilities go along, five more.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::*;

use crate::Error;
use crate::align::Targets;

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
    /// The targets of some tokens, which are counted over the whole row.
    pub targets: Targets,
    /// For each document the temperature at which its targets were taken, 0 where it has none.
    pub temperatures: Vec<f32>,
}

/// Writes blocks of rows into one shard.
pub(crate) struct ShardWriter {
    path: PathBuf,
    writer: BatchedWriter<BufWriter<File>>,
    has_teacher: bool,
    block: Vec<StoredRow>,
    block_tokens: usize,
    blocks: Vec<u32>,
}

const WHOLE: [&str; 3] = ["tokens", "documents", "prompts"];
const TEACHER_WHOLE: [&str; 2] = ["teacher_at", "teacher_ids"];
const TEACHER_REAL: [&str; 3] = ["teacher_logprobs", "teacher_tails", "teacher_temperatures"];

impl ShardWriter {
    pub fn create(path: &Path, has_teacher: bool) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::file("create", path))?;
        let list = |kind: DataType| move |name: &str| Field::new(name.into(), DataType::List(Box::new(kind.clone())));
        let (whole, real) = (list(DataType::UInt32), list(DataType::Float32));
        let mut schema: Schema = WHOLE.map(&whole).into_iter().collect();
        if has_teacher {
            schema.extend(TEACHER_WHOLE.map(&whole).into_iter().chain(TEACHER_REAL.map(&real)));
        }
        let writer =
            ParquetWriter::new(BufWriter::new(file)).set_parallel(false).batched(&schema).map_err(Error::parquet("write", path))?;
        Ok(Self { path: path.to_owned(), writer, has_teacher, block: Vec::new(), block_tokens: 0, blocks: Vec::new() })
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
        let rows = &self.block;
        let whole: [fn(&StoredRow) -> &[u32]; 5] =
            [|row| &row.tokens, |row| &row.documents, |row| &row.prompts, |row| &row.targets.at, |row| &row.targets.ids];
        let real: [fn(&StoredRow) -> &[f32]; 3] = [|row| &row.targets.logprobs, |row| &row.targets.tails, |row| &row.temperatures];
        let mut columns: Vec<Column> =
            WHOLE.iter().chain(&TEACHER_WHOLE).zip(whole).map(|(name, of)| list::<UInt32Type>(name, DataType::UInt32, rows, of)).collect();
        columns.extend(TEACHER_REAL.iter().zip(real).map(|(name, of)| list::<Float32Type>(name, DataType::Float32, rows, of)));
        if !self.has_teacher {
            columns.truncate(WHOLE.len());
        }
        let mut write = |columns| self.writer.write_batch(&DataFrame::new(self.block.len(), columns)?);
        write(columns).map_err(Error::parquet("write", &self.path))?;
        self.blocks.push(self.block.len() as u32);
        self.block.clear();
        self.block_tokens = 0;
        Ok(())
    }
}

fn list<T: PolarsNumericType>(name: &str, kind: DataType, rows: &[StoredRow], of: fn(&StoredRow) -> &[T::Native]) -> Column {
    let values = rows.iter().map(|row| of(row).len()).sum();
    let mut builder = ListPrimitiveChunkedBuilder::<T>::new(name.into(), rows.len(), values, kind);
    for row in rows {
        builder.append_slice(of(row));
    }
    builder.finish().into_column()
}

/// The bytes of a shard's targets as they are packed.
pub(crate) fn packed_target_bytes(path: &Path) -> Result<u64, Error> {
    let file = File::open(path).map_err(Error::file("read", path))?;
    let mut reader = ParquetReader::new(file);
    let metadata = reader.get_metadata().map_err(Error::parquet("read", path))?;
    let columns = metadata.row_groups.iter().flat_map(|group| group.parquet_columns());
    let of_teacher = columns.filter(|column| column.descriptor().path_in_schema.first().is_some_and(|name| name.starts_with("teacher_")));
    Ok(of_teacher.map(|column| column.compressed_size() as u64).sum())
}

/// Reads `count` rows of a shard from `first` on. `top_k` is the number of alternatives of a target, 0 without a teacher.
pub(crate) fn read_rows(path: &Path, first: usize, count: usize, top_k: usize) -> Result<Vec<StoredRow>, Error> {
    let file = File::open(path).map_err(Error::file("read", path))?;
    let reader = ParquetReader::new(file).read_parallel(ParallelStrategy::None).with_slice(Some((first, count)));
    let frame = reader.finish().map_err(Error::parquet("read", path))?;
    if frame.height() != count {
        return Err(Error::Dataset {
            path: path.to_owned(),
            why: format!("{count} rows from row {first} on are needed, it has {}", frame.height()),
        });
    }
    let mut rows = vec![StoredRow::default(); count];
    let mut fill = || -> PolarsResult<()> {
        whole(&frame, "tokens", &mut rows, |row| &mut row.tokens)?;
        whole(&frame, "documents", &mut rows, |row| &mut row.documents)?;
        whole(&frame, "prompts", &mut rows, |row| &mut row.prompts)?;
        if top_k > 0 {
            whole(&frame, "teacher_at", &mut rows, |row| &mut row.targets.at)?;
            whole(&frame, "teacher_ids", &mut rows, |row| &mut row.targets.ids)?;
            real(&frame, "teacher_logprobs", &mut rows, |row| &mut row.targets.logprobs)?;
            real(&frame, "teacher_tails", &mut rows, |row| &mut row.targets.tails)?;
            real(&frame, "teacher_temperatures", &mut rows, |row| &mut row.temperatures)?;
        }
        Ok(())
    };
    fill().map_err(Error::parquet("read", path))?;
    match rows.iter().position(|row| !is_consistent(row, top_k)) {
        Some(at) => Err(Error::Dataset {
            path: path.to_owned(),
            why: format!("the lengths in row {} do not fit together; ingest again", first + at),
        }),
        None => Ok(rows),
    }
}

fn whole(frame: &DataFrame, name: &str, rows: &mut [StoredRow], of: fn(&mut StoredRow) -> &mut Vec<u32>) -> PolarsResult<()> {
    let column = frame.column(name)?.list()?.clone();
    for (at, row) in rows.iter_mut().enumerate() {
        if let Some(values) = column.get_as_series(at) {
            of(row).extend(values.u32()?.into_no_null_iter());
        }
    }
    Ok(())
}

fn real(frame: &DataFrame, name: &str, rows: &mut [StoredRow], of: fn(&mut StoredRow) -> &mut Vec<f32>) -> PolarsResult<()> {
    let column = frame.column(name)?.list()?.clone();
    for (at, row) in rows.iter_mut().enumerate() {
        if let Some(values) = column.get_as_series(at) {
            of(row).extend(values.f32()?.into_no_null_iter());
        }
    }
    Ok(())
}

fn is_consistent(row: &StoredRow, top_k: usize) -> bool {
    let total: u64 = row.documents.iter().map(|&len| u64::from(len)).sum();
    let Targets { at, ids, logprobs, tails } = &row.targets;
    total == row.tokens.len() as u64
        && row.documents.len() == row.prompts.len()
        && row.documents.iter().zip(&row.prompts).all(|(len, prompt)| prompt <= len)
        && at.is_sorted_by(|one, next| one < next)
        && at.last().is_none_or(|&last| u64::from(last) < total)
        && [ids.len(), logprobs.len()] == [at.len() * top_k; 2]
        && tails.len() == at.len()
        && (top_k == 0 || row.temperatures.len() == row.documents.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seed: u32, len: usize) -> StoredRow {
        let tokens = (0..len as u32).map(|at| at.wrapping_mul(seed)).collect();
        StoredRow { tokens, documents: vec![1, len as u32 - 1], prompts: vec![1, 0], ..StoredRow::default() }
    }

    #[test]
    fn rows_come_back_from_any_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let rows: Vec<StoredRow> = (0..700).map(|seed| row(seed, 1000 + seed as usize)).collect();
        let mut writer = ShardWriter::create(&path, false).unwrap();
        for row in &rows {
            writer.push(row.clone()).unwrap();
        }
        let blocks = writer.finish().unwrap();
        assert!(blocks.len() > 2, "{blocks:?}");
        assert_eq!(blocks.iter().sum::<u32>(), 700);
        for (first, count) in [(0, 700), (0, 1), (699, 1), (blocks[0] as usize - 1, 2), (300, 50)] {
            assert_eq!(read_rows(&path, first, count, 0).unwrap(), rows[first..first + count]);
        }
        assert!(read_rows(&path, 690, 20, 0).unwrap_err().to_string().contains("20 rows from row 690"));
        assert!(matches!(read_rows(&path, 0, 1, 2), Err(Error::Parquet { .. })), "a teacher is wanted that is not there");
    }

    #[test]
    fn targets_come_back_with_their_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let targets =
            Targets { at: vec![1, 7], ids: vec![4, 5, 6, 0], logprobs: vec![-0.5, -1.0, -0.25, f32::NEG_INFINITY], tails: vec![0.1, 0.2] };
        let rows =
            [StoredRow { targets, temperatures: vec![1.0, 0.0], ..row(1, 9) }, StoredRow { temperatures: vec![0.0, 0.0], ..row(2, 9) }];
        let mut writer = ShardWriter::create(&path, true).unwrap();
        rows.iter().for_each(|row| assert!(!writer.push(row.clone()).unwrap()));
        writer.finish().unwrap();
        assert_eq!(read_rows(&path, 0, 2, 2).unwrap(), rows);
        assert!(packed_target_bytes(&path).unwrap() > 0);
        assert!(read_rows(&path, 0, 2, 3).unwrap_err().to_string().contains("do not fit together"));
    }

    #[test]
    fn a_file_that_is_no_shard_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        std::fs::write(&path, b"PAR1 nothing of the kind").unwrap();
        assert!(matches!(read_rows(&path, 0, 1, 0), Err(Error::Parquet { .. })));
    }
}
