//! A student of random weights, made straight in the kernels' layout: real shapes can be measured without a file.

use model::{ModelConfig, Quant};

use crate::{
    kernel::{Bits, FloatMatrix, IntegerMatrix, Matrix, Memory, Pool},
    linear::{Layout, Linear, Table},
    network::{Layer, Network},
    shortlist::head_bits,
};

/// A network of these sizes. The same seed gives the same one.
pub(crate) fn network(config: &ModelConfig, head: Bits, layout: Layout, seed: u64, pool: &Pool) -> Network {
    let mut maker = Maker { config, head, layout, pool, memory: layout.memory(config), seed };
    let embedding = maker.table();
    let layers = (0..config.layers).map(|_| maker.layer()).collect();
    let head = if config.tied_head { None } else { Some(maker.table()) };
    Network::new(config.clone(), (pool, layout.packing), embedding, layers, vec![1.0; config.width], head)
}

struct Maker<'a> {
    config: &'a ModelConfig,
    head: Bits,
    layout: Layout,
    pool: &'a Pool,
    memory: Memory,
    /// Of the next matrix.
    seed: u64,
}

impl Maker<'_> {
    fn layer(&mut self) -> Layer {
        let config = self.config;
        let (width, query_width, kv_width, inner) = (config.width, config.query_width(), config.kv_width(), config.feed_forward);
        let optional = |holds: bool, length: usize, value: f32| holds.then(|| vec![value; length]);
        Layer {
            attention_norm: vec![1.0; width],
            query_key_value: self.linear(query_width + 2 * kv_width, width),
            biases: optional(config.has_qkv_biases(), query_width + 2 * kv_width, 0.0),
            query_norm: optional(config.has_head_norms(), config.head_width, 1.0),
            key_norm: optional(config.has_head_norms(), config.head_width, 1.0),
            attention_sub_norm: optional(config.has_sub_norms(), query_width, 1.0),
            output: self.linear(width, query_width),
            feed_forward_norm: vec![1.0; width],
            gate_up: self.linear(2 * inner, width),
            feed_forward_sub_norm: optional(config.has_sub_norms(), inner, 1.0),
            down: self.linear(width, inner),
        }
    }

    /// Weights of which the squares of a row sum to about one.
    fn linear(&mut self, rows: usize, columns: usize) -> Linear {
        self.seed += 1;
        let integers = |bits| IntegerMatrix::random(self.pool, bits, rows, columns, self.seed);
        match (self.config.quant, self.config.largest_input()) {
            (Quant::Ternary, Some(largest)) => Linear::Ternary(
                Matrix::random((self.pool, &self.memory), self.layout.packing, (rows, columns), self.config.scale, self.seed),
                largest,
            ),
            (Quant::Int8, Some(largest)) => Linear::Integer(integers(Bits::Eight), largest),
            (Quant::Int4, Some(largest)) => Linear::Integer(integers(Bits::Four), largest),
            (_, None) | (Quant::None, _) => Linear::Float(self.floats(rows, columns)),
        }
    }

    fn table(&mut self) -> Table {
        self.seed += 1;
        let (rows, columns) = (self.config.vocab, self.config.width);
        if columns.is_multiple_of(self.head.block()) {
            let bits = head_bits(self.layout, self.head, rows * columns);
            Table::Integer(IntegerMatrix::random(self.pool, bits, rows, columns, self.seed))
        } else {
            Table::Float(self.floats(rows, columns))
        }
    }

    fn floats(&self, rows: usize, columns: usize) -> FloatMatrix {
        let scale = (3.0 / columns as f32).sqrt();
        let Ok(matrix) = FloatMatrix::new(self.pool, rows, columns, |row, out| {
            let mut random = Random::new(self.seed, row);
            out.iter_mut().for_each(|out| *out = scale * ((random.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0));
            Ok::<(), std::convert::Infallible>(())
        });
        matrix
    }
}

/// Numbers that look random, the same for the same seed and part: splitmix64, which needs no state but a counter.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, part: usize) -> Random {
        Random(((seed << 32) ^ part as u64).wrapping_mul(0xD134_2543_DE82_EF95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
