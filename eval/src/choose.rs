//! Asks multiple choice without letting the student write: the option that it finds likeliest is its answer.
//!
//! What was found is in `likelihoods.jsonl` at once, so that a stopped evaluation goes on where it was.
//! Three ways to find the answer stand side by side, as in lm-evaluation-harness: the likeliest letter after the question with its options
//! (its `mmlu`), and the likeliest option text after the question alone, as it is (`acc`) and per character (`acc_norm`).

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use model::{Message, Tokenizer};
use runtime::Engine;
use serde::{Deserialize, Serialize};
use task::{Choice, PromptStyle};

use crate::statistics::{Interval, standard_error, wilson};
use crate::{Error, Head, Journal, Progress, Settings};

/// How likely a student finds the options of one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihoods {
    /// The question's id.
    pub id: String,
    /// The log-probability of each option's letter after the question with its options, in nats.
    pub letters: Vec<f64>,
    /// The log-probability of each option's text after the question alone, in nats.
    pub texts: Vec<f64>,
}

/// How good a student is on a set of multiple choice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChoiceScore {
    /// Questions that count.
    pub n: u64,
    /// Questions without likelihoods, because they fill the student's context.
    pub not_asked: u64,
    /// The share that guessing gets right.
    pub chance: f64,
    /// By the likeliest letter.
    pub letters: Share,
    /// By the likeliest text.
    pub texts: Share,
    /// By the text that is likeliest per character.
    pub texts_by_length: Share,
}

/// A share of right answers with its Wilson 95 % interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The share of right answers.
    pub accuracy: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// Standard error over questions, with Bessel's correction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
}

/// What is asked of whom.
#[derive(Clone, Copy, Debug)]
pub struct Choosing<'a> {
    /// [`student_hash`](crate::student_hash) of the packed file.
    pub student: &'a str,
    /// The set's name.
    pub set: &'a str,
    /// Its questions.
    pub choices: &'a [Choice],
    /// With [`PromptStyle::Chat`] the question is the user's message; otherwise it is plain text as in lm-evaluation-harness.
    pub style: PromptStyle,
}

/// What an evaluation by likelihoods gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// In the set's order.
    pub likelihoods: Vec<Likelihoods>,
    /// Whether every question was asked; false where the caller stopped it.
    pub whole: bool,
    /// Questions whose likelihoods an earlier run had left.
    pub resumed: u64,
    /// The ids of questions that were not asked, because they fill the student's context.
    pub too_long: Vec<String>,
}

/// Ask how likely a student finds each option of each question that `path` has no likelihoods of yet.
///
/// `progress` is called before every question; [`ControlFlow::Break`] stops the evaluation, and what was asked until then is kept.
pub fn choose(
    engine: &mut Engine,
    choosing: &Choosing,
    path: &Path,
    mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Chosen, Error> {
    let Choosing { student, set, choices, style } = *choosing;
    let settings = Settings { prompt: style, max_tokens: 0, samples: 1, temperature: 0.0, top_p: 1.0, seed: 0 };
    let parts = choices.iter().flat_map(|choice| [&choice.id, &choice.question].into_iter().chain(&choice.options));
    let head = Head::new(engine.student().name(), student, set, parts.map(String::as_str), settings);
    let ids = || choices.iter().map(|choice| choice.id.as_str());
    let mut journal: Journal<Likelihoods> = Journal::open(path, head, ids())?;
    let resumed = journal.entries().len() as u64;

    let right: HashMap<&str, usize> = choices.iter().map(|choice| (choice.id.as_str(), choice.right)).collect();
    let is_right = |found: &&Likelihoods| likeliest(&found.letters) == right[found.id.as_str()];
    let rights = journal.entries().iter().filter(is_right).count() as u64;
    let mut at = Progress { done: resumed, wanted: choices.len() as u64, right: rights, tokens: 0 };
    let there: HashSet<String> = journal.entries().iter().map(|found| found.id.clone()).collect();
    let (mut too_long, mut whole) = (Vec::new(), true);
    for choice in choices.iter().filter(|choice| !there.contains(&choice.id)) {
        if progress(&at).is_break() {
            whole = false;
            break;
        }
        match ask(engine, choice, style, &mut at.tokens) {
            Ok(found) => {
                at.done += 1;
                at.right += u64::from(is_right(&&found));
                journal.add(&found)?;
            }
            Err(Error::Student(runtime::Error::Text { .. })) => {
                at.wanted -= 1;
                too_long.push(choice.id.clone());
            }
            Err(error) => return Err(error),
        }
    }
    let likelihoods = if whole { journal.finish(ids())? } else { journal.stop() };
    Ok(Chosen { likelihoods, whole, resumed, too_long })
}

fn ask(engine: &mut Engine, choice: &Choice, style: PromptStyle, tokens: &mut u64) -> Result<Likelihoods, Error> {
    let letters: Vec<String> = (0..choice.options.len()).map(|option| Choice::letter(option).to_string()).collect();
    let (lettered, question) = (choice.lettered(), choice.question.trim());
    let letters_prompt = Prompt { chat: lettered.strip_suffix("\nAnswer:").unwrap_or(&lettered), plain: &lettered };
    let texts_prompt = Prompt { chat: question, plain: &format!("Question: {question}\nAnswer:") };
    Ok(Likelihoods {
        id: choice.id.clone(),
        letters: likelihoods(engine, &choice.id, style, &letters_prompt, &letters, tokens)?,
        texts: likelihoods(engine, &choice.id, style, &texts_prompt, &choice.options, tokens)?,
    })
}

/// Which option a student chose.
pub(crate) type Pick = fn(&Choice, &Likelihoods) -> usize;

/// The ways to find the option that a student chose. Of equally likely options the first counts.
pub(crate) const PICKS: [(&str, Pick); 3] = [
    ("likeliest letter", |_, found| likeliest(&found.letters)),
    ("likeliest text", |_, found| likeliest(&found.texts)),
    ("likeliest text per character", |choice, found| {
        let lengths = choice.options.iter().map(|option| option.chars().count().max(1) as f64);
        likeliest(&found.texts.iter().zip(lengths).map(|(likelihood, length)| likelihood / length).collect::<Vec<f64>>())
    }),
];

/// The questions that were asked, in the set's order, with what was found.
pub(crate) fn asked<'a>(choices: &'a [Choice], likelihoods: &'a [Likelihoods]) -> Vec<(&'a Choice, &'a Likelihoods)> {
    let found: HashMap<&str, &Likelihoods> = likelihoods.iter().map(|likelihoods| (likelihoods.id.as_str(), likelihoods)).collect();
    choices.iter().filter_map(|choice| Some((choice, *found.get(choice.id.as_str())?))).collect()
}

