//! From tokens to one answer: when a number stands for itself, and when it is part of something larger that is not worked out.

use std::ops::Range;

use super::lexer::{Kind, Token, tokens};
use super::vocabulary::{CHANGES, EQUALS, MAKES, PAIRED_UNITS, PARTS, REASONS, glued_unit, unit_letter, variable};
use super::words::spelt;
use super::{Answer, Unverifiable};

/// How the place where an answer stands was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// A formula: it holds the answer and nothing else.
    Mathematics,
    /// The rest of a sentence: reasons may follow.
    Prose,
}

type Found = Result<(Answer, Range<usize>), Unverifiable>;

/// Short texts up to this length are tried as one answer before they are searched as prose.
const MAX_WHOLE_BYTES: usize = 4096;
/// A line that begins with a number and has no more words than this is an amount, not a sentence.
const MAX_AMOUNT_WORDS: usize = 8;

/// The answer in a place that was marked as holding it.
pub(crate) fn slot_in(text: &str, strictness: Strictness) -> Found {
    let tokens = tokens(text, false);
    let mut tokens = tokens.as_slice();
    if strictness == Strictness::Prose {
        tokens = first_sentence(text, tokens);
    }
    let in_words;
    if numbers(tokens).next().is_none() {
        in_words = spelt(text, tokens);
        tokens = &in_words;
    }
    if strictness == Strictness::Prose
        && let Some(first) = first_with_reasons(text, tokens)
    {
        return take(tokens, first);
    }
    if let Some(last) = numbers(tokens).last()
        && ends_a_list(text, tokens, last)
    {
        return Err(Unverifiable::SeveralNumbers);
    }
    let (all, tokens) = (tokens, after_relation(text, tokens, strictness));
    match worked_out(text, tokens, strictness) {
        Err(Unverifiable::Expression) => before_relation(text, all).ok_or(Unverifiable::Expression),
        found => found,
    }
}

/// The one number of a side of an equation.
fn worked_out(text: &str, tokens: &[Token], strictness: Strictness) -> Found {
    let numbers: Vec<usize> = numbers(tokens).take(2).collect();
    match numbers[..] {
        [] if tokens.iter().any(|token| matches!(token.kind, Kind::Symbol | Kind::Operator)) => Err(Unverifiable::Expression),
        [] => Err(Unverifiable::NoNumber),
        [only] => {
            stands_alone(text, tokens, only)?;
            if tokens[only..].iter().any(|token| is_unknown(text, token, strictness)) {
                return Err(Unverifiable::Expression);
            }
            let factorial = tokens.get(only + 1).is_some_and(|next| !next.spaced && &text[next.span.clone()] == "!");
            if strictness == Strictness::Mathematics && factorial {
                return Err(Unverifiable::Expression);
            }
            take(tokens, only)
        }
        _ if tokens.iter().any(|token| matches!(token.kind, Kind::Operator | Kind::Symbol)) => Err(Unverifiable::Expression),
        [first, ..] => stands_alone(text, tokens, first).and(Err(Unverifiable::SeveralNumbers)),
    }
}

/// The answer of a text that is one answer from end to end: a formula without prose, or a single amount such as `2 hours`.
/// `None` where the text is prose and has to be searched.
pub(crate) fn whole(text: &str) -> Option<Found> {
    if text.len() > MAX_WHOLE_BYTES {
        return None;
    }
    let mut tokens = tokens(text, false);
    if numbers(&tokens).next().is_none() {
        tokens = spelt(text, &tokens);
    }
    let words = tokens.iter().filter(|token| is_prose(text, token)).count();
    let amount = matches!(tokens.first()?.kind, Kind::Number(_))
        && words <= MAX_AMOUNT_WORDS
        && !text.trim_end().contains('\n')
        && !tokens.iter().any(|token| token.kind == Kind::Relation)
        && !tokens.windows(2).any(|pair| is_word_of(text, &pair[0], &MAKES) && matches!(pair[1].kind, Kind::Number(_)));
    let holds_any = tokens.iter().any(|token| matches!(token.kind, Kind::Number(_) | Kind::Symbol));
    if amount
        && words > 0
        && let Some(first) = first_with_reasons(text, &tokens)
    {
        return Some(take(&tokens, first));
    }
    (holds_any && (words == 0 || amount)).then(|| slot_in(text, Strictness::Mathematics))
}

