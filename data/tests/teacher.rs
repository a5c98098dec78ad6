//! The teacher's probabilities, from the files of servers to the rows that training reads.

mod place;

use std::fs;

use model::Tokenizer;
use serde_json::json;
use tristill_data::{DataConfig, Ingested, PackedRow, Source, Teacher};

use place::{Place, config, rows_of, steps, try_ingest};

/// A tokenizer in a file, as a teacher's that is the student's too.
fn tokenizer(place: &Place) -> Tokenizer {
    let texts = (0..300).map(|number| format!("<think>\nTom has {number} and 3, {0} in all.\n</think>\n\nThe answer is {0}", number + 3));
    let tokenizer = Tokenizer::train(texts, 360).unwrap();
    fs::write(place.path("tokenizer.json"), tokenizer.to_json()).unwrap();
    tokenizer
}

fn text(number: u32) -> String {
    format!("<think>\nTom has {number} and 3, {0} in all.\n</think>\n\nThe answer is {0}", number + 3)
}

/// What vLLM writes of a trace: the teacher's tokens by number, each with the two most likely ones.
fn vllm(tokenizer: &Tokenizer, number: u32) -> String {
    let written = text(number);
    let mut ids = tokenizer.encode(&written).unwrap();
    ids.push(tokenizer.end_of_turn());
    let other = tokenizer.encode("?").unwrap()[0];
    let logprobs = ids.iter().map(|id| {
        json!({
            id.to_string(): { "logprob": -0.25, "rank": 1, "decoded_token": "\u{fffd}" },
            other.to_string(): { "logprob": -3.0, "rank": 2, "decoded_token": "?" },
        })
    });
    json!({
        "prompt": format!("<|im_start|>user\nTom has {number} hats and buys 3. How many?<|im_end|>\n<|im_start|>assistant\n"),
        "outputs": [{ "text": written, "token_ids": ids, "logprobs": logprobs.collect::<Vec<_>>(), "finish_reason": "stop" }],
    })
    .to_string()
}

/// What an OpenAI-compatible server writes: tokens as texts, here one for each word.
fn completion(number: u32) -> String {
    let written = format!("The answer is {}", number + 3);
    let tokens = ["The", " answer", " is ", &(number + 3).to_string()].map(|token| {
        let top = json!([{ "token": token, "logprob": -0.5, "bytes": token.as_bytes() }, { "token": "?", "logprob": -2.0, "bytes": [63] }]);
        json!({ "token": token, "logprob": -0.5, "bytes": token.as_bytes(), "top_logprobs": top })
    });
    json!({
        "question": format!("Tom has {number} hats and buys 3. How many?"),
        "choices": [{
            "finish_reason": "stop",
            "message": { "role": "assistant", "content": written, "reasoning_content": format!("Tom has {number} and 3, {} in all.", number + 3) },
            "logprobs": { "content": tokens },
        }],
    })
    .to_string()
}

fn with_teacher(mut source: Source, top_k: usize, tokenizer: Option<&Place>) -> Source {
    source.teacher = Some(Teacher { top_k, temperature: 0.5, tokenizer: tokenizer.map(|place| place.path("tokenizer.json")) });
    source
}

fn students(place: &Place, sources: Vec<Source>) -> DataConfig {
    DataConfig { tokenizer: Some(place.path("tokenizer.json")), vocab: None, ..config(sources) }
}

fn rows(found: &Ingested) -> Vec<PackedRow> {
    rows_of(&found.dataset, 1)
}

