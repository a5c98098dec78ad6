//! What must hold of everything that the teacher writes. The arithmetic is checked by an evaluator that shares nothing with
//! the code that wrote it: it reads the text.

use std::collections::{BTreeSet, HashSet};
use std::fs;

use sha2::{Digest, Sha256};
use task::Trace;

use super::template::{Family, Template};
use super::words::{self, Things};
use super::{Operation, SynthConfig, all_templates, synthesize, write};

fn quick(problems: usize) -> SynthConfig {
    SynthConfig { problems, held_out: 300, unseen: 100, ..SynthConfig::default() }
}

fn wide(problems: usize) -> SynthConfig {
    use Operation::*;
    SynthConfig { steps: [1, 4], max_operand: 100, operations: vec![Add, Subtract, Multiply, Divide, Percent, Fraction], ..quick(problems) }
}

#[test]
fn templates_are_many_and_consistent() {
    let count = |family| all_templates().filter(|template| template.family == family).count();
    assert!(count(Family::Known) >= 24 && count(Family::Unseen) >= 8);
    let names: HashSet<_> = all_templates().map(|template| template.name).collect();
    assert_eq!(names.len(), all_templates().count(), "a template's name stands twice");
    for template in all_templates() {
        assert_eq!(template.operations().len(), template.work.len(), "{}: one step to a line", template.name);
        for (ask, &(letter, _)) in template.asks.iter().flat_map(|ask| template.numbers.iter().map(move |n| (ask, n))) {
            let stated = ask.contains(&format!("{{{letter}}}")) || ask.contains(&format!("{{{letter} "));
            assert!(stated, "{}: {ask:?} does not state {letter}", template.name);
        }
    }
    for steps in 1..=4 {
        for family in [Family::Known, Family::Unseen] {
            assert!(!wide(1).templates(family, steps).is_empty(), "{family:?} {steps}");
        }
    }
}

#[test]
fn structures_of_unseen_templates_are_not_known_ones_in_other_words() {
    let known: HashSet<_> = all_templates().filter(|t| t.family == Family::Known).map(shape).collect();
    // One step leaves no room for a new structure, only for a new question.
    for template in all_templates().filter(|t| t.family == Family::Unseen && t.operations().len() > 1) {
        assert!(!known.contains(&shape(template)), "{} is a known structure", template.name);
    }
}

/// The steps of a template with its letters renamed in the order of their use.
fn shape(template: &Template) -> String {
    let mut letters = Vec::new();
    let mut rename = |letter: char| {
        if !letters.contains(&letter) {
            letters.push(letter);
        }
        (b'a' + letters.iter().position(|&known| known == letter).unwrap() as u8) as char
    };
    let slots = template.work.iter().flat_map(|line| line.split('{').skip(1).filter_map(|rest| rest.split('}').next()));
    let steps = slots.filter(|slot| slot.contains(" = "));
    steps
        .map(|slot| slot.chars().map(|c| if c.is_ascii_lowercase() && c != 'x' { rename(c) } else { c }).collect())
        .collect::<Vec<String>>()
        .join("; ")
}

#[test]
fn every_chain_of_thought_is_true_and_ends_in_the_answer() {
    for config in [quick(1_500), wide(4_000)] {
        for trace in synthesize(&config).unwrap().traces {
            let reference: i64 = trace.reference.as_ref().unwrap().parse().unwrap();
            let results: Vec<i64> = trace.reasoning.lines().map(|line| line_result(line, &trace)).collect();
            assert_eq!(results.last(), Some(&reference), "{trace:?}");
            assert_eq!(trace.answer, format!("The answer is {reference}."));
            assert_eq!(task::mark(&trace.completion(), &reference.to_string()), task::Verdict::Right, "{trace:?}");
            assert!(results.iter().all(|result| (1..=9_999).contains(result)), "{trace:?}");
            only_uses_known_numbers(&trace, &results);
        }
    }
}

/// Checks the line of equal expressions in a line of reasoning, and gives their value.
fn line_result(line: &str, trace: &Trace) -> i64 {
    let expressions: Vec<_> = equation(line).split(" = ").map(str::to_owned).collect();
    assert!(expressions.len() >= 2, "no step in {line:?} of {trace:?}");
    let values: BTreeSet<(i64, i64)> = expressions.iter().map(|expression| value(expression)).collect();
    assert_eq!(values.len(), 1, "{line:?} of {trace:?} is not true");
    let last = expressions.last().unwrap();
    last.parse().unwrap_or_else(|_| panic!("{line:?} ends in {last:?}"))
}

/// The part of a line that is made of numbers and signs alone, which stands at its end.
fn equation(line: &str) -> String {
    let is_part =
        |word: &&str| ["+", "-", "x", "/", "=", "of"].contains(word) || word.chars().all(|c| c.is_ascii_digit() || c == '%' || c == '/');
    let words: Vec<&str> = line.strip_suffix('.').expect("a full stop").split(' ').collect();
    let start = words.len() - words.iter().rev().take_while(|word| is_part(word)).count();
    words[start..].join(" ")
}

