use model::ChatTemplate;
use serde_json::{Value, json};

use super::*;

/// A tokenizer of single bytes and the special tokens.
fn bytes() -> Tokenizer {
    Tokenizer::train(std::iter::empty(), 300).unwrap()
}

/// A tokenizer with more merges, up to three digits in a token, and something else changed.
fn changed(tokenizer: &Tokenizer, merges: &[(&str, &str)], change: impl FnOnce(&mut Value)) -> Tokenizer {
    let text = tokenizer.to_json().replace(r"|\\p{N}|", r"|\\p{N}{1,3}|");
    let mut json: Value = serde_json::from_str(&text).unwrap();
    for (at, (one, other)) in merges.iter().enumerate() {
        json["model"]["vocab"][format!("{one}{other}")] = json!(tokenizer.vocab() + at);
        json["model"]["merges"].as_array_mut().unwrap().push(json!([one, other]));
    }
    change(&mut json);
    Tokenizer::from_json(&json.to_string()).unwrap()
}

const MERGES: [(&str, &str); 4] = [("1", "2"), ("12", "3"), ("4", "5"), ("Ã", "©")];

fn prompt() -> String {
    ChatTemplate::chatml().render(&[model::Message::user("12 + 3?")], true).unwrap()
}

/// A document as a dataset has it.
fn document(tokenizer: &Tokenizer, prompt: &str, completion: &str) -> Batch {
    let prompt = tokenizer.encode(prompt).unwrap();
    let mut tokens = [prompt.clone(), tokenizer.encode(completion).unwrap()].concat();
    tokens.push(tokenizer.end_of_turn());
    let mut batch = Batch::document(&tokens);
    batch.targets = tokens[1..].iter().copied().chain([0]).collect();
    batch.keep = (1..=tokens.len()).map(|target| target >= prompt.len() && target < tokens.len()).collect();
    batch
}

/// Where the teacher speaks: how many bytes of the completion both have read there.
fn spoken(reader: &Reader, batch: &Batch) -> Vec<usize> {
    let (read, speaks) = reader.read(batch);
    assert_eq!(read.keep.iter().filter(|keep| **keep).count(), speaks.iter().filter(|speaks| **speaks).count());
    assert_eq!(speaks.len(), batch.keep.iter().filter(|keep| **keep).count());
    // Our tokens are bytes here, so that the n-th supervised place comes after n bytes.
    (0..speaks.len()).filter(|at| speaks[*at]).collect()
}

#[test]
fn it_speaks_where_both_have_read_the_same_bytes() {
    let ours = bytes();
    for (merges, expected) in [(&MERGES[..], vec![0, 3, 5, 6, 8, 9]), (&MERGES[..3], vec![0, 3, 5, 6, 7, 8, 9]), (&[], (0..10).collect())] {
        let theirs = changed(&ours, merges, |_| {});
        let reader = Reader::new(&ours, &theirs, 1000).unwrap();
        // Digits one by one beside three by three; a character of two bytes that is cut, or is not.
        let batch = document(&ours, &prompt(), "12345 é7");
        assert_eq!(spoken(&reader, &batch), expected);
        let (read, _) = reader.read(&batch);
        assert_eq!(theirs.decode(&read.tokens), ours.decode(&batch.tokens));
        assert_eq!((read.positions.last(), read.keep.last()), (Some(&(read.tokens.len() as u32 - 1)), Some(&true)));
    }
}

#[test]
fn the_same_tokenizer_speaks_at_every_place() {
    let texts = (0..300).map(|number| format!("\n\nZoë has {number} hats.\n\nAnd {}?\n", 7 * number));
    let ours = Tokenizer::train(texts, 400).unwrap();
    assert_eq!(ours.encode("\n\n").unwrap().len(), 1);
    let reader = Reader::new(&ours, &ours, 1000).unwrap();
    for completion in ["\nZoë has 12 hats.\n\n3 – 4 = 😀", " hats", "", "<think>\n1\n</think>\n\n1"] {
        let batch = document(&ours, &prompt(), completion);
        let (read, speaks) = reader.read(&batch);
        assert!(speaks.iter().all(|speaks| *speaks) && !speaks.is_empty(), "{completion:?} {speaks:?}");
        // The token that ends the turn is predicted and not read.
        assert_eq!(read.tokens, batch.tokens[..batch.tokens.len() - 1]);
        assert_eq!(read.keep, batch.keep[..read.keep.len()]);
    }
}

#[test]
fn special_tokens_are_the_teachers_own_where_it_has_the_name() {
    let ours = bytes();
    let renamed = |from: &str| Tokenizer::from_json(&ours.to_json().replace(from, "<|other|>")).unwrap();
    let batch = document(&ours, &prompt(), "15");
    let read = |theirs: &Tokenizer| Reader::new(&ours, theirs, 1000).unwrap().read(&batch);
    let theirs = renamed("<|im_start|>");
    let (found, speaks) = read(&theirs);
    assert_eq!(speaks, [true; 3]);
    assert_eq!(theirs.decode(&found.tokens), "<|im_start|>user\n12 + 3?\n<|im_start|>assistant\n15");
    assert_eq!(found.tokens.iter().filter(|token| **token == theirs.end_of_turn()).count(), 1);
    // A teacher that cannot end the turn as the student does is asked all the same what comes there.
    let theirs = renamed("<|im_end|>");
    let (found, speaks) = read(&theirs);
    assert_eq!((speaks, theirs.decode(&found.tokens)), (vec![true; 3], "user\n12 + 3?<|im_end|>\nassistant\n15".into()));
}

