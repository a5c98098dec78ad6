//! Numbers and signs in English words: `twenty-five`, `three thousand two hundred`, `minus 5`.
//!
//! Words count only in a place that is marked as the answer, or is the whole text, and has no digits: prose says `two ways` and `the one`
//! without meaning an answer.

use num_rational::BigRational;
use num_traits::FromPrimitive;

use super::lexer::{Kind, Token};
use super::{Answer, Form, Unverifiable};

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const SCALES: [(&str, u64); 4] = [("thousand", 1_000), ("million", 1_000_000), ("billion", 1_000_000_000), ("trillion", 1_000_000_000_000)];
/// Words that make another number of the words before them, beside those that do so after digits too.
const PARTS: [&str; 7] = ["half", "third", "quarter", "quarters", "fourth", "fifth", "point"];
/// Words between which and a number `minus` is a sign.
const BEFORE_SIGN: [&str; 8] = ["is", "are", "was", "be", "equals", "to", "at", "of"];
/// So many words behind a lone `one` still leave it a number: `one egg`, but not `one of the eggs`.
const BEHIND_ONE: usize = 1;

/// One word of a number.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// 0 to 19.
    Ones(u64),
    /// 20, 30 to 90.
    Tens(u64),
    Hundred,
    Scale(u64),
    And,
}

/// Tokens without a number, with every number in words as one.
pub(super) fn spelt(text: &str, tokens: &[Token]) -> Vec<Token> {
    let mut found = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let mut parts = Vec::new();
        let mut end = at;
        while let Some(more) = tokens.get(end).and_then(|token| parts_of(text, token)) {
            parts.extend(more);
            end += 1;
        }
        while parts.last() == Some(&Part::And) {
            parts.pop();
            end -= 1;
        }
        let words_behind = || tokens[end..].iter().filter(|token| token.kind == Kind::Word).count();
        let alone = parts == [Part::Ones(1)] && (at > 0 || words_behind() > BEHIND_ONE);
        if parts.is_empty() || parts[0] == Part::And || alone {
            found.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let is_part = tokens.get(end).is_some_and(|next| PARTS.contains(&lower(text, next).as_str()));
        let number = value(&parts).filter(|_| !is_part).and_then(BigRational::from_u64).ok_or(Unverifiable::Ambiguous);
        let kind = Kind::Number(number.map(|value| Answer::new(value, Form::Integer)));
        found.push(Token { kind, span: tokens[at].span.start..tokens[end - 1].span.end, ..tokens[at].clone() });
        at = end;
    }
    signed(text, found)
}

/// With `minus` and `negative` before a number as its sign. `her age minus 5` subtracts, so that `minus` is a sign only where nothing can
/// be subtracted from.
pub(super) fn signed(text: &str, tokens: Vec<Token>) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let may_be_sign = found.len() < 2 || {
            let before = &found[found.len() - 2];
            matches!(before.kind, Kind::Relation | Kind::Open | Kind::Other) || BEFORE_SIGN.contains(&lower(text, before).as_str())
        };
        let is_sign = |word: &Token| match lower(text, word).as_str() {
            "negative" => true,
            "minus" => may_be_sign,
            _ => false,
        };
        match (&token.kind, found.last().filter(|word| word.kind == Kind::Word && is_sign(word)).cloned()) {
            (Kind::Number(Ok(answer)), Some(sign)) => {
                found.pop();
                let kind = Kind::Number(Ok(Answer::new(-answer.value(), answer.form())));
                found.push(Token { kind, span: sign.span.start..token.span.end, ..sign });
            }
            _ => found.push(token),
        }
    }
    found
}

fn lower(text: &str, token: &Token) -> String {
    text[token.span.clone()].to_ascii_lowercase()
}

/// The parts of a number that a word is, hyphens inside; none if it is any other word.
fn parts_of(text: &str, token: &Token) -> Option<Vec<Part>> {
    let part = |word: &str| {
        let place = |words: &[&str]| words.iter().position(|known| *known == word).map(|place| place as u64);
        let scale = || SCALES.iter().find(|(known, _)| *known == word).map(|(_, scale)| Part::Scale(*scale));
        match word {
            "and" => Some(Part::And),
            "hundred" => Some(Part::Hundred),
            _ => place(&ONES).map(Part::Ones).or_else(|| place(&TENS).map(|tens| Part::Tens(10 * (tens + 2)))).or_else(scale),
        }
    };
    if token.kind != Kind::Word {
        return None;
    }
    lower(text, token).split('-').map(part).collect()
}

/// The number that the words make; none if nobody counts so.
fn value(parts: &[Part]) -> Option<u64> {
    let (mut total, mut below_thousand) = (0, 0);
    let (mut smallest_scale, mut before) = (u64::MAX, None);
    for part in parts {
        match (*part, before) {
            (Part::Ones(ones), None | Some(Part::Hundred | Part::Scale(_) | Part::And)) => below_thousand += ones,
            (Part::Ones(ones @ 1..=9), Some(Part::Tens(_))) => below_thousand += ones,
            (Part::Tens(tens), None | Some(Part::Hundred | Part::Scale(_) | Part::And)) => below_thousand += tens,
            (Part::Hundred, Some(Part::Ones(1..) | Part::Tens(_))) if below_thousand < 100 => below_thousand *= 100,
            (Part::Scale(scale), Some(Part::Ones(1..) | Part::Tens(_) | Part::Hundred)) if scale < smallest_scale => {
                total += below_thousand * scale;
                (below_thousand, smallest_scale) = (0, scale);
            }
            (Part::And, Some(Part::Hundred | Part::Scale(_))) => {}
            _ => return None,
        }
        before = Some(*part);
    }
    Some(total + below_thousand)
}
