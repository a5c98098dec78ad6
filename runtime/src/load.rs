//! From the bytes of a packed file to matrices in the kernels' layout, every number checked.

use half::f16;
use model::{
    Kind, ModelConfig, Packed, Quant, Role, Scale,
    block::{self, Format},
    packed::{PackedTensor, stored_rows},
    ternary::GROUP,
};

use crate::{
    Error,
    kernel::{Bits, FloatMatrix, IntegerMatrix, Matrix, Memory, Pool, to_word},
    linear::{Layout, Linear, Table},
    network::{Layer, Network},
    shortlist::head_bits,
};

/// A file's tensors.
struct Source<'a> {
    packed: &'a Packed,
    bytes: &'a [u8],
    pool: &'a Pool,
    memory: Memory,
    layout: Layout,
    done: &'a dyn Fn(),
}

/// A tensor's rows in the model's order.
struct Rows<'a> {
    tensor: &'a PackedTensor,
    bytes: &'a [u8],
    row_bytes: usize,
    columns: usize,
    /// Which stored row each row is, where that is another.
    stored: Option<Vec<usize>>,
}

/// The network of a packed file. `done` is called whenever the bytes that were read so far will not be read again.
pub(crate) fn network(packed: &Packed, bytes: &[u8], pool: &Pool, layout: Layout, done: &dyn Fn()) -> Result<Network, Error> {
    Network::check(&packed.config)?;
    let config = packed.config.clone();
    let source = Source { packed, bytes, pool, memory: layout.memory(&config), layout, done };
    // The largest tensors first: while one is laid out, it is in memory twice.
    let embedding = source.table(Role::Embedding)?;
    let head = if config.tied_head { None } else { Some(source.table(Role::Head)?) };
    let layers = (0..config.layers).map(|layer| source.layer(&config, layer)).collect::<Result<Vec<_>, _>>()?;
    let final_norm = source.vector(Role::FinalNorm, None)?;
    Ok(Network::new(config, (pool, layout.packing), embedding, layers, final_norm, head))
}

impl<'a> Source<'a> {
    fn layer(&self, config: &ModelConfig, layer: usize) -> Result<Layer, Error> {
        let at = Some(layer);
        let optional = |holds: bool, role: Role| if holds { self.vector(role, at).map(Some) } else { Ok(None) };
        let biases = [Role::QueryBias, Role::KeyBias, Role::ValueBias];
        Ok(Layer {
            attention_norm: self.vector(Role::AttentionNorm, at)?,
            query_key_value: self.linear(&[Role::Query, Role::Key, Role::Value], layer)?,
            biases: if config.has_qkv_biases() {
                Some(biases.into_iter().map(|role| self.vector(role, at)).collect::<Result<Vec<_>, _>>()?.concat())
            } else {
                None
            },
            query_norm: optional(config.has_head_norms(), Role::QueryNorm)?,
            key_norm: optional(config.has_head_norms(), Role::KeyNorm)?,
            attention_sub_norm: optional(config.has_sub_norms(), Role::AttentionSubNorm)?,
            output: self.linear(&[Role::Output], layer)?,
            feed_forward_norm: self.vector(Role::FeedForwardNorm, at)?,
            gate_up: self.linear(&[Role::Gate, Role::Up], layer)?,
            feed_forward_sub_norm: optional(config.has_sub_norms(), Role::FeedForwardSubNorm)?,
            down: self.linear(&[Role::Down], layer)?,
        })
    }

