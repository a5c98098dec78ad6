//! Text to tokens and back: byte-level BPE by the `tokenizers` crate, read from a `tokenizer.json`, trained, or rebuilt from a
//! packed file's metadata.
//!
//! Only byte-level BPE is taken, because that is what a packed file can hold and stock readers compute alike. The form that
//! counts is `tokenizer.json`; `pre_tokenizer.rs` says which pre-tokenizers have a name in a packed file.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tokenizers::{
    AddedToken, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
    models::bpe::{BPE, BpeTrainerBuilder},
    pre_tokenizers::byte_level::ByteLevel,
};

use crate::{Error, gguf, pre_tokenizer};

/// Ends a document.
const END_OF_TEXT: &str = "<|endoftext|>";
/// Starts a turn, in the ChatML form.
const TURN_START: &str = "<|im_start|>";
/// Ends a turn.
const TURN_END: &str = "<|im_end|>";
/// What a trained tokenizer holds beside its merges; the marks of reasoning are ordinary tokens, so that they are shown.
const TRAINED_TOKENS: [(&str, bool); 5] =
    [(END_OF_TEXT, true), (TURN_START, true), (TURN_END, true), ("<think>", false), ("</think>", false)];
/// Tokens that end a turn or a text, in the order in which the turn's end is looked for.
const ENDS: [&str; 5] = [TURN_END, "<|eot_id|>", "</s>", END_OF_TEXT, "<|end_of_text|>"];

/// A byte-level BPE tokenizer.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    bytes_of: Arc<Vec<Vec<u8>>>,
    vocab: usize,
    ends: Vec<u32>,
    /// The texts of its special tokens, and the letters that they begin with.
    specials: Arc<(Vec<String>, Vec<char>)>,
    fingerprint: String,
    json: Arc<Json>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens, {})", self.vocab, self.fingerprint)
    }
}

