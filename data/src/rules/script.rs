//! The scripts that a trace is written in. Teachers fall into another language in the middle of their reasoning; the letters tell.

use serde::{Deserialize, Serialize};
use task::Trace;

use super::{Drop, Rule};

/// Up to this share of the letters may be of other scripts: a quoted name, a variable.
const OTHER_LETTERS: f64 = 0.05;

/// A script, or a group of scripts that are written together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// English and most languages of Europe, Africa and America.
    Latin,
    /// Also the letters of formulas.
    Greek,
    /// Russian and its neighbours.
    Cyrillic,
    /// Arabic, Persian, Urdu.
    Arabic,
    /// Hebrew and Yiddish.
    Hebrew,
    /// The scripts of India, from Devanagari to Malayalam.
    Indic,
    /// Chinese, and the Chinese characters of Japanese.
    Han,
    /// Hiragana and katakana.
    Kana,
    /// Korean.
    Hangul,
    /// Thai and Lao.
    Thai,
    /// Any other.
    Other,
}

impl Script {
    /// The script of a letter. Source: the blocks of the Unicode standard, version 16.
    fn of(letter: char) -> Script {
        match letter as u32 {
            0x0041..=0x024f | 0x1e00..=0x1eff | 0x2c60..=0x2c7f | 0xa720..=0xa7ff | 0xff21..=0xff5a | 0x1_d400..=0x1_d6a5 => Script::Latin,
            0x0370..=0x03ff | 0x1f00..=0x1fff | 0x1_d6a8..=0x1_d7cb => Script::Greek,
            0x0400..=0x052f | 0x1c80..=0x1c8f | 0x2de0..=0x2dff | 0xa640..=0xa69f => Script::Cyrillic,
            0x0600..=0x06ff | 0x0750..=0x077f | 0x08a0..=0x08ff | 0xfb50..=0xfdff | 0xfe70..=0xfeff => Script::Arabic,
            0x0590..=0x05ff | 0xfb1d..=0xfb4f => Script::Hebrew,
            0x0900..=0x0d7f => Script::Indic,
            0x2e80..=0x2fdf | 0x3005..=0x3007 | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff => Script::Han,
            0x3040..=0x30ff | 0x31f0..=0x31ff | 0xff66..=0xff9f => Script::Kana,
            0x1100..=0x11ff | 0x3130..=0x318f | 0xac00..=0xd7ff => Script::Hangul,
            0x0e00..=0x0eff => Script::Thai,
            _ => Script::Other,
        }
    }

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Drops a trace with too many letters of other scripts than the allowed ones; none means that all are allowed.
pub(crate) fn check(trace: &Trace, allowed: &[Script]) -> Result<(), Drop> {
    if allowed.is_empty() {
        return Ok(());
    }
    let letters =
        [&trace.question, &trace.reasoning, &trace.answer].into_iter().flat_map(|text| text.chars()).filter(|c| c.is_alphabetic());
    let (mut all, mut other, mut first) = (0u64, 0u64, None);
    for letter in letters {
        all += 1;
        let script = Script::of(letter);
        if !allowed.contains(&script) {
            other += 1;
            first.get_or_insert(script);
        }
    }
    let share = other as f64 / all.max(1) as f64;
    match first {
        Some(script) if share > OTHER_LETTERS => {
            let allowed = allowed.iter().map(|script| script.name()).collect::<Vec<_>>().join(", ");
            let detail = format!("{:.0} % of its letters are not {allowed}; the first such one is {}", 100.0 * share, script.name());
            Err(Drop::new(Rule::Script, detail))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(reasoning: &str, allowed: &[Script]) -> Option<String> {
        let trace = Trace {
            id: String::new(),
            system: None,
            question: "What is the angle?".into(),
            reasoning: reasoning.into(),
            answer: "90".into(),
            reference: None,
        };
        check(&trace, allowed).err().map(|drop| drop.detail)
    }

    #[test]
    fn a_trace_that_changes_its_language_is_told_from_one_with_a_symbol() {
        let chinese = "Let me think. 让我想想这个问题，答案是九十度。";
        assert_eq!(detail(chinese, &[Script::Latin]).unwrap(), "37 % of its letters are not latin; the first such one is han");
        assert_eq!(detail(chinese, &[Script::Latin, Script::Han]), None);
        assert_eq!(detail(chinese, &[]), None);
        assert_eq!(detail("The angle α is a right one, as one sees.", &[Script::Latin]), None);
        assert!(detail("Ответ девяносто", &[Script::Latin]).unwrap().ends_with("cyrillic"));
    }

    #[test]
    fn letters_know_their_script() {
        let cases = [
            ('é', Script::Latin),
            ('ж', Script::Cyrillic),
            ('は', Script::Kana),
            ('한', Script::Hangul),
            ('ש', Script::Hebrew),
            ('ก', Script::Thai),
        ];
        for (letter, script) in cases {
            assert_eq!(Script::of(letter), script, "{letter}");
        }
        assert_eq!(
            (Script::of('字'), Script::of('ع'), Script::of('क'), Script::of('π')),
            (Script::Han, Script::Arabic, Script::Indic, Script::Greek)
        );
    }
}
