//! Texts to tokens, fast: pieces of a text that were seen before are looked up instead of being tokenised anew. The outcome is that of
//! the tokenizer, token for token.
//!
//! A text may be cut where the tokenizer cuts it whatever stands around, and nowhere else. The pre-tokenizers that are known by name
//! have tokens of three kinds: an optional character and a run of letters, or digits; an optional space and a run of punctuation with
//! the line ends behind it; white space. None of them goes on from a letter or a digit to anything else, none holds a space but at
//! its beginning or among white space alone, and only white space looks at what follows it. So a text may be cut behind an ASCII letter or
//! digit that is followed by another ASCII character, and before a space that follows ASCII punctuation. Tokens that were added as
//! they are go before all that, and are pieces of their own.

use std::sync::OnceLock;

use model::Tokenizer;
use serde_json::Value;

use crate::Error;

/// Places in the table of pieces. A piece whose place is taken by another one is tokenised each time.
const PLACES: usize = 1 << 17;
/// Longer pieces do not come again.
const LONGEST_PIECE: usize = 32;

/// A tokenizer that remembers.
pub(crate) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    /// None where the tokenizer's rules are not known.
    pieces: Option<Box<[OnceLock<Piece>]>>,
    cutter: Cutter,
}

struct Piece {
    text: Box<str>,
    tokens: Box<[u32]>,
}

impl<'a> Encoder<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let cutter = Cutter::of(tokenizer);
        let pieces = cutter.is_some().then(|| (0..PLACES).map(|_| OnceLock::new()).collect());
        Self { tokenizer, pieces, cutter: cutter.unwrap_or_default() }
    }

    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    /// The tokens of a text: [`Tokenizer::encode`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let Some(places) = &self.pieces else { return Ok(self.tokenizer.encode(text)?) };
        let mut tokens = Vec::with_capacity(text.len() / 3 + 8);
        // From here on nothing was tokenised yet.
        let mut start = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.cutter.first_piece(rest.as_bytes()));
            let at = text.len() - rest.len();
            rest = after;
            let place = &places[place(piece.as_bytes())];
            match place.get() {
                _ if piece.len() > LONGEST_PIECE => continue,
                Some(known) if *known.text == *piece => {
                    self.add(&text[start..at], &mut tokens)?;
                    tokens.extend_from_slice(&known.tokens);
                }
                Some(_) => continue,
                None => {
                    self.add(&text[start..at], &mut tokens)?;
                    let found = self.tokenizer.encode(piece)?;
                    tokens.extend_from_slice(&found);
                    // Another thread may have been faster, with the same piece or another one; either is right.
                    let _ = place.set(Piece { text: piece.into(), tokens: found.into() });
                }
            }
            start = text.len() - rest.len();
        }
        self.add(&text[start..], &mut tokens)?;
        Ok(tokens)
    }

    /// Tokenises a stretch that is not in the table.
    fn add(&self, stretch: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        if !stretch.is_empty() {
            tokens.extend(self.tokenizer.encode(stretch)?);
        }
        Ok(())
    }
}

/// Where a text may be cut.
#[derive(Default)]
struct Cutter {
    /// Tokens that were added as they are, the longest first.
    added: Vec<Vec<u8>>,
    /// Which bytes one of them begins with.
    begins: Vec<bool>,
}

impl Cutter {
    /// None where the tokenizer is not of the kind for which the rule of the head of this file holds: its pre-tokenizer must have a
    /// name, nothing may be changed before it, and no token that was added may look at its neighbours.
    fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let json: Value = serde_json::from_str(&tokenizer.to_json()).ok()?;
        // A packed file can hold the tokenizer only if the pre-tokenizer has a name.
        let is_known = json["normalizer"].is_null() && json["model"]["dropout"].is_null() && tokenizer.to_gguf(tokenizer.vocab()).is_ok();
        let mut cutter = Self { added: Vec::new(), begins: vec![false; 256] };
        for token in json["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let content = token["content"].as_str().filter(|content| !content.is_empty())?.as_bytes();
            if ["lstrip", "rstrip", "single_word"].iter().any(|flag| token[*flag] != false) {
                return None;
            }
            cutter.begins[usize::from(content[0])] = true;
            cutter.added.push(content.to_vec());
        }
        cutter.added.sort_by_key(|content| std::cmp::Reverse(content.len()));
        is_known.then_some(cutter)
    }

    /// The length of the first piece of a text that is not empty.
    #[inline]
    fn first_piece(&self, text: &[u8]) -> usize {
        for at in 0..text.len() {
            if self.begins[usize::from(text[at])]
                && let Some(added) = self.added.iter().find(|added| text[at..].starts_with(added))
            {
                return if at == 0 { added.len() } else { at };
            }
            let Some(&next) = text.get(at + 1) else { break };
            let is_end = match text[at] {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => next.is_ascii() && !next.is_ascii_alphanumeric(),
                byte => byte.is_ascii_punctuation() && next == b' ',
            };
            if is_end {
                return at + 1;
            }
        }
        text.len()
    }
}