    fn tensor(&self, role: Role, layer: Option<usize>) -> Rows<'a> {
        let found = self.packed.tensors.iter().find(|tensor| tensor.spec.role == role && tensor.spec.layer == layer);
        let tensor = found.expect("a parsed file has every tensor of its inventory");
        let columns = *tensor.spec.shape.last().expect("a tensor has a dimension");
        let stored = stored_rows(&self.packed.config, role).map(|rows| {
            let mut stored = vec![0; rows.len()];
            rows.iter().enumerate().for_each(|(at, row)| stored[*row] = at);
            stored
        });
        // A bias is a column of rows of one weight.
        let columns = if tensor.spec.kind() == Kind::Vector && stored.is_some() { 1 } else { columns };
        let row_bytes = tensor.format.row_bytes(columns).expect("a parsed file has whole blocks");
        Rows { tensor, bytes: &self.bytes[tensor.range.clone()], row_bytes, columns, stored }
    }

    fn vector(&self, role: Role, layer: Option<usize>) -> Result<Vec<f32>, Error> {
        let rows = self.tensor(role, layer);
        let mut vector = vec![0.0; rows.tensor.spec.len()];
        for (row, out) in vector.chunks_exact_mut(rows.columns).enumerate() {
            rows.floats(row, out)?;
        }
        Ok(vector)
    }

    /// The matrices of layers that share an input, one below the other.
    fn linear(&self, roles: &[Role], layer: usize) -> Result<Linear, Error> {
        let parts: Vec<Rows> = roles.iter().map(|role| self.tensor(*role, Some(layer))).collect();
        let (rows, columns) = (parts.iter().map(|part| part.tensor.spec.shape[0]).sum(), parts[0].columns);
        let of = |row: usize| {
            let mut row = row;
            for part in &parts {
                match row.checked_sub(part.tensor.spec.shape[0]) {
                    None => return (part, row),
                    Some(rest) => row = rest,
                }
            }
            unreachable!("the row count is the sum of the parts'")
        };
        let config = &self.packed.config;
        let linear = match (config.quant, config.largest_input()) {
            (Quant::Ternary, Some(largest)) => {
                let scale = config.scale;
                let matrix = Matrix::read((self.pool, &self.memory), self.layout.packing, (rows, columns), scale, |row, words, scales| {
                    let (part, row) = of(row);
                    part.words(row, scale, words, scales)
                })?;
                Linear::Ternary(matrix, largest)
            }
            (Quant::Int8 | Quant::Int4, Some(largest)) => {
                let format = parts[0].tensor.format;
                let bits = Bits::of(format).expect("a parsed file has integers where it says so");
                let mut bytes = Vec::with_capacity(rows * parts[0].row_bytes);
                parts.iter().for_each(|part| (0..part.tensor.spec.shape[0]).for_each(|row| bytes.extend(part.stored(row))));
                let matrix = IntegerMatrix::new(self.pool, bits, &bytes, rows, columns);
                if !matrix.is_finite() {
                    return Err(parts[0].fault("a scale of it or of a layer beside it is not a finite number".into()));
                }
                Linear::Integer(matrix, largest)
            }
            // The weights alone may be integers: then floats are what they are multiplied with.
            (_, None) | (Quant::None, _) => Linear::Float(FloatMatrix::new(self.pool, rows, columns, |row, out| {
                let (part, row) = of(row);
                part.floats(row, out)
            })?),
        };
        (self.done)();
        Ok(linear)
    }

    fn table(&self, role: Role) -> Result<Table, Error> {
        let rows = self.tensor(role, None);
        let (count, columns) = (rows.tensor.spec.shape[0], rows.columns);
        let table = if let Some(bits) = Bits::of(rows.tensor.format) {
            let is_head = role == Role::Head || self.packed.config.tied_head;
            let bits = if is_head { head_bits(self.layout, bits, count * columns) } else { bits };
            let matrix = IntegerMatrix::new(self.pool, bits, rows.bytes, count, columns);
            if !matrix.is_finite() {
                return Err(rows.fault("a scale is not a finite number".into()));
            }
            Table::Integer(matrix)
        } else {
            Table::Float(FloatMatrix::new(self.pool, count, columns, |row, out| rows.floats(row, out))?)
        };
        (self.done)();
        Ok(table)
    }
}

