//! The losses, one file each.

pub(crate) mod cross_entropy;
