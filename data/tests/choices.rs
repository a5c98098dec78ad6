//! The rules that compare traces with each other, and the card on which everything sums up.

mod place;

use std::collections::BTreeMap;
use std::fs;

use tristill_data::{Card, Choose, DataConfig, Ingested, Source};

use place::{Place, config, steps, texts_of, try_ingest};

/// A trace with a question of its own words, a chain of thought of `length` words and an answer.
fn line(question: &str, word: &str, length: usize, answer: u32) -> String {
    let reasoning: Vec<String> = (0..length).map(|at| format!("{word}{at}")).collect();
    serde_json::json!({
        "messages": [
            { "role": "user", "content": question },
            { "role": "assistant", "content": format!("<think>{}</think>#### {answer}", reasoning.join(" ")) },
        ],
        "reference": 7,
    })
    .to_string()
}

fn wide(sources: Vec<Source>) -> DataConfig {
    let mut config = config(sources);
    config.vocab = Some(1200);
    config
}

fn rules_of(found: &Ingested) -> BTreeMap<String, Vec<u64>> {
    let mut rules = BTreeMap::<String, Vec<u64>>::new();
    for dropped in found.dataset.dropped().unwrap() {
        rules.entry(dropped.rule).or_default().push(dropped.line);
    }
    rules
}

