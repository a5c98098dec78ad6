//! A question of multiple choice: which of several texts is the answer. It is scored by likelihood, or by the letter that is named.

use serde::{Deserialize, Serialize};

/// One question with its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Unique within its set.
    pub id: String,
    /// The question as asked, without its options.
    pub question: String,
    /// The options without their letters.
    pub options: Vec<String>,
    /// Which option is right, from 0.
    pub right: usize,
}

/// The most options a question may have, so that each has a letter.
pub const MAX_OPTIONS: usize = 26;

impl Choice {
    /// The letter of the option at `index`, from A.
    ///
    /// # Panics
    /// If `index` is 26 or more: the alphabet ends. No set that is read here has such a question.
    pub fn letter(index: usize) -> char {
        assert!(index < MAX_OPTIONS, "a choice has at most {MAX_OPTIONS} options");
        char::from(b'A' + index as u8)
    }

    /// The question with its options one a line and `Answer:` at the end, as lm-eval's MMLU asks; the likelihoods of ` A`, ` B` and so on
    /// after it say which letter is chosen.
    ///
    /// # Panics
    /// If there are more than 26 options.
    pub fn lettered(&self) -> String {
        let options = self.options.iter().enumerate().map(|(index, option)| format!("\n{}. {option}", Choice::letter(index)));
        format!("{}{}\nAnswer:", self.question.trim(), options.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_get_letters() {
        let choice = Choice { id: "1".into(), question: " Which? ".into(), options: vec!["this".into(), "that".into()], right: 1 };
        assert_eq!(choice.lettered(), "Which?\nA. this\nB. that\nAnswer:");
    }
}