/// FNV-1a, folded to a place in the table.
#[inline]
fn place(piece: &[u8]) -> usize {
    let hash = piece.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    ((hash >> 32) ^ hash) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The same tokens under every pre-tokenizer that has a name.
    fn tokenizers() -> Vec<Tokenizer> {
        let texts = (0..500).map(|number| {
            format!("She's sold {number}/2 = {} clips, isn't it?\n\nSo: (x{number}) don't \"go\"  there…\r\n\t1,0{number} café", number * 7)
        });
        let trained = Tokenizer::train(texts, 420).unwrap();
        let json: Value = serde_json::from_str(&trained.to_json()).unwrap();
        let of = |rule: Value| {
            let mut json = json.clone();
            json["pre_tokenizer"] = rule;
            Tokenizer::from_json(&json.to_string()).unwrap()
        };
        let llama = json["pre_tokenizer"].to_string().replace(r"|\\p{N}|", r"|\\p{N}{1,3}|");
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
        let digits = json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level]});
        vec![trained, of(byte_level), of(digits), of(serde_json::from_str(&llama).unwrap())]
    }

    fn pieces(text: &str) -> Vec<&str> {
        let cutter = Cutter::of(&tokenizers()[0]).unwrap();
        let (mut pieces, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cutter.first_piece(rest.as_bytes()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }

    #[test]
    fn a_text_is_cut_behind_words_and_before_spaces() {
        assert_eq!(
            pieces("She sold 48/2 = 24.\nSo: x2 isn't"),
            ["She", " sold", " 48", "/2", " =", " 24", ".\nSo", ":", " x2", " isn", "'t"]
        );
        assert_eq!(pieces("a  b\n\n c é d"), ["a", "  b", "\n\n c", " é d"]);
        assert_eq!(pieces("<<think>\nx</think>"), ["<", "<think>", "\nx", "</think>"]);
    }

    #[test]
    fn tokenizers_that_look_around_are_left_alone() {
        let json: Value = serde_json::from_str(&tokenizers()[0].to_json()).unwrap();
        let of = |change: &dyn Fn(&mut Value)| {
            let mut json = json.clone();
            change(&mut json);
            Cutter::of(&Tokenizer::from_json(&json.to_string()).unwrap()).is_some()
        };
        assert!(of(&|_| {}));
        assert!(!of(&|json| json["added_tokens"][0]["lstrip"] = true.into()));
        assert!(!of(&|json| json["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true.into()));
        assert!(!of(&|json| json["normalizer"] = json!({"type": "NFC"})));
    }

    proptest! {
        #[test]
        fn the_tokens_are_those_of_the_tokenizer(parts in prop::collection::vec(prop_oneof![
            "[a-zA-Z0-9]{1,4}", "[ \n\r\t]{1,3}", "[!-/:-@'\"]{1,3}", "'s|'T|'ll|'re", "[é你好À…  ’\u{301}٣]{1,2}", "<think>|</think>|<\\|im_end\\|>", "\\PC{0,4}"
        ], 0..24)) {
            thread_local!(static TOKENIZERS: Vec<Tokenizer> = tokenizers());
            let text = parts.concat();
            TOKENIZERS.with(|tokenizers| {
                for tokenizer in tokenizers {
                    let encoder = Encoder::new(tokenizer);
                    prop_assert!(encoder.pieces.is_some());
                    let plain = tokenizer.encode(&text).unwrap();
                    // Once into the empty table, once out of the full one.
                    prop_assert_eq!(&encoder.encode(&text).unwrap(), &plain);
                    prop_assert_eq!(&encoder.encode(&text).unwrap(), &plain);
                }
                Ok(())
            })?;
        }
    }
}
