//! One written number without its sign: digits with separators, decimals, powers of ten, fractions, mixed numbers.
//!
//! The reader is greedy: whatever hangs together as digits and separators is one literal, and is refused as a whole if it is not
//! well-formed, so that `1,23` is never read as 1, 23 or 1.23.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Zero};

use super::{Answer, Form, MAX_DIGITS, MAX_EXPONENT, Unverifiable};

type Read = Result<Answer, Unverifiable>;

/// How deep fractions may stand inside fractions.
const MAX_NESTING: u32 = 4;

/// Whether a number begins at the start of `text`.
pub(super) fn begins(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(byte) if byte.is_ascii_digit() => true,
        Some(b'.') => bytes.get(1).is_some_and(u8::is_ascii_digit),
        Some(b'\\') => fraction_command(text).is_some(),
        _ => text.chars().next().and_then(vulgar).is_some(),
    }
}

/// Reads the number at the start of `text`, where [`begins`] is true. Gives its length in bytes even if it is refused.
pub(super) fn read(text: &str) -> (Read, usize) {
    if let Some((fraction, length)) = slashless_fraction(text, 0) {
        return (fraction.map(|value| Answer::new(value, Form::Fraction)), length);
    }
    let (first, length) = decimal(text);
    let whole = match &first {
        Ok(answer) => answer,
        Err(_) => return swallow_fraction(text, first, length),
    };
    if whole.form() == Form::Integer
        && let Some((fraction, end)) = fraction_part(text, length)
    {
        return match fraction {
            Ok(part) if part < BigRational::one() => (Ok(Answer::new(whole.value() + part, Form::Mixed)), end),
            Ok(_) => (Err(Unverifiable::Ambiguous), end),
            Err(why) => (Err(why), end),
        };
    }
    swallow_fraction(text, first, length)
}

/// `a/b` from `a` on. A second slash makes it a date or worse.
fn swallow_fraction(text: &str, first: Read, length: usize) -> (Read, usize) {
    let Some((second, end)) = after_slash(text, length) else { return (first, length) };
    if let Some((_, mut end)) = after_slash(text, end) {
        while let Some((_, further)) = after_slash(text, end) {
            end = further;
        }
        return (Err(Unverifiable::Ambiguous), end);
    }
    let value = match (first, second) {
        (Ok(a), Ok(b)) => divide(a.value, b.value),
        (Err(why), _) | (_, Err(why)) => Err(why),
    };
    (value.map(|value| Answer::new(value, Form::Fraction)), end)
}

/// The number after a slash at `at`, spaces allowed around the slash.
fn after_slash(text: &str, at: usize) -> Option<(Read, usize)> {
    let rest = text[at..].trim_start_matches(' ');
    let rest = rest.strip_prefix('/').or_else(|| rest.strip_prefix('\u{2044}'))?.trim_start_matches(' ');
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (number, length) = decimal(rest);
    Some((number, text.len() - rest.len() + length))
}

/// The fraction of a mixed number after its whole part: ` 3/4` (the space is needed), `\frac{3}{4}` or `¾`.
fn fraction_part(text: &str, at: usize) -> Option<(Result<BigRational, Unverifiable>, usize)> {
    let rest = trim_spaces(&text[at..]);
    let start = text.len() - rest.len();
    if let Some((fraction, length)) = slashless_fraction(rest, 0) {
        return Some((fraction, start + length));
    }
    if start == at {
        return None;
    }
    let digits = digits_len(rest);
    if digits == 0 || !rest[digits..].starts_with(['/', '\u{2044}']) {
        return None;
    }
    let (numerator, length) = decimal(rest);
    let (fraction, end) = swallow_fraction(rest, numerator, length);
    match fraction {
        Ok(answer) if answer.form() != Form::Fraction => None, // `1 3/x`: the slash has no number behind it.
        fraction => Some((fraction.map(|answer| answer.value), start + end)),
    }
}

