//! Asks multiple choice without letting the student write: the option that it finds likeliest is its answer.
//!
//! Three ways to find it stand side by side, as in lm-evaluation-harness: the likeliest letter after the question with its options
//! (its `mmlu`), and the likeliest option text after the question alone, as it is (`acc`) and per character (`acc_norm`).

use std::collections::HashMap;
use std::ops::ControlFlow;

use model::{Message, Tokenizer};
use runtime::Engine;
use serde::{Deserialize, Serialize};
use task::{Choice, PromptStyle};

use crate::statistics::{Interval, wilson};
use crate::{Error, Progress};

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
}

/// Ask how likely a student finds each option of each question. `progress` is called before every question;
/// [`ControlFlow::Break`] ends the asking, and what was asked until then is returned. A question that fills the student's context
/// has no entry.
///
/// With [`PromptStyle::Chat`] the question is the user's message; otherwise it is plain text as in lm-evaluation-harness.
pub fn choose(
    engine: &mut Engine,
    choices: &[Choice],
    style: PromptStyle,
    mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Vec<Likelihoods>, Error> {
    let mut at = Progress { wanted: choices.len() as u64, ..Progress::default() };
    let mut all = Vec::new();
    for choice in choices {
        if progress(&at).is_break() {
            break;
        }
        let letters: Vec<String> = (0..choice.options.len()).map(|option| Choice::letter(option).to_string()).collect();
        let (lettered, question) = (choice.lettered(), choice.question.trim());
        let letters_prompt = Prompt { chat: lettered.strip_suffix("\nAnswer:").unwrap_or(&lettered), plain: &lettered };
        let texts_prompt = Prompt { chat: question, plain: &format!("Question: {question}\nAnswer:") };
        let by_letter = likelihoods(engine, &choice.id, style, &letters_prompt, &letters, &mut at.tokens);
        let by_text = likelihoods(engine, &choice.id, style, &texts_prompt, &choice.options, &mut at.tokens);
        match (by_letter, by_text) {
            (Ok(letters), Ok(texts)) => {
                at.right += u64::from(likeliest(&letters) == choice.right);
                at.done += 1;
                all.push(Likelihoods { id: choice.id.clone(), letters, texts });
            }
            (Err(Error::Student(runtime::Error::Context { .. })), _) | (_, Err(Error::Student(runtime::Error::Context { .. }))) => {
                at.wanted -= 1;
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        }
    }
    Ok(all)
}

/// Score what [`choose`] found. Of equally likely options the first counts.
pub fn score_choices(choices: &[Choice], likelihoods: &[Likelihoods]) -> ChoiceScore {
    let found: HashMap<&str, &Likelihoods> = likelihoods.iter().map(|likelihoods| (likelihoods.id.as_str(), likelihoods)).collect();
    let asked: Vec<(&Choice, &Likelihoods)> = choices.iter().filter_map(|choice| Some((choice, *found.get(choice.id.as_str())?))).collect();
    let n = asked.len() as u64;
    let share = |picked: &dyn Fn(&Choice, &Likelihoods) -> usize| {
        let right = asked.iter().filter(|(choice, likelihoods)| picked(choice, likelihoods) == choice.right).count();
        let accuracy = if n == 0 { 0.0 } else { right as f64 / n as f64 };
        let Interval { low, high } = wilson(accuracy, n);
        Share { accuracy, low, high }
    };
    let per_character = |choice: &Choice, likelihoods: &Likelihoods| {
        let lengths = choice.options.iter().map(|option| option.chars().count().max(1) as f64);
        likeliest(&likelihoods.texts.iter().zip(lengths).map(|(likelihood, length)| likelihood / length).collect::<Vec<f64>>())
    };
    let chances: f64 = asked.iter().map(|(choice, _)| 1.0 / choice.options.len() as f64).sum();
    ChoiceScore {
        n,
        not_asked: choices.len() as u64 - n,
        chance: if n == 0 { 0.0 } else { chances / n as f64 },
        letters: share(&|_, likelihoods| likeliest(&likelihoods.letters)),
        texts: share(&|_, likelihoods| likeliest(&likelihoods.texts)),
        texts_by_length: share(&per_character),
    }
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
