//! From the bytes of a packed file to matrices in the kernels' layout, every number checked.

use model::{
    Kind, ModelConfig, Packed, Quant, Role, Scale,
    block::{self, Format},
    packed::{PackedTensor, stored_rows},
    ternary::GROUP,
};

use crate::{
    Error,
    kernel::{ByteMatrix, FloatMatrix, Matrix, Pool},
    linear::{Linear, Table},
    network::{Layer, Network},
};

/// A file's tensors.
struct Source<'a> {
    packed: &'a Packed,
    bytes: &'a [u8],
    pool: &'a Pool,
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

/// The network of a packed file.
pub(crate) fn network(packed: &Packed, bytes: &[u8], pool: &Pool) -> Result<Network, Error> {
    Network::check(&packed.config)?;
    let config = packed.config.clone();
    let source = Source { packed, bytes, pool };
    let embedding = source.table(Role::Embedding)?;
    let layers = (0..config.layers).map(|layer| source.layer(&config, layer)).collect::<Result<Vec<_>, _>>()?;
    let final_norm = source.vector(Role::FinalNorm, None)?;
    let head = if config.tied_head { None } else { Some(source.table(Role::Head)?) };
    Ok(Network::new(config, embedding, layers, final_norm, head))
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
        Ok(match self.packed.config.quant {
            Quant::Ternary => Linear::Ternary(Matrix::read(self.pool, (rows, columns), self.packed.config.scale, |row, codes, scales| {
                let (part, row) = of(row);
                part.codes(row, self.packed.config.scale, codes, scales)
            })?),
            Quant::None => Linear::Float(FloatMatrix::new(self.pool, rows, columns, |row, out| {
                let (part, row) = of(row);
                part.floats(row, out)
            })?),
        })
    }

    fn table(&self, role: Role) -> Result<Table, Error> {
        let rows = self.tensor(role, None);
        let (count, columns) = (rows.tensor.spec.shape[0], rows.columns);
        if rows.tensor.format != Format::Q8_0 {
            return Ok(Table::Float(FloatMatrix::new(self.pool, count, columns, |row, out| rows.floats(row, out))?));
        }
        let matrix = ByteMatrix::new(self.pool, rows.bytes, count, columns);
        if matrix.is_finite() { Ok(Table::Bytes(matrix)) } else { Err(rows.fault("a scale is not a finite number".into())) }
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
        match out.iter().find(|number| !number.is_finite()) {
            None => Ok(()),
            Some(number) => Err(self.fault(format!("row {row} holds {number}, which is not a finite number"))),
        }
    }

    fn codes(&self, row: usize, scale: Scale, codes: &mut [i8], scales: &mut [f32]) -> Result<(), Error> {
        let blocks = self.stored(row).chunks_exact(self.tensor.format.block().1);
        for (at, (block, codes)) in blocks.zip(codes.as_chunks_mut::<GROUP>().0).enumerate() {
            let found = block::decode_ternary(block, self.tensor.format, codes)
                .ok_or_else(|| self.fault(format!("row {row} holds a code that is not -1, 0 or 1")))?
                .to_f32();
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