/// Score what [`choose`] found.
pub fn score_choices(choices: &[Choice], likelihoods: &[Likelihoods]) -> ChoiceScore {
    let asked = asked(choices, likelihoods);
    let n = asked.len() as u64;
    let [letters, texts, texts_by_length] = PICKS.map(|(_, pick)| {
        let right: Vec<f64> = asked.iter().map(|(choice, found)| f64::from(u8::from(pick(choice, found) == choice.right))).collect();
        let accuracy = if n == 0 { 0.0 } else { right.iter().sum::<f64>() / n as f64 };
        let Interval { low, high } = wilson(accuracy, n);
        Share { accuracy, low, high, standard_error: standard_error(&right) }
    });
    let chances: f64 = asked.iter().map(|(choice, _)| 1.0 / choice.options.len() as f64).sum();
    let chance = if n == 0 { 0.0 } else { chances / n as f64 };
    ChoiceScore { n, not_asked: choices.len() as u64 - n, chance, letters, texts, texts_by_length }
}

/// A question as the user's message, and as text to go on with.
struct Prompt<'a> {
    chat: &'a str,
    plain: &'a str,
}

fn likelihoods(
    engine: &mut Engine,
    id: &str,
    style: PromptStyle,
    prompt: &Prompt,
    options: &[String],
    tokens: &mut u64,
) -> Result<Vec<f64>, Error> {
    let student = engine.student().clone();
    let fault = |source: model::Error| Error::Prompt { id: id.to_owned(), source };
    let (prompt, space) = match style {
        PromptStyle::Chat => (student.chat().render(&[Message::user(prompt.chat)], true).map_err(fault)?, ""),
        PromptStyle::Gsm8k | PromptStyle::Gsm8kZeroshot | PromptStyle::Gsm8kCot | PromptStyle::Gsm8kCotZeroshot => {
            (prompt.plain.to_owned(), " ")
        }
    };
    let mut all = Vec::new();
    for option in options {
        let (text, from) = with_option(student.tokenizer(), &prompt, &format!("{space}{option}")).map_err(fault)?;
        if text.len() <= from {
            return Err(Error::Option { id: id.to_owned(), option: option.clone() });
        }
        *tokens += text.len() as u64;
        all.push(engine.log_likelihood(&text, from)?.into_iter().map(f64::from).sum());
    }
    Ok(all)
}

/// The tokens of prompt and option, and how many of them are the prompt's. Both are tokenised together, as a text that holds both
/// would be.
fn with_option(tokenizer: &Tokenizer, prompt: &str, option: &str) -> Result<(Vec<u32>, usize), model::Error> {
    let from = tokenizer.encode(prompt)?.len();
    Ok((tokenizer.encode(&format!("{prompt}{option}"))?, from))
}

/// The first of the largest.
fn likeliest(values: &[f64]) -> usize {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = place;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ways_to_choose_are_scored() {
        let choice = |id: &str, options: [&str; 2], right| Choice {
            id: id.into(),
            question: "Which?".into(),
            options: options.map(str::to_owned).to_vec(),
            right,
        };
        let choices = [choice("a", ["no", "a long option"], 1), choice("b", ["x", "y"], 0), choice("c", ["x", "y"], 0)];
        let likelihoods = [
            Likelihoods { id: "a".into(), letters: vec![-1.0, -1.0], texts: vec![-4.0, -13.0] },
            Likelihoods { id: "b".into(), letters: vec![-1.0, -2.0], texts: vec![-2.0, -1.0] },
        ];
        let score = score_choices(&choices, &likelihoods);
        assert_eq!((score.n, score.not_asked, score.chance), (2, 1, 0.5));
        // Of equal letters the first is taken: wrong for a.
        let shares = [&score.letters, &score.texts, &score.texts_by_length].map(|share| share.accuracy);
        assert_eq!(shares, [0.5, 0.0, 0.5]);
        assert!(score.letters.low < 0.5 && score.letters.high > 0.5);
        assert_eq!(score_choices(&choices, &[]).n, 0);
    }
}
