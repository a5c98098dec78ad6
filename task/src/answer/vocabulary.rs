//! The words and commands that the grader knows, and what it takes other words for.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// Words that multiply the number before them.
const SCALES: [(&str, u64); 7] = [
    ("hundred", 100),
    ("thousand", 1_000),
    ("lakh", 100_000),
    ("million", 1_000_000),
    ("crore", 10_000_000),
    ("billion", 1_000_000_000),
    ("trillion", 1_000_000_000_000),
];

/// LaTeX commands that only dress what they hold, or stand for a space.
pub(super) const DRESS: [&str; 29] = [
    "begin",
    "end",
    "boxed",
    "fbox",
    "framebox",
    "displaystyle",
    "left",
    "right",
    "big",
    "Big",
    "bigl",
    "bigr",
    "quad",
    "qquad",
    "mathbf",
    "mathit",
    "boldsymbol",
    "bf",
    "bm",
    "pounds",
    "textdollar",
    "euro",
    "texteuro",
    "checkmark",
    "blacksquare",
    "square",
    "ldots",
    "dots",
    "underline",
];
/// LaTeX commands that hold prose.
pub(super) const UPRIGHT: [&str; 7] = ["text", "mathrm", "textbf", "textit", "mbox", "textrm", "rm"];
pub(super) const OPERATORS: [&str; 5] = ["times", "cdot", "div", "pm", "mp"];
pub(super) const RELATIONS: [&str; 9] =
    ["approx", "equiv", "Rightarrow", "rightarrow", "Longrightarrow", "implies", "to", "therefore", "sim"];
pub(super) const INEQUALITIES: [&str; 10] = ["le", "leq", "leqslant", "ge", "geq", "geqslant", "lt", "gt", "ne", "neq"];

/// Words after which a sentence gives reasons, so that an earlier number was the answer.
pub(super) const REASONS: [&str; 17] = [
    "because", "since", "as", "which", "where", "when", "if", "after", "given", "for", "with", "so", "from", "out", "not", "rather",
    "instead",
];
/// Words that say what an equals sign says.
pub(super) const EQUALS: [&str; 4] = ["is", "are", "equals", "equal"];
/// Words that make a sentence of what goes before them, with its result behind them.
pub(super) const MAKES: [&str; 14] =
    ["is", "are", "equals", "equal", "makes", "make", "gives", "give", "leaves", "leave", "totals", "total", "costs", "cost"];
/// Words that make another number of the one before them, as in `2 thirds`, `5 squared` or `3 bn`.
pub(super) const PARTS: [&str; 19] = [
    "point",
    "halves",
    "thirds",
    "fourths",
    "fifths",
    "sixths",
    "sevenths",
    "eighths",
    "tenths",
    "hundredths",
    "thousandths",
    "millionths",
    "squared",
    "cubed",
    "factorial",
    "bn",
    "mn",
    "tn",
    "mil",
];
/// Words that change the number behind them, with or without `of` between.
pub(super) const CHANGES: [&str; 15] = [
    "than",
    "minus",
    "negative",
    "plus",
    "times",
    "twice",
    "thrice",
    "double",
    "triple",
    "half",
    "third",
    "thirds",
    "quarter",
    "quarters",
    "quadruple",
];
/// Units that come in pairs, as in `2 hours 30 minutes`.
pub(super) const PAIRED_UNITS: [&str; 36] = [
    "h", "hr", "hrs", "hour", "hours", "min", "mins", "minute", "minutes", "s", "sec", "secs", "second", "seconds", "day", "days", "week",
    "weeks", "month", "months", "year", "years", "foot", "feet", "ft", "inch", "inches", "pound", "pounds", "ounce", "ounces", "dollar",
    "dollars", "cent", "cents", "euros",
];

/// Whether a word is a letter that stands for an unknown.
pub(super) fn variable(word: &str) -> bool {
    let mut characters = word.chars();
    let single = characters.next().is_some_and(has_case) && characters.next().is_none();
    (single && !matches!(word, "a" | "A" | "I")) || matches!(word, "pi" | "xy" | "xyz" | "ab" | "abc" | "xz" | "yz" | "bc" | "ac")
}

/// Whether a letter is of a script with small and capital letters.
pub(super) fn has_case(character: char) -> bool {
    character.is_lowercase() || character.is_uppercase()
}

/// Whether a single letter, with a space before it, is a unit: metres, grams, seconds, hours, litres, degrees.
pub(super) fn unit_letter(word: &str) -> bool {
    matches!(word, "m" | "g" | "s" | "h" | "l" | "L" | "C" | "F")
}

/// A scale word after a number, and its length with the space before it.
pub(super) fn scale(text: &str) -> Option<(u64, usize)> {
    let rest = text.trim_start_matches(' ');
    let word = &rest[..rest.bytes().take_while(u8::is_ascii_alphabetic).count()];
    let singular = word.strip_suffix(['s', 'S']).unwrap_or(word);
    let (_, factor) = SCALES.iter().find(|(name, _)| name.eq_ignore_ascii_case(singular))?;
    Some((*factor, text.len() - rest.len() + word.len()))
}

