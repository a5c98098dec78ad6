//! The forward pass: rows of tokens in, logits out.
//!
//! A row is one token of one sequence. Rows of many sequences and many positions go through every layer together, and each row's
//! numbers are the same whatever else is in the batch.

use model::{Activation, ModelConfig};

use crate::{
    Error,
    cache::Cache,
    kernel::{FineActivations, Isa, MAX_COLUMNS, Pool},
    layer::{PAGE, Softmax, add, attend, finish, gate, rms_norm, rms_norm_in_place, rotate},
    linear::{Input, Linear, Table},
};

/// A student's weights.
pub(crate) struct Network {
    pub(crate) config: ModelConfig,
    embedding: Table,
    layers: Vec<Layer>,
    final_norm: Vec<f32>,
    /// Where it is not the embedding.
    head: Option<Table>,
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
pub(crate) struct Row<'a> {
    pub(crate) token: u32,
    pub(crate) position: usize,
    /// The sequence's pages, which reach this position.
    pub(crate) pages: &'a [usize],
    pub(crate) wants_logits: bool,
}

/// Who computes, and the memory that serves from one forward pass to the next.
pub(crate) struct Work {
    isa: Isa,
    pool: Pool,
    /// The residual stream, `[rows, d]`.
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
    fine: FineActivations,
    /// Of the rows that want them, in their order: `[wanted, v]`.
    logits: Vec<f32>,
    none: Vec<()>,
}

