//! How text is cut before the merges, under the names that packed files use for it.
//!
//! A packed file holds a name, `tokenizer.json` holds the rule; this table is the agreement. To add one: its name as stock
//! llama.cpp knows it, and the rule as `tokenizers` writes it. Source of the patterns: the published tokenizers of the models
//! that the names stand for.

use serde_json::{Value as Json, json};

use crate::Error;

/// What a trained tokenizer uses: words, single digits, runs of punctuation. It is Qwen 2's.
pub const DIGITS_APART: &str = "qwen2";
/// GPT-2's.
pub const GPT2: &str = "gpt-2";

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Llama 3's.
const LLAMA_BPE: &str = "llama-bpe";
/// Every name that is written.
const NAMES: [&str; 4] = [DIGITS_APART, GPT2, LLAMA_BPE, "smollm"];
/// Other names under which stock llama.cpp does the same, in files by others.
const ALIASES: [(&str, &str); 5] =
    [("llama3", LLAMA_BPE), ("llama-v3", LLAMA_BPE), ("falcon3", LLAMA_BPE), ("deepseek-r1-qwen", DIGITS_APART), ("phi-2", GPT2)];

/// Whether stock readers take a word that is a token as it is, without asking the merges.
pub fn ignores_merges(name: &str) -> bool {
    written(name) == LLAMA_BPE
}

fn written(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name)
}

/// The rule of a name.
pub fn json(name: &str) -> Result<Json, Error> {
    match written(name) {
        DIGITS_APART => Ok(sequence(split(QWEN2), false)),
        LLAMA_BPE => Ok(sequence(split(LLAMA3), false)),
        "smollm" => Ok(sequence(json!({"type": "Digits", "individual_digits": true}), true)),
        GPT2 => Ok(byte_level(true)),
        other => Err(Error::Tokenizer(format!("the pre-tokenizer {other} is not known; these are: {}", NAMES.join(", ")))),
    }
}

/// The name of a rule. Keys that do not change how text is cut are not compared.
pub fn name(rule: &Json) -> Result<&'static str, Error> {
    let wanted = essence(rule);
    let found = NAMES.into_iter().find(|name| json(name).is_ok_and(|known| essence(&known) == wanted));
    found.ok_or_else(|| {
        let rule = rule.to_string();
        Error::Tokenizer(format!("a packed file has no name for the pre-tokenizer {rule}; it has names for those of {}", NAMES.join(", ")))
    })
}

fn split(pattern: &str) -> Json {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

fn byte_level(use_regex: bool) -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex})
}

fn sequence(first: Json, use_regex: bool) -> Json {
    json!({"type": "Sequence", "pretokenizers": [first, byte_level(use_regex)]})
}

fn essence(rule: &Json) -> Json {
    let mut rule = rule.clone();
    match &mut rule {
        Json::Object(fields) => {
            // Offsets play no part in the tokens.
            fields.remove("trim_offsets");
            for value in fields.values_mut() {
                *value = essence(value);
            }
            fields.sort_keys();
        }
        Json::Array(values) => values.iter_mut().for_each(|value| *value = essence(value)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_rules_are_one_to_one() {
        for known in NAMES {
            assert_eq!(name(&json(known).unwrap()).unwrap(), known);
        }
        for (alias, known) in ALIASES {
            assert_eq!(name(&json(alias).unwrap()).unwrap(), known);
        }
        assert!(json("bert").unwrap_err().to_string().contains("qwen2, gpt-2"));
        assert!(name(&json!({"type": "Whitespace"})).is_err());
    }
}
