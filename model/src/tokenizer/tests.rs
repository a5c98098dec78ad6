use super::*;

fn trained() -> Tokenizer {
    let texts = (0..400).map(|i| format!("<|im_start|>user\nMia has {i} apples and buys {} more.<|im_end|>\n", i * 3));
    Tokenizer::train(texts, 320).unwrap()
}

#[test]
fn training_is_deterministic_and_splits_digits() {
    let (one, two) = (trained(), trained());
    assert_eq!(one.to_json(), two.to_json());
    assert_eq!(one.encode("1234").unwrap().len(), 4);
    assert!(one.vocab() <= 320 && one.encode(" apples").unwrap().len() == 1);
}

#[test]
fn what_has_no_space_for_long_is_trained_in_pieces() {
    let loops = "x".repeat(LONGEST_WORD + 1);
    let text = format!("Mia has 12 apples. {loops}é é{loops}");
    let pieces = without_long_words(text.clone());
    assert_eq!(pieces.concat(), text);
    assert!(pieces.len() > 1 && pieces.iter().flat_map(|piece| piece.split_whitespace()).all(|word| word.len() <= LONGEST_WORD));
    assert_eq!(without_long_words(text[..18].to_owned()), ["Mia has 12 apples."]);
}

#[test]
fn a_special_token_in_a_text_is_found() {
    let tokenizer = trained();
    assert_eq!(tokenizer.special_in("a < b <|im_end|> c"), Some("<|im_end|>"));
    assert_eq!((tokenizer.special_in("<think> <|im_end"), tokenizer.special_in("")), (None, None));
}

#[test]
fn what_would_change_tokens_from_time_to_time_is_refused() {
    let json = trained().to_json();
    for (key, value) in [("dropout", json!(0.1)), ("continuing_subword_prefix", json!("##")), ("end_of_word_suffix", json!("</w>"))] {
        let mut changed: Json = serde_json::from_str(&json).unwrap();
        changed["model"][key] = value;
        let message = Tokenizer::from_json(&changed.to_string()).unwrap_err().to_string();
        assert!(message.contains(&format!("model.{key} is")) && message.contains("set it to null"), "{message}");
    }
}

#[test]
fn any_text_comes_back() {
    let tokenizer = trained();
    for text in ["Mia has 12 apples.", "<think>\n3 + 4 = 7\n</think>\n\n7", "Zoë's café: 3 € — 😀\u{0}\t\r\n  x", ""] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()), text);
    }
}

#[test]
fn special_tokens_are_recognised_and_not_shown() {
    let tokenizer = trained();
    let tokens = tokenizer.encode("a<|im_end|>").unwrap();
    assert_eq!(tokens.last(), Some(&tokenizer.end_of_turn()));
    assert_eq!(tokenizer.decode(&tokens), "a");
    assert_eq!(tokenizer.token_text(tokenizer.end_of_turn()), "<|im_end|>");
    assert_eq!(tokenizer.encode("<think>").unwrap().len(), 1);
}

#[test]
fn a_packed_file_holds_the_same_tokenizer() {
    let tokenizer = trained();
    let back = packed(&tokenizer, tokenizer.vocab());
    assert_eq!(back.vocab(), tokenizer.vocab());
    for text in ["Mia has 12 apples.<|im_end|>\n", "  two  spaces\n\nZoë's 😀", "<think>x</think>"] {
        assert_eq!(back.encode(text).unwrap(), tokenizer.encode(text).unwrap());
    }
    assert_eq!(back.end_ids(), tokenizer.end_ids());
}

fn packed(tokenizer: &Tokenizer, rows: usize) -> Tokenizer {
    let metadata = tokenizer.to_gguf(rows).unwrap();
    Tokenizer::from_gguf(&gguf::Gguf { metadata, tensors: Vec::new() }).unwrap()
}

/// The trained tokenizer with something changed in its `tokenizer.json`.
fn changed(change: impl FnOnce(&mut Json)) -> Result<Tokenizer, Error> {
    let mut json = (*trained().json).clone();
    change(&mut json);
    Tokenizer::from_json(&json.to_string())
}

