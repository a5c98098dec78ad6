//! What a teacher says of its own tokens: for each step of its text the token that it chose and the most likely alternatives.

use serde_json::Value;

/// A token that the teacher could have chosen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alternative {
    pub bytes: Vec<u8>,
    /// Its number in the teacher's own vocabulary.
    pub id: Option<u32>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
}

/// One token of the teacher's text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// The bytes of the chosen token. The steps of a text make up the text.
    pub bytes: Vec<u8>,
    /// Its number in the teacher's own vocabulary.
    pub id: Option<u32>,
    /// The most likely first, each once, none of probability zero. The chosen one is among them if it has a probability.
    pub alternatives: Vec<Alternative>,
}

/// Below it a probability is zero: servers write -9999, Python writes -Infinity, which is read as null.
const ZERO: f32 = -1000.0;

impl Step {
    pub fn new(bytes: Vec<u8>, id: Option<u32>, alternatives: impl IntoIterator<Item = Alternative>) -> Self {
        let mut alternatives: Vec<Alternative> =
            alternatives.into_iter().filter(|it| it.logprob > ZERO && it.logprob.is_finite()).collect();
        alternatives.sort_by(|one, other| {
            other.logprob.total_cmp(&one.logprob).then_with(|| one.id.cmp(&other.id)).then_with(|| one.bytes.cmp(&other.bytes))
        });
        let mut unique: Vec<Alternative> = Vec::with_capacity(alternatives.len());
        for alternative in alternatives {
            let is_known = |known: &Alternative| known.id == alternative.id && (known.id.is_some() || known.bytes == alternative.bytes);
            if !unique.iter().any(is_known) {
                unique.push(alternative);
            }
        }
        Self { bytes, id, alternatives: unique }
    }
}

/// A log-probability as servers write it.
pub(crate) fn logprob(value: Option<&Value>) -> Option<f32> {
    match value? {
        Value::Null => Some(f32::NEG_INFINITY),
        value => Some(value.as_f64()? as f32),
    }
}
