//! What holds for every number and every text. `PROPTEST_CASES=2000000` tries two million pairs instead of a few thousand.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};
use proptest::prelude::*;
use proptest::sample::select;

use tristill_task::{Reading, Verdict, mark, read};

/// Numbers of many sizes; small ones often, so that near misses meet.
fn rational() -> impl Strategy<Value = BigRational> {
    let numerator = prop_oneof![-30i128..30, -100_000i128..100_000, any::<i64>().prop_map(i128::from), any::<i128>()];
    let denominator =
        prop_oneof![4 => Just(1i128), 2 => select(vec![2i128, 4, 5, 8, 10, 25, 100, 1000]), 2 => 1i128..50, 1 => 1i128..1_000_000];
    (numerator, denominator).prop_map(|(n, d)| BigRational::new(BigInt::from(n), BigInt::from(d)))
}

/// The same number, or one that a careless reader would take for it.
fn neighbour(value: &BigRational, choice: u8) -> BigRational {
    let ten = BigRational::from_integer(BigInt::from(10));
    match choice % 8 {
        0..=2 => value.clone(),
        3 => -value,
        4 => value * ten,
        5 => value / (&ten * &ten),
        6 => value + BigRational::new(BigInt::one(), BigInt::from(10).pow(30)),
        _ => value * (&ten * &ten * &ten),
    }
}

fn groups(digits: &str, separator: &str) -> String {
    let first = (digits.len() - 1) % 3 + 1;
    let mut text = digits[..first].to_owned();
    for at in (first..digits.len()).step_by(3) {
        text += separator;
        text += &digits[at..at + 3];
    }
    text
}

/// Groups of two before the last three digits, as in India.
fn indian(digits: &str) -> String {
    let (start, last) = digits.split_at(digits.len().saturating_sub(3));
    let mut text = String::new();
    for (at, digit) in start.chars().enumerate() {
        text.push(digit);
        if (start.len() - at) % 2 == 1 {
            text.push(',');
        }
    }
    text + last
}

/// A power of ten with raised digits.
fn raised(power: usize) -> String {
    power.to_string().bytes().map(|digit| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(usize::from(digit - b'0')).unwrap()).collect()
}

/// The digits of a number with a finite decimal expansion: the whole part and the decimals.
fn decimals(value: &BigRational) -> Option<(String, String)> {
    let mut places = 0u32;
    let mut scaled = value.clone();
    while !scaled.is_integer() {
        places += 1;
        scaled *= BigInt::from(10);
        if places > 40 {
            return None;
        }
    }
    let digits = format!("{:0>width$}", scaled.to_integer().to_string(), width = places as usize + 1);
    let (whole, rest) = digits.split_at(digits.len() - places as usize);
    Some((whole.to_owned(), rest.to_owned()))
}

/// One way of writing `value`, chosen by the bytes.
fn written(value: &BigRational, choices: [u8; 5]) -> String {
    let magnitude = value.abs();
    let [form, dress, sign, unit, factor] = choices;
    let (n, d) = (magnitude.numer(), magnitude.denom());
    let factor = BigInt::from(u32::from(factor) + 1);
    let (expanded_n, expanded_d) = (n * &factor, d * &factor);
    let (whole, rest) = n.div_rem(d);
    let fraction = match form % 4 {
        0 => format!("{expanded_n}/{expanded_d}"),
        1 => format!("\\frac{{{expanded_n}}}{{{expanded_d}}}"),
        2 if !whole.is_zero() && !rest.is_zero() => format!("{whole} {rest}/{d}"),
        2 => format!("{n} / {d}"),
        _ if !whole.is_zero() && !rest.is_zero() => format!("{whole}\\dfrac{{{rest}}}{{{d}}}"),
        _ => format!("\\tfrac{{{n}}}{{{d}}}"),
    };
    let number = match decimals(&magnitude) {
        Some((whole, rest)) if form < 200 => match form % 16 {
            0 if rest.is_empty() => groups(&whole, ","),
            1 if rest.is_empty() => groups(&whole, "{,}"),
            2 if rest.is_empty() => groups(&whole, "\\,"),
            3 if rest.is_empty() => whole,
            4 if whole == "0" && !rest.is_empty() => format!(".{rest}"),
            5 => format!("{}.{rest}00", groups(&whole, ",")),
            6 => format!("{whole}{rest}e-{}", rest.len()),
            7 => format!("{whole}{rest} \\times 10^{{-{}}}", rest.len()),
            8 if rest.is_empty() => groups(&whole, "'"),
            9 if rest.is_empty() => groups(&whole, "_"),
            10 if rest.is_empty() => indian(&whole),
            // A point that stands between two groups alone is a decimal point.
            11 if rest.is_empty() && whole.len() > 6 => groups(&whole, "."),
            12 if whole.len() > 3 => format!("{},{rest}0", groups(&whole, ".")),
            13 if whole.len() > 3 => format!("{},{rest}0", groups(&whole, "\u{202f}")),
            14 => format!("{whole}{rest} × 10⁻{}", raised(rest.len())),
            _ if rest.is_empty() => format!("{whole}.0"),
            _ => format!("{whole}.{rest}"),
        },
        _ => fraction,
    };
    let sign = match (value.is_negative(), sign % 3) {
        (true, 0) => "\u{2212}",
        (true, _) => "-",
        (false, 0) => "+",
        (false, _) => "",
    };
    let number = match dress % 9 {
        5 => format!("<b>{sign}{number}</b>"),
        6 => format!("{sign}₹{number}"),
        7 => format!("{sign}{number}").chars().map(full_width).collect(),
        8 => format!("**{sign}{number}**"),
        0 => format!("{sign}${number}"),
        1 => format!("{sign}\\${number}"),
        2 => format!("${sign}{number}$"),
        _ => format!("{sign}{number}"),
    };
    match unit % 5 {
        0 => format!("{number} dollars"),
        1 => format!("{number} \\text{{ cm}}^2"),
        2 => format!("{number} per day"),
        _ => number,
    }
}

