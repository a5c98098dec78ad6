//! From a checkpoint to the one file that ships. The weights are quantised by `model::ternary`, as the layers of the student were.

use std::path::{Path, PathBuf};

use model::{
    block::Format,
    inventory,
    packed::{self, Options},
};

use crate::{Checkpoint, Error};

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The packed file.
    pub path: PathBuf,
    /// Its length.
    pub packed_bytes: u64,
    /// What the weights alone would take as f16.
    pub f16_bytes: u64,
    /// Tensors in it.
    pub tensors: usize,
    /// Why stock llama.cpp cannot run it, or `None` if it can.
    pub stock_refusal: Option<&'static str>,
}

/// Pack a checkpoint into `path`, with ternary matrices as `ternary` (TQ2_0 or TQ1_0). A full-precision student's are F16.
pub fn export(checkpoint: &Checkpoint, path: &Path, name: &str, ternary: Format) -> Result<Exported, Error> {
    export_with(checkpoint, path, name, ternary, &mut |_, _| ())
}

/// As [`export`]; `report` is told how many weights are packed, and of how many.
pub fn export_with(
    checkpoint: &Checkpoint,
    path: &Path,
    name: &str,
    ternary: Format,
    report: &mut dyn FnMut(u64, u64),
) -> Result<Exported, Error> {
    let Checkpoint { config, tokenizer, chat, .. } = checkpoint;
    let options = Options { name: name.to_owned(), ternary };
    let (mut done, total) = (0, config.parameters() as u64);
    let packed_bytes = packed::write(path, config, tokenizer, chat, &options, |spec| {
        report(done, total);
        done += spec.len() as u64;
        checkpoint.finite_weights(spec, config.quant, config.scale)
    })?;
    report(total, total);
    Ok(Exported {
        path: path.to_owned(),
        packed_bytes,
        f16_bytes: 2 * config.parameters() as u64,
        tensors: inventory(config).len(),
        stock_refusal: packed::stock_refusal(config),
    })
}
