//! Files of every form, whole, packed, damaged and arbitrary.

use std::io::Write;

use polars::prelude::*;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

fn rows_of_file(name: &str, bytes: &[u8]) -> Result<Vec<Row>, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let mut reader = Reader::open(&path)?;
    let mut rows = Vec::new();
    loop {
        let piece = reader.next_piece()?;
        if piece.is_empty() {
            return Ok(rows);
        }
        rows.extend(piece);
    }
}

fn rows_of(bytes: &[u8]) -> Result<Vec<Row>, Error> {
    rows_of_file("traces.jsonl", bytes)
}

/// Line and object, or what is wrong.
fn shown(rows: &[Row]) -> Vec<(u64, String)> {
    let shown = |row: &Row| row.object().map_or_else(|drop| drop.detail, |object| Value::Object(object).to_string());
    rows.iter().map(|row| (row.line, shown(row))).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

const TWO: &[u8] = b"{\"a\": 1}\n{\"a\": 2}\n";

#[test]
fn a_bad_line_says_what_is_wrong_and_the_rest_goes_in() {
    let rows = rows_of(b"\xef\xbb\xbf{\"a\": 1}\r\n\n{\"a\": \n[1]\n{\"a\": \"\xff\"}\n{\"a\": NaN}\n\0\0\0\0\n{\"a\": 2}").unwrap();
    let found = shown(&rows);
    assert_eq!(found[0], (1, "{\"a\":1}".to_owned()));
    assert_eq!(found[1].0, 3);
    assert!(found[1].1.starts_with("not JSON: EOF while parsing a value, at byte"), "{found:?}");
    assert!(found[2].1.ends_with("this is a list"));
    assert!(found[3].1.starts_with("not UTF-8 from byte 8"));
    assert_eq!(found[4], (6, "{\"a\":null}".to_owned()));
    assert!(found[5].0 == 7 && found[5].1.ends_with("the row holds NUL bytes"), "{found:?}");
    assert_eq!(found[6], (8, "{\"a\":2}".to_owned()));
}

#[test]
fn packed_files_are_recognised_and_half_of_one_is_an_error() {
    for pack in [gzip, zstd] {
        let whole = pack(TWO);
        assert_eq!(rows_of(&whole).unwrap().len(), 2);
        let twice = [whole.clone(), whole.clone()].concat();
        assert_eq!(rows_of(&twice).unwrap().len(), 4);
        for cut in 1..whole.len() - 4 {
            let found = rows_of(&whole[..whole.len() - cut]).unwrap_err().to_string();
            assert!(found.contains("the file is not whole, get it again"), "{cut} bytes less: {found}");
        }
    }
}

#[test]
fn damage_in_a_packed_file_is_an_error() {
    // The packer of the tests writes a checksum at the end, as the command of that name does.
    let mut damaged = zstd(TWO);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let found = rows_of(&damaged).unwrap_err().to_string();
    assert!(found.contains("a checksum in it is wrong"), "{found}");
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(TWO)].concat();
    assert!(rows_of(&[zstd(TWO), skippable].concat()).unwrap().len() == 4);
}

#[test]
fn a_row_of_200_megabytes_is_passed_over() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"{\"a\": 1}\n{\"a\": \"").unwrap();
    let megabyte = vec![b'x'; 1 << 20];
    (0..200).for_each(|_| file.write_all(&megabyte).unwrap());
    file.write_all(b"\"}\n{\"a\": 2}\n").unwrap();
    let mut reader = Reader::open(file.path()).unwrap();
    let rows = reader.next_piece().unwrap();
    let found = shown(&rows);
    assert_eq!((found.len(), found[2].1.as_str()), (3, "{\"a\":2}"));
    assert_eq!(found[1].1, format!("the row has {} bytes, at most {} are read as one row", (200 << 20) + 10, 32 << 20));
    assert!(rows[1].excerpt().starts_with("{\"a\": \"xxx"), "{}", rows[1].excerpt());
}

#[test]
fn a_json_array_is_read_element_by_element() {
    let rows = rows_of_file("traces.json", b" [\n {\"a\": 1},\n {\"a\": [{\"b\": 2}]}\n]\n").unwrap();
    assert_eq!(shown(&rows), [(1, "{\"a\":1}".to_owned()), (2, "{\"a\":[{\"b\":2}]}".to_owned())]);
    let found = rows_of(b"[{\"a\": 1}, {\"a\":").unwrap_err().to_string();
    assert!(found.contains("after line 1: the JSON array is not closed; the file is not whole"), "{found}");
}

#[test]
fn a_table_is_told_by_its_name() {
    let comma = rows_of_file("traces.csv", b"question,answer\n1 + 1?,2\n").unwrap();
    assert_eq!(shown(&comma), [(2, "{\"question\":\"1 + 1?\",\"answer\":\"2\"}".to_owned())]);
    let packed = rows_of_file("traces.tsv.gz", &gzip(b"question\tanswer\n1 + 1?\t2\n")).unwrap();
    assert_eq!(shown(&packed), shown(&comma));
    let found = rows_of_file("traces.csv", b"a,a\n1,2\n").unwrap_err().to_string();
    assert!(found.contains("two of its columns are called"), "{found}");
}

