//! Cuts a stretch of text into numbers, words and the marks between them, as far as answers need it: LaTeX, Markdown and prose at once.
//!
//! Signs are decided here, from what stands before them: after an operand a minus subtracts, elsewhere it is a sign.

use std::ops::Range;

use num_rational::BigRational;
use num_traits::FromPrimitive;

use super::vocabulary::{
    DRESS, INEQUALITIES, OPERATORS, RELATIONS, UPRIGHT, calculation, currency, currency_code, currency_word, half_of_day, has_case,
    ordinal, percent, scale, tag, unit_letter, variable,
};
use super::words::signed;
use super::{Answer, Form, Unverifiable, literal};

/// An angle bracket whose partner is farther away is a comparison.
const MAX_ANGLE_BYTES: usize = 200;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Number(Result<Answer, Unverifiable>),
    /// Letters, and the digits and hyphens that grow on them (`x2`, `well-known`, `COVID-19`).
    Word,
    /// A root, π, an unknown command, a foreign numeral: what it touches is an expression.
    Symbol,
    /// Joins operands into an expression.
    Operator,
    /// An equals sign or an arrow: what follows is the same, worked out.
    Relation,
    /// A comparison that is not equality.
    Inequality,
    Open,
    Close,
    Comma,
    /// The end of a sentence.
    Stop,
    /// Anything else: colons, quotes, emoji.
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub span: Range<usize>,
    /// Whether anything separates it from the token before.
    pub spaced: bool,
    /// Whether it stands in `\text{}` or its kin, where single letters are not variables.
    pub upright: bool,
}

