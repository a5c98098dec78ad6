//! Multiple choice by the likelihoods of a real engine, held against its logits step by step.

mod student;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use runtime::{Engine, Options, Student};
use task::{Choice, PromptStyle};
use tristill_eval::{Choosing, Chosen, Error, Likelihoods, choose, compare_choices, read_likelihoods, score_choices};

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

/// Ask into a file of its own.
fn all(engine: &mut Engine, choices: &[Choice], style: PromptStyle) -> Result<Chosen, Error> {
    let folder = tempfile::tempdir().unwrap();
    into(engine, choices, style, &folder.path().join("likelihoods.jsonl"), u64::MAX)
}

/// Ask until so many questions are done.
fn into(engine: &mut Engine, choices: &[Choice], style: PromptStyle, path: &Path, until: u64) -> Result<Chosen, Error> {
    let choosing = Choosing { student: "hash", set: "apples", choices, style };
    choose(engine, &choosing, path, |at| if at.done >= until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
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
    let plain = all(&mut engine, &choices, PromptStyle::Gsm8kZeroshot).unwrap().likelihoods;
    let chat = all(&mut engine, &choices, PromptStyle::Chat).unwrap().likelihoods;
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
    let chosen = all(&mut engine, &choices, PromptStyle::Chat).unwrap();
    assert_eq!((chosen.whole, chosen.likelihoods.len(), chosen.too_long), (true, 5, vec!["p1".to_owned()]));
    assert_eq!(score_choices(&choices, &chosen.likelihoods).not_asked, 1);
    choices[2].options[3] = String::new();
    let error = all(&mut engine, &choices, PromptStyle::Chat).unwrap_err().to_string();
    assert!(error.starts_with("cannot ask question \"p2\": its option \"\" adds no token"), "{error}");
}

#[test]
fn a_stopped_evaluation_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut engine, choices) = (engine(folder.path()), choices());
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    let style = PromptStyle::Chat;
    let all = into(&mut engine, &choices, style, &whole, u64::MAX).unwrap();
    assert!(all.whole && all.resumed == 0);
    for until in [1, 4] {
        let part = into(&mut engine, &choices, style, &stopped, until).unwrap();
        assert_eq!((part.whole, part.likelihoods.len() as u64), (false, until));
    }
    let rest = into(&mut engine, &choices, style, &stopped, u64::MAX).unwrap();
    assert_eq!((rest.whole, rest.resumed), (true, 4));
    assert_eq!(rest.likelihoods, all.likelihoods);
    assert_eq!(all.likelihoods, read_likelihoods(&stopped).unwrap());
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&stopped).unwrap(), "the likelihoods differ");
    let error = into(&mut engine, &choices[..5], style, &stopped, u64::MAX).unwrap_err().to_string();
    assert!(error.contains("prompts was"), "{error}");
}

#[test]
fn two_students_choices_are_compared_by_each_way_to_choose() {
    let found = |right: &[bool]| -> Vec<Likelihoods> {
        let likelihoods = |right: bool, of: usize| (0..4).map(|option| if right == (option == of) { -1.0 } else { -2.0 }).collect();
        let one = |(choice, right): (Choice, &bool)| Likelihoods {
            letters: likelihoods(*right, choice.right),
            texts: likelihoods(true, choice.right),
            id: choice.id,
        };
        choices().into_iter().zip(right).map(one).collect()
    };
    let (first, second) = (found(&[true, false, false, false, true, false]), found(&[true, true, true, true, false]));
    let compared = compare_choices("apples", &choices(), ("a", &first), ("b", &second)).unwrap();
    let names: Vec<&str> = compared.iter().map(|comparison| comparison.set.as_str()).collect();
    assert_eq!(names, ["apples, likeliest letter", "apples, likeliest text", "apples, likeliest text per character"]);
    let table = compared[0].agreement.as_ref().unwrap();
    assert_eq!((compared[0].n, compared[0].left_out), (5, 1));
    assert_eq!((table.both, table.only_first, table.only_second, table.neither), (1, 1, 3, 0));
    assert_eq!(compared[1].difference, 0.0);
}