/// For each source and over all, what went in is what is kept and what each rule dropped, in the counts, in the sidecar, in the
/// dataset and on the card for people.
fn assert_sums(found: &Ingested) {
    let Card { sources, .. } = &found.card;
    let dropped = found.dataset.dropped().unwrap();
    for flow in sources {
        assert_eq!(flow.traces, flow.kept + flow.dropped.values().sum::<u64>(), "{flow:?}");
        assert_eq!(flow.kept, flow.verified + flow.unverifiable, "{flow:?}");
    }
    assert_eq!(found.card.traces(), found.card.kept() + dropped.len() as u64);
    assert_eq!(found.card.lengths.values().sum::<u64>(), found.card.kept());
    assert_eq!(found.card.learned_lengths.values().sum::<u64>(), found.card.kept());
    let repeats: u64 = sources.iter().map(|flow| flow.repeats).sum();
    assert_eq!(found.dataset.manifest().documents, found.card.kept() + repeats);
    let text = fs::read_to_string(found.dataset.folder().join("card.md")).unwrap();
    let total = |name: &str| -> u64 {
        let rows = text.lines().filter(|line| line.starts_with(&format!("| {name}")));
        rows.map(|row| row.trim_end_matches(" |").rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    assert_eq!(total("traces in them"), total("dropped: ") + total("kept"), "{text}");
    assert_eq!(total("traces in them"), found.card.traces());
}

#[test]
fn near_duplicates_go_and_other_numbers_are_other_problems() {
    let place = Place::new();
    let question = |number: u32| format!("Tom has {number} hats and buys some more of them on Monday. How many hats does he have then?");
    let lines = [
        line(&question(4), "think", 60, 7),
        line(&question(4).replace("Tom", "TOM").replace("Monday", "Tuesday"), "think", 60, 7), // near to line 1
        line(&question(5), "think", 60, 7),                                                    // another number
        line(&question(4), "other", 60, 7),                                                    // another chain of thought
        line(&question(4), "think", 60, 7),                                                    // line 1 again
        line(&question(4), "think", 61, 7),                                                    // near to line 1
    ];
    let mut config = wide(vec![place.file("a.jsonl", &lines)]);
    config.rules.repetition = 1.0;
    let out = place.path("dataset");
    let mut big = |near: f64, context: usize| {
        config.rules.near_duplicates = near;
        let job = tristill_data::Job { config: &config, chat: &model::ChatTemplate::chatml(), context, eval_sets: &[], out: &out };
        let found = tristill_data::ingest(&job, &mut |_| {}).unwrap();
        assert_sums(&found);
        found
    };
    let found = big(0.85, 1024);
    assert_eq!(rules_of(&found), BTreeMap::from([("duplicate".into(), vec![5]), ("near_duplicate".into(), vec![2, 6])]));
    let detail = &found.dataset.dropped().unwrap()[0].detail;
    assert_eq!(detail, "almost the same question with almost the same text is in line 1");
    assert_eq!(rules_of(&big(1.0, 1024)), BTreeMap::from([("duplicate".into(), vec![5])]));
    assert_eq!(rules_of(&big(0.99, 1024)), BTreeMap::from([("duplicate".into(), vec![5])]));
}

#[test]
fn the_ends_of_a_chain_of_near_duplicates_are_none() {
    let place = Place::new();
    let words: Vec<String> =
        (0..190).map(|at| format!("w{}x", char::from(b'a' + at % 26).to_string().repeat(1 + usize::from(at) / 26))).collect();
    // Each is like the next, and the last is unlike the first.
    let lines: Vec<String> = (0..25).map(|shift| line(&words[4 * shift..][..90].join(" "), "t", 1, 7)).collect();
    let mut config = wide(vec![place.file("a.jsonl", &lines)]);
    config.rules.repetition = 1.0;
    let out = place.path("dataset");
    let job = tristill_data::Job { config: &config, chat: &model::ChatTemplate::chatml(), context: 2048, eval_sets: &[], out: &out };
    let found = tristill_data::ingest(&job, &mut |_| {}).unwrap();
    let dropped = rules_of(&found).remove("near_duplicate").unwrap();
    assert_eq!(dropped, (1..13).map(|row| 2 * row).collect::<Vec<u64>>(), "every second is like the one before, which stays");
}

/// Traces of three questions: one with four tries, one with two, one with one.
fn tries(place: &Place) -> Source {
    let (a, b, c) = ("What is the first?", "What is the second?", "What is the third?");
    let lines = [
        line(a, "p", 30, 7),
        line(a, "q", 20, 7),
        line(a, "r", 10, 8), // wrong
        line(a, "s", 25, 7),
        line(b, "t", 10, 8), // wrong
        line(b, "u", 12, 8), // wrong
        line(c, "v", 10, 7),
    ];
    place.file("a.jsonl", &lines)
}

#[test]
fn of_many_traces_of_a_question_the_shortest_right_ones_stay() {
    let place = Place::new();
    let mut config = wide(vec![tries(&place)]);
    config.rules.verify = tristill_data::Verify::Off;
    config.rules.per_question = Some(2);
    let found = try_ingest(&config, &[], &place.path("dataset")).unwrap();
    assert_sums_without_verdicts(&found);
    assert_eq!(rules_of(&found), BTreeMap::from([("per_question".into(), vec![1, 3])]));
    assert_eq!(found.dataset.dropped().unwrap()[0].detail, "its question has 4 traces, 2 stay: the shortest right ones");
    config.rules.choose = Choose::Seeded;
    let by_seed: Vec<Vec<u64>> = (0..8)
        .map(|seed| {
            config.rules.seed = seed;
            rules_of(&try_ingest(&config, &[], &place.path("dataset")).unwrap()).remove("per_question").unwrap()
        })
        .collect();
    assert!(by_seed.iter().all(|lines| lines.len() == 2) && by_seed.iter().any(|lines| *lines != by_seed[0]), "{by_seed:?}");
}

/// As [`assert_sums`], where wrong answers are kept too.
fn assert_sums_without_verdicts(found: &Ingested) {
    let flow = &found.card.sources[0];
    assert_eq!(flow.traces, flow.kept + flow.dropped.values().sum::<u64>());
}

#[test]
fn wrong_tries_count_for_the_pass_rate_of_their_question() {
    let place = Place::new();
    let mut config = wide(vec![tries(&place)]);
    let found = try_ingest(&config, &[], &place.path("dataset")).unwrap();
    // 3 of 4 and 0 of 2.
    assert_eq!(found.card.pass_rates, BTreeMap::from([(0, 1), (8, 1)]));
    assert_eq!(rules_of(&found), BTreeMap::from([("wrong_answer".into(), vec![3, 5, 6])]));
    config.rules.pass_rate = [0.1, 0.7];
    let found = try_ingest(&config, &[], &place.path("dataset")).unwrap();
    assert_sums(&found);
    assert_eq!(rules_of(&found), BTreeMap::from([("pass_rate".into(), vec![1, 2, 4]), ("wrong_answer".into(), vec![3, 5, 6])]));
    let detail = &found.dataset.dropped().unwrap()[3].detail;
    assert_eq!(detail, "its question was got right in 3 of 4 tries, 0.1 to 0.7 of them are wanted");
}

#[test]
fn weights_repeat_and_leave_out() {
    let place = Place::new();
    let file = |name: &str, first: u32| place.file(name, &(first..first + 100).map(|number| steps(number, number + 3)).collect::<Vec<_>>());
    let mut sources = vec![file("a.jsonl", 0), file("b.jsonl", 1000)];
    sources[0].weight = 2.0;
    sources[1].weight = 0.25;
    let found = try_ingest(&config(sources), &[], &place.path("dataset")).unwrap();
    assert_sums(&found);
    let [often, rarely] = &found.card.sources[..] else { panic!("two sources") };
    assert_eq!((often.kept, often.repeats), (100, 100));
    assert!((10..40).contains(&rarely.kept) && rarely.kept + rarely.dropped["weight"] == 100, "{rarely:?}");
    let texts = texts_of(&found.dataset);
    assert_eq!(texts.len() as u64, 200 + rarely.kept);
    let mut distinct = texts.clone();
    distinct.dedup();
    assert_eq!(distinct.len() as u64, 100 + rarely.kept);
}

#[test]
fn an_unchanged_input_is_not_read_again() {
    let place = Place::new();
    let lines: Vec<String> = (0..60).map(|number| steps(number, number + 3)).collect();
    let sources = vec![place.file("a.jsonl", &lines[..30]), place.file("b.jsonl", &lines[30..])];
    let mut config = config(sources);
    let out = place.path("dataset");
    try_ingest(&config, &[], &out).unwrap();
    let scans = || -> Vec<std::path::PathBuf> {
        let mut names: Vec<_> = fs::read_dir(place.path("dataset.scans")).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    assert_eq!(scans().len(), 6);
    let before = scans();

    // Another second file: the first one could not even be read.
    place.file("b.jsonl", &lines[30..50]);
    let facts = fs::metadata(place.path("a.jsonl")).unwrap();
    fs::write(place.path("a.jsonl"), vec![b'x'; facts.len() as usize]).unwrap();
    fs::File::open(place.path("a.jsonl")).unwrap().set_modified(facts.modified().unwrap()).unwrap();
    let second = try_ingest(&config, &[], &out).unwrap();
    let texts = texts_of(&second.dataset);
    assert!(second.is_new && texts.len() == 50);
    assert_eq!(scans().iter().filter(|scan| before.contains(scan)).count(), 3, "one scan is new, the one that is not needed is gone");

    // Settings that no trace alone depends on read nothing at all.
    config.vocab = Some(310);
    fs::remove_file(place.path("b.jsonl")).unwrap();
    place.file("b.jsonl", &lines[30..50]);
    let third = try_ingest(&config, &[], &out).unwrap();
    assert!(third.is_new && texts_of(&third.dataset) == texts);

    config.keep_scans = false;
    try_ingest(&config, &[], &out).unwrap();
    assert!(!place.path("dataset.scans").exists());
}