/// The tokens of `text`. `line_start` says whether it begins a line of prose, where a dash is a list's bullet.
pub(super) fn tokens(text: &str, line_start: bool) -> Vec<Token> {
    let mut lexer =
        Lexer { text, at: 0, spaced: true, line_start, braces: Vec::new(), next_brace_upright: false, angles: 0, tokens: Vec::new() };
    while lexer.at < text.len() {
        lexer.step();
    }
    signed(text, lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    spaced: bool,
    /// Whether only spaces lie between here and the start of a line of prose.
    line_start: bool,
    /// For every open brace, whether it holds prose.
    braces: Vec<bool>,
    next_brace_upright: bool,
    /// Open angle brackets, so that `<<9*2=18>>` is no comparison.
    angles: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn step(&mut self) {
        let rest = &self.text[self.at..];
        let next = rest.chars().next().expect("the position is before the end and on a character");
        // A point right behind letters ends an abbreviation: `Rs.500`.
        let ends_word = next == '.' && self.text[..self.at].ends_with(char::is_alphabetic);
        if literal::begins(rest) && !ends_word {
            return self.number(self.at, false);
        }
        match next {
            '\n' => {
                self.skip(1);
                self.line_start = true;
            }
            '\\' => self.command(),
            _ if next.is_whitespace() || currency(next) || matches!(next, '~' | '`' | '"' | '“' | '”' | '°') => {
                self.skip(next.len_utf8())
            }
            '%' => self.push(Kind::Other, 1),
            '{' => {
                let upright = self.next_brace_upright || self.upright();
                self.next_brace_upright = false;
                self.braces.push(upright);
                self.skip_glued(1);
            }
            '}' => {
                self.braces.pop();
                self.skip_glued(1);
            }
            '-' | '=' if arrow(rest).is_some() => self.push(Kind::Relation, arrow(rest).unwrap_or(1)),
            '-' | '\u{2212}' | '\u{2013}' => self.minus(next.len_utf8()),
            '+' if self.after_operand() => self.push(Kind::Operator, 1),
            '+' => self.skip(1),
            '*' => self.star(),
            '_' if self.subscripts() && rest[1..].starts_with(|c: char| c.is_alphanumeric() || c == '{') => self.push(Kind::Operator, 1),
            '_' => self.skip(1),
            '^' => self.caret(),
            '²' | '³' if self.after_unit() => self.skip_glued(next.len_utf8()),
            // `500/-`, as amounts are written in India.
            '/' if rest[1..].starts_with(['-', '=']) && !rest[2..].starts_with(|c: char| c.is_alphanumeric()) => self.skip(2),
            '/' if !self.after_operand() || per_unit(&rest[1..]) => self.push(Kind::Other, 1),
            '/' | '÷' | '×' | '·' | '±' | '∓' | '∗' => self.push(Kind::Operator, next.len_utf8()),
            '=' | '≈' | '≅' | '→' | '⇒' | '∴' => self.push(Kind::Relation, next.len_utf8()),
            '≤' | '≥' | '≠' => self.push(Kind::Inequality, next.len_utf8()),
            '<' if calculation(rest).is_some() => self.skip_glued(calculation(rest).unwrap_or(1)),
            '<' if tag(rest).is_some() => self.skip(tag(rest).unwrap_or(1)),
            '<' | '>' => self.angle(next),
            '√' | '∞' | '∑' | '∫' => self.push(Kind::Symbol, next.len_utf8()),
            '(' | '[' => self.push(Kind::Open, 1),
            ')' | ']' => self.push(Kind::Close, 1),
            ',' | ';' | '，' => self.push(Kind::Comma, next.len_utf8()),
            '.' | '!' | '?' | '。' => self.push(Kind::Stop, next.len_utf8()),
            // Times, ratios, feet and inches.
            ':' | '\'' | '’' | '′' if self.after_number_glued() && rest[next.len_utf8()..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.push(Kind::Operator, next.len_utf8())
            }
            'A'..='Z' if currency_code(rest).is_some() => self.skip(currency_code(rest).unwrap_or(1)),
            // Before letters, because some numerals are both, such as the Roman ones.
            _ if next.is_numeric() => self.push(Kind::Symbol, next.len_utf8()),
            _ if next.is_alphabetic() => self.word(),
            _ => self.push(Kind::Other, next.len_utf8()),
        }
    }

    fn upright(&self) -> bool {
        self.braces.last().copied().unwrap_or(false)
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let upright = self.upright();
        self.tokens.push(Token { kind, span: self.at..self.at + length, spaced: self.spaced, upright });
        self.at += length;
        self.spaced = false;
        self.line_start = false;
    }

    fn skip(&mut self, length: usize) {
        self.at += length;
        self.spaced = true;
    }

    /// Past a mark that does not separate what stands on its two sides.
    fn skip_glued(&mut self, length: usize) {
        self.at += length;
    }

    /// Reads the number at the position; `start` is where its sign stands.
    fn number(&mut self, start: usize, negative: bool) {
        let (read, length) = literal::read(&self.text[self.at..]);
        let mut read = read;
        let mut end = self.at + length;
        if let Some((factor, length)) = scale(&self.text[end..]) {
            end += length;
            read = read.map(|answer| match BigRational::from_u64(factor) {
                Some(factor) => Answer::new(answer.value * factor, answer.form),
                None => answer,
            });
        } else if let Some(length) = percent(&self.text[end..]) {
            end += length;
            read = read.map(|answer| Answer::new(answer.value, Form::Percent));
        }
        let read = read.map(|answer| if negative { Answer::new(-answer.value, answer.form) } else { answer });
        // A line or a dot over a digit repeats it for ever.
        let marked = self.text[end..].starts_with(|c: char| matches!(c, '\u{300}'..='\u{36f}'));
        let absolute = negative && self.text[..start].ends_with('|') && self.text[end..].starts_with('|');
        let read = if marked || absolute { Err(Unverifiable::Expression) } else { read };
        self.at = start;
        self.push(Kind::Number(read), end - start);
    }

    /// Letters with the digits, hyphens and apostrophes inside. Scripts without case, such as Chinese, write numbers right after words, so
    /// digits grow only on letters that have case.
    fn word(&mut self) {
        let rest = &self.text[self.at..];
        if let Some(length) = half_of_day(rest) {
            return self.push(Kind::Word, length);
        }
        let mut length = 0;
        let mut before = ' ';
        let mut characters = rest.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            let next_joins = characters.peek().is_some_and(|(_, next)| next.is_alphabetic() || (next.is_ascii_digit() && has_case(before)));
            let joins = match character {
                '0'..='9' => has_case(before) || before.is_ascii_digit(),
                '-' | '_' => at > 1 && next_joins,
                '\'' | '’' => at > 0 && next_joins,
                '.' => before.is_ascii_digit() && characters.peek().is_some_and(|(_, next)| next.is_ascii_digit()),
                _ => character.is_alphabetic() && !character.is_numeric(),
            };
            if !joins {
                break;
            }
            length = at + character.len_utf8();
            before = if matches!(character, '-' | '\'' | '’' | '_' | '.') { before } else { character };
        }
        self.push(Kind::Word, length);
    }

    /// A minus, a hyphen or an en dash.
    fn minus(&mut self, length: usize) {
        let rest = &self.text[self.at + length..];
        let letters = rest.trim_start_matches(' ').chars().take(2).take_while(|c| c.is_alphabetic()).count();
        let dashes = length * (1 + rest.bytes().take_while(|byte| *byte == b'-').count());
        if dashes > length && length == 1 {
            // A dash or a rule; before a number it could be a sign as well.
            let touches = self.text[self.at + dashes..].starts_with(|c: char| c.is_ascii_digit() || c == '$');
            return self.push(if touches { Kind::Operator } else { Kind::Other }, dashes);
        }
        if letters == 2 && number_behind(rest).is_none() {
            return self.push(Kind::Other, length); // A hyphen or a dash.
        }
        if self.after_operand() {
            return self.push(Kind::Operator, length);
        }
        let before = self.tokens.last().map(|token| &token.kind);
        let number = number_behind(rest);
        let glued_to_word = !self.spaced && matches!(before, Some(Kind::Word));
        match number {
            Some((distance, spaced)) if !glued_to_word && (!spaced || self.may_stand_apart()) => {
                let start = self.at;
                self.at += length + distance;
                self.number(start, true);
            }
            Some(_) if self.line_start => self.skip(length), // A list's bullet.
            Some(_) => self.push(Kind::Operator, length),    // `profit - 5`: a dash or a minus.
            None if rest.starts_with('(') && literal::begins(&rest[1..]) => self.push(Kind::Operator, length),
            None => self.push(Kind::Other, length),
        }
    }

    /// Whether a minus here, with a space behind it, can only be a sign.
    fn may_stand_apart(&self) -> bool {
        let before = self.tokens.last().map(|token| &token.kind);
        !self.line_start && matches!(before, None | Some(Kind::Relation | Kind::Open | Kind::Comma | Kind::Other))
    }

    /// Multiplication, a power, or Markdown's emphasis.
    fn star(&mut self) {
        let rest = &self.text[self.at..];
        let stars = rest.bytes().take_while(|byte| *byte == b'*').count();
        let before_glued = self.at > 0 && self.text[..self.at].ends_with(|c: char| c.is_alphanumeric() || c == ')');
        let (after_glued, after_spaced) = (operand(&rest[stars..]), operand(rest[stars..].trim_start_matches(' ')));
        let multiplies = match stars {
            1 => after_spaced && (before_glued == after_glued),
            2 => before_glued && after_glued && self.after_number_glued(),
            _ => false,
        };
        if multiplies && self.after_operand() { self.push(Kind::Operator, stars) } else { self.skip(stars) }
    }

    /// A power, a degree sign, or the exponent of a unit.
    fn caret(&mut self) {
        let rest = &self.text[self.at..];
        for degree in ["^\\circ", "^{\\circ}", "^ \\circ", "^{ \\circ }", "^°"] {
            if rest.starts_with(degree) {
                return self.skip(degree.len());
            }
        }
        if let Some(length) = ordinal(rest) {
            return self.skip(length);
        }
        for exponent in ["^2", "^3", "^{2}", "^{3}"] {
            if rest.starts_with(exponent) && self.after_unit() && !rest[exponent.len()..].starts_with(|c: char| c.is_alphanumeric()) {
                return self.skip_glued(exponent.len());
            }
        }
        self.push(Kind::Operator, 1);
    }

    fn angle(&mut self, angle: char) {
        let rest = &self.text[self.at + 1..];
        if angle == '>' && self.angles > 0 {
            self.angles -= 1;
            return self.push(Kind::Other, 1);
        }
        let closes = rest.bytes().take(MAX_ANGLE_BYTES).take_while(|byte| *byte != b'\n').any(|byte| byte == b'>');
        let opens =
            angle == '<' && closes && !rest.starts_with([' ', '=']) && !(self.after_operand() && !self.spaced && !rest.starts_with('/'));
        if opens {
            self.angles += 1;
        }
        let kind = if opens { Kind::Other } else { Kind::Inequality };
        self.push(kind, 1);
    }

    /// A LaTeX command or an escaped character.
    fn command(&mut self) {
        let rest = &self.text[self.at + 1..];
        let name = &rest[..rest.bytes().take_while(u8::is_ascii_alphabetic).count()];
        let length = 1 + name.len();
        // `\n` as JSON writes a line end is no LaTeX command, alone or run together with a capital letter.
        if name == "n" || (name.starts_with('n') && name[1..].starts_with(|c: char| c.is_ascii_uppercase())) {
            self.skip(2);
            self.line_start = true;
            return;
        }
        if name.is_empty() {
            let next = rest.chars().next();
            return match next {
                Some('{' | '}') => self.push(Kind::Other, 2),
                Some('%') => self.push(Kind::Other, 2),
                Some(character) => self.skip(1 + character.len_utf8()),
                None => self.skip(1),
            };
        }
        if UPRIGHT.contains(&name) {
            self.next_brace_upright = true;
            self.skip(length);
        } else if DRESS.contains(&name) {
            self.skip(length);
        } else if OPERATORS.contains(&name) {
            self.push(Kind::Operator, length);
        } else if RELATIONS.contains(&name) {
            self.push(Kind::Relation, length);
        } else if INEQUALITIES.contains(&name) {
            self.push(Kind::Inequality, length);
        } else if matches!(name, "degree" | "circ") {
            self.skip(length);
        } else {
            self.push(Kind::Symbol, length);
        }
    }

    /// Whether what stands before could be subtracted from.
    fn after_operand(&self) -> bool {
        let Some(last) = self.tokens.last() else { return false };
        match &last.kind {
            Kind::Number(_) | Kind::Symbol | Kind::Close => !self.line_start,
            Kind::Word => variable(&self.text[last.span.clone()]) && !last.upright,
            _ => false,
        }
    }

    fn after_number_glued(&self) -> bool {
        !self.spaced && self.tokens.last().is_some_and(|token| matches!(token.kind, Kind::Number(_)))
    }

    /// Whether an underscore here begins a subscript.
    fn subscripts(&self) -> bool {
        !self.spaced && self.after_operand()
    }

    fn after_unit(&self) -> bool {
        self.tokens.last().is_some_and(|token| {
            let word = &self.text[token.span.clone()];
            token.kind == Kind::Word && (token.upright || !variable(word) || unit_letter(word))
        })
    }
}

