//! From files of traces to a dataset: judge every row, train a tokenizer if one is wanted, write the kept traces as tokens, pack
//! them into rows. The traces are read in pieces and the tokens wait in a file, so that memory does not grow with the input.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::UNIX_EPOCH;

use model::{ChatTemplate, Tokenizer};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::DataConfig;
use crate::dataset::{CHAT_FILE, DROPPED_FILE, TOKENIZER_FILE};
use crate::document::{Document, Writer};
use crate::folder::Building;
use crate::manifest::{self, sha256, sha256_of_file, write_json};
use crate::pack::best_fit;
use crate::rules::contamination::{Contamination, EvalSet};
use crate::rules::{Drop, Rule};
use crate::shard::{ShardWriter, StoredRow};
use crate::sidecar::Sidecar;
use crate::stage::{Replay, Stage as Staging};
use crate::traces::{Entry, Good, Traces};
use crate::{Card, Dataset, Error, Flow, Input, Manifest, Shard, card};

/// Documents are packed in windows of so many, or of so many tokens.
const WINDOW_DOCUMENTS: usize = 1 << 16;
const WINDOW_TOKENS: usize = 1 << 24;

/// When each input was last seen, beside the manifest, so that an unchanged one need not be read again.
const SEEN_FILE: &str = "seen.json";

/// What is to be made.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The `[data]` table.
    pub config: &'a DataConfig,
    /// The template of the student's prompts.
    pub chat: &'a ChatTemplate,
    /// The longest row in tokens: the student's context.
    pub context: usize,
    /// The sets that the run will be scored on.
    pub eval_sets: &'a [EvalSet<'a>],
    /// The dataset's folder. An older dataset there is replaced once the new one is whole.
    pub out: &'a Path,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Ingested {
    /// The dataset.
    pub dataset: Dataset,
    /// Where every row of the input went.
    pub card: Card,
    /// False where the folder held this very dataset already.
    pub is_new: bool,
}

/// How far an ingest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes of the input files, or documents to pack.
    pub done: u64,
    /// How many there are.
    pub total: u64,
    /// Traces that were looked at.
    pub traces: u64,
    /// Traces that are kept so far.
    pub kept: u64,
}

/// What an ingest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Training the tokenizer.
    Tokenizer,
    /// Reading, judging and tokenising the traces.
    Read,
    /// Packing rows.
    Pack,
}

/// Makes a dataset, or finds that it is there already.
pub fn ingest(job: &Job, progress: &mut dyn FnMut(Progress)) -> Result<Ingested, Error> {
    job.config.check()?;
    let (inputs, seen) = inputs(job)?;
    let settings = settings(job)?;
    let fingerprint = sha256(json!([manifest::VERSION, settings, inputs]).to_string().as_bytes());
    if let Ok(dataset) = Dataset::open(job.out)
        && dataset.manifest().fingerprint == fingerprint
        && let Ok(card) = dataset.card()
    {
        return Ok(Ingested { dataset, card, is_new: false });
    }

    let building = Building::start(job.out)?;
    let at = |name: &str| building.path().join(name);
    let total_bytes = inputs.iter().map(|input| input.len_bytes).sum();
    let contamination = Contamination::new(job.config.rules.decontaminate, job.eval_sets);
    let tokenizer = match (&job.config.tokenizer, job.config.vocab) {
        (Some(path), _) => Tokenizer::open(path)?,
        (None, vocab) => train_tokenizer(job, &contamination, vocab.unwrap_or_default(), total_bytes, progress)?,
    };
    write(&at(TOKENIZER_FILE), &tokenizer.to_json())?;
    write(&at(CHAT_FILE), job.chat.source())?;

    let (staging, card) = read(job, &contamination, &tokenizer, building.path(), total_bytes, progress)?;
    let documents = staging.documents().len() as u64;
    let supervised_tokens = staging.documents().iter().map(|staged| u64::from(staged.len - staged.prompt_len)).sum();
    let tokens = staging.documents().iter().map(|staged| u64::from(staged.len)).sum();
    if documents == 0 || supervised_tokens == 0 {
        return Err(Error::Empty(card.why_empty()));
    }
    let shards = pack(job.context, staging.finish()?, building.path(), progress)?;
    std::fs::remove_file(at(STAGE_FILE)).map_err(Error::file("remove", &at(STAGE_FILE)))?;
    let rows = shards.iter().flat_map(|shard| &shard.blocks).map(|&rows| u64::from(rows)).sum();
    write_json(&at(card::FILE), &card)?;
    write_json(&at(SEEN_FILE), &seen)?;
    let manifest = Manifest {
        version: manifest::VERSION,
        fingerprint,
        context: job.context,
        vocab: tokenizer.vocab(),
        tokenizer: tokenizer.fingerprint().to_owned(),
        chat_template: sha256(job.chat.source().as_bytes()),
        rows,
        documents,
        tokens,
        supervised_tokens,
        shards,
        inputs,
        settings,
    };
    write_json(&at(manifest::FILE), &manifest)?;
    building.finish()?;
    Ok(Ingested { dataset: Dataset::open(job.out)?, card, is_new: true })
}

