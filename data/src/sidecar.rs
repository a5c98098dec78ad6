//! `dropped.parquet`: every row that is not in the dataset, with its file, line, rule and detail.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::*;

use crate::Error;
use crate::rules::Rule;

/// Entries that are collected before they are written.
const BLOCK_ENTRIES: usize = 16_384;

const TEXTS: [&str; 4] = ["source", "rule", "detail", "excerpt"];

#[derive(Default)]
struct Block {
    lines: Vec<u64>,
    texts: [Vec<String>; 4],
}

/// A row that is not in the dataset.
pub(crate) struct Entry<'a> {
    pub source: &'a str,
    pub line: u64,
    pub rule: Rule,
    pub detail: String,
    pub excerpt: String,
}

/// Writes the dropped rows.
pub(crate) struct Sidecar {
    path: PathBuf,
    writer: BatchedWriter<BufWriter<File>>,
    block: Block,
}

impl Sidecar {
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::file("create", path))?;
        let texts = TEXTS.map(|name| Field::new(name.into(), DataType::String));
        let schema: Schema = [Field::new("line".into(), DataType::UInt64)].into_iter().chain(texts).collect();
        let writer =
            ParquetWriter::new(BufWriter::new(file)).set_parallel(false).batched(&schema).map_err(Error::parquet("write", path))?;
        Ok(Self { path: path.to_owned(), writer, block: Block::default() })
    }

    pub fn push(&mut self, Entry { source, line, rule, detail, excerpt }: Entry) -> Result<(), Error> {
        self.block.lines.push(line);
        let texts = [source.to_owned(), rule.name().to_owned(), detail, excerpt];
        for (column, text) in self.block.texts.iter_mut().zip(texts) {
            column.push(text);
        }
        if self.block.lines.len() >= BLOCK_ENTRIES { self.write_block() } else { Ok(()) }
    }

    pub fn finish(mut self) -> Result<(), Error> {
        self.write_block()?;
        self.writer.finish().map_err(Error::parquet("write", &self.path))?;
        Ok(())
    }

    fn write_block(&mut self) -> Result<(), Error> {
        let block = std::mem::take(&mut self.block);
        let height = block.lines.len();
        let texts = TEXTS.into_iter().zip(block.texts).map(|(name, texts)| Column::new(name.into(), texts));
        let columns = [Column::new("line".into(), block.lines)].into_iter().chain(texts).collect();
        let write = || self.writer.write_batch(&DataFrame::new(height, columns)?);
        write().map_err(Error::parquet("write", &self.path))
    }
}

/// One entry of the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The file.
    pub source: String,
    /// The line in it, or the row, from 1.
    pub line: u64,
    /// The rule's name.
    pub rule: String,
    /// What the rule saw.
    pub detail: String,
    /// The beginning of the row as it stands in the file; for the rules that compare traces, the beginning of the question.
    pub excerpt: String,
}

/// Reads a sidecar.
pub(crate) fn read(path: &Path) -> Result<Vec<Dropped>, Error> {
    let file = File::open(path).map_err(Error::file("read", path))?;
    let entries = || -> PolarsResult<Vec<Dropped>> {
        let frame = ParquetReader::new(file).read_parallel(ParallelStrategy::None).finish()?;
        let lines = frame.column("line")?.u64()?.clone();
        let texts = TEXTS.map(|name| frame.column(name).and_then(|column| column.str().cloned()));
        let [source, rule, detail, excerpt] = texts;
        let (source, rule, detail, excerpt) = (source?, rule?, detail?, excerpt?);
        let text = |column: &StringChunked, at: usize| column.get(at).unwrap_or_default().to_owned();
        Ok((0..frame.height())
            .map(|at| Dropped {
                source: text(&source, at),
                line: lines.get(at).unwrap_or_default(),
                rule: text(&rule, at),
                detail: text(&detail, at),
                excerpt: text(&excerpt, at),
            })
            .collect())
    };
    entries().map_err(Error::parquet("read", path))
}
