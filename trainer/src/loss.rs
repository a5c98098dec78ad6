//! The losses, one file each; those of logits share the chunks of `head.rs`.

mod confidence;
pub(crate) mod cross_entropy;
#[cfg_attr(not(test), expect(dead_code, reason = "no stage of a run asks for it yet"))]
pub(crate) mod divergence;
mod forward_kl;
pub(crate) mod head;
#[cfg_attr(not(test), expect(dead_code, reason = "no stage of a run asks for it yet"))]
pub(crate) mod hidden;
mod jensen_shannon;
#[cfg_attr(not(test), expect(dead_code, reason = "no stage of a run asks for it yet"))]
pub(crate) mod relation;
mod reverse_kl;
pub(crate) mod teacher;
