//! JSON as Python writes it: `NaN`, `Infinity` and `-Infinity` are no JSON, yet they stand in files of log-probabilities and in
//! exports of tables. Each becomes null.

/// The text with the three words outside of strings as null; none where there is no such word.
pub(super) fn without_words(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut plain, mut at, mut in_text, mut found) = (Vec::with_capacity(bytes.len()), 0, false, false);
    while let Some(&byte) = bytes.get(at) {
        if in_text {
            if byte == b'\\' {
                plain.push(byte);
                at += 1;
            }
            in_text = byte != b'"';
        } else if let Some(word) = [&b"NaN"[..], b"Infinity", b"-Infinity"].iter().find(|word| bytes[at..].starts_with(word)) {
            plain.extend_from_slice(b"null");
            at += word.len();
            found = true;
            continue;
        } else {
            in_text = byte == b'"';
        }
        plain.extend(bytes.get(at));
        at += 1;
    }
    found.then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_outside_of_strings_become_null() {
        let plain = |text: &str| without_words(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
        let text = r#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \" Infinity"}"#;
        assert_eq!(plain(text).unwrap(), r#"{"a": null, "b": [null, null], "c": "NaN \" Infinity"}"#);
        assert_eq!(plain(r#"{"a": "NaN"}"#), None);
        assert_eq!(plain("\"\\"), None);
    }
}