/// An exact fraction: products and quotients first, from the left.
fn value(expression: &str) -> (i64, i64) {
    let mut sum = (0, 1);
    let mut sign = 1;
    let mut term: Option<(i64, i64)> = None;
    let mut pending = "x";
    for word in expression.split(' ') {
        match word {
            "+" | "-" => {
                sum = plus(sum, term.take().expect("a term before the sign"), sign);
                sign = if word == "+" { 1 } else { -1 };
                pending = "x";
            }
            "x" | "/" => pending = word,
            "of" => pending = "x",
            number => {
                let (top, bottom) = atom(number);
                term = Some(match (term, pending) {
                    (None, _) => (top, bottom),
                    (Some((a, b)), "/") => (a * bottom, b * top),
                    (Some((a, b)), _) => (a * top, b * bottom),
                });
            }
        }
    }
    reduced(plus(sum, term.expect("a last term"), sign))
}

fn atom(word: &str) -> (i64, i64) {
    if let Some(percent) = word.strip_suffix('%') {
        return (percent.parse().unwrap(), 100);
    }
    match word.split_once('/') {
        Some((top, bottom)) => (top.parse().unwrap(), bottom.parse().unwrap()),
        None => (word.parse().unwrap(), 1),
    }
}

fn plus((a, b): (i64, i64), (c, d): (i64, i64), sign: i64) -> (i64, i64) {
    (a * d + sign * c * b, b * d)
}

fn reduced((a, b): (i64, i64)) -> (i64, i64) {
    let (mut x, mut y) = (a.abs(), b.abs());
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x * b.signum(), b.abs() / x)
}

#[test]
fn the_evaluator_finds_mistakes() {
    assert_eq!(equation("All 4 bags hold 47 x 6 = 40 x 6 + 7 x 6 = 282."), "47 x 6 = 40 x 6 + 7 x 6 = 282");
    assert_eq!(value("40 x 6 + 7 x 6"), (282, 1));
    assert_eq!(value("100 - 30 - 7"), (63, 1));
    assert_eq!(value("25% of 80"), value("80 / 4"));
    assert_eq!(value("1/3 of 60"), (20, 1));
    assert_ne!(value("84 / 8"), value("10"));
}

/// What a step starts from must stand in the question or be an earlier result, and every number of the question must be used.
fn only_uses_known_numbers(trace: &Trace, results: &[i64]) {
    let stated = numbers_in(&trace.question);
    let mut known: HashSet<String> = stated.iter().cloned().collect();
    let said = [("twice", "2"), ("dozen", "12"), ("half", "1/2"), ("a third", "1/3"), ("a quarter", "1/4"), ("a fifth", "1/5")];
    known.extend(said.iter().filter(|(word, _)| trace.question.contains(word)).map(|(_, number)| number.to_string()));
    let mut used = HashSet::new();
    for (line, result) in trace.reasoning.lines().zip(results) {
        let equation = equation(line);
        let start = equation.split(" = ").next().unwrap();
        for word in start.split(' ').filter(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
            assert!(known.contains(word), "{word} comes from nowhere in {trace:?}");
            used.insert(word.to_owned());
        }
        known.insert(result.to_string());
    }
    assert!(stated.iter().all(|number| used.contains(number)), "a number is not used in {trace:?}");
}

fn numbers_in(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '%');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn questions_read_as_english() {
    let synthesis = synthesize(&SynthConfig { unseen: 1_000, ..wide(6_000) }).unwrap();
    let questions = synthesis.traces.iter().map(|trace| &trace.question);
    for question in questions.chain(synthesis.unseen.iter().map(|problem| &problem.question)) {
        assert!(question.is_ascii() && !question.contains(['{', '}', '[', ']', '|']), "{question:?}");
        assert!(question.ends_with('?') && !question.contains("  ") && !question.contains(" ."), "{question:?}");
        assert!(question.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit()), "{question:?}");
        assert!(question.split(' ').count() <= 45, "{question:?}");
        let sentences = question.split_inclusive(['.', '?']).map(str::trim_start);
        assert!(!sentences.into_iter().any(|s| s.starts_with(|c: char| c.is_ascii_lowercase())), "{question:?}");
        let words: Vec<&str> = question.split([' ', '.', ',', '?']).collect();
        assert!(!words.windows(2).any(|pair| pair == ["1", pair[1]]), "a lone 1 in {question:?}");
    }
}

#[test]
fn held_out_problems_share_nothing_with_training() {
    for config in [quick(2_500), wide(2_500)] {
        let synthesis = synthesize(&config).unwrap();
        let trained: HashSet<String> = synthesis.traces.iter().map(|trace| normalized(&trace.question)).collect();
        let masked: HashSet<String> = synthesis.traces.iter().map(|trace| without_words(&trace.question)).collect();
        for problem in synthesis.held_out.iter().chain(&synthesis.unseen) {
            assert!(!trained.contains(&normalized(&problem.question)), "{problem:?}");
            assert!(!masked.contains(&without_words(&problem.question)), "only the names are new: {problem:?}");
        }
        let trained: HashSet<&str> = synthesis.traces.iter().map(|trace| template_of(&trace.id)).collect();
        assert!(synthesis.held_out.iter().all(|problem| trained.contains(template_of(&problem.id))));
        assert!(synthesis.unseen.iter().all(|problem| !trained.contains(template_of(&problem.id))));
        assert!(synthesis.held_out.iter().all(|problem| problem.steps.is_some()));
        let other_seed = synthesize(&SynthConfig { seed: config.seed + 1, ..config }).unwrap();
        assert!(!other_seed.held_out.iter().any(|problem| masked.contains(&without_words(&problem.question))));
    }
}

