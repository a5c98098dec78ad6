//! Packed rows of a dataset as the batches of a step.
//!
//! The target of a token is the next one of the same document, so the last token of a document has none. Short rows are filled up
//! with an unsupervised document of their own.

use data::{PackedRow, TeacherRow};
use model::ModelConfig;

use crate::{Error, Lesson, student::Batch};

/// The token that fills up short rows. Nothing attends to it and no loss sees it.
const FILLER: u32 = 0;

impl Batch {
    /// The batch of some rows, as long as the longest; or what in them a student of these sizes cannot take. `lesson` is what
    /// is learned of a teacher's probabilities, where the rows have them.
    pub fn from_rows(rows: &[PackedRow], config: &ModelConfig, lesson: Lesson) -> Result<Batch, Error> {
        rows.iter().try_for_each(|row| check(row, config))?;
        let length = rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0);
        let n = rows.len() * length;
        let mut batch = Batch {
            rows: rows.len(),
            length,
            tokens: Vec::with_capacity(n),
            targets: Vec::with_capacity(n),
            keep: Vec::with_capacity(n),
            documents: Vec::with_capacity(n),
            positions: Vec::with_capacity(n),
            likely: vec![Vec::new(); n],
            lesson,
        };
        for (at, row) in rows.iter().enumerate() {
            if let Some(teacher) = &row.teacher {
                teach(teacher, &mut batch.likely[at * length..][..length], config, lesson.temperature)?;
            }
            let mut start = 0;
            for (document, len) in row.documents.iter().enumerate() {
                let end = start + *len as usize;
                batch.push(&row.tokens[start..end], &row.supervised[start..end], document);
                start = end;
            }
            let fill = length - start;
            batch.push(&vec![FILLER; fill], &vec![false; fill], row.documents.len());
        }
        Ok(batch)
    }

    /// Add one document to the row that is being filled.
    fn push(&mut self, tokens: &[u32], supervised: &[bool], document: usize) {
        self.tokens.extend(tokens);
        self.targets.extend(tokens.iter().skip(1).chain([&FILLER]).take(tokens.len()));
        self.keep.extend(supervised.iter().skip(1).chain([&false]).take(tokens.len()));
        self.documents.extend(std::iter::repeat_n(document as u32, tokens.len()));
        self.positions.extend(0..tokens.len() as u32);
    }
}

/// Put the teacher's probabilities of a row's tokens where these are predicted: one place earlier.
fn teach(teacher: &TeacherRow, likely: &mut [Vec<(u32, f32)>], config: &ModelConfig, wanted: f32) -> Result<(), Error> {
    if let Some(temperature) = teacher.temperatures.iter().find(|temperature| ![0.0, wanted].contains(*temperature)) {
        let found = format!(
            "its teacher's probabilities were taken at temperature {temperature} and train.teacher.temperature is {wanted}; make them equal"
        );
        return Err(Error::Rows(found));
    }
    let lists = teacher.ids.chunks(teacher.top_k).zip(teacher.logprobs.chunks(teacher.top_k));
    for (at, (ids, logprobs)) in teacher.at.iter().zip(lists) {
        let named = ids.iter().zip(logprobs).filter(|(_, logprob)| logprob.is_finite());
        if let Some((id, _)) = named.clone().find(|(id, _)| **id as usize >= config.vocab) {
            return Err(Error::Rows(format!("its teacher names the token {id}, the student knows {}; ingest again", config.vocab)));
        }
        if let Some(list) = (*at as usize).checked_sub(1).and_then(|place| likely.get_mut(place)) {
            *list = named.map(|(id, logprob)| (*id, logprob.exp())).filter(|(_, p)| *p > 0.0).collect();
        }
    }
    Ok(())
}

