//! One judged trace as bytes. A record is its length and its fields one after the other; numbers are little-endian, texts are
//! their length and their bytes.

use task::{Trace, Verdict};

use crate::rules::Rule;
use crate::teacher::{Alternative, Step};

/// What became of a trace when it was looked at alone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Kept(Kept),
    Lost(Lost),
}

/// A trace that no rule has dropped so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub line: u64,
    /// Whether it is the first trace of its row.
    pub is_first: bool,
    pub facts: Facts,
    pub trace: Trace,
    pub teacher: Option<Vec<Step>>,
}

/// A trace that was dropped, for the sidecar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lost {
    pub line: u64,
    pub is_first: bool,
    pub rule: Rule,
    pub detail: String,
    pub excerpt: String,
}

impl Default for Lost {
    fn default() -> Self {
        Self { line: 0, is_first: true, rule: Rule::Malformed, detail: String::new(), excerpt: String::new() }
    }
}

/// What the card counts of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub verdict: Option<Verdict>,
    pub has_reasoning: bool,
    /// The question is one of an evaluation set with other numbers.
    pub is_masked_match: bool,
    pub is_mended: bool,
    /// False where the trace was dropped and is only counted as an attempt at its question.
    pub is_kept: bool,
}

const VERDICTS: [Option<Verdict>; 5] =
    [None, Some(Verdict::Right), Some(Verdict::Wrong), Some(Verdict::NoAnswer), Some(Verdict::Unverifiable)];

impl Facts {
    pub fn to_bits(self) -> u64 {
        let verdict = VERDICTS.iter().position(|verdict| *verdict == self.verdict).expect("every verdict is in the table") as u64;
        let flags = [self.has_reasoning, self.is_masked_match, self.is_mended, self.is_kept];
        flags.iter().enumerate().fold(verdict, |bits, (at, flag)| bits | u64::from(*flag) << (8 + at))
    }

    pub fn from_bits(bits: u64) -> Self {
        let flag = |at: u64| bits >> (8 + at) & 1 == 1;
        let verdict = VERDICTS.get((bits & 0xff) as usize).copied().flatten();
        Self { verdict, has_reasoning: flag(0), is_masked_match: flag(1), is_mended: flag(2), is_kept: flag(3) }
    }
}

impl Record {
    /// Whether the trace has a key: it is kept, or counts as an attempt at its question.
    pub fn has_key(&self) -> bool {
        match self {
            Record::Kept(_) => true,
            Record::Lost(lost) => lost.rule.is_attempt(),
        }
    }

    /// The record with its length before it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        match self {
            Record::Kept(Kept { line, is_first, facts, trace, teacher }) => {
                bytes.extend([1, u8::from(*is_first)]);
                bytes.extend(line.to_le_bytes());
                bytes.extend((facts.to_bits() as u32).to_le_bytes());
                for text in [&trace.id, &trace.question, &trace.reasoning, &trace.answer] {
                    put(&mut bytes, text.as_bytes());
                }
                for text in [&trace.system, &trace.reference] {
                    bytes.push(u8::from(text.is_some()));
                    put(&mut bytes, text.as_deref().unwrap_or_default().as_bytes());
                }
                put_teacher(&mut bytes, teacher.as_deref());
            }
            Record::Lost(Lost { line, is_first, rule, detail, excerpt }) => {
                bytes.extend([0, u8::from(*is_first)]);
                bytes.extend(line.to_le_bytes());
                bytes.push(Rule::ALL.iter().position(|known| known == rule).expect("every rule is in the list") as u8);
                put(&mut bytes, detail.as_bytes());
                put(&mut bytes, excerpt.as_bytes());
            }
        }
        let len = bytes.len() as u32 - 4;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    /// Reads a record without its length; none where it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let from = &mut rest;
        let (is_kept, is_first, line) = (byte(from)? == 1, byte(from)? == 1, u64::from_le_bytes(array(from)?));
        if !is_kept {
            let rule = *Rule::ALL.get(usize::from(byte(from)?))?;
            return Some(Record::Lost(Lost { line, is_first, rule, detail: text(from)?, excerpt: text(from)? }));
        }
        let facts = Facts::from_bits(u64::from(number(from)?));
        let (id, question, reasoning, answer) = (text(from)?, text(from)?, text(from)?, text(from)?);
        let (system, reference) = (optional(from)?, optional(from)?);
        let teacher = teacher(from)?;
        Some(Record::Kept(Kept { line, is_first, facts, trace: Trace { id, system, question, reasoning, answer, reference }, teacher }))
    }
}