fn template_of(id: &str) -> &str {
    id.rsplit_once('-').unwrap().0
}

fn normalized(question: &str) -> String {
    question.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").to_lowercase()
}

/// A question in which people, things and places are all the same.
fn without_words(question: &str) -> String {
    let things = [Things::Keepsakes, Things::Food, Things::Goods, Things::Plants, Things::Animals, Things::Reading];
    let nouns = things.iter().flat_map(|things| things.all()).chain(words::CONTAINERS);
    let mut known: Vec<&str> = nouns.flat_map(|noun| [noun.many, noun.one]).collect();
    known.extend(words::SHE.iter().chain(words::HE).chain(words::PLACES));
    known.extend(["She", "He", "Her", "His", "she", "he", "her", "him", "his", "An", "A", "an", "a"]);
    known.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let mut text = question.replace("'s", "");
    for word in known {
        text = format!(" {text}").replace(&format!(" {word}"), " *").trim_start().to_owned();
    }
    text
}

#[test]
fn same_seed_same_bytes_and_a_longer_set_begins_with_the_shorter() {
    let (short, long) = (synthesize(&quick(100)).unwrap(), synthesize(&quick(400)).unwrap());
    assert_eq!(short.traces[..], long.traces[..100]);
    assert_eq!(short, synthesize(&quick(100)).unwrap());
    assert_ne!(short.traces, synthesize(&SynthConfig { seed: 2, ..quick(100) }).unwrap().traces);
    assert_eq!(long.traces.iter().map(|trace| &trace.question).collect::<HashSet<_>>().len(), 400);
}

/// Any change of what the teacher writes shows here. A wished-for change: put the new value in.
#[test]
fn the_teacher_writes_what_it_always_wrote() {
    let hash = |config: &SynthConfig| {
        let synthesis = synthesize(config).unwrap();
        let text = serde_json::to_string(&(synthesis.traces, synthesis.held_out, synthesis.unseen)).unwrap();
        format!("{:x}", Sha256::digest(text))[..16].to_owned()
    };
    assert_eq!([hash(&quick(500)), hash(&wide(500))], ["ff1c194abd4d84b4", "0846f4e1ebd8b612"]);
}

#[test]
fn files_hold_the_messages_layout() {
    let folder = tempfile::tempdir().unwrap();
    let config = wide(50);
    let written = write(&config, &folder.path().join("new")).unwrap();
    let synthesis = synthesize(&config).unwrap();
    let text = fs::read_to_string(&written.train).unwrap();
    assert_eq!(text.lines().count(), 50);
    for (line, trace) in text.lines().zip(&synthesis.traces) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let expected = serde_json::json!({
            "id": trace.id,
            "messages": [
                {"role": "user", "content": trace.question},
                {"role": "assistant", "content": trace.completion()},
            ],
            "reference": trace.reference,
        });
        assert_eq!(line, expected);
    }
    let problems = fs::read_to_string(&written.held_out).unwrap();
    let read: Vec<task::Problem> = problems.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, synthesis.held_out);
    assert_eq!(written.lengths.values().map(|lengths| lengths.traces).sum::<usize>(), 50);
    assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 3, "something unfinished is left");

    let error = write(&config, &written.train).unwrap_err().to_string();
    assert!(error.contains("train.jsonl"), "{error}");
}

#[test]
fn bad_configs_are_refused_with_key_value_and_limit() {
    let cases = [
        (SynthConfig { problems: 0, ..quick(1) }, "problems is 0, but must be from 1 to 5000000"),
        (SynthConfig { steps: [2, 1], ..quick(1) }, "steps is [2, 1], but must be [least, most] with 1 <= least <= most <= 4"),
        (SynthConfig { steps: [1, 5], ..quick(1) }, "steps is [1, 5], but must be [least, most] with 1 <= least <= most <= 4"),
        (SynthConfig { max_operand: 9, ..quick(1) }, "max_operand is 9, but must be from 10 to 1000"),
        (
            SynthConfig { operations: vec![Operation::Multiply], ..quick(1) },
            "operations is [multiply], but must be enough for a known template of 2 steps; add one of those missing",
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(config.check().unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_smallest_and_the_largest_range_work() {
    for max_operand in [10, 1_000] {
        let config = SynthConfig { max_operand, problems: 1_000, ..wide(1) };
        let synthesis = synthesize(&config).unwrap();
        let stated = synthesis.traces.iter().flat_map(|trace| numbers_in(&trace.question));
        assert!(stated.filter_map(|number| number.parse::<u32>().ok()).all(|number| number <= max_operand));
    }
}