/// The last number of a text, searched line by line from the end, with its span. What it is a part of decides whether it counts.
pub(crate) fn last_number(text: &str) -> Option<(Result<Answer, Unverifiable>, Range<usize>)> {
    let mut end = text.len();
    loop {
        let start = text[..end].rfind('\n').map_or(0, |at| at + 1);
        let line = &text[start..end];
        let tokens = tokens(line, true);
        let is_first_line = text[..start].trim().is_empty();
        if let Some(last) = numbers(&tokens).last().filter(|last| is_first_line || !enumerates(&tokens, *last)) {
            let span = tokens[last].span.start + start..tokens[last].span.end + start;
            let found = stands_alone(line, &tokens, last).and_then(|()| match ends_a_list(line, &tokens, last) {
                true => Err(Unverifiable::SeveralNumbers),
                false => take(&tokens, last),
            });
            return Some((found.map(|(answer, _)| answer), span));
        }
        if is_first_line {
            return None;
        }
        end = start - 1;
    }
}

fn numbers(tokens: &[Token]) -> impl Iterator<Item = usize> {
    tokens.iter().enumerate().filter(|(_, token)| matches!(token.kind, Kind::Number(_))).map(|(index, _)| index)
}

fn take(tokens: &[Token], index: usize) -> Found {
    match &tokens[index].kind {
        Kind::Number(read) => read.clone().map(|answer| (answer, tokens[index].span.clone())),
        _ => Err(Unverifiable::NoNumber),
    }
}

/// The tokens up to a full stop with a space or a capital letter behind it.
fn first_sentence<'a>(text: &str, tokens: &'a [Token]) -> &'a [Token] {
    let begins = |token: &Token| token.spaced || text[token.span.clone()].starts_with(char::is_uppercase);
    let stop = tokens.windows(2).position(|pair| pair[0].kind == Kind::Stop && begins(&pair[1]));
    stop.map_or(tokens, |stop| &tokens[..stop])
}

/// The first number, if the second is only part of the reasons given for it.
fn first_with_reasons(text: &str, tokens: &[Token]) -> Option<usize> {
    let mut numbers = numbers(tokens);
    let (first, second) = (numbers.next()?, numbers.next()?);
    stands_alone(text, tokens, first).ok()?;
    let gap = &tokens[first + 1..second];
    // `18 (or 20)` gives no reason but another answer.
    let alternative = |after: usize| gap.get(after).is_some_and(|token| is_word_of(text, token, &["or"]));
    let reasons = gap.iter().enumerate().any(|(at, token)| match token.kind {
        Kind::Word => is_word_of(text, token, &REASONS),
        Kind::Open => token.spaced && !alternative(at + 1),
        _ => false,
    });
    reasons.then_some(first)
}

/// The tokens after the last equals sign, or in prose its word, that has a number behind it.
fn after_relation<'a>(text: &str, tokens: &'a [Token], strictness: Strictness) -> &'a [Token] {
    let last_number = numbers(tokens).last().unwrap_or(0);
    let relation = tokens[..last_number]
        .iter()
        .rposition(|token| token.kind == Kind::Relation || (strictness == Strictness::Prose && is_word_of(text, token, &EQUALS)));
    relation.map_or(tokens, |relation| &tokens[relation + 1..])
}

/// The number before the first equals sign, where what follows only says how it was found: `18 = 9 * 2`.
fn before_relation(text: &str, tokens: &[Token]) -> Option<(Answer, Range<usize>)> {
    let relation = tokens.iter().position(|token| token.kind == Kind::Relation)?;
    let (before, after) = (&tokens[..relation], &tokens[relation + 1..]);
    let [only] = numbers(before).collect::<Vec<usize>>()[..] else { return None };
    let is_known = |token: &Token| token.kind != Kind::Symbol && !is_variable(text, token);
    (stands_alone(text, before, only).is_ok() && before.iter().chain(after).all(is_known)).then(|| take(tokens, only).ok())?
}

/// Whether the number at `index` is no part of an expression that is left unworked.
fn stands_alone(text: &str, tokens: &[Token], index: usize) -> Result<(), Unverifiable> {
    let number = &tokens[index];
    if is_changed(text, &tokens[..index]) {
        return Err(Unverifiable::Expression);
    }
    if let Some(before) = index.checked_sub(1).map(|index| &tokens[index]) {
        // `2/3 of 18` is not 18.
        let share = before.kind == Kind::Word && &text[before.span.clone()] == "of" && index >= 2;
        if share && matches!(tokens[index - 2].kind, Kind::Number(_)) {
            return Err(Unverifiable::Expression);
        }
        match before.kind {
            Kind::Operator | Kind::Symbol | Kind::Inequality => return Err(Unverifiable::Expression),
            Kind::Close if !number.spaced => return Err(Unverifiable::Expression),
            Kind::Open if !before.spaced && index >= 2 => {
                let function = &tokens[index - 2];
                if matches!(function.kind, Kind::Symbol | Kind::Number(_) | Kind::Operator) || is_variable(text, function) {
                    return Err(Unverifiable::Expression);
                }
            }
            Kind::Word if !number.spaced && is_variable(text, before) => return Err(Unverifiable::Expression),
            Kind::Number(_) => return Err(Unverifiable::SeveralNumbers),
            _ => {}
        }
    }
    let after = &tokens[index + 1..];
    let Some(next) = after.first() else { return Ok(()) };
    match next.kind {
        Kind::Operator | Kind::Symbol | Kind::Inequality | Kind::Relation => return Err(Unverifiable::Expression),
        Kind::Open if !next.spaced && after.get(1).is_some_and(|inner| !is_prose(text, inner)) => return Err(Unverifiable::Expression),
        Kind::Number(_) => return Err(Unverifiable::SeveralNumbers),
        Kind::Word if next.upright => {}
        Kind::Word => {
            let word = &text[next.span.clone()];
            let unit = if next.spaced { !variable(word) || unit_letter(word) } else { glued_unit(word) };
            if !unit {
                return Err(Unverifiable::Expression);
            }
        }
        _ => {}
    }
    if adds_a_part(text, after) { Err(Unverifiable::Ambiguous) } else { Ok(()) }
}

