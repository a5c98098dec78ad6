//! Files of every form give the same dataset, and what is wrong with one is said.

mod place;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use polars::prelude::*;
use proptest::prelude::*;
use tristill_data::{Layout, Source};

use place::{Place, config, steps, texts_of, try_ingest};

/// Questions and answers as rows of a table.
fn questions() -> Vec<(String, String)> {
    (0..40)
        .map(|number| (format!("Tom has {number} hats, \"and\" buys 3.\nHow many?"), format!("{number} + 3 = {0}\n#### {0}", number + 3)))
        .collect()
}

#[test]
fn every_form_gives_the_same_traces() {
    let place = Place::new();
    let rows = questions();
    let object = |(question, answer): &(String, String)| serde_json::json!({ "question": question, "answer": answer }).to_string();
    let lines: Vec<String> = rows.iter().map(object).collect();
    let cell = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let table: String = rows.iter().map(|(question, answer)| format!("{},{}\r\n", cell(question), cell(answer))).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(lines.join("\n").as_bytes()).unwrap();
    let zstd = ruzstd::encoding::compress_to_vec(lines.join("\n").as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
    let (questions, answers): (Vec<String>, Vec<String>) = rows.into_iter().unzip();
    let mut parquet = std::io::Cursor::new(Vec::new());
    let columns = vec![Column::new("question".into(), questions), Column::new("answer".into(), answers)];
    ParquetWriter::new(&mut parquet).finish(&mut DataFrame::new(40, columns).unwrap()).unwrap();
    let forms: [(&str, Vec<u8>); 6] = [
        ("a.jsonl", lines.join("\n").into_bytes()),
        ("a.json", format!("[\n{}\n]\n", lines.join(",\n")).into_bytes()),
        ("a.csv", format!("question,answer\r\n{table}").into_bytes()),
        ("a.jsonl.gz", encoder.finish().unwrap()),
        ("a.jsonl.zst", zstd),
        ("a.parquet", parquet.into_inner()),
    ];
    let mut expected = None;
    for (name, bytes) in forms {
        fs::write(place.path(name), bytes).unwrap();
        let found = try_ingest(&config(vec![Source::new(place.path(name))]), &[], &place.path(&format!("{name}-dataset"))).unwrap();
        let flow = &found.card.sources[0];
        assert_eq!((flow.rows, flow.kept, flow.verified, flow.layout.as_str()), (40, 40, 40, "question_answer"), "{name}");
        let texts = texts_of(&found.dataset);
        assert_eq!(texts.len(), 40);
        assert_eq!(expected.get_or_insert(texts.clone()), &texts, "{name}");
    }
}

#[test]
fn a_pattern_is_one_source_of_many_files() {
    let place = Place::new();
    let lines: Vec<String> = (0..30).map(|number| steps(number, number + 3)).collect();
    place.file("part-1.jsonl", &lines[..10]);
    place.file("part-2.jsonl", &[]);
    place.file("part-3.jsonl", &[&lines[10..], &["nonsense".to_owned()]].concat());
    let mut source = Source::new(place.path("part-*.jsonl"));
    let found = try_ingest(&config(vec![source.clone()]), &[], &place.path("dataset")).unwrap();
    let flow = &found.card.sources[0];
    assert_eq!((flow.files, flow.rows, flow.kept), (3, 31, 30));
    assert_eq!(found.dataset.manifest().inputs.len(), 3);
    let dropped = found.dataset.dropped().unwrap();
    assert!(dropped[0].source.ends_with("part-3.jsonl") && dropped[0].line == 21, "{dropped:?}");
    source.limit = Some(15);
    assert_eq!(try_ingest(&config(vec![source]), &[], &place.path("dataset")).unwrap().card.sources[0].rows, 15);
    let none = try_ingest(&config(vec![Source::new(place.path("*.none"))]), &[], &place.path("other")).unwrap_err();
    assert!(none.ends_with("*.none: no file matches this pattern"), "{none}");
}

#[test]
fn another_schema_is_refused_with_the_columns_found() {
    let place = Place::new();
    let parquet = |name: &str| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let raw: Vec<&[u8]> = vec![b"1", b"2"];
        let columns =
            vec![Column::new("prompt".into(), ["a", "b"]), Column::new("score".into(), [1.5, 2.0]), Column::new("raw".into(), raw)];
        ParquetWriter::new(&mut bytes).finish(&mut DataFrame::new(2, columns).unwrap()).unwrap();
        fs::write(place.path(name), bytes.into_inner()).unwrap();
        Source::new(place.path(name))
    };
    let fails = |source: Source| try_ingest(&config(vec![source]), &[], &place.path("dataset")).unwrap_err();
    let unknown = fails(parquet("a.parquet"));
    assert!(unknown.contains("its layout is not known: its rows have prompt (a text), score (a number); known layouts are"), "{unknown}");
    assert!(unknown.ends_with("columns of kinds that hold no text are not read: raw (BinaryView)"), "{unknown}");
    let mut named = parquet("b.parquet");
    named.fields = Some(serde_json::from_str(r#"{"question": "prompt", "answer": "reply", "reference": "gold"}"#).unwrap());
    let missing = fails(named);
    assert!(missing.contains("the config names the fields reply, gold, its rows have prompt (a text), score (a number)"), "{missing}");
    let mut forced = parquet("c.parquet");
    forced.layout = Layout::QuestionAnswer;
    let dropped = fails(forced);
    assert!(dropped.starts_with("the dataset would be empty: all 2 traces were dropped (incomplete 2), as line 2 of "), "{dropped}");
}

#[test]
fn repeated_ids_are_counted() {
    let place = Place::new();
    let line = |id: &str, number: u32| {
        format!(r#"{{"id": "{id}", "question": "Tom has {number} hats?", "answer": "{number}", "reference": {number}}}"#)
    };
    let lines = [line("a", 1), line("a", 2), line("b", 3), line("a", 4), line("", 5), line("", 6)];
    let found = try_ingest(&config(vec![place.file("a.jsonl", &lines)]), &[], &place.path("dataset")).unwrap();
    assert_eq!((found.card.sources[0].kept, found.card.sources[0].repeated_ids), (6, 2));
}

#[test]
fn python_numbers_that_are_no_json_are_read() {
    let place = Place::new();
    let lines = [r#"{"question": "Tom has 4 hats?", "answer": "4", "score": NaN}"#.to_owned(), steps(1, 4)];
    assert_eq!(try_ingest(&config(vec![place.file("a.jsonl", &lines)]), &[], &place.path("dataset")).unwrap().card.kept(), 2);
}

/// Answers as people write them, with the reference; the last value says whether they agree.
const ANSWERS: [(&str, &str, bool); 14] = [
    ("The answer is $1,234.50.", "1234.5", true),
    ("#### 12 apples", "12", true),
    ("\\boxed{\\frac{3}{4}}", "0.75", true),
    ("The answer is 50%.", "50", true),
    ("The answer is 1,000,000", "1000000", true),
    ("#### -7", "-7", true),
    ("#### 7", "-7", false),
    ("The answer is 3 1/2", "3.5", true),
    ("The answer is €12", "12.00", true),
    ("#### 2.50 dollars", "2.5", true),
    ("#### 123456789012345678901234567890", "123456789012345678901234567890", true),
    ("#### 123456789012345678901234567891", "123456789012345678901234567890", false),
    ("The answer is 1.5 million", "1500000", true),
    ("#### 0.333", "1/3", false),
];

#[test]
fn answers_with_units_and_signs_are_told_apart() {
    let place = Place::new();
    let line = |(at, (answer, reference, _)): (usize, &(&str, &str, bool))| {
        serde_json::json!({ "question": format!("Question number {at}?"), "answer": answer, "reference": reference }).to_string()
    };
    let lines: Vec<String> = ANSWERS.iter().enumerate().map(line).collect();
    let found = try_ingest(&config(vec![place.file("a.jsonl", &lines)]), &[], &place.path("dataset")).unwrap();
    let wrong: Vec<u64> = found.dataset.dropped().unwrap().iter().map(|dropped| dropped.line).collect();
    let expected: Vec<u64> = (1..).zip(ANSWERS).filter(|(_, (.., agrees))| !agrees).map(|(line, _)| line).collect();
    assert_eq!((wrong, found.card.sources[0].verified), (expected, 11));
}

proptest! {
    // Each case trains a tokenizer and writes a dataset.
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_line_of_any_file_ends_in_the_dataset_or_in_the_sidecar(
        odd in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>().prop_filter("one line", |byte| *byte != b'\n'), 0..60)), 0..12),
        copies in prop::collection::vec(0u32..30, 1..30),
    ) {
        let place = Place::new();
        let mut lines: Vec<Vec<u8>> = (0..10).chain(copies).map(|number| steps(number, number + 3 + number % 2).into_bytes()).collect();
        for (at, bytes) in odd {
            lines.insert(1 + at.index(lines.len()), bytes);
        }
        fs::write(place.path("a.jsonl"), lines.join(&b'\n')).unwrap();
        let found = try_ingest(&config(vec![Source::new(place.path("a.jsonl"))]), &[], &place.path("dataset")).unwrap();
        let flow = &found.card.sources[0];
        prop_assert_eq!(flow.rows as usize, lines.iter().filter(|line| !line.trim_ascii().is_empty()).count());
        prop_assert_eq!(flow.traces, flow.kept + flow.dropped.values().sum::<u64>());
        let dropped = found.dataset.dropped().unwrap();
        let mut by_rule = BTreeMap::new();
        dropped.iter().for_each(|dropped| *by_rule.entry(dropped.rule.clone()).or_insert(0u64) += 1);
        prop_assert_eq!(&by_rule, &flow.dropped);
        prop_assert_eq!(found.dataset.manifest().documents, flow.kept);
        prop_assert_eq!(texts_of(&found.dataset).len() as u64, flow.kept);
    }
}
