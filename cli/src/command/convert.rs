//! `tristill convert`: from a checkpoint, or a Hugging Face folder by others, to a Hugging Face folder that other tools open.

use anyhow::{Context, Result};
use model::hugging_face::{Float, Form};
use trainer::Checkpoint;

use crate::{
    arguments::{ConvertArguments, FloatType},
    command::export::checkpoint,
    progress::{Progress, say},
};

pub fn command(arguments: &ConvertArguments) -> Result<()> {
    let folder = checkpoint(&arguments.folder)?;
    let float = match arguments.r#type {
        FloatType::F32 => Float::F32,
        FloatType::F16 => Float::F16,
        FloatType::Bf16 => Float::Bf16,
    };
    let form = Form { float, is_packed: arguments.packed };
    let mut bar: Option<Progress> = None;
    Checkpoint::open(&folder)
        .and_then(|checkpoint| {
            trainer::convert(&checkpoint, &arguments.to, form, &mut |done, total| {
                bar.get_or_insert_with(|| Progress::start("convert", total, done)).at(done, total, "weights");
            })
        })
        .with_context(|| format!("cannot convert {}", folder.display()))?;
    if let Some(bar) = bar {
        bar.end();
    }
    say(&format!(" converted {}", arguments.to.display()));
    Ok(())
}