const STAGE_FILE: &str = "documents.staged";

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::file("write", path))
}

/// What else than the inputs decides about the bytes.
fn settings(job: &Job) -> Result<serde_json::Value, Error> {
    let tokenizer = match &job.config.tokenizer {
        Some(path) => Some(sha256_of_file(path)?.1),
        None => None,
    };
    let eval_sets: Vec<_> =
        job.eval_sets.iter().map(|EvalSet { name, problems }| json!([name, sha256(json!(problems).to_string().as_bytes())])).collect();
    Ok(json!({
        "config": job.config,
        "tokenizer_sha256": tokenizer,
        "chat_template_sha256": sha256(job.chat.source().as_bytes()),
        "context": job.context,
        "eval_sets": eval_sets,
        "grader_version": task::GRADER_VERSION,
    }))
}

/// When a file was last seen, and what it held then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    input: Input,
    modified_ns: u128,
}

/// The input files with their hashes. A file with the length and the time of the last ingest is not read.
fn inputs(job: &Job) -> Result<(Vec<Input>, Vec<Seen>), Error> {
    let before: Vec<Seen> =
        std::fs::read_to_string(job.out.join(SEEN_FILE)).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let mut seen = Vec::new();
    for source in &job.config.sources {
        let path = &source.path;
        let facts = std::fs::metadata(path).map_err(Error::file("read", path))?;
        let modified_ns = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_nanos());
        let same = |old: &&Seen| {
            &old.input.path == path && old.input.len_bytes == facts.len() && old.modified_ns == modified_ns && modified_ns != 0
        };
        let input = match before.iter().find(same) {
            Some(old) => old.input.clone(),
            None => {
                let (len_bytes, sha256) = sha256_of_file(path)?;
                Input { path: path.clone(), len_bytes, sha256 }
            }
        };
        seen.push(Seen { input, modified_ns });
    }
    Ok((seen.iter().map(|seen| seen.input.clone()).collect(), seen))
}

