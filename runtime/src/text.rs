//! A completion's text as it comes: whole characters only, and nothing that may turn out to be a stop string.

/// Bytes that are not yet given out.
#[derive(Debug, Default)]
pub(crate) struct Text {
    pending: Vec<u8>,
    stops: Vec<String>,
}

impl Text {
    /// `stops` end the text; empty ones are for the caller to refuse.
    pub(crate) fn new(stops: Vec<String>) -> Text {
        Text { pending: Vec::with_capacity(32), stops } // What a token has, so that no token of an answer makes room.
    }

    /// Add a token's bytes. What may be given out now, and which stop string ended the text, if one did.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> (String, Option<usize>) {
        self.pending.extend_from_slice(bytes);
        let found = self.stops.iter().enumerate().filter_map(|(index, stop)| Some((find(&self.pending, stop.as_bytes())?, index)));
        if let Some((place, index)) = found.min() {
            self.pending.truncate(place);
            return (self.finish(), Some(index));
        }
        let held = self.stops.iter().map(|stop| overlap(&self.pending, stop.as_bytes())).max().unwrap_or(0);
        let given = self.pending.len() - held.max(unfinished(&self.pending));
        (self.give(given), None)
    }

    /// What is left at the end.
    pub(crate) fn finish(&mut self) -> String {
        self.give(self.pending.len())
    }

    /// Give so many bytes out, in one allocation at most. Bytes that are no text become U+FFFD, which has three.
    fn give(&mut self, count: usize) -> String {
        let mut text = String::with_capacity(3 * count);
        for chunk in self.pending[..count].utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend((!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER));
        }
        self.pending.drain(..count);
        text
    }
}

/// Where `needle` first stands in `text`.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len().max(1)).position(|window| window == needle)
}

/// The length of the longest end of `text` that is a beginning of `stop`.
fn overlap(text: &[u8], stop: &[u8]) -> usize {
    (1..stop.len().min(text.len() + 1)).rev().find(|length| text.ends_with(&stop[..*length])).unwrap_or(0)
}

/// The bytes at the end of `text` that begin a character and do not finish it.
fn unfinished(text: &[u8]) -> usize {
    let start = text.len().saturating_sub(3);
    (start..text.len())
        .find(|at| matches!(std::str::from_utf8(&text[*at..]), Err(error) if error.valid_up_to() == 0 && error.error_len().is_none()))
        .map_or(0, |at| text.len() - at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pieces: &[&[u8]], stops: &[&str]) -> (Vec<String>, Option<usize>) {
        let mut text = Text::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut given = Vec::new();
        for piece in pieces {
            let (more, stop) = text.push(piece);
            given.push(more);
            if stop.is_some() {
                return (given, stop);
            }
        }
        given.push(text.finish());
        (given, None)
    }

    #[test]
    fn a_character_comes_whole() {
        let bytes = "a€b".as_bytes();
        let (given, _) = stream(&[&bytes[..2], &bytes[2..3], &bytes[3..]], &[]);
        assert_eq!(given, ["a", "", "€b", ""]);
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        let (given, _) = stream(&[&[b'a', 0xff], b"b", &[0xe2, 0x82]], &[]);
        assert_eq!(given, ["a\u{fffd}", "b", "", "\u{fffd}"]);
    }

    #[test]
    fn a_stop_string_across_tokens_is_not_given_out() {
        assert_eq!(stream(&[b"one Que", b"sti", b"on: two"], &["Question:"]), (vec!["one ".into(), "".into(), "".into()], Some(0)));
        assert_eq!(stream(&[b"one Que", b"en"], &["Question:"]), (vec!["one ".into(), "Queen".into(), "".into()], None));
        assert_eq!(stream(&[b"abcd"], &["cd", "bc"]), (vec!["a".into()], Some(1)));
    }

    #[test]
    fn what_was_held_comes_at_the_end() {
        assert_eq!(stream(&[b"x\n"], &["\n\n"]), (vec!["x".into(), "\n".into()], None));
    }
}
