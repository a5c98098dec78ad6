//! Reading problem sets: the layouts, and everything that can be wrong with a file.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use tristill_task::{Choice, Error, Fields, Problem, ProblemSet, read_choices, read_set, strip_calculator_spans};

fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn read_text(name: &str, text: &str) -> Result<ProblemSet, Error> {
    let (_folder, path) = file(name, text.as_bytes());
    read_set(&path, &Fields::default())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Id, question and answer of each problem, and line and complaint of each bad line.
type Plain = (Vec<[String; 3]>, Vec<(u64, String)>);

fn plain(set: ProblemSet) -> Plain {
    let problems = set.problems.into_iter().map(|problem| [problem.id, problem.question, problem.answer]).collect();
    (problems, set.bad.into_iter().map(|bad| (bad.line, bad.what)).collect())
}

#[test]
fn each_layout_gives_the_same_problem() {
    let table = [
        ("a.jsonl", r#"{"id":"7","question":"Two and two?","answer":"4"}"#, "7"),
        ("a.jsonl", r#"{"question":"Two and two?","answer":"4"}"#, "a-1"),
        ("a.jsonl", r#"{"ID":"7","Body":"Two","Question":"and two?","Answer":4}"#, "7"),
        ("a.json", r#"[{"iIndex":7,"sQuestion":"Two and two?","lEquations":["X=2+2"],"lSolutions":[4]}]"#, "7"),
        ("a.json", r#"[{"question":"Two and two?","final_ans":"4"}]"#, "a-1"),
        ("a.jsonl", r#"{"problem":"Two and two?","solution":"\\boxed{4}","answer":"4","unique_id":"7"}"#, "7"),
        ("a.jsonl", r#"{"id":7,"instance":3,"question":"Two and two?","answer":"4","original_id":1}"#, "7-3"),
        ("a.jsonl", r#"{"question":"Two and two?","solution":"s","answer":"4","perturbation_type":"p","seed_question":"q"}"#, "a-1"),
        ("mgsm_en.tsv", "Two and two?\t4", "mgsm_en-1"),
        ("a.tsv", "question\tanswer\nTwo and two?\t4\n", "a-2"),
        ("a.csv", "id,question,answer\r\n7,Two and two?,4\r\n", "7"),
        ("a.csv", "id,question,answer\n7,\"Two and two?\",\"4\"\n", "7"),
    ];
    for (name, text, id) in table {
        let (problems, bad) = plain(read_text(name, text).unwrap_or_else(|error| panic!("{text}: {error}")));
        assert_eq!((problems, bad), (vec![[id, "Two and two?", "4"].map(str::to_owned)], vec![]), "{text}");
        let (_folder, path) = file(&format!("{name}.gz"), &gzip(text.as_bytes()));
        assert_eq!(read_set(&path, &Fields::default()).unwrap().problems[0].question, "Two and two?", "{text}");
    }
}

#[test]
fn our_own_records_come_back() {
    let problem = Problem { id: "p".to_owned(), question: "q\n\"?".to_owned(), answer: "1/2".to_owned(), steps: Some(3) };
    let set = read_text("own.jsonl", &(serde_json::to_string(&problem).unwrap() + "\n")).unwrap();
    assert_eq!(set.problems, [problem]);
}

#[test]
fn fields_can_be_named() {
    let (_folder, path) = file("a.jsonl", br#"{"frage":"q","antwort":"4","nummer":9,"answer":"no"}"#);
    let fields = |id: &str| Fields { question: Some("frage".into()), answer: Some("antwort".into()), id: Some(id.into()), options: None };
    let (problems, _) = plain(read_set(&path, &fields("nummer")).unwrap());
    assert_eq!(problems, [["9", "q", "4"].map(str::to_owned)]);
    let error = read_set(&path, &fields("name")).unwrap_err().to_string();
    assert!(error.ends_with("found no field name among frage, antwort, nummer, answer"), "{error}");
}

#[test]
fn a_bad_line_is_reported_and_the_rest_is_read() {
    let text = "\u{feff}{\"question\":\"a\",\"answer\":\"1\"}\n\n{\"question\":\"b\"}\n{\"question\":\n[1]\n{\"question\":\"\",\"answer\":1}\n\
                {\"question\":\"c\",\"answer\":null}\n{\"id\":\"x\",\"question\":\"d\",\"answer\":2}\r\n{\"id\":\"x\",\"question\":\"e\",\"answer\":2}\n\
                {\"question\":\"f\",\"answer\":[1,2]}";
    let (problems, bad) = plain(read_text("a.jsonl", text).unwrap());
    assert_eq!(problems.len(), 2);
    let expected = [
        (3, "found no field for the answer among question"),
        (4, "not a JSON object: EOF"),
        (5, "found JSON that is no object"),
        (6, "the question is empty"),
        (7, "the field answer is null"),
        (9, "the id \"x\" stands at line 8 already"),
        (10, "the field answer is a list of 2"),
    ];
    assert_eq!(bad.len(), expected.len(), "{bad:?}");
    for ((line, what), (expected_line, start)) in bad.iter().zip(expected) {
        assert!(*line == expected_line && what.starts_with(start), "line {line}: {what}");
    }
}

#[test]
fn lines_that_are_not_text_are_reported() {
    let mut bytes = b"{\"question\":\"a\",\"answer\":\"1\"}\n".to_vec();
    bytes.extend_from_slice(b"{\"question\":\"\xff\",\"answer\":\"1\"}\n\0\n");
    let (_folder, path) = file("a.jsonl", &bytes);
    let (problems, bad) = plain(read_set(&path, &Fields::default()).unwrap());
    assert_eq!(problems.len(), 1);
    assert_eq!(bad[0], (2, "not UTF-8 after byte 13".to_owned()));
    assert_eq!(bad[1].0, 3);
}

#[test]
fn a_line_beyond_the_limit_costs_only_itself() {
    // 70 MB of one letter, packed to a few kilobytes.
    let long = format!("{{\"question\":\"{}\",\"answer\":\"1\"}}\n{{\"question\":\"b\",\"answer\":\"2\"}}\n", "a".repeat(70_000_000));
    let (_folder, path) = file("a.jsonl.gz", &gzip(long.as_bytes()));
    let (problems, bad) = plain(read_set(&path, &Fields::default()).unwrap());
    assert_eq!(problems, [["a-2", "b", "2"].map(str::to_owned)]);
    assert_eq!(bad, [(1, "the line has 70000029 bytes, at most 67108864 are read".to_owned())]);
}

#[test]
fn tables_with_bad_rows() {
    let text = "question,answer\n\"He said \"\"two\"\",\nthen left\",2\nonly one cell\n\"open \"x,1\nlast,3\n\"never closed,4\n";
    let (problems, bad) = plain(read_text("a.csv", text).unwrap());
    assert_eq!(problems, [["a-2", "He said \"two\",\nthen left", "2"], ["a-6", "last", "3"]].map(|problem| problem.map(str::to_owned)));
    let expected = [
        (4, "found 1 columns, needed 2 as in the first row"),
        (5, "text stands behind the closing quote of cell 1"),
        (7, "a quoted cell is not closed before the end of the file"),
    ];
    assert_eq!(bad, expected.map(|(line, what)| (line, what.to_owned())));
}

#[test]
fn a_file_that_is_no_set_is_refused_with_its_reason() {
    let error = |name: &str, text: &str| read_text(name, text).unwrap_err().to_string();
    assert!(error("a.txt", "x").contains("ends in none of .jsonl, .json, .tsv and .csv"));
    assert!(error("noending", "x").contains("ends in none of"));
    assert!(error("a.jsonl", "").ends_with("holds no problem; 0 of its lines are none, the first: the file is empty"));
    assert!(
        error("a.jsonl", "{}")
            .contains("1 of its lines are none, the first: line 1: found no field for the question among no fields at all")
    );
    assert!(error("a.json", "{}").contains("is not a JSON array of objects"));
    assert!(error("a.json", "[{]").contains("line 1 column 3"));
    let missing = read_set(&PathBuf::from("/no/such/set.jsonl"), &Fields::default()).unwrap_err();
    assert!(matches!(missing, Error::Open { .. }), "{missing}");
}

#[test]
fn a_gzip_file_that_breaks_off_is_an_error() {
    let line = |n: u32| format!("{{\"question\":\"{n} and {}?\",\"answer\":\"{}\"}}\n", n.wrapping_mul(2_654_435_761), n ^ 0x5555);
    let whole = gzip((0..2000).map(line).collect::<String>().as_bytes());
    let (_folder, path) = file("a.jsonl.gz", &whole[..whole.len() / 2]);
    let error = read_set(&path, &Fields::default()).unwrap_err();
    assert!(matches!(error, Error::Read { line: 1.., .. }), "{error}");
    let (_folder, path) = file("a.jsonl.gz", b"not gzip");
    assert!(matches!(read_set(&path, &Fields::default()), Err(Error::Read { line: 0, .. })));
}

#[test]
fn calculator_spans_are_taken_out() {
    assert_eq!(strip_calculator_spans("48/2 = <<48/2=24>>24 clips << 3"), "48/2 = 24 clips << 3");
}

#[test]
fn choices_of_each_layout() {
    let expected =
        |id: &str| Choice { id: id.to_owned(), question: "Two and two?".to_owned(), options: vec!["3".into(), "4".into()], right: 1 };
    let table = [
        ("a.jsonl", r#"{"question":"Two and two?","options":["A)3","B)4"],"rationale":"r","correct":"B"}"#, "a-1"),
        ("a.jsonl", r#"{"id":5,"question":"Two and two?","choices":["3","4"],"answer":1,"subject":"s"}"#, "5"),
        ("a.csv", "question,A,B,answer\nTwo and two?,3,4,B\n", "a-2"),
        ("a.jsonl", r#"{"question":"Two and two?","choices":{"text":["3","4"],"label":["1","2"]},"answerKey":"2"}"#, "a-1"),
        ("a.jsonl", r#"{"question":"Two and two?","options":["3","4"],"answer":"b"}"#, "a-1"),
    ];
    for (name, text, id) in table {
        let (_folder, path) = file(name, text.as_bytes());
        let set = read_choices(&path, &Fields::default()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((set.choices, set.bad), (vec![expected(id)], vec![]), "{text}");
    }
    let (_folder, path) = file("anatomy_test.csv", b"\"Two, and two?\",1,2,3,4,D\nWho?,1,2,3,4,E\n");
    let set = read_choices(&path, &Fields::default()).unwrap();
    assert_eq!((set.choices[0].right, set.choices[0].options.len()), (3, 4));
    assert_eq!(
        set.bad[0].what,
        "the right option is \"E\", needed one of the 4 letters, an index from 0, or an option's text that is neither"
    );
    let lines = "{\"question\":\"Who?\",\"options\":[\"he\",\"she\"],\"answer\":\"she\"}\n\
                 {\"question\":\"Who?\",\"options\":[\"he\",\" \"],\"answer\":0}\n\
                 {\"question\":\"Who?\",\"answer\":\"she\"}\n";
    let (_folder, path) = file("who.jsonl", lines.as_bytes());
    let set = read_choices(&path, &Fields::default()).unwrap();
    assert_eq!((set.choices[0].right, set.bad[0].what.as_str(), set.bad.len()), (1, "option 2 has no text", 2));
    for (options, answer, right) in
        [(["b", "a"], "\"a\"", None), (["3", "4"], "\"4\"", None), (["1", "2"], "1", Some(1)), (["1", "x"], "\"x\"", Some(1))]
    {
        let line = format!("{{\"question\":\"Who?\",\"options\":{options:?},\"answer\":{answer}}}\n");
        let (_folder, path) = file("who.jsonl", line.as_bytes());
        assert_eq!(read_choices(&path, &Fields::default()).ok().map(|set| set.choices[0].right), right, "{line}");
    }
}
