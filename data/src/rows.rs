//! The endless stream of rows that training reads, one group of blocks in memory at a time.

use std::path::PathBuf;
use std::sync::Arc;

use crate::dataset::PackedRow;
use crate::order::{self, Cursor};
use crate::shard::read_rows;
use crate::{Error, Manifest};

/// Where a block of rows lies.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    shard: PathBuf,
    first_row: usize,
    rows: usize,
}

impl Block {
    /// Its rows, with so many alternatives of each of the teacher's targets.
    pub(crate) fn read(&self, top_k: usize) -> Result<Vec<PackedRow>, Error> {
        let rows = read_rows(&self.shard, self.first_row, self.rows, top_k)?;
        Ok(rows.into_iter().map(|row| PackedRow::new(row, top_k)).collect())
    }
}

/// All blocks of a dataset, in the order of its files.
pub(crate) fn blocks(folder: &std::path::Path, manifest: &Manifest) -> Vec<Block> {
    let mut blocks = Vec::new();
    for shard in &manifest.shards {
        let mut first_row = 0;
        for &rows in &shard.blocks {
            blocks.push(Block { shard: folder.join(&shard.file), first_row, rows: rows as usize });
            first_row += rows as usize;
        }
    }
    blocks
}

/// Rows in the order of a seed, from a cursor on, epoch after epoch without end.
#[derive(Debug)]
pub struct Rows {
    blocks: Arc<[Block]>,
    rows_per_epoch: u64,
    /// Blocks that are loaded together.
    group_blocks: usize,
    top_k: usize,
    seed: u64,
    cursor: Cursor,
    loaded: Option<Group>,
}

#[derive(Debug)]
struct Group {
    epoch: u64,
    /// The place of its first row in the epoch.
    first_row: u64,
    rows: Vec<PackedRow>,
}

impl Rows {
    /// The manifest's rows are the sum over the blocks, and not zero.
    pub(crate) fn new(blocks: Arc<[Block]>, group_blocks: usize, manifest: &Manifest, seed: u64, cursor: Cursor) -> Self {
        let rows_per_epoch = manifest.rows;
        let cursor = Cursor { epoch: cursor.epoch + cursor.row / rows_per_epoch, row: cursor.row % rows_per_epoch };
        Self { blocks, rows_per_epoch, group_blocks, top_k: manifest.top_k, seed, cursor, loaded: None }
    }

    /// Where the stream is: a stream that starts here goes on with the same row.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    fn group(&mut self) -> Result<&Group, Error> {
        let Cursor { epoch, row } = self.cursor;
        let holds = |group: &Group| group.epoch == epoch && (group.first_row..group.first_row + group.rows.len() as u64).contains(&row);
        if !self.loaded.as_ref().is_some_and(holds) {
            self.loaded = None; // before the next one is loaded, so that there is never more than one
            self.loaded = Some(self.load(epoch, row)?);
        }
        Ok(self.loaded.as_ref().expect("it was just loaded"))
    }

    /// The group that holds a row of an epoch.
    fn load(&self, epoch: u64, row: u64) -> Result<Group, Error> {
        let block_order = order::blocks(self.seed, epoch, self.blocks.len());
        let mut first_row = 0;
        for (index, group) in block_order.chunks(self.group_blocks).enumerate() {
            let count: usize = group.iter().map(|&block| self.blocks[block].rows).sum();
            if row >= first_row + count as u64 {
                first_row += count as u64;
                continue;
            }
            let mut stored = Vec::with_capacity(count);
            for &block in group {
                stored.extend(self.blocks[block].read(self.top_k)?.into_iter().map(Some));
            }
            let order = order::rows(self.seed, epoch, index, count).into_iter();
            let rows = order.map(|at| stored[at].take().expect("each row is in the order once")).collect();
            return Ok(Group { epoch, first_row, rows });
        }
        unreachable!("a cursor's row is less than the rows of all blocks")
    }
}

impl Iterator for Rows {
    type Item = Result<PackedRow, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.cursor.row;
        let row = match self.group() {
            Ok(group) => group.rows[(at - group.first_row) as usize].clone(),
            Err(error) => return Some(Err(error)),
        };
        self.cursor.row += 1;
        if self.cursor.row == self.rows_per_epoch {
            self.cursor = Cursor { epoch: self.cursor.epoch + 1, row: 0 };
        }
        Some(Ok(row))
    }
}
