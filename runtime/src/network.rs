//! The forward pass: rows of tokens in, logits out.
//!
//! A row is one token of one sequence. Rows of many sequences and many positions go through every layer together, and each row's
//! numbers are the same whatever else is in the batch.

use std::io;

use model::{Activation, ModelConfig};

use crate::{
    Error, MAX_THREADS,
    cache::Cache,
    kernel::{Block, FineActivations, Isa, MAX_COLUMNS, NewKeyValues, PAGE, Packing, Pool, Queries, attend, block_rows},
    largest::{Largest, LargestWork},
    layer::{add, gate, rms_norm, rms_norm_in_place, rotate},
    linear::{Input, Linear, Table},
    shortlist::{Shortlist, ShortlistWork},
};

/// Tokens of a run at most: more cost as much for each, because reading the head is then no longer what limits. With all products, and
/// where half of them find the largest logits.
const RUN: usize = 8;
const LONG_RUN: usize = 16;

/// A student's weights.
pub(crate) struct Network {
    pub(crate) config: ModelConfig,
    embedding: Table,
    layers: Vec<Layer>,
    final_norm: Vec<f32>,
    /// Where it is not the embedding.
    head: Option<Table>,
    /// Where the head is large.
    shortlist: Option<Shortlist>,
    /// Where the head is large and half of its products take less time than all.
    largest: Option<Largest>,
    /// The angle of each pair of a head at position 1.
    frequencies: Vec<f64>,
}

/// One block's weights.
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query_key_value: Linear,
    /// Query's, key's and value's.
    pub(crate) biases: Option<Vec<f32>>,
    pub(crate) query_norm: Option<Vec<f32>>,
    pub(crate) key_norm: Option<Vec<f32>>,
    pub(crate) attention_sub_norm: Option<Vec<f32>>,
    pub(crate) output: Linear,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) gate_up: Linear,
    pub(crate) feed_forward_sub_norm: Option<Vec<f32>>,
    pub(crate) down: Linear,
}

/// One token of one sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) token: u32,
    pub(crate) position: usize,
    /// Whose it is, a number that leads to the sequence's pages.
    pub(crate) sequence: usize,
    pub(crate) wants_logits: bool,
}

/// Which logits are needed of the rows that want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    /// All.
    All,
    /// The largest of each row, and all that equal it; others may be anything that is less.
    Largest,
}

/// The pages of each sequence of a batch, which reach its last position.
pub(crate) type PagesOf<'a, 'p> = &'a (dyn Fn(usize) -> &'p [usize] + Sync + 'a);

/// Who computes, and the memory that serves from one forward pass to the next.
pub(crate) struct Work {
    isa: Isa,
    pool: Pool,
    /// The residual stream, `[rows, d]`, without what the last linear layer added to it, which is in `out`.
    hidden: Vec<f32>,
    input: Input,
    query_key_value: Vec<f32>,
    /// The heads' results, `[rows, query width]`.
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    out: Vec<f32>,
    /// `[rows, head width / 2]`.
    cosines: Vec<f32>,
    sines: Vec<f32>,
    /// The batch as attention takes it.
    blocks: Vec<Block>,
    /// The rows that want logits, their last hidden values, and the logits: `[wanted, v]`.
    wanted: Vec<usize>,
    last: Vec<f32>,
    fine: FineActivations,
    logits: Vec<f32>,
    shortlist: ShortlistWork,
    largest: LargestWork,
    /// The last hidden values of a run's tokens.
    run: Vec<f32>,
}

impl Work {
    pub(crate) fn new(isa: Isa, threads: usize) -> Result<Work, Error> {
        let pool = match threads {
            ..=MAX_THREADS => Pool::start(threads),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("at most {MAX_THREADS} are possible"))),
        };
        Ok(Work {
            isa,
            pool: pool.map_err(|source| Error::Threads { threads, source })?,
            hidden: Vec::new(),
            input: Input::default(),
            query_key_value: Vec::new(),
            attended: Vec::new(),
            gate_up: Vec::new(),
            out: Vec::new(),
            cosines: Vec::new(),
            sines: Vec::new(),
            blocks: Vec::new(),
            wanted: Vec::new(),
            last: Vec::new(),
            fine: FineActivations::default(),
            logits: Vec::new(),
            shortlist: ShortlistWork::default(),
            largest: LargestWork::default(),
            run: Vec::new(),
        })
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    pub(crate) fn threads(&self) -> usize {
        self.pool.threads()
    }
}

impl Network {
    /// Refuse sizes that the kernels cannot take.
    pub(crate) fn check(config: &ModelConfig) -> Result<(), Error> {
        let found = config.width.max(config.query_width()).max(config.feed_forward);
        if found > MAX_COLUMNS { Err(Error::Width { found, limit: MAX_COLUMNS }) } else { Ok(()) }
    }