/// A Parquet file of questions, with messages as a list of records.
fn parquet_bytes(rows: usize) -> Vec<u8> {
    let numbers: Vec<String> = (0..rows).map(|row| row.to_string()).collect();
    let turn = |row: &String| {
        let roles = Series::new("role".into(), ["user", "assistant"]);
        let contents = Series::new("content".into(), [row.as_str(), "2"]);
        StructChunked::from_series("turn".into(), 2, [roles, contents].iter()).unwrap().into_series()
    };
    let turns: Vec<Series> = numbers.iter().map(turn).collect();
    let columns = vec![
        Column::new("messages".into(), turns),
        Column::new("score".into(), (0..rows).map(|row| (row % 2 == 0).then_some(row as f64 / 2.0)).collect::<Vec<_>>()),
        Column::new("count".into(), (0..rows as u32).collect::<Vec<_>>()),
        Column::new("raw".into(), numbers.iter().map(|row| row.as_bytes()).collect::<Vec<&[u8]>>()),
    ];
    let mut bytes = std::io::Cursor::new(Vec::new());
    ParquetWriter::new(&mut bytes).finish(&mut DataFrame::new(rows, columns).unwrap()).unwrap();
    bytes.into_inner()
}

#[test]
fn rows_of_parquet_are_objects() {
    let bytes = parquet_bytes(9000);
    let rows = rows_of_file("traces.parquet", &bytes).unwrap();
    assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), (1..=9000).collect::<Vec<_>>());
    let expected = r#"{"messages":[{"role":"user","content":"8998"},{"role":"assistant","content":"2"}],"score":4499.0,"count":8998}"#;
    assert_eq!(shown(&rows[8998..8999]), [(8999, expected.to_owned())]);
    assert!(shown(&rows[1..2])[0].1.contains("\"score\":null"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.parquet");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(Reader::open(&path).unwrap().passed_over(), ["raw (BinaryView)"]);
    for damaged in [&bytes[..bytes.len() - 9], &bytes[..40]] {
        assert!(rows_of_file("traces.parquet", damaged).unwrap_err().to_string().contains("traces.parquet: it "));
    }
}

/// Every line that is not blank, as a reader that knows nothing of rows would count them.
fn lines_in(bytes: &[u8]) -> usize {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count()
}

proptest! {
    #[test]
    fn no_line_of_arbitrary_bytes_is_lost(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'"'), Just(b'{'), Just(b' '), any::<u8>()], 0..400)) {
        prop_assume!(!matches!(bytes.as_slice(), [0x1f, 0x8b, ..]) && !bytes.starts_with(b"\xef\xbb\xbf"));
        prop_assume!(bytes.trim_ascii_start().first() != Some(&b'['));
        let rows = rows_of(&bytes).unwrap();
        prop_assert_eq!(rows.len(), lines_in(&bytes));
        rows.iter().for_each(|row| drop((row.object(), row.excerpt())));
    }

    #[test]
    fn arbitrary_bytes_of_any_form_are_rows_or_an_error(
        form in 0usize..6, bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'"'), Just(b','), any::<u8>()], 0..300)
    ) {
        let (name, head): (&str, &[u8]) = [
            ("a.jsonl", b"[".as_slice()), ("a.csv", b"a,b\n"), ("a.tsv", b""), ("a.jsonl", &[0x1f, 0x8b, 8]),
            ("a.jsonl", &[0x28, 0xb5, 0x2f, 0xfd]), ("a.csv", b"\""),
        ][form];
        if let Ok(rows) = rows_of_file(name, &[head, &bytes].concat()) {
            rows.iter().for_each(|row| drop((row.object(), row.excerpt())));
        }
    }

    #[test]
    fn every_record_of_a_table_comes_back(cells in prop::collection::vec(("[a-z\",\n ]{0,8}", "[^\0]{0,6}"), 1..20)) {
        let quoted = |cell: &str| format!("\"{}\"", cell.replace('"', "\"\""));
        let text: String = cells.iter().map(|(a, b)| format!("{},{}\n", quoted(a), quoted(&b.replace('\r', " ")))).collect();
        let rows = rows_of_file("a.csv", format!("a,b\n{text}").as_bytes()).unwrap();
        let found: Vec<(Value, Value)> = rows.iter().map(|row| row.object().unwrap()).map(|row| (row["a"].clone(), row["b"].clone())).collect();
        let expected: Vec<(Value, Value)> = cells.iter().map(|(a, b)| (Value::from(a.as_str()), Value::from(b.replace('\r', " ")))).collect();
        prop_assert_eq!(found, expected);
    }
}

proptest! {
    // Each case writes a file that polars reads in part, which is slow.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_damaged_parquet_file_is_rows_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = parquet_bytes(20);
        let at = 4 + at.index(bytes.len() - 8);
        bytes[at] = byte;
        if let Ok(rows) = rows_of_file("a.parquet", &bytes) {
            rows.iter().for_each(|row| drop((row.object(), row.excerpt())));
        }
    }
}
