//! The operations of a student. Each file holds the formula, the composed form in burn's own operations (its meaning) and the
//! fused form for a CPU, tested equal to it. Which one runs is [`crate::device::Path`]'s to say.

pub(crate) mod attention;
pub(crate) mod buffer;
#[cfg(test)]
pub(crate) mod check;
pub(crate) mod embed;
pub(crate) mod fused;
pub(crate) mod gate;
pub(crate) mod linear;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod quantize;
pub(crate) mod rotary;
pub(crate) mod simd;
pub(crate) mod tiles;