/// `\frac{3}{4}`, `\frac34` or `¾`.
fn slashless_fraction(text: &str, depth: u32) -> Option<(Result<BigRational, Unverifiable>, usize)> {
    if let Some((value, length)) = text.chars().next().and_then(vulgar) {
        return Some((Ok(value), length));
    }
    let command = fraction_command(text)?;
    let (numerator, at) = argument(text, command, depth);
    let (denominator, end) = argument(text, at, depth);
    let value = match (numerator, denominator) {
        (Ok(a), Ok(b)) => divide(a, b),
        (Err(why), _) | (_, Err(why)) => Err(why),
    };
    Some((value, end))
}

/// One argument of a LaTeX command at `at`: a group in braces, or a single digit.
fn argument(text: &str, at: usize, depth: u32) -> (Result<BigRational, Unverifiable>, usize) {
    let rest = text[at..].trim_start();
    let start = text.len() - rest.len();
    match rest.as_bytes().first() {
        Some(digit) if digit.is_ascii_digit() => (Ok(BigRational::from_integer(BigInt::from(digit - b'0'))), start + 1),
        Some(b'{') => match closing_brace(rest) {
            Some(close) if depth >= MAX_NESTING => (Err(Unverifiable::Expression), start + close + 1),
            Some(close) => (signed(rest[1..close].trim(), depth + 1), start + close + 1),
            None => (Err(Unverifiable::Expression), text.len()),
        },
        _ => (Err(Unverifiable::Expression), start),
    }
}

/// A whole argument as a number with an optional sign.
fn signed(text: &str, depth: u32) -> Result<BigRational, Unverifiable> {
    let unsigned = text.strip_prefix(['-', '\u{2212}']);
    let body = unsigned.unwrap_or(text).trim_start();
    let (value, length) = match slashless_fraction(body, depth) {
        Some((value, length)) => (value?, length),
        None if begins(body) => {
            let (number, length) = decimal(body);
            (number?.value, length)
        }
        None => return Err(Unverifiable::Expression),
    };
    if length != body.len() {
        return Err(Unverifiable::Expression);
    }
    Ok(if unsigned.is_some() { -value } else { value })
}

/// The byte offset of the brace that closes the one at the start of `text`.
pub(crate) fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Digits with separators, a decimal part, a power of ten; no sign and no slash.
fn decimal(text: &str) -> (Read, usize) {
    let (groups, mut end) = separated(text);
    let decimals = decimals(&groups);
    // 0.333... goes on for ever, or the sentence trails off.
    let goes_on = decimals == Some(1) && ["...", "…", "\\ldots", "\\dots"].iter().any(|dots| text[end..].starts_with(dots));
    let Some(decimals) = decimals.filter(|_| !goes_on) else { return (Err(Unverifiable::Ambiguous), end) };
    let fraction_digits = if decimals == 1 { groups.last().map_or(0, |(_, group)| group.len()) } else { 0 };
    let mut form = if decimals == 1 { Form::Decimal } else { Form::Integer };

    let exponent = exponent(&text[end..]);
    if let Some((_, length)) = exponent {
        end += length;
        form = Form::Scientific;
    }
    let digits: String = groups.iter().map(|(_, group)| *group).collect();
    if digits.len() > MAX_DIGITS || matches!(exponent, Some((None, _))) {
        return (Err(Unverifiable::TooLong), end);
    }
    let integer: BigInt = digits.parse().expect("a string of ASCII digits is an integer");
    let power = exponent.and_then(|(power, _)| power).unwrap_or(0) - fraction_digits as i64;
    (Ok(Answer::new(shift_ten(BigRational::from_integer(integer), power), form)), end)
}

/// What stands between two groups of digits.
#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Point,
    Comma,
    Space,
    Apostrophe,
    Underscore,
}

/// All groups of digits that hang together, each with the mark before it (the first's says nothing), and their length.
fn separated(text: &str) -> (Vec<(Mark, &str)>, usize) {
    let mut end = digits_len(text);
    let mut groups = vec![(Mark::Point, &text[..end])];
    loop {
        for group in spaced(&text[end..]) {
            groups.push((Mark::Space, group));
            end += 1 + group.len();
        }
        let Some((mark, length)) = mark(&text[end..]) else { break };
        let digits = digits_len(&text[end + length..]);
        // A comma or a point joins whatever digits follow, the other marks only what can be thousands.
        let joins = if matches!(mark, Mark::Point | Mark::Comma) { digits > 0 } else { digits == 3 };
        if !joins {
            break;
        }
        let start = end + length;
        end = start + digits;
        groups.push((mark, &text[start..end]));
    }
    (groups, end)
}