impl Tokenizer {
    /// Read a `tokenizer.json`.
    pub fn open(path: &Path) -> Result<Tokenizer, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::File { doing: "read", path: path.to_owned(), source })?;
        Tokenizer::from_json(&text).map_err(|error| Error::Tokenizer(format!("{}: {error}", path.display())))
    }

    /// Read the text of a `tokenizer.json`.
    pub fn from_json(text: &str) -> Result<Tokenizer, Error> {
        let json: Json = serde_json::from_str(text).map_err(|error| Error::Tokenizer(format!("it is not JSON: {error}")))?;
        Tokenizer::from_value(json)
    }

    /// Train on texts: at most `vocab` tokens, digits always apart. Fewer come out where the texts hold no more pairs that occur
    /// twice. The same texts give the same tokenizer.
    pub fn train(texts: impl Iterator<Item = String> + Send, vocab: usize) -> Result<Tokenizer, Error> {
        let least = 256 + TRAINED_TOKENS.len();
        if vocab < least {
            let parts = format!("256 bytes and {} special tokens", TRAINED_TOKENS.len());
            return Err(Error::Tokenizer(format!("a vocabulary of {vocab} was asked for, at least {least} are needed: {parts}")));
        }
        // The trainer wants every special token in front, so that their numbers do not depend on the texts.
        let specials = TRAINED_TOKENS.map(|(text, special)| AddedToken::from(text, special).normalized(false));
        let mut trainer = BpeTrainerBuilder::new()
            .vocab_size(vocab)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(specials.to_vec())
            .build();
        let pre_tokenizer: PreTokenizerWrapper =
            serde_json::from_value(pre_tokenizer::json(pre_tokenizer::DIGITS_APART).expect("a known name")).map_err(|e| wrong(&e))?;
        let mut learner: TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, ByteLevel> =
            TokenizerImpl::new(BPE::default());
        learner.with_pre_tokenizer(Some(pre_tokenizer));
        learner.train(&mut trainer, texts.flat_map(without_long_words)).map_err(|error| wrong(&*error))?;
        let model = serde_json::to_value(learner.get_model()).map_err(|error| wrong(&error))?;
        let added = TRAINED_TOKENS.iter().enumerate().map(|(id, (text, special))| (id as u32, (*text).to_owned(), *special));
        Tokenizer::from_value(document(pre_tokenizer::DIGITS_APART, &model["vocab"], &model["merges"], added))
    }

    /// Rebuild from a packed file's `tokenizer.ggml.*` values.
    pub fn from_gguf(gguf: &gguf::Gguf) -> Result<Tokenizer, Error> {
        let missing = |key: &str| Error::Tokenizer(format!("the packed file has no {key}"));
        let strings = |key: &str| match gguf.get(key) {
            Some(gguf::Value::Strings(values)) => Ok(values),
            Some(_) => Err(Error::Tokenizer(format!("{key} in the packed file is no list of texts"))),
            None => Err(missing(key)),
        };
        let model = gguf.get("tokenizer.ggml.model").and_then(gguf::Value::as_str).ok_or_else(|| missing("tokenizer.ggml.model"))?;
        if model != "gpt2" {
            return Err(Error::Tokenizer(format!("the packed file has a tokenizer of kind {model}; only gpt2 (byte-level BPE) is known")));
        }
        let name = gguf.get("tokenizer.ggml.pre").and_then(gguf::Value::as_str).unwrap_or(pre_tokenizer::GPT2);
        let tokens = strings("tokenizer.ggml.tokens")?;
        let merges = strings("tokenizer.ggml.merges")?;
        let types = match gguf.get("tokenizer.ggml.token_type") {
            Some(gguf::Value::Integers(types)) if types.len() == tokens.len() => types.clone(),
            None => vec![NORMAL; tokens.len()],
            Some(_) => return Err(Error::Tokenizer(format!("tokenizer.ggml.token_type is not a list of {} integers", tokens.len()))),
        };
        // Unused tokens stand for rows of the embedding that no text becomes.
        let used = || tokens.iter().zip(&types).enumerate().filter(|(_, (_, kind))| **kind != UNUSED);
        let vocab: serde_json::Map<String, Json> = used().map(|(id, (token, _))| (token.clone(), json!(id))).collect();
        let (distinct, used) = (vocab.len(), used().count());
        if distinct != used {
            return Err(Error::Tokenizer(format!("{} of the packed file's {used} tokens are repeated", used - distinct)));
        }
        let merges: Vec<[&str; 2]> = merges
            .iter()
            .map(|merge| {
                merge.split_once(' ').map(|(a, b)| [a, b]).ok_or_else(|| Error::Tokenizer(format!("the merge {merge:?} is no pair")))
            })
            .collect::<Result<_, _>>()?;
        let added = types.iter().zip(tokens).enumerate().filter(|(_, (kind, _))| matches!(**kind, CONTROL | USER_DEFINED));
        let added = added.map(|(id, (kind, token))| (id as u32, token.clone(), *kind == CONTROL));
        pre_tokenizer::json(name)?;
        let mut json = document(name, &Json::Object(vocab), &json!(merges), added);
        match gguf.get(OWN_KEY).and_then(gguf::Value::as_str).map(serde_json::from_str::<Own>) {
            None => {}
            Some(Ok(own)) => own.put(&mut json),
            Some(Err(error)) => return Err(Error::Tokenizer(format!("{OWN_KEY} in the packed file: {error}"))),
        }
        Tokenizer::from_value(json)
    }

    /// The `tokenizer.ggml.*` values of a packed file whose embedding has `rows` rows, without the chat template.
    ///
    /// # Panics
    /// If there are more tokens than rows.
    pub fn to_gguf(&self, rows: usize) -> Result<Vec<(String, gguf::Value)>, Error> {
        assert!(rows >= self.vocab, "{rows} rows are too few for {} tokens", self.vocab);
        let model = &self.json["model"];
        let name = pre_tokenizer::name(&self.json["pre_tokenizer"])?;
        let merges = model["merges"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(merge_text).collect::<Option<Vec<_>>>();
        let merges = merges.ok_or_else(|| Error::Tokenizer("its merges are no list of pairs".into()))?;
        let mut tokens: Vec<String> = (0..rows).map(|id| format!("[unused{id}]")).collect();
        let mut types = vec![UNUSED; rows];
        for (token, id) in self.inner.get_vocab(true) {
            tokens[id as usize] = token;
            types[id as usize] = NORMAL;
        }
        for (id, token) in self.inner.get_added_tokens_decoder() {
            if token.single_word || token.lstrip || token.rstrip {
                let spaces = "takes only whole words or the spaces beside it (single_word, lstrip, rstrip)";
                return Err(Error::Tokenizer(format!("its token {:?} {spaces}, which a packed file cannot say", token.content)));
            }
            types[id as usize] = if token.special { CONTROL } else { USER_DEFINED };
        }
        let first = self.first_token();
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let mut values = vec![
            (key("model"), gguf::Value::String("gpt2".into())),
            (key("pre"), gguf::Value::String(name.into())),
            (key("tokens"), gguf::Value::Strings(tokens)),
            (key("token_type"), gguf::Value::Integers(types)),
            (key("merges"), gguf::Value::Strings(merges)),
            (key("add_bos_token"), gguf::Value::Bool(first.is_some())),
            (key("add_eos_token"), gguf::Value::Bool(false)),
            (key("add_space_prefix"), gguf::Value::Bool(false)),
        ];
        values.extend(first.map(|id| (key("bos_token_id"), gguf::Value::U32(id))));
        let own = Own::of(&self.json);
        if own != Own::implied(name) {
            let text = serde_json::to_string(&own).expect("what was read as JSON can be written");
            values.push((OWN_KEY.into(), gguf::Value::String(text)));
        }
        if let Some(end) = self.ends.first() {
            values.push((key("eos_token_id"), gguf::Value::U32(*end)));
            values.push((key("eot_token_id"), gguf::Value::U32(*end)));
        }
        let padding = self.inner.token_to_id(END_OF_TEXT).or(self.ends.first().copied());
        values.extend(padding.map(|id| (key("padding_token_id"), gguf::Value::U32(id))));
        Ok(values)
    }

    /// The tokens of a text. Special tokens that stand in it are recognised, none are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode_fast(text, false).map_err(|error| wrong(&*error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens; control tokens give none, bytes that are no UTF-8 give U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| self.token_bytes(*token)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of one token, which may end within a character; a control token or an unknown one has none.
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        self.bytes_of.get(token as usize).map(Vec::as_slice).unwrap_or_default()
    }

    /// The bytes that each token stands for in a text, control tokens with their names; a number without a token has none.
    pub fn spellings(&self) -> Vec<Vec<u8>> {
        let mut spellings = self.bytes_of.to_vec();
        for (id, token) in self.inner.get_added_tokens_decoder() {
            spellings[id as usize] = token.content.into_bytes();
        }
        spellings
    }

    /// One token as it should be shown to a person: control tokens by their names.
    pub fn token_text(&self, token: u32) -> String {
        match self.inner.get_added_tokens_decoder().get(&token) {
            Some(added) => added.content.clone(),
            None => String::from_utf8_lossy(self.token_bytes(token)).into_owned(),
        }
    }

    /// The token of exactly this text, if there is one.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// Number of tokens: one more than the largest.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The token that ends a turn. A tokenizer that has none is not accepted, so that there always is one.
    pub fn end_of_turn(&self) -> u32 {
        self.ends[0]
    }

    /// Every token that ends a text, the end of a turn first.
    pub fn end_ids(&self) -> &[u32] {
        &self.ends
    }

    /// The first special token whose text stands in a text, where it would become that token.
    pub fn special_in(&self, text: &str) -> Option<&str> {
        let (specials, begins) = &*self.specials;
        let at = |(at, _)| specials.iter().find(|special| text[at..].starts_with(special.as_str()));
        text.match_indices(begins.as_slice()).find_map(at).map(String::as_str)
    }

    /// SHA-256 of `tokenizer.json`, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The text of `tokenizer.json`.
    pub fn to_json(&self) -> String {
        pretty(&self.json)
    }

    /// The token that the tokenizer's own post-processor puts before every text. It is not put there by [`Tokenizer::encode`]: chat
    /// templates write it themselves.
    pub fn first_token(&self) -> Option<u32> {
        let steps = &self.json["post_processor"];
        let steps = steps["processors"].as_array().map_or(std::slice::from_ref(steps), Vec::as_slice);
        let template = steps.iter().find(|step| step["type"] == "TemplateProcessing")?;
        self.inner.token_to_id(template["single"][0]["SpecialToken"]["id"].as_str()?)
    }

    fn from_value(mut json: Json) -> Result<Tokenizer, Error> {
        // They would cut texts off or fill them up in silence.
        for key in ["truncation", "padding"] {
            json.as_object_mut().and_then(|json| json.insert(key.into(), Json::Null));
        }
        let kind = json["model"]["type"].as_str().unwrap_or("without a type");
        let byte_level = json["decoder"]["type"] == "ByteLevel";
        if kind != "BPE" || !byte_level {
            return Err(Error::Tokenizer(format!(
                "the model is {kind} with decoder {}; byte-level BPE is needed",
                json["decoder"]["type"]
            )));
        }
        for (key, why) in [
            ("dropout", "which gives the same text other tokens every time"),
            ("continuing_subword_prefix", "which byte-level BPE does not have"),
            ("end_of_word_suffix", "which byte-level BPE does not have"),
        ] {
            let value = &json["model"][key];
            if !value.is_null() && value != "" && value != 0.0 {
                return Err(Error::Tokenizer(format!("model.{key} is {value}, {why}; set it to null")));
            }
        }
        let inner: tokenizers::Tokenizer = serde_json::from_value(json.clone()).map_err(|error| wrong(&error))?;
        let ids = inner.get_vocab(true);
        let vocab = ids.values().max().map_or(0, |largest| *largest as usize + 1);
        // A number far beyond the tokens that there are would make every table as long.
        if vocab > 2 * ids.len() + 1024 {
            return Err(Error::Tokenizer(format!("it has {} tokens, but a token with number {}", ids.len(), vocab - 1)));
        }
        let ends: Vec<u32> = ENDS.iter().filter_map(|text| inner.token_to_id(text)).collect();
        if ends.is_empty() {
            return Err(Error::Tokenizer(format!("it has no token that ends a turn, one of {} is needed", ENDS.join(", "))));
        }
        let added = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
        let specials = added.iter().filter(|token| token["special"] == true).filter_map(|token| token["content"].as_str());
        let specials: Vec<String> = specials.filter(|content| !content.is_empty()).map(str::to_owned).collect();
        let begins: BTreeSet<char> = specials.iter().filter_map(|special| special.chars().next()).collect();
        let specials = (specials, begins.into_iter().collect());
        let bytes_of = bytes_of_tokens(&inner, ids, vocab);
        let fingerprint = Sha256::digest(pretty(&json)).iter().map(|byte| format!("{byte:02x}")).collect();
        let (inner, bytes_of, specials, json) = (Arc::new(inner), Arc::new(bytes_of), Arc::new(specials), Arc::new(json));
        Ok(Tokenizer { inner, bytes_of, vocab, ends, specials, fingerprint, json })
    }
}