    /// `pool` and `packing` are for what is made of the head.
    pub(crate) fn new(
        config: ModelConfig,
        (pool, packing): (&Pool, Packing),
        embedding: Table,
        layers: Vec<Layer>,
        final_norm: Vec<f32>,
        head: Option<Table>,
    ) -> Network {
        let frequencies = config.rotary_frequencies();
        let whole = head.as_ref().unwrap_or(&embedding);
        let shortlist = Shortlist::new((Isa::fastest(), pool), packing, whole);
        let largest = Largest::new((Isa::fastest(), pool), whole);
        Network { config, embedding, layers, final_norm, head, shortlist, largest, frequencies }
    }

    fn head(&self) -> &Table {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Whether [`Network::run_ahead`] has runs of more than one row.
    pub(crate) fn runs_ahead(&self) -> bool {
        self.shortlist.is_some()
    }

    /// Tokens of a run at most.
    pub(crate) fn longest_run(&self) -> usize {
        if self.largest.is_some() { LONG_RUN } else { RUN }
    }

    /// Bytes of weights that decoding one token reads, in runs where there are any.
    pub(crate) fn bytes_per_token(&self) -> usize {
        let layer = |layer: &Layer| {
            [&layer.query_key_value, &layer.output, &layer.gate_up, &layer.down].map(Linear::len_bytes).iter().sum::<usize>()
        };
        let (head, run) = (self.head().len_bytes(), self.longest_run());
        let head = self.shortlist.as_ref().map_or(head, |shortlist| ((run - 1) * shortlist.len_bytes(self.head()) + head) / run);
        self.layers.iter().map(layer).sum::<usize>() + head
    }

    /// Run the rows through the student; keys and values go to the cache. Returns the logits of the rows that want them. Rows of
    /// one sequence come in the order of their positions.
    pub(crate) fn forward<'w>(
        &self,
        cache: &mut Cache,
        (rows, needed): (&[Row], Needed),
        pages: PagesOf,
        work: &'w mut Work,
    ) -> &'w mut [f32] {
        self.hidden(cache, rows, pages, work);
        let Work { isa, pool, last, fine, logits, largest, .. } = work;
        self.logits((*isa, pool), needed, (last, fine), largest, logits);
        logits
    }

    fn logits(
        &self,
        (isa, pool): (Isa, &Pool),
        needed: Needed,
        (hidden, fine): (&[f32], &mut FineActivations),
        work: &mut LargestWork,
        logits: &mut Vec<f32>,
    ) {
        match self.largest.as_ref().filter(|_| needed == Needed::Largest) {
            Some(largest) => largest.logits((isa, pool), self.head(), (hidden, fine), work, logits),
            None => self.head().logits(isa, pool, hidden, self.config.width, fine, logits),
        }
    }

    /// Decode one sequence from its one row on, with only a part of the head read for a token: `next` is given the likely logits after
    /// each row and says which row follows, if any does, or none after `most`. Adds those to `rows` and returns the logits of all, as
    /// [`Network::forward`] would if it were given them together, so that what was chosen from likely ones can be verified: the whole
    /// head is read once for all. A student without a shortlist has runs of one row.
    pub(crate) fn run_ahead<'w>(
        &self,
        cache: &mut Cache,
        (rows, most, needed): (&mut Vec<Row>, usize, Needed),
        pages: PagesOf,
        work: &'w mut Work,
        next: &mut dyn FnMut(&mut [f32]) -> Option<Row>,
    ) -> &'w mut [f32] {
        work.run.clear();
        loop {
            self.hidden(cache, &rows[rows.len() - 1..], pages, work);
            work.run.extend_from_slice(&work.last);
            let Some(shortlist) = self.shortlist.as_ref().filter(|_| rows.len() < most.min(self.longest_run())) else { break };
            let Work { isa, pool, last, fine, logits, .. } = work;
            shortlist.logits((*isa, pool), self.head(), (last, fine), &mut work.shortlist, logits);
            let Some(row) = next(logits) else { break };
            rows.push(row);
        }
        let Work { isa, pool, run, fine, logits, largest, .. } = work;
        self.logits((*isa, pool), needed, (run, fine), largest, logits);
        logits
    }

    /// Run the rows through all blocks: the last hidden values of those that want logits, normalised, in `work.last`.
    fn hidden(&self, cache: &mut Cache, rows: &[Row], pages: PagesOf, work: &mut Work) {
        let width = self.config.width;
        work.hidden.resize(rows.len() * width, 0.0);
        for (hidden, row) in work.hidden.chunks_exact_mut(width).zip(rows) {
            self.embedding.row(row.token, hidden);
        }
        work.out.clear();
        work.out.resize(rows.len() * width, 0.0);
        self.angles(rows, work);
        self.blocks(rows, work);
        for (index, layer) in self.layers.iter().enumerate() {
            self.attention(index, layer, cache, (rows, pages), work);
            self.feed_forward(layer, work);
        }
        let (isa, width) = (work.isa, self.config.width);
        work.wanted.clear();
        work.wanted.extend(rows.iter().enumerate().filter(|(_, row)| row.wants_logits).map(|(at, _)| at));
        work.last.resize(work.wanted.len() * width, 0.0);
        for (last, at) in work.last.chunks_exact_mut(width).zip(&work.wanted) {
            let hidden = &mut work.hidden[at * width..(at + 1) * width];
            add(isa, hidden, &work.out[at * width..(at + 1) * width]);
            rms_norm(isa, hidden, &self.final_norm, self.config.norm_epsilon, last);
        }
    }

    /// Rows that can attend together.
    fn blocks(&self, rows: &[Row], work: &mut Work) {
        let most = block_rows(self.config.heads / self.config.kv_heads);
        work.blocks.clear();
        for (at, row) in rows.iter().enumerate() {
            match work.blocks.last_mut() {
                Some(last) if last.sequence == row.sequence && last.position + last.rows == row.position && last.rows < most => {
                    last.rows += 1;
                }
                _ => work.blocks.push(Block { row: at, position: row.position, rows: 1, sequence: row.sequence }),
            }
        }
    }

    /// Cosines and sines of the rows' positions, computed in f64.
    fn angles(&self, rows: &[Row], work: &mut Work) {
        let angles = || rows.iter().flat_map(|row| self.frequencies.iter().map(|frequency| row.position as f64 * frequency));
        work.cosines.clear();
        work.cosines.extend(angles().map(|angle| angle.cos() as f32));
        work.sines.clear();
        work.sines.extend(angles().map(|angle| angle.sin() as f32));
    }

    fn attention(&self, index: usize, layer: &Layer, cache: &mut Cache, (rows, pages): (&[Row], PagesOf), work: &mut Work) {
        let config = &self.config;
        let (width, query_width, kv_width, head_width) = (config.width, config.query_width(), config.kv_width(), config.head_width);
        let Work { isa, pool, hidden, out, input, query_key_value, attended, cosines, sines, blocks, .. } = work;
        let isa = *isa;
        input.prepare((isa, pool), &layer.query_key_value, (hidden, width), width, &|row, hidden, x| {
            add(isa, hidden, &out[row * width..(row + 1) * width]);
            rms_norm(isa, hidden, &layer.attention_norm, config.norm_epsilon, x);
        });
        layer.query_key_value.apply(isa, pool, input, rows.len(), query_key_value);

        let all_width = query_width + 2 * kv_width;
        let (half, scale) = (head_width / 2, 1.0 / (head_width as f32).sqrt());
        pool.for_each_pair((query_key_value, all_width), (&mut [], 0), |row, all, _: &mut [()]| {
            if let Some(biases) = &layer.biases {
                add(isa, all, biases);
            }
            let (query, key) = all[..query_width + kv_width].split_at_mut(query_width);
            for (heads, norm, is_query) in [(query, &layer.query_norm, true), (key, &layer.key_norm, false)] {
                for head in heads.chunks_exact_mut(head_width) {
                    if let Some(norm) = norm {
                        rms_norm_in_place(isa, head, norm, config.norm_epsilon);
                    }
                    rotate(isa, head, &cosines[row * half..(row + 1) * half], &sines[row * half..(row + 1) * half]);
                    if is_query {
                        head.iter_mut().for_each(|x| *x *= scale);
                    }
                }
            }
        });
        let new = NewKeyValues { all: query_key_value, stride: all_width, start: query_width };
        cache.key_values.store(pool, index, new, &|row| {
            let Row { position, sequence, .. } = rows[row];
            (pages(sequence)[position / PAGE], position % PAGE)
        });
        attended.resize(rows.len() * query_width, 0.0);
        let queries = Queries { all: query_key_value, stride: all_width, heads: config.heads };
        attend(isa, pool, (&cache.key_values, index), blocks, pages, queries, attended);

        input.prepare(
            (isa, pool),
            &layer.output,
            (attended, query_width),
            query_width,
            &|_, attended, x| match &layer.attention_sub_norm {
                Some(norm) => rms_norm(isa, attended, norm, config.norm_epsilon, x),
                None => x.copy_from_slice(attended),
            },
        );
        layer.output.apply(isa, pool, input, rows.len(), out);
    }

    fn feed_forward(&self, layer: &Layer, work: &mut Work) {
        let (width, inner, epsilon) = (self.config.width, self.config.feed_forward, self.config.norm_epsilon);
        let activation: Activation = self.config.activation;
        let Work { isa, pool, hidden, out, input, gate_up, .. } = work;
        let (isa, count) = (*isa, hidden.len() / width);
        input.prepare((isa, pool), &layer.gate_up, (hidden, width), width, &|row, hidden, x| {
            add(isa, hidden, &out[row * width..(row + 1) * width]);
            rms_norm(isa, hidden, &layer.feed_forward_norm, epsilon, x);
        });
        layer.gate_up.apply(isa, pool, input, count, gate_up);
        input.prepare((isa, pool), &layer.down, (gate_up, 2 * inner), inner, &|_, gate_up, x| {
            let (gates, ups) = gate_up.split_at(inner);
            gate(isa, gates, ups, activation, x);
            if let Some(norm) = &layer.feed_forward_sub_norm {
                rms_norm_in_place(isa, x, norm, epsilon);
            }
        });
        layer.down.apply(isa, pool, input, count, out);
    }
}