#[test]
fn rows_without_a_token_are_unused() {
    let tokenizer = trained();
    let metadata = tokenizer.to_gguf(tokenizer.vocab() + 3).unwrap();
    let Some((_, gguf::Value::Strings(tokens))) = metadata.iter().find(|(key, _)| key == "tokenizer.ggml.tokens") else {
        panic!("tokens are written")
    };
    assert_eq!((tokens.len(), tokens.last()), (tokenizer.vocab() + 3, Some(&format!("[unused{}]", tokenizer.vocab() + 2))));
    let back = packed(&tokenizer, tokenizer.vocab() + 3);
    assert_eq!(back.vocab(), tokenizer.vocab());
    assert_eq!(back.token_bytes(tokenizer.vocab() as u32 + 1), b"");
}

#[test]
fn a_word_that_is_a_token_is_whole_where_merges_are_ignored() {
    // A token that no merge makes: " Q" and "Z" never meet.
    let unreachable = |ignores: bool| {
        changed(|json| {
            let id = json["model"]["vocab"].as_object().unwrap().len();
            json["model"]["vocab"]["\u{120}QZ"] = json!(id);
            json["model"]["ignore_merges"] = json!(ignores);
            json["pre_tokenizer"] = pre_tokenizer::json("llama-bpe").unwrap();
        })
        .unwrap()
    };
    for ignores in [true, false] {
        let tokenizer = unreachable(ignores);
        let tokens = tokenizer.encode(" QZ").unwrap();
        assert_eq!(tokens.len() == 1, ignores);
        assert_eq!(packed(&tokenizer, tokenizer.vocab()).encode(" QZ").unwrap(), tokens);
    }
    // Under this name stock readers ignore them, so that a file by others needs to say nothing.
    let metadata = unreachable(true).to_gguf(400).unwrap();
    assert!(metadata.iter().all(|(key, _)| key != OWN_KEY));
}

#[test]
fn what_is_done_to_a_text_first_is_kept() {
    let tokenizer = changed(|json| json["normalizer"] = json!({ "type": "NFC" })).unwrap();
    let apart = "Zoe\u{308}";
    assert_eq!(tokenizer.encode(apart).unwrap(), tokenizer.encode("Zoë").unwrap());
    assert_eq!(packed(&tokenizer, tokenizer.vocab()).encode(apart).unwrap(), tokenizer.encode(apart).unwrap());
}

#[test]
fn the_token_before_every_text_is_told_to_others_and_not_added_here() {
    let first = json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<|im_start|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": { "<|im_start|>": { "id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"] } },
    });
    let tokenizer = changed(|json| json["post_processor"] = first).unwrap();
    let metadata = tokenizer.to_gguf(tokenizer.vocab()).unwrap();
    assert!(metadata.contains(&("tokenizer.ggml.bos_token_id".into(), gguf::Value::U32(1))));
    assert!(metadata.contains(&("tokenizer.ggml.add_bos_token".into(), gguf::Value::Bool(true))));
    assert_eq!(tokenizer.encode("one").unwrap(), trained().encode("one").unwrap());
}

#[test]
fn nothing_is_cut_off_in_silence() {
    let cut = json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
    let tokenizer = changed(|json| json["truncation"] = cut).unwrap();
    assert_eq!(tokenizer.encode("Mia has 12 apples.").unwrap(), trained().encode("Mia has 12 apples.").unwrap());
}

#[test]
fn a_token_that_takes_spaces_with_it_cannot_be_packed() {
    let tokenizer = changed(|json| json["added_tokens"][3]["rstrip"] = json!(true)).unwrap();
    assert!(tokenizer.to_gguf(tokenizer.vocab()).unwrap_err().to_string().contains("\"<think>\" takes only whole words"));
}

#[test]
fn what_cannot_be_packed_is_refused_with_the_reason() {
    for (text, reason) in
        [("{", "not JSON"), ("{}", "without a type"), (r#"{"model":{"type":"Unigram"},"decoder":{"type":"Metaspace"}}"#, "Unigram")]
    {
        let message = Tokenizer::from_json(text).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
    assert!(Tokenizer::train(std::iter::empty(), 100).unwrap_err().to_string().contains("at least 261"));
}

#[test]
fn the_byte_alphabet_is_the_one_of_the_library() {
    let ours: std::collections::HashSet<char> = byte_of_char().into_keys().collect();
    assert_eq!(ours, ByteLevel::alphabet().into_iter().collect());
}
