//! A teacher in memory: a student that is not trained, of any architecture, in the precision of its folder.

mod reader;

use std::{path::Path as FilePath, sync::Arc};

use burn::tensor::Device;
use model::{ModelConfig, Tokenizer};

use crate::{
    Checkpoint, Error, Student,
    config::{DivergenceName, HiddenTable, RelationTable, TeacherTable},
    loss::{
        aligned::Aligned,
        divergence::{LogitsOf, Said, to_log_probabilities},
        states::Exemplar,
    },
    operation::matmul::{View, ViewMut, Workers, Write, multiply},
    student::{Batch, States},
};
use reader::Reader;

/// A teacher that answers for the tokens of one student.
#[derive(Debug)]
pub(crate) struct Teacher {
    student: Student,
    /// The rows of the head that the student has too, [v, d]; with a tokenizer of its own all that are tokens.
    head_vd: Arc<[f32]>,
    /// How it reads, where its tokenizer is not the dataset's.
    reader: Option<Reader>,
    /// What of its states is learned.
    hidden: Option<HiddenTable>,
    relation: Option<RelationTable>,
}

impl Teacher {
    /// Open a Hugging Face folder as a teacher of a student of these sizes, whose dataset was written with `tokenizer`. Another
    /// tokenizer than that is taken if the divergence can compare two vocabularies.
    pub(crate) fn open(
        folder: &FilePath,
        divergence: DivergenceName,
        student: &ModelConfig,
        tokenizer: &Tokenizer,
        device: &Device,
    ) -> Result<Teacher, Error> {
        let checkpoint = Checkpoint::open(folder)?;
        let config = checkpoint.config.clone();
        let refuse = |found: String| Error::Checkpoint { path: folder.to_owned(), found };
        let has_own = checkpoint.tokenizer.fingerprint() != tokenizer.fingerprint();
        if has_own && divergence != DivergenceName::Uld {
            return Err(refuse(format!(
                "its tokenizer of {} tokens is not that of the dataset, which has {}, and probabilities of one vocabulary say nothing of \
                 another; give the teacher's tokenizer.json as data.tokenizer, compare ranks alone with train.teacher.divergence = \"uld\" \
                 (experimental), or learn from its texts alone",
                checkpoint.tokenizer.vocab(),
                tokenizer.vocab()
            )));
        }
        if !has_own && config.vocab < student.vocab {
            return Err(refuse(format!("its head has {} rows, at least the student's {} are needed", config.vocab, student.vocab)));
        }
        if !has_own && config.context < student.context {
            return Err(refuse(format!("its context is {} tokens, at least the student's {} are needed", config.context, student.context)));
        }
        let reader = has_own.then(|| Reader::new(tokenizer, &checkpoint.tokenizer, config.context)).transpose().map_err(refuse)?;
        let teacher = Student::from_tensors(&config, |spec| checkpoint.finite_weights(spec, config.quant, config.scale), device)?.frozen();
        teacher.prepare();
        let mut head_vd = teacher.head_values();
        let vocab = if has_own { checkpoint.tokenizer.vocab() } else { student.vocab };
        head_vd.truncate(vocab * config.width);
        Ok(Teacher { student: teacher, head_vd: head_vd.into(), reader, hidden: None, relation: None })
    }

    /// The same teacher, whose states are learned as the table says; or why this student cannot learn them.
    pub(crate) fn with_states(self, table: &TeacherTable, student: &ModelConfig) -> Result<Teacher, Error> {
        if table.has_states() && self.reader.is_some() {
            let key = if table.hidden.is_some() { "teacher.hidden" } else { "teacher.relation" };
            let (found, needed) = ("given".into(), "but the teacher has another tokenizer, so that its states are not of the same tokens");
            return Err(Error::Config { key, found, needed: needed.into() });
        }
        table.check_for(student, self.student.config())?;
        Ok(Teacher { hidden: table.hidden.clone(), relation: table.relation.clone(), ..self })
    }

    /// What it says at some places of a batch, all that are supervised, and the states there that a student is to come near to.
    pub(crate) fn answer(&self, batch: &Batch, places: &[u32]) -> (Option<Said>, Option<Exemplar<'_>>) {
        let Some(reader) = &self.reader else {
            let states = self.states(batch, places);
            return (Some(Said::Logits(self.logits(&states))), self.exemplar(states));
        };
        let (batch, speaks) = reader.read(batch);
        let places = batch.supervised().places;
        let said = (!places.is_empty()).then(|| {
            let vocab = self.head_vd.len() / self.student.config().width;
            Said::Aligned(Aligned::new(&speaks, vocab, self.logits(&self.states(&batch, &places))))
        });
        (said, None)
    }

    /// Its states at some places of a batch.
    fn states(&self, batch: &Batch, places: &[u32]) -> States {
        self.student.states(batch, places, self.relation.as_ref().map(|table| table.teacher_block))
    }

    /// What a student is to come near to, where states are learned.
    fn exemplar(&self, states: States) -> Option<Exemplar<'_>> {
        let (hidden, relation) = (self.hidden.as_ref(), self.relation.as_ref());
        (hidden.is_some() || relation.is_some()).then_some(Exemplar { hidden, relation, teacher: states })
    }

    /// What it says there, made when it is asked for.
    fn logits(&self, states: &States) -> Arc<LogitsOf> {
        let d = self.student.config().width;
        let (normed_kd, head_vd) = (self.student.normed(states.hidden_kd.clone()), self.head_vd.clone());
        Arc::new(move |places| {
            let (k, v) = (places.len(), head_vd.len() / d);
            let mut logits_kv = vec![0.0; k * v];
            let normed = View::new(&normed_kd[places.start * d..places.end * d], k, d);
            let head = View::new(&head_vd, v, d).transposed();
            multiply(ViewMut::new(&mut logits_kv, k, v), normed, head, 1.0, Write::Replace, Workers::Pool);
            logits_kv
        })
    }

    /// Its `top_k` likeliest tokens at some places of a batch with the logarithms of their probabilities at a temperature, the
    /// likeliest first.
    pub(crate) fn likeliest(&self, batch: &Batch, places: &[u32], top_k: usize, temperature: f32) -> Vec<Vec<(u32, f32)>> {
        let logits = self.logits(&self.states(batch, places));
        let one = |place: usize| {
            let mut log_p: Vec<f32> = logits(place..place + 1).iter().map(|logit| logit / temperature).collect();
            to_log_probabilities(&mut log_p);
            let mut tokens: Vec<(u32, f32)> = log_p.into_iter().enumerate().map(|(token, log_p)| (token as u32, log_p)).collect();
            let order = |one: &(u32, f32), other: &(u32, f32)| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0));
            if top_k < tokens.len() {
                tokens.select_nth_unstable_by(top_k, order);
                tokens.truncate(top_k);
            }
            tokens.sort_unstable_by(order);
            tokens
        };
        (0..places.len()).map(one).collect()
    }
}