/// Whether a slash with this behind it says per what: a unit, or text within a formula.
fn per_unit(text: &str) -> bool {
    let rest = text.trim_start_matches(' ');
    let word = &rest[..rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len())];
    rest.starts_with("\\text") || rest.starts_with("\\mathrm") || (!word.is_empty() && (!variable(word) || unit_letter(word)))
}

/// Whether something that can be multiplied begins here, rather than a sentence's end or its next word's mark.
fn operand(text: &str) -> bool {
    let rest = text.strip_prefix(['.', '$']).unwrap_or(text);
    match rest.len() == text.len() {
        true => text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '(' | '\\')),
        false => rest.starts_with(|c: char| c.is_ascii_digit()),
    }
}

/// The length of an arrow made of hyphens or equals signs.
fn arrow(text: &str) -> Option<usize> {
    let shaft = text.bytes().take_while(|byte| matches!(byte, b'-' | b'=')).count();
    (shaft <= 3 && text[shaft..].starts_with('>')).then_some(shaft + 1)
}

/// The distance to a number behind currencies, braces and spaces, and whether there were spaces.
fn number_behind(text: &str) -> Option<(usize, bool)> {
    let (mut at, mut spaced) = (0, false);
    while !literal::begins(&text[at..]) {
        let rest = &text[at..];
        at += match rest.chars().next()? {
            '\\' if ["\\$", "\\,", "\\;", "\\:", "\\!", "\\ "].iter().any(|mark| rest.starts_with(mark)) => 2,
            ' ' => {
                spaced = true;
                1
            }
            mark if currency(mark) || matches!(mark, '{' | '}') => mark.len_utf8(),
            _ => currency_word(rest)?,
        };
    }
    Some((at, spaced))
}