fn full_width(character: char) -> char {
    if character.is_ascii_digit() { char::from_u32(u32::from(character) + 0xfee0).unwrap() } else { character }
}

/// A number in English words; `and` says whether it stands after the hundreds.
fn in_words(number: u64, and: bool) -> String {
    const ONES: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen \
                        eighteen nineteen";
    const TENS: &str = "twenty thirty forty fifty sixty seventy eighty ninety";
    let word = |words: &str, at: u64| words.split(' ').nth(at as usize).unwrap().to_owned();
    let with = |rest: u64, joint: &str| if rest == 0 { String::new() } else { format!("{joint}{}", in_words(rest, and)) };
    let scale = |size: u64, name: &str| format!("{} {name}{}", in_words(number / size, and), with(number % size, " "));
    match number {
        0..20 => word(ONES, number),
        20..100 => format!("{}{}", word(TENS, number / 10 - 2), with(number % 10, "-")),
        100..1_000 => format!("{} hundred{}", word(ONES, number / 100), with(number % 100, if and { " and " } else { " " })),
        1_000..1_000_000 => scale(1_000, "thousand"),
        1_000_000..1_000_000_000 => scale(1_000_000, "million"),
        1_000_000_000..1_000_000_000_000 => scale(1_000_000_000, "billion"),
        _ => scale(1_000_000_000_000, "trillion"),
    }
}

/// The number as the final answer of a longer text.
fn answered(number: &str, choice: u8) -> String {
    match choice % 11 {
        10 => format!("It may be 7.\n<answer>{number}</answer>"),
        0 => number.to_owned(),
        1 => format!("First 3 + 4 = 7.\n#### {number}"),
        2 => format!("It is \\boxed{{7}}, no, \\boxed{{{number}}}."),
        3 => format!("There are 12. The answer is {number}."),
        4 => format!("**Final answer:** **{number}**\n\nThere were 7."),
        5 => serde_json::json!({"reasoning": "the answer is 3", "answer": number}).to_string(),
        6 => format!("<think>\n#### 3\n</think>\n\nSo she has {number}"),
        7 => format!("2 + 2 = 4, and in the end we have {number}."),
        8 => format!("A: {number}"),
        _ => format!("  {number}\n"),
    }
}