/// Training takes time with the square of a word's length.
const LONGEST_WORD: usize = 512;

/// A text, in pieces where something in it has no space for very long, as a teacher's loop has.
fn without_long_words(text: String) -> Vec<String> {
    if text.split_whitespace().all(|word| word.len() <= LONGEST_WORD) {
        return vec![text];
    }
    let (mut pieces, mut piece, mut word) = (Vec::new(), String::new(), 0);
    for letter in text.chars() {
        word = if letter.is_whitespace() { 0 } else { word + letter.len_utf8() };
        if word > LONGEST_WORD {
            pieces.push(std::mem::take(&mut piece));
            word = letter.len_utf8();
        }
        piece.push(letter);
    }
    pieces.push(piece);
    pieces
}

/// Where a packed file keeps what stock readers conclude from the pre-tokenizer's name, if this tokenizer has it otherwise.
const OWN_KEY: &str = "tristill.tokenizer";

/// What a packed file has no key for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// What is done to a text first. Stock readers do nothing.
    normalizer: Json,
    /// Whether a word that is a token is taken whole, whatever the merges say.
    ignore_merges: bool,
}

impl Own {
    fn of(json: &Json) -> Own {
        Own { normalizer: json["normalizer"].clone(), ignore_merges: json["model"]["ignore_merges"] == true }
    }

