//! Students whose heads are large enough that tokens are decoded without all of their products: the answers are those of all.

use std::sync::Arc;

use model::Architecture;

use super::{answers, engine, prompt, table};
use crate::{
    Draft, Engine, Event, Options, Request, Sampling, Student,
    kernel::{Bits, Isa},
};

/// Students whose heads are large enough for shortlists: one of high bits and one of ternary weights.
fn large_heads() -> [Arc<Student>; 2] {
    let config = table(Architecture::Bitnet).resolve(1 << 15).unwrap();
    [Bits::Apart, Bits::Four].map(|bits| Arc::new(Student::random(&config, bits, 3).unwrap()))
}

#[test]
fn running_ahead_changes_nothing_but_the_number_of_steps() {
    large_heads().iter().for_each(running_ahead_changes_nothing);
}

fn running_ahead_changes_nothing(student: &Arc<Student>) {
    let sampled = |temperature, top_k, top_p, repetition_penalty| Sampling {
        temperature,
        top_k,
        top_p,
        repetition_penalty,
        seed: 7,
        ..Sampling::greedy()
    };
    let greedy = Request::greedy(prompt(20, 1), 130);
    let mut requests = vec![greedy.clone(), Request { log_probabilities: true, ..greedy.clone() }];
    for sampling in [sampled(0.0, 0, 1.0, 1.3), sampled(0.2, 0, 1.0, 1.0), sampled(0.7, 40, 0.9, 1.1), sampled(3.0, 0, 1.0, 1.0)] {
        requests.push(Request { sampling, ..greedy.clone() });
    }
    let engine = |run_ahead, draft, threads| {
        let options = Options { threads, run_ahead, draft, ..Options::default() };
        Engine::with_isa(Arc::clone(student), &options, Isa::fastest()).unwrap()
    };
    // One after the other, because what runs ahead runs alone.
    let run = |engine: &mut Engine, requests: &[Request]| -> Vec<Vec<Event>> {
        requests.iter().flat_map(|request| answers(engine, std::slice::from_ref(request))).collect()
    };
    let same = |one: &Event, two: &Event| Event { request: two.request, ..one.clone() } == *two;
    let plain = |requests: &[Request]| run(&mut engine(false, Draft::Never, 1), requests);
    let expected = plain(&requests);
    // A letter of an answer, of whose tokens few have one.
    let mut letters = expected.iter().zip(&requests).filter_map(|(events, request)| {
        let text: String = events.iter().map(|event| event.text.as_str()).collect();
        let letter = text.chars().filter(char::is_ascii).max_by_key(|letter| text.find(*letter))?;
        Some(Request { stop: vec![letter.to_string()], ..request.clone() })
    });
    let stopped = letters.next_back().expect("an answer with a letter");
    requests.push(stopped);
    let expected = plain(&requests);
    for (draft, threads) in [(Draft::Never, 1), (Draft::Never, 2), (Draft::WhenItPays, 1), (Draft::Always(3), 1)] {
        let mut engine = engine(true, draft, threads);
        for round in 0..2 {
            for (at, (found, expected)) in run(&mut engine, &requests).iter().zip(&expected).enumerate() {
                let agree = found.iter().zip(expected).take_while(|(found, expected)| same(found, expected)).count();
                let place = format!("{draft:?}, {threads} threads, round {round}, request {at}");
                assert_eq!((agree, found.len()), (expected.len(), expected.len()), "{place}");
            }
        }
    }

    let steps = |request: &Request| {
        let mut engine = engine(true, Draft::Never, 1);
        engine.submit(request.clone()).unwrap();
        std::iter::from_fn(|| (!engine.is_idle()).then(|| engine.step())).count()
    };
    let (greedy, hot) = (steps(&requests[0]), steps(&requests[5]));
    assert!(greedy < expected[0].len() / 3, "{greedy} steps for {} tokens", expected[0].len());
    // At such a temperature the unlikely are often drawn, so that much of what ran ahead was wrong.
    assert!(hot > greedy, "{hot} steps for {} tokens", expected[5].len());
}

#[test]
fn what_ran_ahead_in_vain_is_not_remembered() {
    let [student, _] = large_heads();
    let hot = |seed| Request { sampling: Sampling { temperature: 3.0, seed, ..Sampling::greedy() }, ..Request::greedy(prompt(50, 2), 90) };
    let options = Options { threads: 1, ..Options::default() };
    let new = || Engine::with_isa(Arc::clone(&student), &options, Isa::fastest()).unwrap();
    let mut engine = new();
    for seed in 0..4 {
        let said = engine.generate(hot(seed)).unwrap().tokens;
        // Goes on from the answer, whose pages are known.
        let request = Request::greedy([prompt(50, 2), said].concat(), 10);
        assert_eq!(engine.generate(request.clone()).unwrap(), new().generate(request).unwrap());
    }
}

#[test]
fn answers_for_which_the_largest_logits_are_enough_are_the_same() {
    for student in large_heads() {
        let tokens = |log_probabilities| -> Vec<Vec<u32>> {
            let request = |at| Request { log_probabilities, ..Request::greedy(prompt(3 + at, at), 12) };
            let requests: Vec<Request> = (0..16).map(request).collect();
            let events = answers(&mut engine(&student, Isa::fastest(), 2, 16), &requests);
            events.iter().map(|events| events.iter().map(|event| event.token).collect()).collect()
        };
        assert_eq!(tokens(false), tokens(true));
    }
}
