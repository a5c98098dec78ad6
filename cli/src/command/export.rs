//! `tristill export`: from a checkpoint to the one file that ships.

use std::path::Path;

use anyhow::{Context, Result, bail};
use model::block::Format;
use trainer::{Checkpoint, Exported};

use crate::{arguments::ExportArguments, progress::say};

pub fn command(arguments: &ExportArguments) -> Result<()> {
    let folder = &arguments.folder;
    let checkpoint = match trainer::latest(folder)? {
        Some((_, checkpoint)) => checkpoint,
        None if folder.join("config.json").exists() => folder.clone(),
        None => bail!(
            "{} is no checkpoint and holds none: a config.json or a folder step-… was needed; `tristill train` makes one",
            folder.display()
        ),
    };
    let to = arguments.to.clone().unwrap_or_else(|| folder.join("student.gguf"));
    let name = folder.canonicalize().ok().and_then(|folder| Some(folder.file_name()?.to_str()?.to_owned()));
    export(&checkpoint, &to, name.as_deref().unwrap_or("student")).map(|_| ())
}

/// Pack a checkpoint and say what came out.
pub fn export(checkpoint: &Path, to: &Path, name: &str) -> Result<Exported> {
    let exported = Checkpoint::open(checkpoint)
        .and_then(|checkpoint| trainer::export(&checkpoint, to, name, Format::Tq2_0))
        .with_context(|| format!("cannot export {}", checkpoint.display()))?;
    let ratio = exported.f16_bytes as f64 / exported.packed_bytes as f64;
    say(&format!("    packed {}: {} bytes, {ratio:.1} times smaller than f16", to.display(), exported.packed_bytes));
    if let Some(reason) = exported.stock_refusal {
        say(&format!("      note stock llama.cpp cannot run it: {reason}"));
    }
    Ok(exported)
}