impl Work {
    pub(crate) fn new(isa: Isa, threads: usize) -> Work {
        Work {
            isa,
            pool: Pool::new(threads),
            hidden: Vec::new(),
            input: Input::default(),
            query_key_value: Vec::new(),
            attended: Vec::new(),
            gate_up: Vec::new(),
            out: Vec::new(),
            cosines: Vec::new(),
            sines: Vec::new(),
            fine: FineActivations::default(),
            logits: Vec::new(),
            none: Vec::new(),
        }
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

    pub(crate) fn new(config: ModelConfig, embedding: Table, layers: Vec<Layer>, final_norm: Vec<f32>, head: Option<Table>) -> Network {
        let frequencies = config.rotary_frequencies();
        Network { config, embedding, layers, final_norm, head, frequencies }
    }

    /// Bytes of weights that decoding one token reads.
    pub(crate) fn bytes_per_token(&self) -> usize {
        let layer = |layer: &Layer| {
            [&layer.query_key_value, &layer.output, &layer.gate_up, &layer.down].map(Linear::len_bytes).iter().sum::<usize>()
        };
        self.layers.iter().map(layer).sum::<usize>() + self.head.as_ref().unwrap_or(&self.embedding).len_bytes()
    }

    /// Run the rows through the student; keys and values go to the cache. Returns the logits of the rows that want them. Rows of
    /// one sequence come in the order of their positions.
    pub(crate) fn forward<'w>(&self, cache: &mut Cache, rows: &[Row], work: &'w mut Work) -> &'w mut [f32] {
        let width = self.config.width;
        work.none.resize(rows.len(), ());
        work.hidden.resize(rows.len() * width, 0.0);
        for (hidden, row) in work.hidden.chunks_exact_mut(width).zip(rows) {
            self.embedding.row(row.token, hidden);
        }
        self.angles(rows, work);
        for (index, layer) in self.layers.iter().enumerate() {
            self.attention(index, layer, cache, rows, work);
            self.feed_forward(layer, rows.len(), work);
        }
        let wanted: Vec<usize> = rows.iter().enumerate().filter(|(_, row)| row.wants_logits).map(|(at, _)| at).collect();
        work.out.resize(wanted.len() * width, 0.0);
        for (out, at) in work.out.chunks_exact_mut(width).zip(&wanted) {
            rms_norm(work.isa, &work.hidden[at * width..(at + 1) * width], &self.final_norm, self.config.norm_epsilon, out);
        }
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        head.logits(work.isa, &work.pool, &work.out, width, &mut work.fine, &mut work.logits);
        &mut work.logits
    }

    /// Cosines and sines of the rows' positions, computed in f64.
    fn angles(&self, rows: &[Row], work: &mut Work) {
        let angles = || rows.iter().flat_map(|row| self.frequencies.iter().map(|frequency| row.position as f64 * frequency));
        work.cosines.clear();
        work.cosines.extend(angles().map(|angle| angle.cos() as f32));
        work.sines.clear();
        work.sines.extend(angles().map(|angle| angle.sin() as f32));
    }

    fn attention(&self, index: usize, layer: &Layer, cache: &mut Cache, rows: &[Row], work: &mut Work) {
        let config = &self.config;
        let (isa, pool, count) = (work.isa, &work.pool, rows.len());
        let (width, query_width, kv_width, head_width) = (config.width, config.query_width(), config.kv_width(), config.head_width);
        let hidden = &work.hidden;
        work.input.prepare(isa, pool, &layer.query_key_value, (count, width), &|row, x| {
            rms_norm(isa, &hidden[row * width..(row + 1) * width], &layer.attention_norm, config.norm_epsilon, x);
        });
        layer.query_key_value.apply(isa, pool, &work.input, count, &mut work.query_key_value);

        let all_width = query_width + 2 * kv_width;
        let (cosines, sines, half) = (&work.cosines, &work.sines, head_width / 2);
        let scale = 1.0 / (head_width as f32).sqrt();
        pool.for_each_pair((&mut work.query_key_value, all_width), (&mut work.none, 1), |row, all, _| {
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
        for (row, all) in rows.iter().zip(work.query_key_value.chunks_exact(all_width)) {
            let (keys, values) = all[query_width..].split_at(kv_width);
            cache.store(row.pages, index, row.position, keys, values);
        }

        work.attended.resize(count * query_width, 0.0);
        work.none.resize(count * config.kv_heads, ());
        let (query_key_value, cache) = (&work.query_key_value, &*cache);
        let group = query_width / config.kv_heads;
        pool.for_each_pair((&mut work.attended, group), (&mut work.none, 1), |index_of_group, out, _| {
            let (row, kv_head) = (index_of_group / config.kv_heads, index_of_group % config.kv_heads);
            let queries = &query_key_value[row * all_width + kv_head * group..][..group];
            for (query, out) in queries.chunks_exact(head_width).zip(out.chunks_exact_mut(head_width)) {
                let mut softmax = Softmax::new();
                out.fill(0.0);
                let seen = rows[row].position + 1;
                for (page, start) in rows[row].pages.iter().zip((0..seen).step_by(PAGE)) {
                    let (keys, values) = cache.head(*page, index, kv_head);
                    attend(isa, query, keys, values, PAGE.min(seen - start), &mut softmax, out);
                }
                finish(isa, softmax, out);
            }
        });
        work.none.resize(count, ());

        let attended = &work.attended;
        work.input.prepare(isa, pool, &layer.output, (count, query_width), &|row, x| {
            x.copy_from_slice(&attended[row * query_width..(row + 1) * query_width]);
            if let Some(norm) = &layer.attention_sub_norm {
                rms_norm_in_place(isa, x, norm, config.norm_epsilon);
            }
        });
        layer.output.apply(isa, pool, &work.input, count, &mut work.out);
        add(isa, &mut work.hidden, &work.out);
    }

    fn feed_forward(&self, layer: &Layer, count: usize, work: &mut Work) {
        let (isa, pool, epsilon) = (work.isa, &work.pool, self.config.norm_epsilon);
        let (width, inner) = (self.config.width, self.config.feed_forward);
        let activation: Activation = self.config.activation;
        let hidden = &work.hidden;
        work.input.prepare(isa, pool, &layer.gate_up, (count, width), &|row, x| {
            rms_norm(isa, &hidden[row * width..(row + 1) * width], &layer.feed_forward_norm, epsilon, x);
        });
        layer.gate_up.apply(isa, pool, &work.input, count, &mut work.gate_up);
        let gate_up = &work.gate_up;
        work.input.prepare(isa, pool, &layer.down, (count, inner), &|row, x| {
            let (gates, ups) = gate_up[row * 2 * inner..(row + 1) * 2 * inner].split_at(inner);
            gate(isa, gates, ups, activation, x);
            if let Some(norm) = &layer.feed_forward_sub_norm {
                rms_norm_in_place(isa, x, norm, epsilon);
            }
        });
        layer.down.apply(isa, pool, &work.input, count, &mut work.out);
        add(isa, &mut work.hidden, &work.out);
    }
}
