//! The losses, one file each.

pub(crate) mod cross_entropy;
pub(crate) mod teacher;