/// Whether a character is the sign of a currency.
pub(super) fn currency(character: char) -> bool {
    matches!(character, '$' | '¢' | '£' | '¥' | '฿' | '৳' | '៛' | '﷼' | '\u{20a0}'..='\u{20cf}')
}

/// The length of a currency in letters before a number or a sign, with the space behind it: `Rs. `, `USD `, `US`, `R`.
pub(super) fn currency_word(text: &str) -> Option<usize> {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(?:Rs\.? ?|[A-Z]{3} |[A-Z]{1,3}\$)").expect("the pattern is valid"));
    let found = WORD.find(text)?;
    Some(found.end() - usize::from(found.as_str().ends_with('$')))
}

/// The length of a currency in letters that touches its number: `Rs500`, `USD500`.
pub(super) fn currency_code(text: &str) -> Option<usize> {
    const CODES: [&str; 12] = ["Rs", "USD", "EUR", "GBP", "INR", "JPY", "CNY", "CAD", "AUD", "CHF", "NGN", "PHP"];
    let code = CODES.iter().find(|code| text.starts_with(**code))?;
    text[code.len()..].starts_with(|c: char| c.is_ascii_digit()).then_some(code.len())
}

/// The length of `a.m.` or `p.m.`, in which no letter is a variable.
pub(super) fn half_of_day(text: &str) -> Option<usize> {
    let half = text.get(..4).filter(|half| ["a.m.", "p.m."].iter().any(|known| known.eq_ignore_ascii_case(half)))?;
    Some(half.len() - 1) // The last point may end the sentence as well.
}

/// The length of a calculator's note, as GSM8K writes them before its result: `<<9*2=18>>` of `<<9*2=18>>18`.
pub(super) fn calculation(text: &str) -> Option<usize> {
    static NOTE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^<<[^<>\n]{1,200}=[^<>\n]{1,200}>>[0-9.$-]").expect("the pattern is valid"));
    NOTE.find(text).map(|found| found.end() - 1)
}

/// The length of an ordinal's raised ending, such as `^{th}` or `^\text{st}`.
pub(super) fn ordinal(text: &str) -> Option<usize> {
    static ENDING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\^\{?(?:\\(?:text|mathrm|textrm)\{)?(?:st|nd|rd|th)\}{0,2}").expect("the pattern is valid"));
    ENDING.find(text).map(|found| found.end())
}

/// The length of a tag at the start of a text: HTML's, such as `<b>`, `</sub>` or `<span class="x">`, or a special token, such as
/// `<end_of_turn>`, `<|im_end|>` or DeepSeek's, which has wide bars.
pub(super) fn tag(text: &str) -> Option<usize> {
    static TAG: LazyLock<Regex> = LazyLock::new(|| {
        let html = r#"</?[A-Za-z][A-Za-z0-9_]{0,15}(?: +[A-Za-z-]{1,20}="[^"<>]{0,100}")* ?/?>"#;
        let special = r"<[|｜][A-Za-z_][^<>|｜\n]{0,40}[|｜]>";
        Regex::new(&format!("^(?:{html}|{special})")).expect("the pattern is valid")
    });
    TAG.find(text).map(|found| found.end())
}

/// The length of a percent sign or word after a number.
pub(super) fn percent(text: &str) -> Option<usize> {
    let rest = text.trim_start_matches([' ', '}', '$']);
    let sign = ["\\%", "%", "percent", "per cent"]
        .iter()
        .find(|sign| rest.get(..sign.len()).is_some_and(|start| start.eq_ignore_ascii_case(sign)))?;
    Some(text.len() - rest.len() + sign.len()).filter(|_| !rest[sign.len()..].starts_with(char::is_alphabetic))
}

/// Whether letters that touch a number are its unit: a known abbreviation, an ordinal's ending, a word, or of a script without case.
pub(super) fn glued_unit(word: &str) -> bool {
    const SHORT: [&str; 24] = [
        "km", "cm", "mm", "kg", "mg", "lb", "oz", "ft", "in", "yd", "mi", "hr", "ml", "mL", "kL", "am", "pm", "AM", "PM", "st", "nd", "rd",
        "th", "ms",
    ];
    // A square or a cube at its end belongs to a unit; other digits make it a code or a product: `0x1F`, `2x30`.
    let letters = word.strip_suffix(['2', '3']).unwrap_or(word);
    let spelt = letters.chars().all(|character| !character.is_ascii_digit());
    (spelt && letters.chars().count() > 2 && !variable(letters)) || !word.starts_with(has_case) || SHORT.contains(&letters)
}

/// A word that counts, wherever it stands: an answer all the same where it is not read. `one` is left out, being a pronoun more often.
pub(crate) fn number_in_words(text: &str) -> Option<Range<usize>> {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| {
        let ones =
            "zero|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen";
        let tens = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|dozen|half";
        Regex::new(&format!(r"(?i)\b(?:{ones}|{tens})\b")).expect("the pattern is valid")
    });
    WORDS.find(text).map(|found| found.range())
}
