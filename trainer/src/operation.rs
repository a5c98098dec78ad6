//! The operations of a student. Each file holds the formula, the composed form in burn's own operations (its meaning) and, where
//! it pays, the fused form for a CPU, tested equal to it.

pub(crate) mod attention;
pub(crate) mod embed;
pub(crate) mod gate;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod quantize;
pub(crate) mod rotary;
