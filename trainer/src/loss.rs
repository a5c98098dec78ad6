//! The losses, one file each. Those of the logits are summed up by `head.rs`, where alone logits exist.

pub(crate) mod aligned;
pub(crate) mod confidence;
pub(crate) mod cross_entropy;
pub(crate) mod divergence;
pub(crate) mod forward_kl;
pub(crate) mod head;
pub(crate) mod hidden;
pub(crate) mod jensen_shannon;
pub(crate) mod likely;
pub(crate) mod relation;
pub(crate) mod reverse_kl;
pub(crate) mod states;
pub(crate) mod uld;
