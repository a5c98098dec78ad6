//! From files of traces to a dataset: read and judge every row, compare the traces that are left, train a tokenizer if one is
//! wanted, write the kept traces as tokens, choose among them, pack them into rows. Traces, keys and tokens wait in files, so that
//! memory hardly grows with the input.

use std::path::Path;

use model::{ChatTemplate, Tokenizer};
use serde_json::json;

use crate::card::{FILE as CARD_FILE, TEXT_FILE as CARD_TEXT_FILE};
use crate::choose::choose;
use crate::config::{DataConfig, Decontaminate};
use crate::dataset::{CHAT_FILE, DROPPED_FILE, TOKENIZER_FILE};
use crate::document::Writer;
use crate::folder::Building;
use crate::inputs::{Inputs, SEEN_FILE};
use crate::manifest::{self, sha256, sha256_of_file, write_json};
use crate::pack::pack;
use crate::pool::Pool;
use crate::rules::contamination::{Contamination, EvalSet};
use crate::scans::{ScanFolder, fingerprint};
use crate::shard::packed_target_bytes;
use crate::sidecar::{self, Sidecar};
use crate::stage::Stage as Staging;
use crate::tokenise::{self, count_repeated_ids, tokenise, train_tokenizer};
use crate::{Card, Dataset, Error, Flow, Manifest, card};

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
    /// Bytes of the input files, bands of the comparison, traces, or documents to pack.
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
    /// Reading and judging the traces.
    Read,
    /// Looking for duplicates.
    Compare,
    /// Training the tokenizer.
    Tokenizer,
    /// Writing the traces as tokens.
    Tokenise,
    /// Packing rows.
    Pack,
}

/// Traces that the card shows.
pub(crate) const SHOWN_TRACES: usize = 5;

const STAGE_FILE: &str = "documents.staged";

/// Makes a dataset, or finds that it is there already.
pub fn ingest(job: &Job, progress: &mut dyn FnMut(Progress)) -> Result<Ingested, Error> {
    let (config, rules) = (job.config, &job.config.rules);
    let (inputs, settings, fingerprint) = identity(job)?;
    if let Some(found) = there(job, &fingerprint) {
        return Ok(found);
    }
    let contamination = Contamination::new(rules.decontaminate, job.eval_sets);
    let mut folder = ScanFolder::open(job.out, config.keep_scans)?;
    let building = Building::start(job.out)?;
    let at = |name: &str| building.path().join(name);

    let scans = folder.scan(config, &inputs, &contamination, job.eval_sets, progress)?;
    let source_of: Vec<usize> = inputs.files.iter().map(|(source, _)| *source).collect();
    let mut pool = Pool::new(scans)?;
    let mut card = begin_card(job, &pool, &source_of)?;
    let (traces, alive) = (card.traces(), pool.len() as u64);
    let twins = pool.duplicates(rules.duplicates, rules.near_duplicates, &mut |done, total| {
        progress(Progress { stage: Stage::Compare, done, total, traces, kept: alive });
    })?;

    let writer = Writer { chat: job.chat, system: config.system };
    let tokenizer = match (&config.tokenizer, config.vocab) {
        (Some(path), _) => Tokenizer::open(path)?,
        (None, vocab) => train_tokenizer(&pool, &writer, vocab.unwrap_or_default(), progress)?,
    };
    let top_k = check_teachers(config, &tokenizer)?;
    write(&at(TOKENIZER_FILE), &tokenizer.to_json())?;
    write(&at(CHAT_FILE), job.chat.source())?;

    let mut staging = Staging::create(&at(STAGE_FILE), top_k)?;
    let mut sidecar = Sidecar::create(&at(DROPPED_FILE))?;
    let longest = rules.max_tokens.unwrap_or(usize::MAX).min(job.context);
    let tokenising = tokenise::Settings { config, writer: &writer, tokenizer: &tokenizer, top_k, longest, source_of: &source_of };
    tokenise(&mut pool, &twins, &tokenising, &mut staging, &mut sidecar, &mut card, progress)?;
    choose(&mut pool, config, &source_of, &mut staging, &mut sidecar, &mut card)?;
    sidecar.finish()?;

    let documents = staging.finish()?;
    let counted =
        |of: fn(&crate::stage::Staged) -> u32| documents.documents().iter().map(|it| u64::from(it.copies) * u64::from(of(it))).sum();
    let (count, tokens, learned): (u64, u64, u64) = (counted(|_| 1), counted(|it| it.len), counted(|it| it.len - it.prompt_len));
    if learned == 0 {
        let dropped = sidecar::read(&at(DROPPED_FILE))?;
        let last = dropped.last().map(|last| format!(", as line {} of {}: {}", last.line, last.source, last.detail));
        let (why, last) = (card.why_empty(), last.unwrap_or_default());
        return Err(Error::Empty(format!("{why}{last}; all of them are in {}", at(DROPPED_FILE).display())));
    }
    let temperature = |trace: u32| {
        let source = &config.sources[source_of[pool.scan_of(trace)]];
        source.teacher.as_ref().map_or(0.0, |teacher| teacher.temperature)
    };
    let shards = pack(job.context, &documents, top_k > 0, &temperature, building.path(), progress)?;
    std::fs::remove_file(at(STAGE_FILE)).map_err(Error::file("remove", &at(STAGE_FILE)))?;
    if let Some(teacher) = &mut card.teacher {
        let packed = shards.iter().map(|shard| packed_target_bytes(&at(&shard.file))).sum::<Result<u64, _>>()?;
        teacher.finish(top_k, packed);
    }
    let manifest = Manifest {
        version: manifest::VERSION,
        fingerprint,
        context: job.context,
        vocab: tokenizer.vocab(),
        tokenizer: tokenizer.fingerprint().to_owned(),
        chat_template: sha256(job.chat.source().as_bytes()),
        rows: shards.iter().flat_map(|shard| &shard.blocks).map(|&rows| u64::from(rows)).sum(),
        documents: count,
        tokens,
        supervised_tokens: learned,
        top_k,
        shards,
        inputs: inputs.of_manifest(),
        settings,
    };
    write_json(&at(CARD_FILE), &card)?;
    write_json(&at(SEEN_FILE), &inputs.seen())?;
    write_json(&at(manifest::FILE), &manifest)?;
    let shown = Dataset::open(building.path())?.preview(SHOWN_TRACES)?;
    write(&at(CARD_TEXT_FILE), &card::markdown(&card, &manifest, &shown))?;
    building.finish()?;
    folder.sweep()?;
    Ok(Ingested { dataset: Dataset::open(job.out)?, card, is_new: true })
}

