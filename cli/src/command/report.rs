//! `tristill report`: a run's facts as one page, `report.html`, and as the model card beside the packed student.

use std::path::Path;

use anyhow::{Context, Result};
use eval::report::{Metrics, Report, model_card, page, write_text};

use crate::{arguments::ReportArguments, progress::say};

/// The page's name in a run's folder.
pub const PAGE: &str = "report.html";

pub fn command(arguments: &ReportArguments) -> Result<()> {
    write(&arguments.folder)?;
    say(&format!("{}", arguments.folder.join(PAGE).display()));
    Ok(())
}

/// Make the page and the model card from the run's `report.json` and `metrics.jsonl`.
pub fn write(folder: &Path) -> Result<()> {
    let facts = Report::read(&folder.join("report.json")).context("cannot read the run's facts; `tristill distill` writes them")?;
    let metrics = Metrics::read(&folder.join("metrics.jsonl"))?;
    write_text(&folder.join(PAGE), &page(&facts, &metrics))?;
    write_text(&folder.join("README.md"), &model_card(&facts, "student.gguf"))?;
    Ok(())
}
