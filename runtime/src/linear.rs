//! A student's matrices, whatever they are stored as: ternary layers, layers of integers, layers of floats, embedding and head.

use model::{Kind, ModelConfig, TensorSpec, inventory};

use crate::kernel::{
    Activations, FineActivations, FloatMatrix, IntegerMatrix, Isa, Matrix, Memory, Packing, Pool, multiply, multiply_floats,
    multiply_integers,
};

/// A student of fewer weights stays in the caches of many CPUs, where unpacking is what limits.
const DENSE_WEIGHTS: usize = 128 << 20;

/// How weights lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) packing: Packing,
    /// Whether a head of 8 bits has its high bits apart. Where five weights lie in a byte, a head has a ternary matrix beside it, because
    /// that is shorter, and matrix tiles want bytes as they are.
    pub(crate) apart: bool,
}

impl Layout {
    /// As the kernels want it that will run. A name that is no instruction set is for the engine to refuse.
    pub(crate) fn best(config: &ModelConfig) -> Layout {
        let fastest = Isa::detect().unwrap_or(Isa::fastest()).packing();
        let is_small = linear_weights(config) < DENSE_WEIGHTS;
        Layout { packing: if is_small { Packing::Four } else { fastest }, apart: fastest == Packing::Four }
    }

    /// Where a student's ternary matrices are to lie.
    pub(crate) fn memory(self, config: &ModelConfig) -> Memory {
        Memory::of(linear_weights(config), self.packing)
    }
}

/// Weights of all linear layers.
fn linear_weights(config: &ModelConfig) -> usize {
    inventory(config).iter().filter(|tensor| tensor.kind() == Kind::Linear).map(TensorSpec::len).sum()
}

/// The matrix of one or more linear layers that share their input.
pub(crate) enum Linear {
    /// With the largest code of its input; so for integers.
    Ternary(Matrix, i8),
    Integer(IntegerMatrix, i8),
    Float(FloatMatrix),
}

/// The input of a linear layer, for many tokens.
#[derive(Default)]
pub(crate) struct Input {
    /// For floats, at least `length` numbers: it never shrinks, because growing again would fill it with zeros each time.
    floats: Vec<f32>,
    length: usize,
    quantized: Activations,
    /// The same, for integers.
    fine: FineActivations,
}

impl Input {
    /// One token of `width` numbers for each of the `source`'s, as `compute` makes it from there. It may change the source.
    #[allow(clippy::type_complexity)]
    pub(crate) fn prepare(
        &mut self,
        (isa, pool): (Isa, &Pool),
        linear: &Linear,
        source: (&mut [f32], usize),
        width: usize,
        compute: &(dyn Fn(usize, &mut [f32], &mut [f32]) + Sync),
    ) {
        match linear {
            Linear::Float(_) => {
                self.length = source.0.len() / source.1 * width;
                self.floats.resize(self.floats.len().max(self.length), 0.0);
                pool.for_each_pair(source, (&mut self.floats[..self.length], width), compute);
            }
            Linear::Ternary(_, largest) => self.quantized.fill((isa, pool), *largest, source, width, compute),
            Linear::Integer(_, largest) => {
                self.quantized.fill((isa, pool), *largest, source, width, compute);
                self.fine.widen(isa, &self.quantized);
            }
        }
    }
}

impl Linear {
    /// Output features.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Linear::Ternary(matrix, _) => matrix.rows(),
            Linear::Integer(matrix, _) => matrix.rows(),
            Linear::Float(matrix) => matrix.rows(),
        }
    }

    /// Multiply every token; `out` becomes `[tokens, rows]`.
    pub(crate) fn apply(&self, isa: Isa, pool: &Pool, input: &Input, tokens: usize, out: &mut Vec<f32>) {
        out.resize(tokens * self.rows(), 0.0);
        match self {
            Linear::Ternary(matrix, _) => multiply(isa, pool, matrix, &input.quantized, out),
            Linear::Integer(matrix, _) => multiply_integers(isa, pool, matrix, &input.fine, out),
            Linear::Float(matrix) => multiply_floats(isa, pool, matrix, &input.floats[..input.length], out),
        }
    }

    /// Bytes that a multiply reads.
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Linear::Ternary(matrix, _) => matrix.len_bytes(),
            Linear::Integer(matrix, _) => matrix.len_bytes(),
            Linear::Float(matrix) => matrix.len_bytes(),
        }
    }
}

/// The embedding, or a head of its own.
pub(crate) enum Table {
    Integer(IntegerMatrix),
    Float(FloatMatrix),
}

impl Table {
    /// One token's row.
    pub(crate) fn row(&self, token: u32, out: &mut [f32]) {
        match self {
            Table::Integer(matrix) => matrix.row(token as usize, out),
            Table::Float(matrix) => matrix.row(token as usize, out),
        }
    }

    /// Its integers, if it is kept in them.
    pub(crate) fn integers(&self) -> Option<&IntegerMatrix> {
        match self {
            Table::Integer(matrix) => Some(matrix),
            Table::Float(_) => None,
        }
    }

    /// The logits of some tokens' last hidden values; `logits` becomes `[tokens, vocabulary]`.
    pub(crate) fn logits(&self, isa: Isa, pool: &Pool, hidden: &[f32], width: usize, fine: &mut FineActivations, logits: &mut Vec<f32>) {
        let rows = match self {
            Table::Integer(matrix) => matrix.rows(),
            Table::Float(matrix) => matrix.rows(),
        };
        logits.resize(hidden.len() / width * rows, 0.0);
        match self {
            Table::Integer(matrix) => {
                fine.quantize(isa, hidden, width);
                multiply_integers(isa, pool, matrix, fine, logits);
            }
            Table::Float(matrix) => multiply_floats(isa, pool, matrix, hidden, logits),
        }
    }

    /// Bytes that a multiply reads.
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Table::Integer(matrix) => matrix.len_bytes(),
            Table::Float(matrix) => matrix.len_bytes(),
        }
    }
}