/// Whether the dataset of this job is there already: the one of the same inputs and settings.
pub fn is_there(job: &Job) -> Result<bool, Error> {
    Ok(existing(job)?.is_some())
}

/// The dataset of this job, if it is there already.
pub(crate) fn existing(job: &Job) -> Result<Option<Ingested>, Error> {
    if !job.out.join(manifest::FILE).exists() {
        return Ok(None);
    }
    let (_, _, fingerprint) = identity(job)?;
    Ok(there(job, &fingerprint))
}

fn there(job: &Job, fingerprint: &str) -> Option<Ingested> {
    let dataset = Dataset::open(job.out).ok().filter(|dataset| dataset.manifest().fingerprint == fingerprint)?;
    let card = dataset.card().ok()?;
    Some(Ingested { dataset, card, is_new: false })
}

/// The inputs, what else decides about the bytes, and the hash of both. Refuses what must not be started.
fn identity(job: &Job) -> Result<(Inputs, serde_json::Value, String), Error> {
    let rules = &job.config.rules;
    job.config.check()?;
    let says_why = rules.decontaminate_off_because.as_ref().is_some_and(|why| !why.trim().is_empty());
    if rules.decontaminate == Decontaminate::Off && !job.eval_sets.is_empty() && !says_why {
        let names: Vec<&str> = job.eval_sets.iter().map(|set| set.name).collect();
        let needed = format!(
            "but the run is scored on {}: its questions could be trained on and no one would know; \
             say in rules.decontaminate_off_because why that is right, or switch it on",
            names.join(", ")
        );
        return Err(Error::config("rules.decontaminate", "off", needed));
    }
    let inputs = Inputs::find(&job.config.sources, job.out)?;
    let hash = |path: &Path| sha256_of_file(path).map(|(_, hash)| hash);
    let beside: Vec<&Path> = job
        .config
        .sources
        .iter()
        .flat_map(|source| [source.requests.as_deref(), source.teacher.as_ref().and_then(|teacher| teacher.tokenizer.as_deref())])
        .flatten()
        .collect();
    let settings = json!({
        "config": job.config,
        "tokenizer_sha256": job.config.tokenizer.as_deref().map(hash).transpose()?,
        "files_beside_sha256": beside.into_iter().map(hash).collect::<Result<Vec<_>, _>>()?,
        "chat_template_sha256": sha256(job.chat.source().as_bytes()),
        "context": job.context,
        "eval_sets": fingerprint(job.eval_sets),
        "grader_version": task::GRADER_VERSION,
    });
    let fingerprint = sha256(json!([manifest::VERSION, placeless(&settings), inputs.named()]).to_string().as_bytes());
    Ok((inputs, settings, fingerprint))
}