#[test]
fn the_same_tokenizer_gives_a_target_to_every_learned_token() {
    let place = Place::new();
    let tokenizer = tokenizer(&place);
    let lines: Vec<String> = (0..9).map(|number| vllm(&tokenizer, number)).collect();
    let plain: Vec<String> = (20..29).map(|number| steps(number, number + 3)).collect();
    let sources = vec![with_teacher(place.file("a.jsonl", &lines), 3, Some(&place)), place.file("b.jsonl", &plain)];
    let found = try_ingest(&students(&place, sources), &[], &place.path("dataset")).unwrap();
    let facts = found.card.teacher.as_ref().unwrap();
    assert_eq!((found.card.kept(), found.dataset.manifest().top_k, facts.masked, facts.bytes_per_target), (18, 3, 0, 32));
    let (mut targets, mut with, mut without) = (0, 0, 0);
    for row in rows(&found) {
        let teacher = row.teacher.as_ref().unwrap();
        let mut first = 0;
        for (&len, &temperature) in row.documents.iter().zip(&teacher.temperatures) {
            let learned = (first..first + len).filter(|&at| row.supervised[at as usize]);
            let of_document: Vec<u32> = teacher.at.iter().copied().filter(|at| (first..first + len).contains(at)).collect();
            if temperature == 0.5 {
                with += 1;
                assert_eq!(of_document, learned.collect::<Vec<_>>());
            } else {
                without += 1;
                assert_eq!((temperature, of_document.len()), (0.0, 0));
            }
            first += len;
        }
        for (target, &at) in teacher.at.iter().enumerate() {
            let (ids, logprobs) = (&teacher.ids[target * 3..target * 3 + 3], &teacher.logprobs[target * 3..target * 3 + 3]);
            assert_eq!((ids[0], logprobs[0], logprobs[1]), (row.tokens[at as usize], -0.25, -3.0));
            assert_eq!((ids[2], logprobs[2]), (0, f32::NEG_INFINITY), "what fills up weighs nothing");
            let tail = 1.0 - (-0.25f64).exp() - (-3.0f64).exp();
            assert!((f64::from(teacher.tails[target]) - tail).abs() < 1e-6);
            targets += 1;
        }
    }
    assert_eq!((with, without, targets), (9, 9, facts.targets));
    let card = fs::read_to_string(found.dataset.folder().join("card.md")).unwrap();
    assert!(card.contains(&format!("{targets} learned tokens have a target of 3 alternatives")), "{card}");
}

#[test]
fn another_tokenizer_than_the_students_is_an_error() {
    let place = Place::new();
    let tokenizer = tokenizer(&place);
    let mut config = config(vec![with_teacher(place.file("a.jsonl", &[vllm(&tokenizer, 1)]), 2, Some(&place))]);
    config.vocab = Some(300);
    let error = try_ingest(&config, &[], &place.path("dataset")).unwrap_err();
    assert!(error.starts_with("data.sources[0].teacher.tokenizer is ") && error.contains(tokenizer.fingerprint()), "{error}");
    assert!(error.contains("but the student's tokenizer is") && error.contains("compare tokens by their bytes"), "{error}");
    assert!(!place.path("dataset").exists());
}

#[test]
fn texts_of_another_tokenizer_are_laid_by_bytes_and_the_rest_is_counted() {
    let place = Place::new();
    let tokenizer = tokenizer(&place);
    let lines: Vec<String> = (0..7).map(completion).collect();
    let found =
        try_ingest(&students(&place, vec![with_teacher(place.file("a.jsonl", &lines), 1, None)]), &[], &place.path("dataset")).unwrap();
    let facts = found.card.teacher.as_ref().unwrap();
    assert_eq!(facts.targets + facts.masked, found.dataset.manifest().supervised_tokens);
    assert!(facts.targets >= 7 && facts.masked > 0, "{facts:?}");
    for row in rows(&found) {
        let teacher = row.teacher.as_ref().unwrap();
        for (target, &at) in teacher.at.iter().enumerate() {
            assert_eq!((teacher.ids[target], teacher.logprobs[target]), (row.tokens[at as usize], -0.5));
            assert!(
                ["The", " answer", "3", "4", "5", "6", "7", "8", "9"].contains(&tokenizer.token_text(row.tokens[at as usize]).as_str())
            );
        }
    }
}

#[test]
fn without_a_teacher_table_nothing_of_it_is_stored() {
    let place = Place::new();
    let tokenizer = tokenizer(&place);
    let found = try_ingest(&students(&place, vec![place.file("a.jsonl", &[vllm(&tokenizer, 1)])]), &[], &place.path("dataset")).unwrap();
    assert_eq!((found.dataset.manifest().top_k, &found.card.teacher), (0, &None));
    assert!(found.card.sources[0].teacher_steps > 10 && rows(&found).iter().all(|row| row.teacher.is_none()));
}