    /// What stock readers do under this name of a pre-tokenizer.
    fn implied(name: &str) -> Own {
        Own { normalizer: Json::Null, ignore_merges: pre_tokenizer::ignores_merges(name) }
    }

    fn put(self, json: &mut Json) {
        json["normalizer"] = self.normalizer;
        json["model"]["ignore_merges"] = json!(self.ignore_merges);
    }
}

/// GGUF's token types.
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

/// The `tokenizer.json` of a byte-level BPE model.
fn document(pre: &str, vocab: &Json, merges: &Json, added: impl Iterator<Item = (u32, String, bool)>) -> Json {
    let added: Vec<Json> = added
        .map(|(id, content, special)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer::json(pre).expect("the name was checked"),
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre_tokenizer::ignores_merges(pre), "vocab": vocab,
            "merges": merges,
        },
    })
}

fn pretty(json: &Json) -> String {
    serde_json::to_string_pretty(json).expect("JSON values can be written")
}

/// A merge is a pair, or in older files a text with a space between its two parts.
fn merge_text(merge: &Json) -> Option<String> {
    match merge {
        Json::String(text) => Some(text.clone()),
        Json::Array(pair) => Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
        _ => None,
    }
}

fn bytes_of_tokens(inner: &tokenizers::Tokenizer, ids: HashMap<String, u32>, vocab: usize) -> Vec<Vec<u8>> {
    let byte_of = byte_of_char();
    let mut table = vec![Vec::new(); vocab];
    for (token, id) in ids {
        // A character outside the byte alphabet can only stand in a token that was added as it is.
        table[id as usize] = token.chars().map(|c| byte_of.get(&c).copied()).collect::<Option<_>>().unwrap_or_else(|| token.into_bytes());
    }
    for (id, token) in inner.get_added_tokens_decoder() {
        table[id as usize] = if token.special { Vec::new() } else { token.content.into_bytes() };
    }
    table
}

/// GPT-2's alphabet: printable bytes of Latin-1 stand for themselves, the others for the characters from U+0100 on, in order.
/// Source: the `bytes_to_unicode` table that GPT-2's encoder defines.
fn byte_of_char() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255u8).filter(|byte| !printable(*byte)).enumerate();
    let others = others.map(|(index, byte)| (char::from_u32(0x100 + index as u32).expect("a character"), byte));
    (0..=255u8).filter(|byte| printable(*byte)).map(|byte| (char::from(byte), byte)).chain(others).collect()
}

fn wrong(error: &(impl std::fmt::Display + ?Sized)) -> Error {
    Error::Tokenizer(error.to_string())
}

#[cfg(test)]
mod tests;
