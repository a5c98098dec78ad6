//! What a student is, down to the byte.
//!
//! A thing is in this crate if and only if the trainer and the runtime must agree on it: sizes, tensor names, tokens, the chat
//! template, the codes of weights and the packed file. It knows no training, no CPU's instruction sets and no questions.

pub mod block;
mod chat;
pub mod config;
mod error;
pub mod gguf;
pub mod hugging_face;
pub mod integer;
mod inventory;
pub mod packed;
mod pre_tokenizer;
mod rotary;
mod start;
pub mod ternary;
mod tokenizer;

pub use chat::{ChatTemplate, Message};
pub use config::{Activation, Architecture, InputQuant, ModelConfig, ModelTable, Quant};
pub use error::Error;
pub use inventory::{Kind, Role, TensorSpec, inventory};
pub use packed::Packed;
pub use rotary::RopeScaling;
pub use start::{FromTable, StudentTable};
pub use ternary::{Scale, Ternary};
pub use tokenizer::Tokenizer;