impl Rows<'_> {
    fn stored(&self, row: usize) -> &[u8] {
        let row = self.stored.as_ref().map_or(row, |stored| stored[row]);
        &self.bytes[row * self.row_bytes..(row + 1) * self.row_bytes]
    }

    fn floats(&self, row: usize, out: &mut [f32]) -> Result<(), Error> {
        block::decode_row(self.tensor.format, self.stored(row), out)
            .ok_or_else(|| self.fault(format!("row {row} holds a code that is not -1, 0 or 1")))?;
        if self.tensor.factor != 1.0 {
            out.iter_mut().for_each(|number| *number *= self.tensor.factor);
        }
        match out.iter().find(|number| !number.is_finite()) {
            None => Ok(()),
            Some(number) => Err(self.fault(format!("row {row} holds {number}, which is not a finite number"))),
        }
    }

    /// A row's codes, four to a word, and its scales.
    fn words(&self, row: usize, scale: Scale, words: &mut [u32], scales: &mut [f32]) -> Result<(), Error> {
        let no_code = || self.fault(format!("row {row} holds a code that is not -1, 0 or 1"));
        let (length, block_bytes) = self.tensor.format.block();
        let blocks = self.stored(row).chunks_exact(block_bytes);
        for (at, (block, words)) in blocks.zip(words.chunks_exact_mut(length / 4)).enumerate() {
            let found = match self.tensor.format {
                Format::Tq2_0 => {
                    let (codes, scale) = block.split_at(GROUP / 4);
                    unpack_tq2(codes, words).ok_or_else(no_code)?;
                    f16::from_le_bytes([scale[0], scale[1]])
                }
                Format::Q2_0 => {
                    let (scale, codes) = block.split_at(2);
                    unpack_q2(codes, words).ok_or_else(no_code)?;
                    f16::from_le_bytes([scale[0], scale[1]])
                }
                format => {
                    let mut codes = [0; GROUP];
                    let scale = block::decode_ternary(block, format, &mut codes).ok_or_else(no_code)?;
                    words.iter_mut().zip(codes.as_chunks().0).for_each(|(word, codes)| *word = to_word(*codes));
                    scale
                }
            };
            let found = found.to_f32() * self.tensor.factor;
            if !found.is_finite() {
                return Err(self.fault(format!("row {row} has the scale {found}, which is not a finite number")));
            }
            let shared = if scale == Scale::Group { at } else { 0 };
            if at != shared && scales[0] != found {
                return Err(self.fault(format!("row {row} has the scales {} and {found}, but the file says that a row has one", scales[0])));
            }
            scales[shared] = found;
        }
        Ok(())
    }

    fn fault(&self, found: String) -> Error {
        Error::Tensor { tensor: self.tensor.spec.packed_name.clone(), found }
    }
}

/// A TQ2_0 block's codes as w + 1, four to a word, or `None` if one of them is 3. Byte m of each half of the block holds its weights m,
/// m + 32, m + 64 and m + 96, as w + 1 like ours.
fn unpack_tq2(codes: &[u8], words: &mut [u32]) -> Option<()> {
    let mut threes = 0;
    for (half, words) in codes.as_chunks::<4>().0.as_chunks::<8>().0.iter().zip(words.as_chunks_mut::<32>().0) {
        for (at, bytes) in half.iter().enumerate() {
            let four = u32::from_le_bytes(*bytes);
            threes |= four & (four >> 1) & 0x5555_5555;
            for plane in 0..4 {
                words[8 * plane + at] = four >> (2 * plane) & 0x0303_0303;
            }
        }
    }
    (threes == 0).then_some(())
}

/// The same of a Q2_0 block, whose byte m holds its weights 4m to 4m + 3.
fn unpack_q2(codes: &[u8], words: &mut [u32]) -> Option<()> {
    let mut threes = 0;
    for (byte, word) in codes.iter().zip(words) {
        let four = u32::from(*byte);
        threes |= four & (four >> 1) & 0x55;
        *word = (four | four << 6 | four << 12 | four << 18) & 0x0303_0303;
    }
    (threes == 0).then_some(())
}
