//! How a problem is put into words for a student.
//!
//! Either as a chat turn (the student's own template goes around it elsewhere), or exactly as lm-evaluation-harness does, examples
//! included, so that a score can be held against published ones.

mod exemplars;
mod sampler;

use serde::{Deserialize, Serialize};

use crate::{Error, HarnessTask, Problem};
use exemplars::CHAIN_OF_THOUGHT;
use sampler::ShotSampler;

/// How questions are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptStyle {
    /// The question is the user's message, and nothing else is said.
    Chat,
    /// lm-eval's `gsm8k` with five examples.
    Gsm8k,
    /// lm-eval's `gsm8k` without examples.
    Gsm8kZeroshot,
    /// lm-eval's `gsm8k_cot` with its eight fixed examples.
    Gsm8kCot,
    /// lm-eval's `gsm8k_cot_zeroshot`.
    Gsm8kCotZeroshot,
}

/// What a student is given, and what ends its answer besides its own end of turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What it is given.
    pub content: PromptContent,
    /// Strings that end the answer and do not belong to it.
    pub stop: Vec<String>,
}

/// What a student is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptContent {
    /// The user's message of a chat.
    Chat(String),
    /// A text to go on with, without any template.
    Text(String),
}

/// How many examples lm-eval's `gsm8k` gives.
const GSM8K_SHOTS: usize = 5;

impl PromptStyle {
    /// The lm-eval task whose readings fit answers to this prompt.
    pub fn harness_task(self) -> HarnessTask {
        match self {
            PromptStyle::Chat | PromptStyle::Gsm8k | PromptStyle::Gsm8kZeroshot => HarnessTask::Gsm8k,
            PromptStyle::Gsm8kCot => HarnessTask::Gsm8kCot,
            PromptStyle::Gsm8kCotZeroshot => HarnessTask::Gsm8kCotZeroshot,
        }
    }

    /// Whether examples have to be given to [`prompts`].
    pub fn needs_examples(self) -> bool {
        self == PromptStyle::Gsm8k
    }
}

/// The prompts of a whole set, in its order.
///
/// `examples` is the training set that lm-eval's `gsm8k` draws from: for GSM8K all 7,473 problems in the published order, because the
/// draws are those of lm-eval's seed 1234, one after the other over the set. Other styles ignore it.
///
/// # Errors
/// If the style needs examples and there are fewer than five.
pub fn prompts(style: PromptStyle, problems: &[Problem], examples: &[Problem]) -> Result<Vec<Prompt>, Error> {
    if style.needs_examples() && examples.len() < GSM8K_SHOTS {
        return Err(Error::Examples { found: examples.len(), needed: GSM8K_SHOTS });
    }
    let mut sampler = ShotSampler::new();
    Ok(problems
        .iter()
        .map(|problem| {
            let question = &problem.question;
            let content = match style {
                PromptStyle::Chat => PromptContent::Chat(question.clone()),
                PromptStyle::Gsm8k => {
                    let shots = sampler.sample(examples.len(), GSM8K_SHOTS).into_iter().map(|index| &examples[index]);
                    let shots = shots.map(|shot| (shot.question.as_str(), shot.answer.as_str()));
                    PromptContent::Text(with_shots("Question: ", "Answer:", shots, question))
                }
                PromptStyle::Gsm8kZeroshot => PromptContent::Text(with_shots("Question: ", "Answer:", [], question)),
                PromptStyle::Gsm8kCot => PromptContent::Text(with_shots("Q: ", "A:", CHAIN_OF_THOUGHT, question)),
                PromptStyle::Gsm8kCotZeroshot => PromptContent::Text(with_shots("Q: ", "A: Let's think step by step.", [], question)),
            };
            Prompt { content, stop: stop(style) }
        })
        .collect())
}

/// Solved examples and the question in lm-eval's form: a space before an answer, a blank line after it.
fn with_shots<'a>(ask: &str, reply: &str, shots: impl IntoIterator<Item = (&'a str, &'a str)>, question: &str) -> String {
    let mut text = String::new();
    for (question, answer) in shots {
        text += &format!("{ask}{question}\n{reply} {answer}\n\n");
    }
    text + &format!("{ask}{question}\n{reply}")
}

/// lm-eval's `until` of the task; a chat ends with the student's turn.
fn stop(style: PromptStyle) -> Vec<String> {
    let next_question = match style {
        PromptStyle::Chat => return Vec::new(),
        PromptStyle::Gsm8k | PromptStyle::Gsm8kZeroshot => "Question:",
        PromptStyle::Gsm8kCot | PromptStyle::Gsm8kCotZeroshot => "Q:",
    };
    [next_question, "</s>", "<|im_end|>"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(id: usize) -> Problem {
        Problem { id: id.to_string(), question: format!("q{id}?"), answer: format!("a{id}\n#### {id}"), steps: None }
    }

    fn text(prompt: &Prompt) -> &str {
        match &prompt.content {
            PromptContent::Text(text) | PromptContent::Chat(text) => text,
        }
    }

    #[test]
    fn five_shots_are_drawn_anew_for_each_problem() {
        let examples: Vec<Problem> = (0..7473).map(problem).collect();
        let prompts = prompts(PromptStyle::Gsm8k, &[problem(9000), problem(9001)], &examples).unwrap();
        let expected = [6374, 3610, 957, 61, 742].map(|id| format!("Question: q{id}?\nAnswer: a{id}\n#### {id}\n\n")).concat();
        assert_eq!(text(&prompts[0]), expected + "Question: q9000?\nAnswer:");
        assert!(text(&prompts[1]).starts_with("Question: q7462?\nAnswer: a7462"));
        assert_eq!(prompts[0].stop, ["Question:", "</s>", "<|im_end|>"]);
    }

    #[test]
    fn the_other_styles_need_no_examples() {
        let one = |style| prompts(style, &[problem(1)], &[]).unwrap().remove(0);
        assert_eq!(one(PromptStyle::Chat), Prompt { content: PromptContent::Chat("q1?".to_owned()), stop: vec![] });
        assert_eq!(text(&one(PromptStyle::Gsm8kZeroshot)), "Question: q1?\nAnswer:");
        assert_eq!(text(&one(PromptStyle::Gsm8kCotZeroshot)), "Q: q1?\nA: Let's think step by step.");
        let chain = one(PromptStyle::Gsm8kCot);
        assert!(text(&chain).starts_with("Q: There are 15 trees in the grove."));
        assert!(text(&chain).ends_with("23 - 15 is 8. The answer is 8.\n\nQ: q1?\nA:"));
        assert_eq!(text(&chain).matches("\nA: ").count(), 8);
        assert!(matches!(prompts(PromptStyle::Gsm8k, &[problem(1)], &[]), Err(Error::Examples { found: 0, needed: 5 })));
    }
}