/// The groups of three digits after simple spaces, if one of them begins with a zero: it can then be no number of its own.
fn spaced(text: &str) -> Vec<&str> {
    let (mut groups, mut rest) = (Vec::new(), text);
    while let Some(group) = rest.strip_prefix(' ').filter(|rest| digits_len(rest) == 3 && !rest[3..].starts_with(['/', '\u{2044}'])) {
        groups.push(&group[..3]);
        rest = &group[3..];
    }
    if groups.iter().any(|group| group.starts_with('0')) { groups } else { Vec::new() }
}

/// How many of the last groups (0 or 1) are decimals; none if the groups are no number that everybody reads alike.
fn decimals(groups: &[(Mark, &str)]) -> Option<usize> {
    let count = |wanted: Mark| groups[1..].iter().filter(|(mark, _)| *mark == wanted).count();
    let (whole, (last, _)) = (&groups[..groups.len() - 1], groups[groups.len() - 1]);
    if whole.is_empty() || (grouped(groups) && (last != Mark::Point || groups.len() > 2)) {
        return Some(0);
    }
    let is_decimal = match last {
        Mark::Point => count(Mark::Point) == 1 && (whole.len() == 1 || grouped(whole)),
        // A comma is a decimal one only where another mark separates the thousands.
        Mark::Comma => count(Mark::Comma) == 1 && whole.len() > 1 && grouped(whole),
        Mark::Space | Mark::Apostrophe | Mark::Underscore => false,
    };
    is_decimal.then_some(1)
}

/// Whether one and the same mark separates thousands: `1,234,567`, or with commas also `12,34,567`.
fn grouped(groups: &[(Mark, &str)]) -> bool {
    let [(_, first), rest @ ..] = groups else { return false };
    let [middle @ .., (mark, last)] = rest else { return false };
    let same = middle.iter().all(|(other, _)| other == mark);
    let all = |length: usize| middle.iter().all(|(_, group)| group.len() == length);
    let indian = *mark == Mark::Comma && !middle.is_empty() && all(2) && first.len() <= 2;
    same && last.len() == 3 && (1..=3).contains(&first.len()) && !first.starts_with('0') && (all(3) || indian)
}

/// The separator at the start of a text, and its length.
fn mark(text: &str) -> Option<(Mark, usize)> {
    const MARKS: [(&str, Mark); 14] = [
        ("{,}", Mark::Comma),
        (",\\!", Mark::Comma),
        ("\\!,", Mark::Comma),
        ("{,\\!}", Mark::Comma),
        (",", Mark::Comma),
        (".", Mark::Point),
        ("\\,", Mark::Space),
        ("\\!", Mark::Space),
        ("\u{00a0}", Mark::Space),
        ("\u{2009}", Mark::Space),
        ("\u{202f}", Mark::Space),
        ("'", Mark::Apostrophe),
        ("’", Mark::Apostrophe),
        ("_", Mark::Underscore),
    ];
    MARKS.iter().find(|(written, _)| text.starts_with(written)).map(|(written, mark)| (*mark, written.len()))
}

/// `value` times ten to the `power`.
fn shift_ten(value: BigRational, power: i64) -> BigRational {
    let factor = BigRational::from_integer(BigInt::from(10).pow(power.unsigned_abs() as u32));
    if power < 0 { value / factor } else { value * factor }
}