/// `minus 5`, `twice 5`, `half of 5`.
fn is_changed(text: &str, before: &[Token]) -> bool {
    let mut words = before.iter().rev().take(2).map(|token| text[token.span.clone()].to_ascii_lowercase());
    words.find(|word| word != "of").is_some_and(|word| CHANGES.contains(&word.as_str()))
}

/// `5 and a half`, `2 thirds`, `2 to the third`.
fn adds_a_part(text: &str, after: &[Token]) -> bool {
    let word = |index: usize| after.get(index).filter(|token| token.kind == Kind::Word).map_or("", |token| &text[token.span.clone()]);
    let power = word(2).ends_with("th") || matches!(word(2), "second" | "third" | "power");
    PARTS.contains(&word(0))
        || (word(0) == "to" && word(1) == "the" && power)
        || (word(0) == "and" && matches!(word(2), "half" | "third" | "quarter" | "fourth" | "quarters" | "thirds"))
}

/// Whether the number is the last of several that only count together: `5 or 6`, `2 hours and 30 minutes`, `x = 3 and y = 4`.
fn ends_a_list(text: &str, tokens: &[Token], index: usize) -> bool {
    let word = |at: usize| &text[tokens[at].span.clone()];
    let is_number = |at: usize| matches!(tokens[at].kind, Kind::Number(_));
    let joins = |at: usize| tokens[at].kind == Kind::Comma || matches!(word(at), "and" | "or");
    let paired = |at: usize| tokens.get(at).is_some_and(|_| PAIRED_UNITS.contains(&word(at)));
    if index >= 2 && matches!(word(index - 1), "and" | "or" | "to") && (is_number(index - 2) || tokens[index - 2].kind == Kind::Comma) {
        return true;
    }
    if index >= 4
        && tokens[index - 1].kind == Kind::Relation
        && is_variable(text, &tokens[index - 2])
        && joins(index - 3)
        && is_number(index - 4)
    {
        return true;
    }
    let unit = if index >= 1 && joins(index - 1) { index.checked_sub(2) } else { index.checked_sub(1) };
    unit.is_some_and(|unit| unit >= 1 && is_number(unit - 1) && paired(unit) && paired(index + 1))
}

/// Whether the number counts the items of a list: `2. Add them up`.
fn enumerates(tokens: &[Token], index: usize) -> bool {
    index == 0 && tokens.len() > 2 && matches!(tokens[1].kind, Kind::Stop | Kind::Close) && !tokens[1].spaced && tokens[2].spaced
}

fn is_word_of(text: &str, token: &Token, words: &[&str]) -> bool {
    token.kind == Kind::Word && words.contains(&text[token.span.clone()].to_ascii_lowercase().as_str())
}

fn is_variable(text: &str, token: &Token) -> bool {
    token.kind == Kind::Word && !token.upright && variable(&text[token.span.clone()])
}

/// Whether a token behind the answer makes it depend on something. In prose a capital letter names a choice or a plan.
fn is_unknown(text: &str, token: &Token, strictness: Strictness) -> bool {
    let word = &text[token.span.clone()];
    let capital = strictness == Strictness::Prose && word.starts_with(char::is_uppercase);
    is_variable(text, token) && !unit_letter(word) && !capital
}

/// Whether a token is a word of prose rather than of a formula.
fn is_prose(text: &str, token: &Token) -> bool {
    let word = &text[token.span.clone()];
    token.kind == Kind::Word
        && !token.upright
        && !variable(word)
        && !unit_letter(word)
        && !matches!(word, "or" | "and" | "sin" | "cos" | "tan" | "log" | "ln" | "sqrt")
}