/// Settings without the folders of the files that they name, so that a dataset of files that were moved is the same. The files' own
/// hashes stand beside them.
fn placeless(settings: &serde_json::Value) -> serde_json::Value {
    let mut settings = settings.clone();
    let config = &mut settings["config"];
    config["tokenizer"] = serde_json::Value::Null;
    for source in config["sources"].as_array_mut().into_iter().flatten() {
        let name = source["path"].as_str().and_then(|path| Path::new(path).file_name()).map(|name| name.to_string_lossy().into_owned());
        source["path"] = json!(name);
        if !source["requests"].is_null() {
            source["requests"] = json!(true);
        }
        if !source["teacher"]["tokenizer"].is_null() {
            source["teacher"]["tokenizer"] = json!(true);
        }
    }
    settings
}

/// What is known of the sources once they are read.
fn begin_card(job: &Job, pool: &Pool, source_of: &[usize]) -> Result<Card, Error> {
    let rules = &job.config.rules;
    let is_off = rules.decontaminate == Decontaminate::Off;
    let mut card = Card {
        sources: job
            .config
            .sources
            .iter()
            .map(|source| Flow { path: source.path.clone(), licence: source.licence.clone(), ..Flow::default() })
            .collect(),
        decontaminated_against: if is_off {
            Default::default()
        } else {
            job.eval_sets.iter().map(|set| (set.name.to_owned(), set.problems.len() as u64)).collect()
        },
        decontaminate_off_because: rules.decontaminate_off_because.clone().filter(|_| is_off),
        ..Card::default()
    };
    for (scan, source) in pool.scans().iter().zip(source_of) {
        card.count_touches(&scan.summary.touches);
        let flow = &mut card.sources[*source];
        flow.files += 1;
        flow.rows += scan.summary.rows;
        flow.traces += scan.summary.traces;
        flow.teacher_steps += scan.summary.teacher_steps;
        if !scan.summary.layout.is_empty() && !flow.layout.split(", ").any(|layout| layout == scan.summary.layout) {
            flow.layout =
                if flow.layout.is_empty() { scan.summary.layout.clone() } else { format!("{}, {}", flow.layout, scan.summary.layout) };
        }
    }
    for (source, count) in count_repeated_ids(pool, source_of)? {
        card.sources[source].repeated_ids = count;
    }
    Ok(card)
}

/// The number of alternatives of a target. A teacher whose tokens count by their numbers must have the student's tokenizer.
fn check_teachers(config: &DataConfig, tokenizer: &Tokenizer) -> Result<usize, Error> {
    let mut top_k = 0;
    for (at, source) in config.sources.iter().enumerate() {
        let Some(teacher) = &source.teacher else { continue };
        top_k = top_k.max(teacher.top_k);
        let Some(path) = &teacher.tokenizer else { continue };
        let theirs = Tokenizer::open(path)?;
        if theirs.fingerprint() != tokenizer.fingerprint() {
            let found = format!("{} with fingerprint {}", path.display(), theirs.fingerprint());
            let needed = format!(
                "but the student's tokenizer is {}, so that the teacher's token numbers mean nothing to it; train the student with data.tokenizer = {:?}, \
                 or leave the key out to compare tokens by their bytes",
                tokenizer.fingerprint(),
                path.display().to_string()
            );
            return Err(Error::config(format!("sources[{at}].teacher.tokenizer"), found, needed));
        }
    }
    Ok(top_k)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::file("write", path))
}