fn check(row: &PackedRow, config: &ModelConfig) -> Result<(), Error> {
    let refuse = |found: String| Err(Error::Rows(format!("{found}; ingest again")));
    let documents: u64 = row.documents.iter().map(|len| u64::from(*len)).sum();
    let tokens = row.tokens.len();
    if documents != tokens as u64 || row.supervised.len() != tokens {
        return refuse(format!("a row of {tokens} tokens has documents of {documents} and a mask of {}", row.supervised.len()));
    }
    if tokens > config.context {
        return refuse(format!("a row has {tokens} tokens, the student's context is {}", config.context));
    }
    match row.tokens.iter().find(|token| **token as usize >= config.vocab) {
        Some(token) => refuse(format!("a row has the token {token}, the student knows {}", config.vocab)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ModelConfig {
        let table = serde_json::json!({ "width": 256, "layers": 1, "heads": 4, "feed_forward": 256, "context": 8 });
        serde_json::from_value::<model::ModelTable>(table).unwrap().resolve(10).unwrap()
    }

    fn row(documents: &[&[u32]], prompt: usize) -> PackedRow {
        PackedRow {
            tokens: documents.concat(),
            supervised: documents.iter().flat_map(|document| (0..document.len()).map(|at| at >= prompt)).collect(),
            documents: documents.iter().map(|document| document.len() as u32).collect(),
            teacher: None,
        }
    }

    /// What a teacher held likely at one token of a row, two alternatives.
    fn teacher(at: u32, ids: [u32; 2], logprobs: [f32; 2], temperature: f32) -> Option<TeacherRow> {
        let (at, ids, logprobs) = (vec![at], ids.to_vec(), logprobs.to_vec());
        Some(TeacherRow { top_k: 2, at, ids, logprobs, tails: vec![0.25], temperatures: vec![temperature] })
    }

    #[test]
    fn a_teacher_speaks_where_its_token_is_predicted() {
        let half = 0.5f32.ln();
        let mut rows = [row(&[&[1, 2, 3]], 1), row(&[&[8, 9]], 1)];
        rows[0].teacher = teacher(2, [3, 0], [half, f32::NEG_INFINITY], 1.0);
        rows[1].teacher = teacher(1, [9, 4], [half, half / 2.0], 1.0);
        let batch = Batch::from_rows(&rows, &config(), Lesson::NONE).unwrap();
        let none = Vec::new();
        assert_eq!(batch.likely[..3], [none.clone(), vec![(3, 0.5)], none.clone()]);
        assert_eq!((batch.likely[3].len(), &batch.likely[4..]), (2, &[none.clone(), none][..]));
        for (spoiled, expected) in [
            (teacher(1, [9, 10], [half; 2], 1.0), "its teacher names the token 10, the student knows 10"),
            (teacher(1, [9, 4], [half; 2], 0.7), "at temperature 0.7 and train.teacher.temperature is 1"),
        ] {
            rows[1].teacher = spoiled;
            let message = Batch::from_rows(&rows, &config(), Lesson::NONE).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn targets_stay_within_their_document_and_short_rows_are_filled_up() {
        let rows = [row(&[&[1, 2, 3], &[4, 5, 6, 7]], 2), row(&[&[8, 9]], 1)];
        let batch = Batch::from_rows(&rows, &config(), Lesson::NONE).unwrap();
        let no = false;
        assert_eq!((batch.rows, batch.length), (2, 7));
        assert_eq!(batch.tokens, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0]);
        assert_eq!(batch.targets, [2, 3, 0, 5, 6, 7, 0, 9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(batch.keep, [no, true, no, no, true, true, no, true, no, no, no, no, no, no]);
        assert_eq!(batch.documents, [0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 2, 3, 0, 1, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_a_student_cannot_take_is_refused() {
        let mut torn = row(&[&[1, 2, 3]], 1);
        torn.documents = vec![2];
        let cases = [
            (torn, "a row of 3 tokens has documents of 2 and a mask of 3"),
            (row(&[&[1; 9]], 1), "a row has 9 tokens, the student's context is 8"),
            (row(&[&[1, 10]], 1), "a row has the token 10, the student knows 10"),
        ];
        for (row, expected) in cases {
            let message = Batch::from_rows(&[row], &config(), Lesson::NONE).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
