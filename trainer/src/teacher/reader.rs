//! How a teacher reads a batch whose tokens are not its own: the text of each document in tokens of its tokenizer. It speaks at those
//! supervised places where a token of its ends at the same byte as the student's, because there both have read the same text; at the
//! others it says nothing.
//!
//! Special tokens stand in the text by their names: those that the teacher has too are one token to it, the others plain text. As in
//! the dataset, prompt and completion are tokenised apart, with the border before the first supervised target; the token that the
//! teacher's tokenizer puts before every text is put there. Where its tokens begin to spell something else than the text (a normalizer
//! that changes it, a special token that swallows spaces), and where its context ends, it is silent for the rest of the document.

use std::ops::Range;

use model::Tokenizer;

use crate::student::Batch;

/// A teacher's tokenizer beside the dataset's.
#[derive(Debug)]
pub(super) struct Reader {
    tokenizer: Tokenizer,
    /// What stands before every text.
    first: Option<u32>,
    /// Tokens of a document that the teacher reads.
    context: usize,
    /// The bytes of the dataset's tokens.
    ours: Vec<Vec<u8>>,
    /// Those of the teacher's.
    theirs: Vec<Vec<u8>>,
}

/// A text that a tokenizer has to spell as it is.
const PROBE: &str = "What is 2 + 2?\n\nIt is 4.\n";

impl Reader {
    /// For a dataset written with `ours` and a teacher of so many tokens of context; or why this cannot be.
    pub(super) fn new(ours: &Tokenizer, theirs: &Tokenizer, context: usize) -> Result<Reader, String> {
        let (first, spellings) = (theirs.first_token(), theirs.spellings());
        let reader = Reader { tokenizer: theirs.clone(), first, context, ours: ours.spellings(), theirs: spellings };
        let read: Vec<u8> = reader.encode(PROBE.as_bytes()).into_iter().flat_map(|token| reader.theirs[token as usize].clone()).collect();
        if read != PROBE.as_bytes() {
            let read = String::from_utf8_lossy(&read);
            return Err(format!(
                "its tokenizer reads {PROBE:?} as {read:?}, and where two tokenizers read other bytes nothing can be aligned"
            ));
        }
        Ok(reader)
    }

    /// What the teacher reads of a batch, supervised where it speaks; and of each supervised place of the batch whether it speaks there.
    pub(super) fn read(&self, batch: &Batch) -> (Batch, Vec<bool>) {
        let (n, starts) = (batch.tokens.len(), batch.layout().starts);
        let (mut read, mut speaks) = (Batch::document(&[]), Vec::new());
        let mut start = 0;
        while start < n {
            let end = (start + 1..n).find(|at| starts[*at] as usize == at % batch.length).unwrap_or(n);
            self.read_document(batch, start..end, &mut read, &mut speaks);
            start = end;
        }
        read.length = read.tokens.len();
        (read.needed(), speaks)
    }

    fn read_document(&self, batch: &Batch, document: Range<usize>, read: &mut Batch, speaks: &mut Vec<bool>) {
        let start = document.start;
        let Some(last) = document.clone().rev().find(|at| batch.keep[*at]) else { return };
        // The bytes up to the last supervised target, and where in them the supervised places are.
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        for at in start..=last {
            text.extend(spelling(&self.ours, batch.tokens[at]));
            ends.extend(batch.keep[at].then_some(text.len()));
        }
        text.extend(spelling(&self.ours, batch.targets[last]));
        let (prompt, completion) = text.split_at(ends[0]);
        let tokens = [self.encode(prompt), self.encode(completion)].concat();

        let first = self.first.filter(|first| tokens.first() != Some(first)).map(|first| (first, &[][..]));
        let spelled = tokens.iter().map(|token| (*token, spelling(&self.theirs, *token)));
        let (mut end, mut ends) = (0, ends.into_iter().peekable());
        for (position, (token, bytes)) in first.into_iter().chain(spelled).take(self.context).enumerate() {
            if !text[end..].starts_with(bytes) {
                break;
            }
            end += bytes.len();
            while ends.next_if(|place| *place < end).is_some() {
                speaks.push(false);
            }
            let is_common = ends.next_if_eq(&end).is_some();
            speaks.extend(is_common.then_some(true));
            read.tokens.push(token);
            read.targets.push(0);
            read.keep.push(is_common);
            read.documents.push(start as u32);
            read.positions.push(position as u32);
            read.likely.push(Vec::new());
        }
        speaks.extend(ends.map(|_| false));
    }

    /// The teacher's tokens; none of what its tokenizer cannot take.
    fn encode(&self, text: &[u8]) -> Vec<u32> {
        self.tokenizer.encode(&String::from_utf8_lossy(text)).unwrap_or_default()
    }
}

fn spelling(table: &[Vec<u8>], token: u32) -> &[u8] {
    table.get(token as usize).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests;
