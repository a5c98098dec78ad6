//! From files of traces to rows of tokens, through the public door alone.

mod place;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use model::ChatTemplate;
use task::Problem;
use tristill_data::{Cursor, DataConfig, Dataset, Decontaminate, EvalSet, Job, PackedRow, Source, Verify, check, marked};

use place::{CONTEXT, Place, config, rows_of, steps, texts_of, try_ingest};

fn bytes_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    // `seen.json` holds the times of the inputs.
    let files = entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    files.filter(|(name, _)| name != "seen.json").collect()
}

#[test]
fn every_row_is_in_the_dataset_or_in_the_sidecar() {
    let place = Place::new();
    let mut lines: Vec<String> = (0..50).map(|number| steps(number, number + 3)).collect();
    lines.push(steps(7, 10)); // a duplicate
    lines.push(r#"{"question": "Tom has 4 hats?", "answer": "7", "reference": 8}"#.into()); // wrong
    lines.push(r#"{"question": "Tom has 4 hats?"}"#.into()); // incomplete
    lines.push(r#"{"question": "Tom"#.into()); // malformed
    lines.push(r#"{"question": "Say <|im_end|>", "answer": "no"}"#.into()); // a mark of the template
    let numbers: String = (100..200).map(|number| format!("{number} ")).collect();
    lines.push(format!(r#"{{"question": "Count.", "answer": "{numbers}"}}"#)); // too long
    let out = place.path("dataset");
    let found = try_ingest(&config(vec![place.file("a.jsonl", &lines)]), &[], &out).unwrap();
    let flow = &found.card.sources[0];
    assert_eq!((flow.rows, flow.traces, flow.kept, flow.verified), (56, 56, 50, 50));
    let expected = [("duplicate", 1), ("incomplete", 1), ("malformed", 1), ("template_mark", 1), ("too_long", 1), ("wrong_answer", 1)]
        .map(|(rule, count)| (rule.to_owned(), count));
    assert_eq!(flow.dropped, BTreeMap::from(expected));
    let dropped = found.dataset.dropped().unwrap();
    assert_eq!(dropped.len() as u64, flow.traces - flow.kept);
    let malformed = dropped.iter().find(|dropped| dropped.rule == "malformed").unwrap();
    assert_eq!((malformed.line, malformed.excerpt.as_str()), (54, r#"{"question": "Tom"#));
    assert!(malformed.source.ends_with("a.jsonl") && malformed.detail.starts_with("not JSON"), "{malformed:?}");
    assert_eq!(found.card, found.dataset.card().unwrap());
}

#[test]
fn what_a_packed_teacher_said_is_traces_with_the_set_that_it_was_asked() {
    let place = Place::new();
    let questions: Vec<String> =
        (0..30).map(|number| steps(number, number + 3).replacen('{', &format!(r#"{{"id": "q-{number}", "#), 1)).collect();
    let set = place.file("questions.jsonl", &questions).path;
    let said = |number: u32, sample: u32, answer: u32, finish: &str| {
        let text = format!("<think>\n{number} + 3 = {answer}\n</think>\n\nThe answer is {answer}.");
        serde_json::json!({ "id": format!("q-{number}"), "sample": sample, "text": text, "finish": finish, "tokens": 20 }).to_string()
    };
    let mut lines = vec![r#"{"completions":1,"name":"t","student":"ab","set":"questions","prompt":"chat","samples":2}"#.to_owned()];
    lines.extend((0..30).flat_map(|number| [said(number, 0, number + 3, "stop"), said(number, 1, number + 4, "stop")]));
    lines[1] = said(0, 0, 3, "length");
    let source = Source { requests: Some(set), ..place.file("completions.jsonl", &lines) };
    let found = try_ingest(&config(vec![source]), &[], &place.path("dataset")).unwrap();
    let flow = &found.card.sources[0];
    let dropped = [("incomplete", 1), ("unfinished", 1), ("wrong_answer", 30)].map(|(rule, count)| (rule.to_owned(), count));
    assert_eq!((&*flow.layout, flow.rows, flow.verified, &flow.dropped), ("completions", 61, 29, &BTreeMap::from(dropped)));
    let first = &texts_of(&found.dataset)[0];
    assert!(first.contains("Tom has 1 hats and buys 3. How many?") && first.contains("The answer is 4."), "{first}");

    // Without the set nothing is learned, least of all as plain text.
    let alone = try_ingest(&config(vec![place.file("completions.jsonl", &lines)]), &[], &place.path("alone")).unwrap_err();
    assert!(alone.contains("name the set that it answers as the source's requests"), "{alone}");
}

#[test]
fn plain_text_is_learned_whole_and_cut_where_a_row_ends() {
    let place = Place::new();
    let line = |text: &str| serde_json::json!({ "text": text }).to_string();
    let long: String = (100..300).map(|number| format!("{number} boats. ")).collect();
    let mut lines: Vec<String> = (0..40).map(|number| line(&format!("Line {number} tells of the sea and its {number} ships."))).collect();
    lines.extend([line(&long), line("They ask: how many apples does Tom have if he buys 3 and eats 2? Nobody knows."), line(&long)]);
    let question = "How many apples does Tom have if he buys 3 and eats 2?".into();
    let problems = [Problem { id: "p".into(), question, answer: "1".into(), steps: None }];
    let sets = [EvalSet { name: "held_out", problems: &problems }];
    let mut config = config(vec![place.file("a.jsonl", &lines)]);
    config.rules.per_question = Some(1);
    let found = try_ingest(&config, &sets, &place.path("dataset")).unwrap();
    let flow = &found.card.sources[0];
    let dropped = [("contaminated", 1), ("duplicate", 1)].map(|(rule, count)| (rule.to_owned(), count));
    assert_eq!((flow.rows, flow.kept, &flow.dropped), (43, 41, &BTreeMap::from(dropped)));
    let (dataset, tokenizer) = (&found.dataset, found.dataset.tokenizer().unwrap());
    let (mut texts, mut ends) = (Vec::new(), 0);
    for row in rows_of(dataset, 1) {
        let mut at = 0;
        for &len in &row.documents {
            let span = at..at + len as usize;
            ends += usize::from(row.tokens[span.end - 1] == tokenizer.end_of_turn());
            assert!(!row.supervised[span.start] && row.supervised[span.start + 1..span.end].iter().all(|learned| *learned));
            texts.push(tokenizer.decode(&row.tokens[span.clone()]));
            at = span.end;
        }
    }
    assert!(texts.iter().any(|text| text == "Line 7 tells of the sea and its 7 ships."), "{texts:?}");
    assert_eq!(ends, flow.kept as usize, "every text ends once");
    // The long one is there in several parts, none of which is longer than a row.
    let boats = texts.iter().map(|text| text.matches("boats").count()).sum::<usize>();
    assert!(texts.len() > 43 && boats >= 190, "{} texts with {boats} boats", texts.len());
}

#[test]
fn a_document_is_the_prompt_then_what_is_learned() {
    let place = Place::new();
    let lines: Vec<String> = (0..40).map(|number| steps(number, number + 3)).collect();
    let found = try_ingest(&config(vec![place.file("a.jsonl", &lines)]), &[], &place.path("dataset")).unwrap();
    let (dataset, tokenizer) = (&found.dataset, found.dataset.tokenizer().unwrap());
    assert_eq!(dataset.chat().unwrap(), ChatTemplate::chatml());
    let mut questions = Vec::new();
    for row in rows_of(dataset, 1) {
        assert!(row.tokens.len() <= CONTEXT && row.tokens.len() == row.supervised.len());
        let mut at = 0;
        for &len in &row.documents {
            let span = at..at + len as usize;
            at = span.end;
            let (tokens, supervised) = (&row.tokens[span.clone()], &row.supervised[span]);
            let prompt_len = supervised.iter().position(|supervised| *supervised).unwrap();
            assert!(supervised[prompt_len..].iter().all(|supervised| *supervised));
            let text: String = tokens.iter().map(|&token| tokenizer.token_text(token)).collect();
            let (prompt, completion) = text.split_once("<|im_start|>assistant\n").unwrap();
            assert_eq!(tokens[..prompt_len], tokenizer.encode(&format!("{prompt}<|im_start|>assistant\n")).unwrap());
            assert_eq!(*tokens.last().unwrap(), tokenizer.end_of_turn());
            let number: u32 = prompt.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
            assert_eq!(prompt, format!("<|im_start|>user\nTom has {number} hats and buys 3. How many?<|im_end|>\n"));
            assert_eq!(completion, format!("<think>\n{number} + 3 = {0}\n</think>\n\n#### {0}<|im_end|>", number + 3));
            questions.push(number);
        }
        assert_eq!(at, row.tokens.len());
    }
    questions.sort_unstable();
    assert_eq!(questions, (0..40).collect::<Vec<_>>());
    let manifest = dataset.manifest();
    let supervised: usize = rows_of(dataset, 1).iter().map(|row| row.supervised.iter().filter(|supervised| **supervised).count()).sum();
    assert_eq!((manifest.documents, manifest.supervised_tokens), (40, supervised as u64));
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let place = Place::new();
    let lines: Vec<String> = (0..5000).map(|number| steps(number % 4000, number % 4000 + 3)).collect();
    let sources = vec![place.file("a.jsonl", &lines), place.file("b.jsonl", &lines[3000..])];
    let datasets = [1, 4].map(|threads| {
        let out = place.path(&format!("dataset{threads}"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| try_ingest(&config(sources.clone()), &[], &out)).unwrap();
        bytes_of(&out)
    });
    assert!(datasets[0] == datasets[1]);
    assert!(datasets[0].contains_key("rows-00000.parquet") && datasets[0].contains_key("dropped.parquet"), "{:?}", datasets[0].keys());
}

#[test]
fn an_unchanged_input_is_not_ingested_again_and_a_changed_one_is() {
    let place = Place::new();
    let lines: Vec<String> = (0..20).map(|number| steps(number, number + 3)).collect();
    let mut config = config(vec![place.file("a.jsonl", &lines)]);
    let out = place.path("dataset");
    assert!(try_ingest(&config, &[], &out).unwrap().is_new);
    assert!(!try_ingest(&config, &[], &out).unwrap().is_new);
    place.file("a.jsonl", &lines[..19]);
    let again = try_ingest(&config, &[], &out).unwrap();
    assert!(again.is_new && again.card.kept() == 19);
    config.rules.verify = Verify::Off;
    assert!(try_ingest(&config, &[], &out).unwrap().is_new);
    let problems = [Problem { id: "1".into(), question: "Who?".into(), answer: "1".into(), steps: None }];
    let sets = [EvalSet { name: "test", problems: &problems }];
    assert!(try_ingest(&config, &sets, &out).unwrap().is_new);
    assert!(!try_ingest(&config, &sets, &out).unwrap().is_new);
}

#[test]
fn a_stream_goes_on_from_its_cursor_with_the_same_rows() {
    let place = Place::new();
    let lines: Vec<String> = (0..3000).map(|number| steps(number, number + 3)).collect();
    let found = try_ingest(&config(vec![place.file("a.jsonl", &lines)]), &[], &place.path("dataset")).unwrap();
    let dataset = &found.dataset;
    let (count, whole) = (dataset.manifest().rows as usize, rows_of(dataset, 2));
    assert!(count > 100, "{count}");
    assert_ne!(whole[..count], whole[count..], "an epoch has its own order");
    for stop in [0, 1, count - 1, count, count + 7] {
        let mut stream = dataset.rows(1, Cursor::default());
        stream.by_ref().take(stop).for_each(|row| drop(row.unwrap()));
        let cursor: Cursor = serde_json::from_str(&serde_json::to_string(&stream.cursor()).unwrap()).unwrap();
        let rest: Vec<PackedRow> = dataset.rows(1, cursor).take(whole.len() - stop).collect::<Result<_, _>>().unwrap();
        assert!(rest == whole[stop..], "stopped at {stop}");
    }
    let sorted = |rows: &[PackedRow]| {
        let mut tokens: Vec<Vec<u32>> = rows.iter().map(|row| row.tokens.clone()).collect();
        tokens.sort_unstable();
        tokens
    };
    assert_eq!(sorted(&whole[..count]), sorted(&whole[count..]), "an epoch has every row once");
}

#[test]
fn questions_of_an_evaluation_set_do_not_get_in() {
    let place = Place::new();
    let lines: Vec<String> = (0..20).map(|number| steps(number, number + 3)).collect();
    let mut config = config(vec![place.file("a.jsonl", &lines)]);
    let question = "Tom has 7 hats and buys 3. How many?";
    let problems = [Problem { id: "p".into(), question: question.into(), answer: "10".into(), steps: None }];
    let sets = [EvalSet { name: "test", problems: &problems }];
    let found = try_ingest(&config, &sets, &place.path("dataset")).unwrap();
    assert_eq!(found.card.dropped(), BTreeMap::from([("contaminated".to_owned(), 1)]));
    assert_eq!(found.card.sources[0].masked_matches, 19);
    assert_eq!(found.card.touches["test"], BTreeMap::from([("same_but_for_numbers".to_owned(), 19), ("word_for_word".to_owned(), 1)]));
    config.rules.decontaminate = Decontaminate::Off;
    let refused = try_ingest(&config, &sets, &place.path("dataset")).unwrap_err();
    assert!(refused.starts_with("data.rules.decontaminate is off, but the run is scored on test"), "{refused}");
    config.rules.decontaminate_off_because = Some("The sets are one.".into());
    let found = try_ingest(&config, &sets, &place.path("dataset")).unwrap();
    assert_eq!((found.card.kept(), found.card.decontaminated_against.len()), (20, 0));
    let card = fs::read_to_string(place.path("dataset/card.md")).unwrap();
    assert!(card.contains("**They were not looked for:** The sets are one."), "{card}");
}

#[test]
fn bad_input_is_explained() {
    let place = Place::new();
    let fails = |config: &DataConfig| try_ingest(config, &[], &place.path("dataset")).unwrap_err();
    let missing = fails(&config(vec![Source::new(place.path("none.jsonl"))]));
    assert!(missing.starts_with("cannot read ") && missing.contains("none.jsonl"), "{missing}");
    let empty = fails(&config(vec![place.file("empty.jsonl", &[])]));
    assert!(empty.ends_with("empty.jsonl: it has no rows"), "{empty}");
    let noise = fails(&config(vec![place.file("noise.jsonl", &["nonsense".into()])]));
    assert!(noise.ends_with("because none of its first lines is a JSON object"), "{noise}");
    let wrong = r#"{"question": "1 + 1?", "answer": "7", "reference": 2}"#.to_owned();
    let nothing_left = fails(&config(vec![place.file("wrong.jsonl", &[wrong])]));
    let sidecar = place.path("dataset.partial/dropped.parquet");
    let expected = format!(
        "the dataset would be empty: all 1 traces were dropped (wrong_answer 1), as line 1 of {}: the answer ends in \"7\", the reference is \"2\"; \
         all of them are in {}",
        place.path("wrong.jsonl").display(),
        sidecar.display()
    );
    assert!(nothing_left == expected && sidecar.exists(), "{nothing_left}");
    assert!(!place.path("dataset").exists());
}

#[test]
fn a_dataset_that_is_not_whole_is_not_opened() {
    let place = Place::new();
    let out = place.path("dataset");
    let source = place.file("a.jsonl", &[steps(1, 4)]);
    try_ingest(&config(vec![source.clone()]), &[], &out).unwrap();
    let shard = out.join("rows-00000.parquet");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
    let error = Dataset::open(&out).unwrap_err().to_string();
    assert!(error.contains(&format!("has {} bytes, {} are needed; ingest again", bytes.len() - 1, bytes.len())), "{error}");
    assert!(try_ingest(&config(vec![source]), &[], &out).unwrap().is_new);
    let manifest = out.join("manifest.json");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap().replace("\"version\": 3", "\"version\": 0")).unwrap();
    assert!(Dataset::open(&out).unwrap_err().to_string().contains("it is of version 0, version 3 is needed"));
}

#[test]
fn a_look_at_the_traces_leaves_nothing_behind() {
    let place = Place::new();
    let lines: Vec<String> = (0..900).map(|number| steps(number, number + 3)).collect();
    let config = config(vec![place.file("a.jsonl", &lines)]);
    let out = place.path("dataset");
    let job = Job { config: &config, chat: &ChatTemplate::chatml(), context: CONTEXT, eval_sets: &[], out: &out };
    let look = check(&job, 2).unwrap();
    assert!(!out.exists() && !look.is_whole && look.traces.len() == 2 && fs::read_dir(place.0.path()).unwrap().count() == 1);
    let learned: String = look.traces[0].iter().filter(|piece| piece.supervised).map(|piece| piece.text.as_str()).collect();
    assert!(learned.starts_with("<think>\n") && learned.ends_with("<|im_end|>"), "{learned}");
    let given: String = look.traces[0].iter().filter(|piece| !piece.supervised).map(|piece| piece.text.as_str()).collect();
    assert!(given.starts_with("<|im_start|>user\nTom has") && given.ends_with("<|im_start|>assistant\n"), "{given}");

    // Once the dataset is there, the traces on its card are shown.
    try_ingest(&config, &[], &out).unwrap();
    let look = check(&job, 5).unwrap();
    let card = fs::read_to_string(out.join("card.md")).unwrap();
    assert!(look.is_whole && look.traces.iter().all(|trace| card.contains(&marked(trace, "«", "»"))), "{card}");
}
