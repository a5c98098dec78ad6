//! Multiple choice by the likelihoods of a real engine, held against its logits step by step.

mod student;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use runtime::{Engine, Options, Student};
use task::{Choice, PromptStyle};
use tristill_eval::{Error, Likelihoods, choose, score_choices};

fn engine(folder: &Path) -> Engine {
    let student = Student::open(&student::pack(folder)).unwrap();
    Engine::new(Arc::new(student), &Options { threads: 1, ..Options::default() }).unwrap()
}

fn choices() -> Vec<Choice> {
    let choice = |(i, problem): (usize, task::Problem)| Choice {
        id: problem.id,
        question: problem.question,
        options: (0..4).map(|option| format!("{} apples", i + option)).collect(),
        right: i % 4,
    };
    student::problems().into_iter().take(6).enumerate().map(choice).collect()
}

fn all(engine: &mut Engine, choices: &[Choice], style: PromptStyle) -> Result<Vec<Likelihoods>, Error> {
    choose(engine, choices, style, |_| ControlFlow::Continue(()))
}

/// The log-probability of a text after another, one token at a time.
fn by_hand(engine: &mut Engine, prompt: &str, option: &str) -> f64 {
    let student = engine.student().clone();
    let encode = |text: &str| student.tokenizer().encode(text).unwrap();
    let (from, tokens) = (encode(prompt).len(), encode(&format!("{prompt}{option}")));
    let mut sum = 0.0;
    for place in from..tokens.len() {
        let logits = engine.logits(&tokens[..place]).unwrap();
        let last: Vec<f64> = logits[logits.len() - student.config().vocab..].iter().map(|logit| f64::from(*logit)).collect();
        sum += last[tokens[place] as usize] - last.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    }
    sum
}

#[test]
fn likelihoods_are_those_of_the_logits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut engine, choices) = (engine(folder.path()), choices());
    let plain = all(&mut engine, &choices, PromptStyle::Gsm8kZeroshot).unwrap();
    let chat = all(&mut engine, &choices, PromptStyle::Chat).unwrap();
    for (i, choice) in choices.iter().enumerate() {
        let open = |text: &str| format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
        for option in 0..4 {
            let (letter, text) = (Choice::letter(option), &choice.options[option]);
            let lettered = choice.lettered();
            let question = lettered.strip_suffix("\nAnswer:").unwrap();
            for (found, prompt, said) in [
                (plain[i].letters[option], lettered.clone(), format!(" {letter}")),
                (plain[i].texts[option], format!("Question: {}\nAnswer:", choice.question), format!(" {text}")),
                (chat[i].letters[option], open(question), letter.to_string()),
                (chat[i].texts[option], open(&choice.question), text.clone()),
            ] {
                let wanted = by_hand(&mut engine, &prompt, &said);
                assert!((found - wanted).abs() < 1e-3, "{found} is not {wanted} for {said:?} after {prompt:?}");
            }
        }
    }
    let score = score_choices(&choices, &plain);
    assert_eq!((score.n, score.not_asked, score.chance), (6, 0, 0.25));
}

#[test]
fn what_cannot_be_asked_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (mut engine, mut choices) = (engine(folder.path()), choices());
    choices[1].question = "and then 7 ".repeat(200);
    let likelihoods = all(&mut engine, &choices, PromptStyle::Chat).unwrap();
    assert_eq!((likelihoods.len(), score_choices(&choices, &likelihoods).not_asked), (5, 1));
    choices[2].options[3] = String::new();
    let error = all(&mut engine, &choices, PromptStyle::Chat).unwrap_err().to_string();
    assert!(error.starts_with("cannot ask question \"p2\": its option \"\" adds no token"), "{error}");
    let stopped =
        choose(
            &mut engine,
            &choices,
            PromptStyle::Chat,
            |at| if at.done == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) },
        );
    assert_eq!(stopped.unwrap().len(), 1);
}
