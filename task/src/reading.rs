//! Finds the final answer in what a student or a teacher wrote.
//!
//! Reasoning between `<think>` marks never counts. Marks made for machines (`####`, `\boxed{}`, a JSON field) go before phrases, and the
//! last number of the text is the last resort. Within a rule the last mark wins, because reasoning recites examples first.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::answer::{Answer, Plain, Strictness, Unverifiable, closing_brace, last_number, number_in_words, plain, slot_in, whole};

/// What was found as the final answer of a text. Spans are in bytes of that text.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// An exact number.
    Number {
        /// The number.
        answer: Answer,
        /// What pointed to it.
        rule: Rule,
        /// Where it stands.
        span: Range<usize>,
    },
    /// An answer is given, but it is not an exact number.
    Unverifiable {
        /// What keeps it from being one.
        why: Unverifiable,
        /// What pointed to it.
        rule: Rule,
        /// Where it stands.
        span: Range<usize>,
    },
    /// There is no answer.
    Absent,
}

/// What pointed to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `#### 18`.
    Hashes,
    /// `\boxed{18}`.
    Boxed,
    /// `"answer": "18"`.
    Json,
    /// `The answer is 18`, `Answer: 18`, or a line that begins with `A:`.
    Phrase,
    /// The text is the answer and nothing else.
    Whole,
    /// The last number of the text.
    LastNumber,
}

/// Finds the final answer of `text`.
///
/// Only what follows the last `</think>` counts; where a `<think>` is still open there is no answer. Of that, only what stands between
/// `<answer>` and `</answer>` counts where the text has these.
pub fn read(text: &str) -> Reading {
    let plain = plain(text);
    let (text, origin) = match &plain {
        Some(Plain { text, origin }) => (text.as_str(), Some(origin)),
        None => (text, None),
    };
    let Some(Range { start, end }) = spoken(text) else { return Reading::Absent };
    let spoken = &text[start..end];
    let reading = hashes(spoken).or_else(|| boxed(spoken)).or_else(|| json(spoken)).or_else(|| phrase(spoken)).or_else(|| unmarked(spoken));
    let place = |at: usize| origin.map_or(at + start, |origin| origin[at + start]);
    match reading {
        Some((rule, Ok((answer, span)))) => Reading::Number { answer, rule, span: place(span.start)..place(span.end) },
        Some((rule, Err((why, span)))) => Reading::Unverifiable { why, rule, span: place(span.start)..place(span.end) },
        None => Reading::Absent,
    }
}

type Found = (Rule, Result<(Answer, Range<usize>), (Unverifiable, Range<usize>)>);

/// The text after the reasoning, or the part of it that is marked as the answer; `None` where the reasoning never ends.
fn spoken(text: &str) -> Option<Range<usize>> {
    const THOUGHT: &str = "</think>";
    let start = text.rfind(THOUGHT).map_or(0, |at| at + THOUGHT.len());
    if text[start..].contains("<think>") {
        return None;
    }
    let marked = || {
        let end = start + text[start..].rfind("</answer>")?;
        let begin = start + text[start..end].rfind("<answer>")? + "<answer>".len();
        Some(begin..end)
    };
    Some(marked().unwrap_or(start..text.len()))
}

fn slot(text: &str, rule: Rule, span: Range<usize>, strictness: Strictness) -> Found {
    let found = slot_in(&text[span.clone()], strictness);
    (rule, found.map(|(answer, at)| (answer, at.start + span.start..at.end + span.start)).map_err(|why| (why, span)))
}

/// What a place holds that was made for an answer: its first sentence, or all of it if that has no number (`Rs. 500`).
fn field(text: &str) -> Result<(Answer, Range<usize>), Unverifiable> {
    match slot_in(text, Strictness::Prose) {
        Err(Unverifiable::NoNumber) => slot_in(text, Strictness::Mathematics),
        found => found,
    }
}

/// Four hashes, anywhere in a line. A line of words after them is a Markdown heading, unless nothing follows it.
fn hashes(text: &str) -> Option<Found> {
    let mut end = text.len();
    while let Some(at) = text[..end].rfind("####") {
        let (start, limit) = (at + 4, end);
        end = text[..at].trim_end_matches('#').len();
        if end != at {
            continue; // More than four.
        }
        let line = text[start..limit].find('\n').map_or(limit, |length| start + length);
        let found = slot(text, Rule::Hashes, start..line, Strictness::Prose);
        let is_last = text[line..].trim().is_empty();
        let heading = match &found.1 {
            Ok((_, span)) => text[start..span.start].contains(|c: char| c.is_alphabetic()) || numbers_a_heading(&text[span.end..line]),
            Err(_) => text[start..line].contains(|c: char| c.is_alphabetic()),
        };
        if !text[start..line].trim().is_empty() && (is_last || !heading) {
            return Some(found);
        }
    }
    None
}

