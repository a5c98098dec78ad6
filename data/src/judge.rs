//! The rules that look at one trace alone, and what is written down of a trace that they keep. Rows are judged in parallel, and
//! nothing here depends on another row.

use std::collections::BTreeMap;

use task::Trace;

use crate::config::{Rules, Source, System};
use crate::layout::requests::Requests;
use crate::layout::{Candidate, Reading};
use crate::rules::contamination::{Contamination, How};
use crate::rules::{Drop, answer, duplicates, finished, marks, near_duplicates, repetition, script};
use crate::scan::keys::{self, Key};
use crate::scan::record::{Facts, Kept, Lost, Record};
use crate::source::Row;
use crate::words::Words;

/// The rules, and what they need.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub rules: &'a Rules,
    pub system: System,
    pub contamination: &'a Contamination<'a>,
}

/// What becomes of one trace, or of a row that is none.
pub(crate) struct Judged {
    pub record: Record,
    /// What later rules compare; none where no later rule looks at it. Its offset is not known yet.
    pub key: Option<Key>,
    /// Contacts with evaluation sets: the set and how, to be counted.
    pub touch: Option<(String, &'static str)>,
    /// Tokens for which the teacher's probabilities are there.
    pub teacher_steps: u64,
}

impl Judge<'_> {
    /// The traces of a row, at least one.
    pub fn row(&self, row: &Row, reading: Reading, source: &Source, requests: Option<&Requests>) -> Vec<Judged> {
        let found = match row.object() {
            Ok(object) => match requests {
                Some(requests) => reading.read(&requests.joined(object)),
                None => reading.read(&object),
            },
            Err(drop) => vec![Err(drop)],
        };
        found.into_iter().enumerate().map(|(at, found)| self.trace(row, at == 0, found, source.teacher.is_some())).collect()
    }

    fn trace(&self, row: &Row, is_first: bool, found: Result<Candidate, Drop>, keep_teacher: bool) -> Judged {
        let line = row.line;
        let lost = |drop: Drop| Record::Lost(Lost { line, is_first, rule: drop.rule, detail: drop.detail, excerpt: row.excerpt() });
        let question = match &found {
            Ok(candidate) => Some(Words::of(&candidate.trace.question)),
            Err(drop) => drop.question.as_deref().map(Words::of),
        };
        let plain = found.as_ref().ok().filter(|candidate| candidate.trace.is_plain_text());
        let plain = plain.map(|candidate| Words::of(subject(&candidate.trace)));
        let touch = plain.as_ref().or(question.as_ref()).and_then(|words| self.contamination.look(words));
        let mut judged = Judged {
            record: Record::Lost(Lost::default()),
            key: None,
            touch: touch.map(|touch| (self.contamination.set_name(touch).to_owned(), touch.how.name())),
            teacher_steps: 0,
        };
        let contaminated = touch.and_then(|touch| self.contamination.drop(touch));
        let (candidate, question) = match (found, question, contaminated) {
            (Err(drop), _, None) => {
                judged.record = lost(drop);
                return judged;
            }
            (Err(drop), _, Some(mut contaminated)) => {
                contaminated.detail += &format!("; besides, {}: {}", drop.rule.name(), drop.detail);
                judged.record = lost(contaminated);
                return judged;
            }
            (Ok(_), _, Some(contaminated)) => {
                judged.record = lost(contaminated);
                return judged;
            }
            (Ok(candidate), question, None) => (candidate, question.unwrap_or_default()),
        };
        judged.teacher_steps = candidate.teacher.as_ref().map_or(0, |steps| steps.len() as u64);
        let verdict = answer::verdict(&candidate);
        let mut text = question.clone();
        text.add(&candidate.trace.reasoning);
        let before_answer = text.numbers().count();
        text.add(&candidate.trace.answer);
        if let Err(drop) = self.alone(&candidate, &text.hashes) {
            judged.record = lost(drop);
            return judged;
        }
        let facts = Facts {
            verdict,
            has_reasoning: !candidate.trace.reasoning.is_empty(),
            is_masked_match: judged.touch.as_ref().is_some_and(|(_, how)| *how == How::Masked.name()),
            is_mended: candidate.is_mended,
            is_kept: true,
        };
        let mut key = Key { facts, question: duplicates::question(subject(&candidate.trace)), ..Key::default() };
        if let Err(drop) = answer::check(&candidate.trace, verdict, self.rules.verify) {
            judged.key = drop.rule.is_attempt().then_some(Key { facts: Facts { is_kept: false, ..facts }, ..key });
            judged.record = lost(drop);
            return judged;
        }
        key.identity = duplicates::identity(&candidate.trace);
        key.id = keys::id(&candidate.trace.id);
        if self.rules.near_duplicates < 1.0 {
            let answer = text.numbers().skip(before_answer).last().unwrap_or_default();
            key.bands = near_duplicates::bands(&text, &question.numbers().chain([answer]).collect::<Vec<_>>());
        }
        judged.key = Some(key);
        let teacher = candidate.teacher.filter(|_| keep_teacher);
        judged.record = Record::Kept(Kept { line, is_first, facts, trace: candidate.trace, teacher });
        judged
    }

    /// The rules that need nothing but the trace.
    fn alone(&self, candidate: &Candidate, words: &[u64]) -> Result<(), Drop> {
        if self.rules.finished {
            finished::check(candidate)?;
        }
        marks::check(&candidate.trace, self.system)?;
        repetition::check(words, self.rules.repetition)?;
        script::check(&candidate.trace, &self.rules.scripts)
    }
}

/// What a trace is about: its question, and of plain text, which asks nothing, all of it.
fn subject(trace: &Trace) -> &str {
    if trace.is_plain_text() { &trace.answer } else { &trace.question }
}

/// Counts of named things.
pub(crate) type Counts = BTreeMap<String, u64>;
