//! A dataset with a teacher's likeliest tokens beside its own, asked once before the training.

use std::path::Path;

use data::{Annotation, Dataset, PackedRow, TeacherRow};
use model::ModelConfig;

use crate::{Error, Lesson, TrainTable, device, state::origin, student::Batch, teacher::Teacher};

/// Ask the teacher of `train.teacher` about every supervised token of a dataset and write its answers into the folder `to`, unless
/// they are there already: false then. `report` is told how many rows are done, and of how many.
pub fn annotate(
    dataset: &Dataset,
    config: &TrainTable,
    model: &ModelConfig,
    to: &Path,
    report: &mut dyn FnMut(u64, u64),
) -> Result<(Dataset, bool), Error> {
    config.check()?;
    let table = &config.teacher;
    let (Some(folder), Some(top_k)) = (&table.from, table.top_k) else {
        let (key, found) = ("teacher.top_k", "not given".to_owned());
        return Err(Error::Config {
            key,
            found,
            needed: "to store a teacher's likeliest tokens, it and train.teacher.from are needed".into(),
        });
    };
    let temperature = table.temperature as f32;
    let annotation = Annotation { to, teacher: &origin(folder)?, top_k, temperature };
    let mut teacher = None;
    let ask = |rows: &[PackedRow]| {
        // Opened at the first question: there is none where everything is there already.
        let teacher = match &mut teacher {
            Some(teacher) => teacher,
            none => none.insert(Teacher::open(folder, table.divergence, model, &dataset.tokenizer()?, &device::open(config.device)?)?),
        };
        let batch = Batch::from_rows(rows, model, Lesson::NONE)?;
        let places = batch.supervised().places;
        let mut said = teacher.likeliest(&batch, &places, top_k, temperature).into_iter().zip(places.iter().copied()).peekable();
        let rows = rows.iter().enumerate().map(|(number, row)| {
            let documents = row.documents.len();
            let mut taught = TeacherRow { top_k, temperatures: vec![temperature; documents], ..TeacherRow::default() };
            let end = ((number + 1) * batch.length) as u32;
            while let Some((tokens, place)) = said.next_if(|(_, place)| *place < end) {
                let filler = top_k - tokens.len();
                taught.at.push(place - (number * batch.length) as u32 + 1);
                let mass: f64 = tokens.iter().map(|(_, log_p)| f64::from(*log_p).exp()).sum();
                taught.tails.push((1.0 - mass).max(0.0) as f32);
                taught.ids.extend(tokens.iter().map(|(token, _)| *token).chain(std::iter::repeat_n(0, filler)));
                taught.logprobs.extend(tokens.iter().map(|(_, log_p)| *log_p).chain(std::iter::repeat_n(f32::NEG_INFINITY, filler)));
            }
            taught
        });
        Ok::<_, Error>(rows.collect())
    };
    dataset.annotate(&annotation, ask, report)
}
