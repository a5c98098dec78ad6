//! `tristill export`: from a checkpoint to the one file that ships.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use model::block::Format;
use trainer::{Checkpoint, Exported};

use crate::{
    arguments::ExportArguments,
    progress::{Progress, say},
    stages,
};

pub fn command(arguments: &ExportArguments) -> Result<()> {
    let folder = &arguments.folder;
    let checkpoint = checkpoint(folder)?;
    let to = target(arguments.to.clone().unwrap_or_else(|| folder.join("student.gguf")))?;
    let name = folder.canonicalize().ok().and_then(|folder| Some(folder.file_name()?.to_str()?.to_owned()));
    export(&checkpoint, &to, name.as_deref().unwrap_or("student")).map(|_| ())
}

/// The file that a path means: behind a link what it links to. What is there and no file is not to be replaced by one.
fn target(path: PathBuf) -> Result<PathBuf> {
    match std::fs::metadata(&path) {
        Ok(there) if !there.is_file() => bail!("cannot write {}: it is there and is no file; name another with --to", path.display()),
        Ok(_) => path.canonicalize().with_context(|| format!("cannot write {}", path.display())),
        Err(_) => Ok(path), // Not there yet, or a folder of it cannot be read, which writing will tell.
    }
}

/// The last checkpoint of a run's folder, or of its last stage that has one; or the folder itself if it is one.
pub fn checkpoint(folder: &Path) -> Result<PathBuf> {
    if let Some(stage) = stages::last(folder, |stage| trainer::latest(stage).is_ok_and(|last| last.is_some())) {
        return checkpoint(&stage);
    }
    match trainer::latest(folder)? {
        Some((_, checkpoint)) => Ok(checkpoint),
        None if folder.join("config.json").exists() => Ok(folder.to_owned()),
        None => {
            model::hugging_face::refuse_adapter(folder)?;
            bail!(
                "{} is no checkpoint and holds none: a config.json or a folder step-… was needed; `tristill train` makes one",
                folder.display()
            )
        }
    }
}

/// Pack a checkpoint and say what came out.
pub fn export(checkpoint: &Path, to: &Path, name: &str) -> Result<Exported> {
    let mut bar: Option<Progress> = None;
    let exported = Checkpoint::open(checkpoint)
        .and_then(|checkpoint| {
            trainer::export_with(&checkpoint, to, name, Format::Tq2_0, &mut |done, total| {
                bar.get_or_insert_with(|| Progress::start("export", total, done)).at(done, total, "weights");
            })
        })
        .with_context(|| format!("cannot export {}", checkpoint.display()))?;
    if let Some(bar) = bar {
        bar.end();
    }
    let ratio = exported.f16_bytes as f64 / exported.packed_bytes as f64;
    say(&format!("    packed {}: {} bytes, {ratio:.1} times smaller than f16", to.display(), exported.packed_bytes));
    if let Some(reason) = exported.stock_refusal {
        say(&format!("      note stock llama.cpp cannot run it: {reason}"));
    }
    Ok(exported)
}