/// Reads all traces once for the tokenizer alone: the ones that are kept, as they will be written.
fn train_tokenizer(
    job: &Job,
    contamination: &Contamination,
    vocab: usize,
    total_bytes: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tokenizer, Error> {
    let mut traces = Traces::new(&job.config.sources, &job.config.rules, contamination);
    let writer = Writer { chat: job.chat, system: job.config.system };
    // Training waits for texts on rayon's threads. It has its own, because reading the traces needs the common ones.
    let threads = rayon::ThreadPoolBuilder::new().build().expect("the system gives threads");
    std::thread::scope(|scope| {
        let (sender, texts) = mpsc::sync_channel::<Vec<String>>(4);
        let training = scope.spawn(move || threads.install(|| Tokenizer::train(texts.into_iter().flatten(), vocab)));
        let (mut looked_at, mut kept) = (0, 0);
        while let Some(piece) = traces.next_piece()? {
            looked_at += piece.entries.len() as u64;
            for good in piece.entries.iter().filter_map(|entry| entry.outcome.as_ref().ok()) {
                kept += 1;
                // A trainer that has gone away says why when it is joined.
                let _ = sender.send(writer.training_texts(&good.trace)?);
            }
            progress(Progress { stage: Stage::Tokenizer, done: traces.read_bytes(), total: total_bytes, traces: looked_at, kept });
        }
        drop(sender);
        Ok(training.join().expect("the tokenizer's training does not panic")?)
    })
}

/// Judges and tokenises all traces.
fn read(
    job: &Job,
    contamination: &Contamination,
    tokenizer: &Tokenizer,
    folder: &Path,
    total_bytes: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Staging, Card), Error> {
    let config = job.config;
    let writer = Writer { chat: job.chat, system: config.system };
    let mut traces = Traces::new(&config.sources, &config.rules, contamination);
    let mut staging = Staging::create(&folder.join(STAGE_FILE))?;
    let mut sidecar = Sidecar::create(&folder.join(DROPPED_FILE))?;
    let mut card = Card {
        sources: config
            .sources
            .iter()
            .map(|source| Flow { path: source.path.clone(), licence: source.licence.clone(), ..Flow::default() })
            .collect(),
        decontaminated_against: job.eval_sets.iter().map(|set| (set.name.to_owned(), set.problems.len() as u64)).collect(),
        ..Card::default()
    };
    let longest = config.rules.max_tokens.unwrap_or(usize::MAX).min(job.context);
    let in_window = |document: &Document| match document.tokens.len() {
        len if len > longest => Err(Drop::new(Rule::TooLong, format!("{len} tokens, at most {longest} fit"))),
        len if len < config.rules.min_tokens => {
            Err(Drop::new(Rule::TooShort, format!("{len} tokens, at least {} are wanted", config.rules.min_tokens)))
        }
        _ => Ok(()),
    };
    while let Some(piece) = traces.next_piece()? {
        let tokenised: Vec<Result<Option<Document>, Error>> = piece
            .entries
            .par_iter()
            .map(|entry| entry.outcome.as_ref().ok().map(|good| writer.document(&good.trace, tokenizer)).transpose())
            .collect();
        let source = &config.sources[piece.source];
        let Card { sources: flows, lengths, .. } = &mut card;
        let flow = &mut flows[piece.source];
        flow.layout = piece.layout.to_owned();
        for (Entry { line, is_first, excerpt, outcome }, document) in piece.entries.into_iter().zip(tokenised) {
            flow.rows += u64::from(is_first);
            flow.traces += 1;
            let fate = match (outcome, document?) {
                (Ok(good), Some(document)) => in_window(&document).map(|()| (good, document)),
                (Err(drop), _) => Err(drop),
                (Ok(_), None) => unreachable!("every trace that is left was tokenised"),
            };
            match fate {
                Ok((Good { trace, verdict, is_masked_match, .. }, document)) => {
                    staging.push(piece.source, line, &document)?;
                    flow.keep(verdict, !trace.reasoning.is_empty(), is_masked_match);
                    card::count_length(lengths, document.tokens.len());
                }
                Err(drop) => {
                    sidecar.push(&source.path.to_string_lossy(), line, &drop, excerpt)?;
                    flow.drop(drop.rule);
                }
            }
        }
        let looked_at = card.sources.iter().map(|flow| flow.traces).sum();
        progress(Progress { stage: Stage::Read, done: traces.read_bytes(), total: total_bytes, traces: looked_at, kept: card.kept() });
    }
    sidecar.finish()?;
    Ok((staging, card))
}

/// Packs the staged documents into shards.
fn pack(context: usize, mut documents: Replay, folder: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Vec<Shard>, Error> {
    let total = documents.len() as u64;
    let mut shards = Shards { folder: folder.to_owned(), open: None, finished: Vec::new() };
    let mut done = 0;
    loop {
        let (mut window, mut tokens) = (Vec::new(), 0);
        while window.len() < WINDOW_DOCUMENTS && tokens < WINDOW_TOKENS {
            let Some((_, document)) = documents.next()? else { break };
            tokens += document.tokens.len();
            window.push(document);
        }
        if window.is_empty() {
            return shards.finish();
        }
        let lengths: Vec<usize> = window.iter().map(|document| document.tokens.len()).collect();
        for row in best_fit(&lengths, context) {
            let mut stored = StoredRow::default();
            for document in row.into_iter().map(|index| &window[index]) {
                stored.tokens.extend_from_slice(&document.tokens);
                stored.documents.push(document.tokens.len() as u32);
                stored.prompts.push(document.prompt_len as u32);
            }
            shards.push(stored)?;
        }
        done += window.len() as u64;
        progress(Progress { stage: Stage::Pack, done, total, traces: total, kept: total });
    }
}

/// A sequence of shards, one of which is being written.
struct Shards {
    folder: PathBuf,
    open: Option<(String, ShardWriter)>,
    finished: Vec<Shard>,
}

impl Shards {
    fn push(&mut self, row: StoredRow) -> Result<(), Error> {
        let (_, writer) = match &mut self.open {
            Some(open) => open,
            closed => {
                let name = format!("rows-{:05}.parquet", self.finished.len());
                let writer = ShardWriter::create(&self.folder.join(&name))?;
                closed.insert((name, writer))
            }
        };
        if writer.push(row)? { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), Error> {
        if let Some((file, writer)) = self.open.take() {
            let blocks = writer.finish()?;
            let (len_bytes, sha256) = sha256_of_file(&self.folder.join(&file))?;
            self.finished.push(Shard { file, len_bytes, sha256, blocks });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Shard>, Error> {
        self.close()?;
        Ok(self.finished)
    }
}