/// `#### 2. Add them up`: a point and words behind the number.
fn numbers_a_heading(rest: &str) -> bool {
    rest.strip_prefix(['.', ')', ':']).is_some_and(|rest| rest.contains(char::is_alphabetic))
}

/// The last `\boxed{}` whose brace is closed and holds something.
fn boxed(text: &str) -> Option<Found> {
    let mut end = text.len();
    while let Some(at) = text[..end].rfind("\\boxed") {
        // A later box that never closes keeps every box around it from closing, so the search stops there.
        let limit = end;
        end = at;
        let open = at + "\\boxed".len();
        let brace = limit - text[open..limit].trim_start().len();
        if text[brace..limit].starts_with('{')
            && let Some(close) = closing_brace(&text[brace..limit])
            && !text[brace + 1..brace + close].trim().is_empty()
        {
            return Some(slot(text, Rule::Boxed, brace + 1..brace + close, Strictness::Mathematics));
        }
    }
    None
}

/// The last JSON field called answer, even if the text around it is not valid JSON.
fn json(text: &str) -> Option<Found> {
    static FIELD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(?i)"(?:final[_ ]?)?answer"\s*:\s*"#).expect("the pattern is valid"));
    let start = FIELD.find_iter(text).last()?.end();
    let rest = &text[start..];
    let found = if !rest.starts_with('"') {
        static END: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"[\n}]|,\s|,""#).expect("the pattern is valid"));
        let list = rest.starts_with('[').then(|| rest.find(']')).flatten();
        let length = list.or_else(|| END.find(rest).map(|end| end.start())).unwrap_or(rest.len());
        slot(text, Rule::Json, start..start + length, Strictness::Prose)
    } else {
        let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        match strings.next() {
            Some(Ok(value)) => {
                let span = start + 1..start + strings.byte_offset() - 1;
                let found = field(&value);
                (Rule::Json, found.map(|(answer, _)| (answer, span.clone())).map_err(|why| (why, span)))
            }
            // Not closed, or with line ends inside: up to the quote or the line's end.
            Some(Err(_)) | None => {
                let length = rest[1..].find(['"', '\n']).unwrap_or(rest.len() - 1);
                slot(text, Rule::Json, start + 1..start + 1 + length, Strictness::Prose)
            }
        }
    };
    let empty = matches!(&found.1, Err((_, span)) if text[span.clone()].trim().is_empty());
    (!empty).then_some(found)
}

/// The last phrase that announces an answer and keeps its word: a number follows, or a number in words, or nothing more of the text.
fn phrase(text: &str) -> Option<Found> {
    static PHRASE: LazyLock<Regex> = LazyLock::new(|| {
        let announced = r"\bans(?:wers?)?\b[*_]*(?:[ \t]+(?:to|for|of)\b[^\n.:=]{0,80}?)?[*_\s]*(?:\bis\b|\bequals\b|\b(?:would|will|should|must) be\b|[-=]{1,2}>|[:=]|→|⇒)[*_\s:]*";
        Regex::new(&format!(r"(?im)(?:{announced}|^[ \t*]*A:[ \t*]*)")).expect("the pattern is valid")
    });
    let phrases: Vec<Range<usize>> = PHRASE.find_iter(text).map(|found| found.range()).collect();
    let limits: Vec<usize> = phrases.iter().skip(1).map(|next| next.start).chain([text.len()]).collect();
    phrases.into_iter().zip(limits).rev().find_map(|(phrase, limit)| {
        let on_a_line_of_its_own = text[phrase.clone()].ends_with('\n') && text[phrase.end..limit].starts_with("- ");
        let start = phrase.end + if on_a_line_of_its_own { 2 } else { 0 }; // A list's bullet is no sign.
        let end = text[start..limit].find('\n').map_or(limit, |length| start + length);
        let found = slot(text, Rule::Phrase, start..end, Strictness::Prose);
        let said = &text[start..end];
        let kept = match found.1 {
            Err((Unverifiable::NoNumber, _)) => {
                let is_last = text[end..].trim().is_empty() && !said.trim_end_matches(['.', ' ', '*']).contains(". ");
                number_in_words(said).is_some() || (is_last && said.contains(char::is_alphanumeric))
            }
            _ => !said.starts_with("not "),
        };
        kept.then_some(found)
    })
}

/// A text without any mark.
fn unmarked(text: &str) -> Option<Found> {
    let trimmed = text.trim_start_matches(|c: char| c.is_whitespace() || c == '#');
    let start = text.len() - trimmed.len();
    let all = start..text.trim_end().len().max(start);
    if let Some(found) = whole(&text[all.clone()]) {
        return Some((Rule::Whole, found.map(|(answer, at)| (answer, at.start + start..at.end + start)).map_err(|why| (why, all))));
    }
    let Some((found, span)) = last_number(text) else {
        let span = number_in_words(text)?;
        return Some((Rule::LastNumber, Err((Unverifiable::NoNumber, span))));
    };
    Some((Rule::LastNumber, found.map(|answer| (answer, span.clone())).map_err(|why| (why, span))))
}
