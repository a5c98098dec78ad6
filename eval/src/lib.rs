//! Packed student in, completions and score out.

pub mod statistics;
