//! What a teacher says of its own tokens: for each step of its text the token that it chose and the most likely alternatives.

/// A token that the teacher could have chosen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alternative {
    pub bytes: Vec<u8>,
    /// Its number in the teacher's own vocabulary.
    pub id: Option<u32>,
    pub logprob: f32,
}

/// One token of the teacher's text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// The bytes of the chosen token. The steps of a text make up the text.
    pub bytes: Vec<u8>,
    /// Its number in the teacher's own vocabulary.
    pub id: Option<u32>,
    /// The most likely first, each once; the chosen one is among them.
    pub alternatives: Vec<Alternative>,
}

impl Step {
    pub fn new(bytes: Vec<u8>, id: Option<u32>, alternatives: impl IntoIterator<Item = Alternative>) -> Self {
        let mut alternatives: Vec<Alternative> = alternatives.into_iter().collect();
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