fn put(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text);
}

/// No number at all is stored as this one, which no vocabulary reaches.
const NO_ID: u32 = u32::MAX;

fn put_teacher(bytes: &mut Vec<u8>, steps: Option<&[Step]>) {
    let Some(steps) = steps else { return bytes.push(0) };
    bytes.push(1);
    bytes.extend((steps.len() as u32).to_le_bytes());
    for Step { bytes: chosen, id, alternatives } in steps {
        put(bytes, chosen);
        bytes.extend(id.unwrap_or(NO_ID).to_le_bytes());
        bytes.extend((alternatives.len() as u32).to_le_bytes());
        for Alternative { bytes: token, id, logprob } in alternatives {
            put(bytes, token);
            bytes.extend(id.unwrap_or(NO_ID).to_le_bytes());
            bytes.extend(logprob.to_le_bytes());
        }
    }
}

fn teacher(from: &mut &[u8]) -> Option<Option<Vec<Step>>> {
    if byte(from)? == 0 {
        return Some(None);
    }
    let id = |number: u32| (number != NO_ID).then_some(number);
    let mut steps = Vec::new();
    for _ in 0..number(from)? {
        let (bytes, chosen) = (slice(from)?.to_vec(), id(number(from)?));
        let mut alternatives = Vec::new();
        for _ in 0..number(from)? {
            let (bytes, id) = (slice(from)?.to_vec(), id(number(from)?));
            alternatives.push(Alternative { bytes, id, logprob: f32::from_le_bytes(array(from)?) });
        }
        steps.push(Step { bytes, id: chosen, alternatives });
    }
    Some(Some(steps))
}

fn array<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*head)
}

fn byte(from: &mut &[u8]) -> Option<u8> {
    array::<1>(from).map(|[byte]| byte)
}

fn number(from: &mut &[u8]) -> Option<u32> {
    array(from).map(u32::from_le_bytes)
}

fn slice<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = number(from)? as usize;
    let (head, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(head)
}

fn text(from: &mut &[u8]) -> Option<String> {
    String::from_utf8(slice(from)?.to_vec()).ok()
}

fn optional(from: &mut &[u8]) -> Option<Option<String>> {
    let is_there = byte(from)? == 1;
    text(from).map(|text| is_there.then_some(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept() -> Record {
        let alternatives =
            vec![Alternative { bytes: vec![0xff], id: Some(3), logprob: -0.5 }, Alternative { bytes: vec![], id: None, logprob: 0.0 }];
        let trace = Trace {
            id: "7".into(),
            system: None,
            question: "1 + 1?".into(),
            reasoning: "é\n".into(),
            answer: "2".into(),
            reference: Some(String::new()),
        };
        let facts = Facts { verdict: Some(Verdict::NoAnswer), has_reasoning: true, is_masked_match: false, is_mended: true, is_kept: true };
        let teacher = Some(vec![Step { bytes: b"2".to_vec(), id: None, alternatives }]);
        Record::Kept(Kept { line: 9, is_first: false, facts, trace, teacher })
    }

    #[test]
    fn records_come_back() {
        let lost = Record::Lost(Lost { line: 1, is_first: true, rule: Rule::Weight, detail: "a".into(), excerpt: "b…".into() });
        for record in [kept(), lost] {
            let bytes = record.to_bytes();
            assert_eq!(u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
            assert_eq!(Record::from_bytes(&bytes[4..]), Some(record));
        }
        for verdict in VERDICTS {
            let facts = Facts { verdict, is_kept: true, ..Facts::default() };
            assert_eq!(Facts::from_bits(facts.to_bits()), facts);
        }
    }

    proptest! {
        #[test]
        fn a_damaged_record_is_none_or_another(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = kept().to_bytes()[4..].to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Record::from_bytes(&bytes);
            let _ = Record::from_bytes(&bytes[..cut.index(bytes.len())]);
        }
    }
}
