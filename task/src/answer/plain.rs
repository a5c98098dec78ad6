//! Characters that mean the same as an ASCII one, so that the rest of the grader knows one form of each: the digits of every script,
//! full-width signs, hyphens that do not break, fraction slashes. What shows nothing is taken out.

use std::sync::LazyLock;

use regex::Regex;

/// A text in plain characters.
pub(crate) struct Plain {
    /// The text.
    pub text: String,
    /// Where each of its bytes, and its end, stand in the text that it was made from.
    pub origin: Vec<usize>,
}

/// `text` in plain characters, or `None` where it has no others.
pub(crate) fn plain(text: &str) -> Option<Plain> {
    if text.chars().all(|character| character.is_ascii() || twin(character) == Some(character)) {
        return None;
    }
    let (mut plain, mut origin) = (String::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
    let mut characters = text.char_indices().peekable();
    let is_wide_digit = |character: char| ('０'..='９').contains(&character);
    let mut before = ' ';
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map_or(' ', |(_, next)| *next);
        // A full-width comma ends a clause, unless it stands in a full-width number.
        let in_number = character == '，' && is_wide_digit(before) && is_wide_digit(next);
        before = character;
        if let Some(twin) = if in_number { Some(',') } else { twin(character) } {
            plain.push(twin);
            // Inside a character that stays, every byte has its own origin.
            origin.extend((0..twin.len_utf8()).map(|byte| at + byte.min(character.len_utf8() - 1)));
        }
    }
    origin.push(text.len());
    Some(Plain { text: plain, origin })
}

/// The character that means the same; `None` for what shows nothing.
fn twin(character: char) -> Option<char> {
    Some(match character {
        '\0'..='\u{7f}' => character,
        // Zero width, direction marks, soft hyphen, emoji's dress.
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fe0f}' | '\u{20e3}' => return None,
        '\u{2010}'..='\u{2012}' | '\u{fe63}' | '\u{ff0d}' => '-',
        '\u{2044}' | '\u{2215}' | '\u{ff0f}' => '/',
        '\u{ff0e}' | '\u{66b}' => '.',
        '\u{66c}' => ',',
        '\u{ff05}' | '\u{fe6a}' | '\u{66a}' => '%',
        '\u{ff04}' | '\u{fe69}' => '$',
        '\u{ffe5}' => '¥',
        '\u{ffe1}' => '£',
        '\u{ff0b}' => '+',
        '\u{ff1d}' => '=',
        '\u{ff1a}' | '\u{2236}' => ':',
        '\u{ff08}' => '(',
        '\u{ff09}' => ')',
        _ => digit(character).unwrap_or(character),
    })
}

/// The ASCII digit that a decimal digit of any script stands for. Unicode keeps these in runs of ten that begin with zero.
fn digit(character: char) -> Option<char> {
    static DECIMAL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").expect("the pattern is valid"));
    let is_digit = |code: u32| char::from_u32(code).is_some_and(|c| c.is_numeric() && DECIMAL.is_match(c.encode_utf8(&mut [0; 4])));
    let code = u32::from(character);
    if !is_digit(code) {
        return None;
    }
    let before = (1..=code).take_while(|back| is_digit(code - back)).count() as u32;
    char::from_digit(before % 10, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scripts_digits_are_digits() {
        for digits in ["０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "০১২৩৪৫৬৭৮৯", "๐๑๒๓๔๕๖๗๘๙", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗", "𝟶𝟷𝟸𝟹𝟺𝟻𝟼𝟽𝟾𝟿"]
        {
            assert_eq!(plain(digits).unwrap().text, "0123456789");
        }
        for other in ["abc é 18 €", "²½Ⅷ", "一二三", ""] {
            assert!(plain(other).is_none(), "{other}");
        }
    }

    #[test]
    fn places_lead_back() {
        let text = "é１\u{200b}８．5€";
        let Plain { text: plain, origin } = plain(text).unwrap();
        assert_eq!(plain, "é18.5€");
        let back = |part: &str| {
            let at = plain.find(part).unwrap();
            &text[origin[at]..origin[at + part.len()]]
        };
        assert_eq!([back("18.5"), back("é"), back("5€"), back("8")], ["１\u{200b}８．5", "é", "5€", "８"]);
    }
}
