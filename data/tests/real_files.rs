//! Real files go through whole. They lie in the folder that `TRISTILL_DATA` names; without it these tests say so and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::ChatTemplate;
use tristill_data::{Card, DataConfig, EvalSet, Ingested, Job, Rules, Source, Teacher, ingest};

fn data_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("TRISTILL_DATA").map(PathBuf::from);
    if folder.is_none() {
        // The library prints nothing; a test that was skipped must say so.
        #[allow(clippy::print_stderr)]
        {
            eprintln!("skipped: TRISTILL_DATA does not name the folder of real files");
        }
    }
    folder
}

fn try_ingest(sources: Vec<Source>, eval_sets: &[EvalSet], context: usize, out: &Path) -> Result<Ingested, String> {
    let config =
        DataConfig { sources, tokenizer: None, vocab: Some(1024), system: Default::default(), rules: Rules::default(), keep_scans: false };
    let job = Job { config: &config, chat: &ChatTemplate::chatml(), context, eval_sets, out };
    ingest(&job, &mut |_| {}).map_err(|error| error.to_string())
}

fn card_of(path: &Path, context: usize) -> Card {
    let place = tempfile::tempdir().unwrap();
    try_ingest(vec![Source::new(path)], &[], context, &place.path().join("dataset")).unwrap().card
}

#[test]
fn every_answer_of_gsm8k_is_read() {
    let Some(folder) = data_folder() else { return };
    let flow = card_of(&folder.join("gsm8k/train.jsonl.gz"), 1024).sources.remove(0);
    assert_eq!((flow.rows, flow.verified, flow.kept), (7473, 7473, 7473), "{:?}", flow.dropped);
}

#[test]
fn real_reasoning_in_messages_goes_through() {
    let Some(folder) = data_folder() else { return };
    let flow = card_of(&folder.join("openr1/openr1_math_short.jsonl.gz"), 16_384).sources.remove(0);
    assert_eq!((flow.rows, flow.kept, flow.without_reasoning), (300, 300, 3), "{:?}", flow.dropped);
}

#[test]
fn chains_of_thought_with_values_agree_where_their_authors_say_so() {
    let Some(folder) = data_folder() else { return };
    let flow = card_of(&folder.join("reft/svamp_nl.jsonl.gz"), 1024).sources.remove(0);
    let of = |rule: &str| flow.dropped.get(rule).copied().unwrap_or(0);
    // The ten are rounded: "3.22" where the value is 3.2222222222. Their authors' count, 3,067, lets one of them pass.
    assert_eq!((flow.rows, of("wrong_answer"), flow.unverifiable), (3076, 10, 0), "{:?}", flow.dropped);
    assert_eq!(flow.verified + of("duplicate") + of("near_duplicate"), 3066);
}

#[test]
fn probabilities_of_another_tokenizer_are_laid_on_the_students_tokens() {
    let Some(folder) = data_folder() else { return };
    let place = tempfile::tempdir().unwrap();
    let mut source = Source::new(folder.join("codex_topk/codex_gsm8k_train_q0_50samples.jsonl.gz"));
    source.teacher = Some(Teacher { top_k: 5, temperature: 1.0, tokenizer: None });
    let found = try_ingest(vec![source], &[], 1024, &place.path().join("dataset")).unwrap();
    let (flow, teacher) = (&found.card.sources[0], found.card.teacher.as_ref().unwrap());
    assert_eq!((flow.rows, flow.teacher_steps, teacher.top_k), (50, 2578, 5));
    assert_eq!(teacher.bytes_per_target, 48);
    let manifest = found.dataset.manifest();
    assert_eq!(teacher.targets + teacher.masked, manifest.supervised_tokens);
    assert!(teacher.targets > 0 && teacher.mean_tail > 0.0 && teacher.mean_tail < 0.2, "{teacher:?}");
    let (mut targets, mut chosen) = (0, 0);
    for row in found.dataset.rows(0, Default::default()).take(manifest.rows as usize) {
        let row = row.unwrap();
        let of_row = row.teacher.as_ref().unwrap();
        for (target, &at) in of_row.at.iter().enumerate() {
            assert!(row.supervised[at as usize]);
            let entries = target * 5..target * 5 + 5;
            let mass: f32 = of_row.logprobs[entries.clone()].iter().map(|logprob| logprob.exp()).sum();
            assert!((mass + of_row.tails[target] - 1.0).abs() < 1e-3, "{mass}");
            assert!(of_row.logprobs[entries.clone()].is_sorted_by(|one, next| one >= next));
            targets += 1;
            chosen += usize::from(of_row.ids[entries].contains(&row.tokens[at as usize]));
        }
    }
    assert_eq!(targets as u64, teacher.targets);
    // What the teacher wrote is among what it held likely.
    assert_eq!(chosen, targets);
}

#[test]
fn test_questions_are_dropped_by_that_rule_even_where_the_output_cannot_be_read() {
    let Some(folder) = data_folder() else { return };
    let set = task::read_set(&folder.join("gsm8k/test.jsonl.gz"), &Default::default()).unwrap();
    let sets = [EvalSet { name: "gsm8k_test", problems: &set.problems }];
    for (name, kept, mended, wrong) in [("gpt-4o-2024-08-06", 1272, 0, 47), ("claude-3-haiku-20240307", 1179, 1087, 140)] {
        let place = tempfile::tempdir().unwrap();
        let source = Source::new(folder.join(format!("zeroeval/{name}.jsonl.gz")));
        let error = try_ingest(vec![source.clone()], &sets, 2048, &place.path().join("dataset")).unwrap_err();
        assert!(
            error.starts_with("the dataset would be empty: all 1319 traces were dropped (contaminated 1319), as line "),
            "{name}: {error}"
        );
        // Without the set, reasoning and answer are read of every output, most of which in the second file are no JSON.
        let found = try_ingest(vec![source], &[], 2048, &place.path().join("dataset")).unwrap();
        let flow = &found.card.sources[0];
        assert_eq!(
            (flow.kept, flow.mended, &flow.dropped),
            (kept, mended, &BTreeMap::from([("wrong_answer".to_owned(), wrong)])),
            "{name}"
        );
    }
}