#[test]
fn what_stands_before_every_text_is_put_there_once() {
    let ours = bytes();
    let theirs = changed(&ours, &MERGES, |json| {
        json["post_processor"] = json!({
            "type": "TemplateProcessing", "single": [{ "SpecialToken": { "id": "<|endoftext|>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [], "special_tokens": { "<|endoftext|>": { "id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"] } }
        });
    });
    let reader = Reader::new(&ours, &theirs, 1000).unwrap();
    let begin = theirs.token("<|endoftext|>").unwrap();
    for prompt in [prompt(), format!("<|endoftext|>{}", prompt())] {
        let batch = document(&ours, &prompt, "123");
        let (read, _) = reader.read(&batch);
        assert_eq!(read.tokens.iter().filter(|token| **token == begin).count(), 1);
        assert_eq!((read.tokens[0], &spoken(&reader, &batch)[..]), (begin, &[0, 3][..]));
    }
}

#[test]
fn it_is_silent_from_where_it_cannot_read_on() {
    let ours = bytes();
    let batch = document(&ours, &prompt(), "1e\u{301}2");
    let prompt_len = ours.encode(&prompt()).unwrap().len();
    // Two of the completion's tokens are read within the context.
    let reader = Reader::new(&ours, &changed(&ours, &[], |_| {}), prompt_len + 2).unwrap();
    assert_eq!(spoken(&reader, &batch), [0, 1, 2]);
    assert_eq!(reader.read(&batch).0.tokens.len(), prompt_len + 2);
    assert_eq!(spoken(&Reader::new(&ours, &ours, 3).unwrap(), &batch), [0; 0]);
    // One character where there were two.
    let composing = changed(&ours, &[], |json| json["normalizer"] = json!({ "type": "NFC" }));
    assert_eq!(spoken(&Reader::new(&ours, &composing, 1000).unwrap(), &batch), [0, 1]);
    let lower = changed(&ours, &[], |json| json["normalizer"] = json!({ "type": "Lowercase" }));
    let message = Reader::new(&ours, &lower, 1000).unwrap_err();
    assert!(message.starts_with(r#"its tokenizer reads "What is 2 + 2?\n\nIt is 4.\n" as "what is"#), "{message}");
}

#[test]
fn documents_are_read_apart() {
    let ours = bytes();
    let reader = Reader::new(&ours, &changed(&ours, &MERGES, |_| {}), 1000).unwrap();
    let parts =
        [document(&ours, &prompt(), "123"), Batch::document(&[7; 9]), document(&ours, &prompt(), "45"), document(&ours, "x", "é12")];
    // Two rows of two documents each; the shorter one is filled up.
    let mut batch = Batch { rows: 2, ..Batch::document(&[]) };
    for row in parts.chunks(2) {
        for (number, part) in row.iter().enumerate() {
            batch.tokens.extend(&part.tokens);
            batch.targets.extend(&part.targets);
            batch.keep.extend(&part.keep);
            batch.documents.extend(vec![number as u32; part.length]);
            batch.positions.extend(&part.positions);
        }
        batch.length = batch.length.max(row.iter().map(|part| part.length).sum());
    }
    let lengths: Vec<usize> = parts.chunks(2).map(|row| row.iter().map(|part| part.length).sum()).collect();
    assert!(lengths[0] > lengths[1], "the second row is the one that is filled up: {lengths:?}");
    let fill = lengths[0] - lengths[1];
    batch.tokens.extend(vec![0; fill]);
    batch.targets.extend(vec![0; fill]);
    batch.keep.extend(vec![false; fill]);
    batch.documents.extend(vec![2; fill]);
    batch.positions.extend(0..fill as u32);
    batch.likely = vec![Vec::new(); batch.tokens.len()];

    let (read, speaks) = reader.read(&batch);
    let alone: Vec<(Batch, Vec<bool>)> = parts.iter().map(|part| reader.read(part)).collect();
    assert_eq!(speaks, alone.iter().flat_map(|(_, speaks)| speaks.clone()).collect::<Vec<_>>());
    assert_eq!(read.tokens, alone.iter().flat_map(|(read, _)| read.tokens.clone()).collect::<Vec<_>>());
    assert_eq!(read.positions, alone.iter().flat_map(|(read, _)| read.positions.clone()).collect::<Vec<_>>());
    assert_eq!(read.layout().starts.iter().filter(|start| **start == 0).count(), alone[0].0.length);
    assert_eq!(reader.read(&batch.needed()), (read, speaks));
}
