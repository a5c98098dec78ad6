//! Real files go through whole. They lie in the folder that `TRISTILL_DATA` names; without it these tests say so and pass.

use std::path::{Path, PathBuf};

use model::ChatTemplate;
use tristill_data::{DataConfig, Decontaminate, Ingested, Job, Source, ingest};

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

fn ingest_file(path: &Path, context: usize) -> Ingested {
    let out = tempfile::tempdir().unwrap();
    let config = DataConfig {
        sources: vec![Source::new(path)],
        tokenizer: None,
        vocab: Some(1024),
        system: Default::default(),
        rules: tristill_data::Rules { decontaminate: Decontaminate::Off, ..Default::default() },
        keep_scans: false,
    };
    let out = out.path().join("dataset");
    ingest(&Job { config: &config, chat: &ChatTemplate::chatml(), context, eval_sets: &[], out: &out }, &mut |_| {}).unwrap()
}

#[test]
fn every_answer_of_gsm8k_is_read() {
    let Some(folder) = data_folder() else { return };
    let flow = ingest_file(&folder.join("gsm8k/train.jsonl.gz"), 1024).card.sources.remove(0);
    assert_eq!((flow.rows, flow.verified), (7473, flow.kept));
    assert_eq!(flow.kept, 7473, "{:?}", flow.dropped);
}

#[test]
fn real_reasoning_in_messages_goes_through() {
    let Some(folder) = data_folder() else { return };
    let flow = ingest_file(&folder.join("openr1/openr1_math_short.jsonl.gz"), 16_384).card.sources.remove(0);
    assert_eq!((flow.rows, flow.kept, flow.without_reasoning), (300, 300, 3), "{:?}", flow.dropped);
}