/// Pieces that a grader trips over.
fn nasty() -> impl Strategy<Value = String> {
    let pieces = vec![
        "#### ",
        "\\boxed{",
        "\\boxed",
        "{",
        "}",
        "\\frac",
        "\\frac{1}{",
        "\\text{",
        "\\",
        "\\n",
        "$",
        "\\$",
        "-",
        "\u{2212}",
        "–",
        "—",
        "+",
        "*",
        "**",
        "/",
        "^",
        "_",
        "^\\circ",
        "=",
        "<",
        ">",
        "<<",
        ">>",
        "(",
        ")",
        "[",
        ",",
        ".",
        "..",
        "!",
        ":",
        "%",
        "\\%",
        "1",
        "23",
        "456",
        "0",
        "1,234",
        "7.5",
        "1/2",
        "½",
        "²",
        "Ⅷ",
        "٣",
        "１",
        "\u{200b}",
        "\u{2011}",
        "'",
        "_123",
        "⁵",
        "→",
        "->",
        "<b>",
        "<answer>",
        "</answer>",
        "Rs. ",
        "₹",
        " of ",
        "e",
        "e5",
        "x",
        "π",
        " ",
        "\n",
        "\u{a0}",
        "\u{202f}",
        "é",
        "日",
        "🦆",
        "the answer is ",
        "Answer: ",
        "A: ",
        "\"answer\": \"",
        "\"",
        "million",
        " percent",
        "hours",
        " and a half",
        "seven ",
        "twenty-",
        "hundred ",
        "minus ",
        "negative ",
        "Rs.",
        "p.m.",
        "<think>",
        "</think>",
        "\0",
        "\u{feff}",
        "\u{301}",
    ];
    prop::collection::vec(select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

fn check_text(text: &str) {
    match read(text) {
        Reading::Number { span, .. } => {
            assert!(text.get(span.clone()).is_some_and(|answer| !answer.is_empty()), "{span:?} of {text:?}");
            assert_eq!(mark(text, text), Verdict::Right, "{text:?}");
        }
        Reading::Unverifiable { span, .. } => {
            assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
            assert_eq!(mark(text, text), Verdict::Unverifiable, "{text:?}");
        }
        Reading::Absent => assert_eq!(mark(text, text), Verdict::Unverifiable, "{text:?}"),
    }
}

proptest! {
    #[test]
    fn a_number_is_right_exactly_if_it_is_the_same_number(
        value in rational(), near in any::<u8>(), one in any::<[u8; 5]>(), other in any::<[u8; 5]>(), contexts in any::<[u8; 2]>(),
    ) {
        let second = neighbour(&value, near);
        let completion = answered(&written(&value, one), contexts[0]);
        let reference = answered(&written(&second, other), contexts[1]);
        let expected = if value == second { Verdict::Right } else { Verdict::Wrong };
        prop_assert_eq!(mark(&completion, &reference), expected, "{:?} against {:?}", completion, reference);
        prop_assert_eq!(mark(&reference, &completion), expected, "{:?} against {:?}", reference, completion);
        prop_assert_eq!(mark(&completion, &completion), Verdict::Right, "{:?}", completion);
    }

    #[test]
    fn words_are_the_number_they_name(
        number in prop_oneof![0u64..200, 0u64..20_000, 0u64..1_000_000_000_000_000], near in any::<u8>(), and in any::<bool>(),
        choice in 0u8..5,
    ) {
        let other = match near % 4 { 0 => number + 1, 1 => number * 10, 2 => number / 10, _ => number };
        let words = in_words(number, and);
        let completion = match choice {
            0 => words,
            1 => format!("There are 7. The answer is {words}."),
            2 => format!("\\boxed{{\\text{{{words} eggs}}}}"),
            3 => serde_json::json!({ "answer": words.to_uppercase() }).to_string(),
            _ => format!("#### {words} dollars"),
        };
        let expected = if number == other { Verdict::Right } else { Verdict::Wrong };
        prop_assert_eq!(mark(&completion, &other.to_string()), expected, "{:?} against {}", completion, other);
        prop_assert_eq!(mark(&other.to_string(), &completion), expected, "{} against {:?}", other, completion);
    }

    #[test]
    fn any_text_can_be_read(text in any::<String>()) {
        check_text(&text);
    }

    #[test]
    fn nasty_text_can_be_read(text in nasty(), other in nasty()) {
        check_text(&text);
        let (there, back) = (mark(&text, &other), mark(&other, &text));
        if matches!(there, Verdict::Right | Verdict::Wrong) || matches!(back, Verdict::Right | Verdict::Wrong) {
            prop_assert_eq!(there, back, "{:?} and {:?}", text, other);
        }
    }
}

/// Everything is read in one pass; whoever makes a rule quadratic will wait here for minutes.
#[test]
fn long_texts_come_to_an_end() {
    let pieces = [
        "1",
        "1,",
        "1.",
        "1,234",
        "1 ",
        "1\n",
        "1/",
        "1 /",
        "-",
        "- ",
        "-$",
        "$",
        "*",
        "* ",
        "**",
        "x",
        "x ",
        "a-",
        "{",
        "}",
        "\\frac{",
        "\\frac{1}{",
        "\\boxed{",
        "\\boxed",
        "\\boxed{1}",
        "####",
        "#### ",
        "#### 1. a ",
        "the answer is ",
        "answer ",
        "answer to ",
        "A: ",
        "A:\n",
        "\"answer\": ",
        "\"answer\": \"",
        "<",
        ">",
        "<<",
        "<think>",
        "</think>",
        "\\",
        "\\text{",
        " ",
        "\n",
        "\u{a0}",
        ".",
        ".5",
        "½",
        "Ⅷ",
        "π",
        "1e",
        "1 x ",
        "1 x 10^",
        "(",
        "1(",
        ", ",
        "1%",
        "1}",
        "²",
        "1 million ",
        "é",
    ];
    for piece in pieces {
        let _ = read(&piece.repeat((1 << 17) / piece.len()));
    }
    let _ = read(&format!("\\boxed{{{}}}", "7".repeat(1 << 20)));
    let _ = read(&format!("#### {}", "7".repeat(1 << 20)));
}