/// A power of ten after a number, and its length; `None` inside where it is beyond the limit.
fn exponent(text: &str) -> Option<(Option<i64>, usize)> {
    if let Some(rest) = text.strip_prefix(['e', 'E']) {
        let (power, length) = integer(rest)?;
        let next = rest[length..].chars().next();
        return (!next.is_some_and(char::is_alphanumeric)).then_some((power, 1 + length));
    }
    let times = trim_spaces(text);
    let rest = ["\\times", "\\cdot", "\u{d7}", "\u{b7}", "x", "X", "*"].iter().find_map(|sign| times.strip_prefix(sign))?;
    let rest = trim_spaces(rest).strip_prefix("10")?;
    if let Some((power, length)) = superscript(rest) {
        return Some((power, text.len() - rest.len() + length));
    }
    let rest = trim_spaces(rest);
    let rest = rest.strip_prefix('^').or_else(|| rest.strip_prefix("**"))?;
    let (power, rest) = match rest.strip_prefix('{') {
        Some(inner) => {
            let (power, length) = integer(inner)?;
            (power, inner[length..].strip_prefix('}')?)
        }
        None => {
            let (power, length) = integer(rest)?;
            (power, &rest[length..])
        }
    };
    Some((power, text.len() - rest.len()))
}

/// A raised integer, as in `10⁻³`, and its length.
fn superscript(text: &str) -> Option<(Option<i64>, usize)> {
    let plain = |raised: char| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|digit| digit == raised).and_then(|digit| char::from_digit(digit as u32, 10));
    let sign = text.chars().next().filter(|c| matches!(c, '⁻' | '⁺'));
    let at = sign.map_or(0, char::len_utf8);
    let digits: String = text[at..].chars().map_while(plain).collect();
    let length = text[at..].chars().take(digits.len()).map(char::len_utf8).sum::<usize>();
    let (power, _) = integer(&format!("{}{digits}", if sign == Some('⁻') { "-" } else { "" }))?;
    Some((power, at + length))
}

/// A signed integer exponent and its length; `None` inside where it is beyond the limit.
fn integer(text: &str) -> Option<(Option<i64>, usize)> {
    let sign = text.chars().next().filter(|c| matches!(c, '+' | '-' | '\u{2212}'));
    let at = sign.map_or(0, char::len_utf8);
    let digits = digits_len(&text[at..]);
    if digits == 0 {
        return None;
    }
    let power = text[at..at + digits].parse::<i64>().ok().filter(|power| *power <= i64::from(MAX_EXPONENT));
    let negative = matches!(sign, Some('-' | '\u{2212}'));
    Some((power.map(|power| if negative { -power } else { power }), at + digits))
}

fn divide(a: BigRational, b: BigRational) -> Result<BigRational, Unverifiable> {
    if b.is_zero() { Err(Unverifiable::ZeroDenominator) } else { Ok(a / b) }
}

fn digits_len(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Without leading spaces, LaTeX's included; line ends stay.
fn trim_spaces(text: &str) -> &str {
    let mut rest = text;
    loop {
        let next = rest.trim_start_matches([' ', '\t', '\u{00a0}', '\u{2009}', '\u{202f}', '~']);
        let next = ["\\,", "\\;", "\\:", "\\!", "\\ "].iter().find_map(|space| next.strip_prefix(space)).unwrap_or(next);
        if next.len() == rest.len() {
            return rest;
        }
        rest = next;
    }
}

/// The length of `\frac` or one of its kin at the start of `text`.
fn fraction_command(text: &str) -> Option<usize> {
    ["\\frac", "\\dfrac", "\\tfrac", "\\cfrac", "\\nicefrac", "\\sfrac"]
        .iter()
        .find(|command| text.starts_with(**command))
        .map(|command| command.len())
        .filter(|length| !text[*length..].starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// The value of a single-character fraction, and its length.
fn vulgar(character: char) -> Option<(BigRational, usize)> {
    let (numerator, denominator) = match character {
        '½' => (1, 2),
        '⅓' => (1, 3),
        '⅔' => (2, 3),
        '¼' => (1, 4),
        '¾' => (3, 4),
        '⅕' => (1, 5),
        '⅖' => (2, 5),
        '⅗' => (3, 5),
        '⅘' => (4, 5),
        '⅙' => (1, 6),
        '⅚' => (5, 6),
        '⅐' => (1, 7),
        '⅛' => (1, 8),
        '⅜' => (3, 8),
        '⅝' => (5, 8),
        '⅞' => (7, 8),
        '⅑' => (1, 9),
        '⅒' => (1, 10),
        _ => return None,
    };
    Some((BigRational::new(BigInt::from(numerator), BigInt::from(denominator)), character.len_utf8()))
}
