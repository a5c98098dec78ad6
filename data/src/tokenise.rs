//! From the traces that are kept to documents of tokens. All records are gone through in their order: what was dropped goes into the
//! sidecar, what is kept is tokenised on all threads.

use std::collections::BTreeMap;
use std::sync::mpsc;

use model::Tokenizer;
use rayon::prelude::*;

use crate::align::Aligner;
use crate::config::DataConfig;
use crate::document::{Document, Teacher, Writer};
use crate::encode::Encoder;
use crate::pool::{Lookups, Pool, Twin};
use crate::rules::{Drop, Rule, marks};
use crate::scan::record::{Kept, Lost, Record};
use crate::sidecar::{Entry, Sidecar};
use crate::stage::{Stage as Staging, bytes_of};
use crate::{Card, Error, Progress, Stage};

/// Records that are tokenised together.
const PIECE_RECORDS: usize = 4096;
const PIECE_BYTES: usize = 16 << 20;

/// A tokenizer is trained on at most so many bytes of traces: more change its tokens no more, and it holds all their words in memory.
const TRAINING_BYTES: u64 = 256 << 20;

/// Goes through all records piece by piece, reading the next one meanwhile. `take` gets the scan, the number of the first trace of
/// the piece, and its records.
fn each_piece(pool: &Pool, take: &mut dyn FnMut(usize, u32, Vec<Record>) -> Result<(), Error>) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let (sender, pieces) = mpsc::sync_channel::<Result<(usize, Vec<Vec<u8>>), Error>>(1);
        scope.spawn(move || {
            let read = || {
                for (scan, of_scan) in pool.scans().iter().enumerate() {
                    let mut records = of_scan.records()?;
                    loop {
                        let piece = records.next_piece(PIECE_RECORDS, PIECE_BYTES)?;
                        if piece.is_empty() {
                            break;
                        }
                        // Whoever does not want more has an error of their own.
                        if sender.send(Ok((scan, piece))).is_err() {
                            return Ok(());
                        }
                    }
                }
                Ok(())
            };
            if let Err(error) = read() {
                let _ = sender.send(Err(error));
            }
        });
        let mut trace = 0;
        for piece in pieces {
            let (scan, piece) = piece?;
            let records: Vec<Record> = piece.into_par_iter().map(|bytes| pool.scans()[scan].parse(&bytes)).collect::<Result<_, _>>()?;
            let count = records.iter().filter(|record| record.has_key()).count() as u32;
            take(scan, trace, records)?;
            trace += count;
        }
        Ok(())
    })
}

/// Trains a tokenizer on the traces that are kept, as they will be written; of very many only on every n-th.
pub(crate) fn train_tokenizer(pool: &Pool, writer: &Writer, vocab: usize, progress: &mut dyn FnMut(Progress)) -> Result<Tokenizer, Error> {
    let bytes: u64 = pool.scans().iter().map(|scan| scan.records_bytes()).sum();
    let every = bytes.div_ceil(TRAINING_BYTES).max(1);
    // Training waits for texts on rayon's threads. It has its own, because reading the traces needs the common ones.
    let threads = rayon::ThreadPoolBuilder::new().build().expect("the system gives threads");
    std::thread::scope(|scope| {
        let (sender, texts) = mpsc::sync_channel::<Vec<String>>(4);
        let training = scope.spawn(move || threads.install(|| Tokenizer::train(texts.into_iter().flatten(), vocab)));
        let (mut looked_at, mut kept) = (0, 0);
        progress(Progress { stage: Stage::Tokenizer, done: 0, total: pool.len() as u64, traces: looked_at, kept });
        each_piece(pool, &mut |_, mut number, piece| {
            for record in piece {
                let is_alive = record.has_key() && pool.is_alive(number);
                number += u32::from(record.has_key());
                looked_at += 1;
                let Record::Kept(Kept { trace, .. }) = record else { continue };
                if !is_alive {
                    continue;
                }
                if kept % every == 0 {
                    // A trainer that has gone away says why when it is joined.
                    let _ = sender.send(writer.training_texts(&trace)?);
                }
                kept += 1;
            }
            progress(Progress { stage: Stage::Tokenizer, done: u64::from(number), total: pool.len() as u64, traces: looked_at, kept });
            Ok(())
        })?;
        drop(sender);
        Ok(training.join().expect("the tokenizer's training does not panic")?)
    })
}

/// What tokenising needs beside the traces.
pub(crate) struct Settings<'a> {
    pub config: &'a DataConfig,
    pub writer: &'a Writer<'a>,
    pub tokenizer: &'a Tokenizer,
    /// The number of alternatives of a target, 0 without a teacher.
    pub top_k: usize,
    /// The longest document in tokens.
    pub longest: usize,
    /// The source of each scan.
    pub source_of: &'a [usize],
}

/// Tokenises what is kept into `staging`, and writes what is not into the sidecar. Whose tokens do not fit is removed from the pool.
pub(crate) fn tokenise(
    pool: &mut Pool,
    twins: &[Twin],
    settings: &Settings,
    staging: &mut Staging,
    sidecar: &mut Sidecar,
    card: &mut Card,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let Settings { config, writer, tokenizer, top_k, longest, source_of } = *settings;
    let encoder = Encoder::new(tokenizer);
    let aligner = (top_k > 0).then(|| Aligner::new(tokenizer, top_k));
    let (mut lookups, mut twins) = (Lookups::default(), twins.iter().peekable());
    let mut removed = Vec::new();
    let (mut looked_at, mut kept) = (0, 0);
    let total = pool.len() as u64;
    progress(Progress { stage: Stage::Tokenise, done: 0, total, traces: looked_at, kept });
    each_piece(pool, &mut |scan, first, piece| {
        let source = &config.sources[source_of[scan]];
        let teacher = source.teacher.as_ref().zip(aligner.as_ref());
        let teacher =
            teacher.map(|(of_source, aligner)| Teacher { aligner, top_k: of_source.top_k, ids_count: of_source.tokenizer.is_some() });
        let numbers: Vec<u32> = piece
            .iter()
            .scan(first, |next, record| {
                let number = *next;
                *next += u32::from(record.has_key());
                Some(number)
            })
            .collect();
        let next = first + piece.iter().filter(|record| record.has_key()).count() as u32;
        let window = (config.rules.min_tokens, longest);
        let make = |(record, &number): (Record, &u32)| match record {
            Record::Lost(Lost { line, rule, detail, excerpt, .. }) => Ok(Made::Dropped { line, drop: Drop::new(rule, detail), excerpt }),
            Record::Kept(kept) if !pool.is_alive(number) => Ok(Made::Twin { line: kept.line, excerpt: excerpt(&kept.trace.question) }),
            Record::Kept(kept) => {
                let teacher = teacher.zip(kept.teacher.as_deref());
                let document = writer.document(&kept.trace, &encoder, teacher)?;
                let is_plain = kept.trace.is_plain_text();
                let len = if is_plain { document.tokens.len().min(longest) } else { document.tokens.len() };
                Ok(match marks::check_specials(&kept.trace, config.system, tokenizer).and_then(|()| in_window(len, window)) {
                    Ok(()) => {
                        let documents = if is_plain { document.cut(longest) } else { vec![document] };
                        let documents = documents.into_iter().map(|document| (bytes_of(&document), document)).collect();
                        Made::Documents { documents, has_teacher: teacher.is_some() }
                    }
                    Err(drop) => Made::Unfit { line: kept.line, drop, excerpt: excerpt(&kept.trace.question) },
                })
            }
        };
        let made: Vec<Result<Made, Error>> = piece.into_par_iter().zip(&numbers).map(make).collect();
        let input = pool.scans()[scan].input.to_string_lossy();
        let flow = &mut card.sources[source_of[scan]];
        for (made, number) in made.into_iter().zip(numbers) {
            looked_at += 1;
            let (line, drop, excerpt) = match made? {
                Made::Documents { documents, has_teacher } => {
                    for (bytes, document) in documents {
                        staging.push(number, &document, &bytes)?;
                        if has_teacher {
                            count_targets(card.teacher.get_or_insert_default(), &document);
                        }
                    }
                    kept += 1;
                    continue;
                }
                Made::Dropped { line, drop, excerpt } => (line, drop, excerpt),
                Made::Unfit { line, drop, excerpt } => {
                    removed.push(number);
                    (line, drop, excerpt)
                }
                Made::Twin { line, excerpt } => {
                    let twin = twins.next_if(|twin| twin.trace == number).expect("a trace that was removed has a twin");
                    let other = lookups.kept(pool, twin.first)?.line;
                    let place = &pool.scans()[pool.scan_of(twin.first)].input;
                    let place = if *place == pool.scans()[scan].input { String::new() } else { format!(" of {}", place.display()) };
                    let detail = match twin.rule {
                        Rule::Duplicate => format!("the same question with the same text is in line {other}{place}"),
                        _ => format!("almost the same question with almost the same text is in line {other}{place}"),
                    };
                    (line, Drop::new(twin.rule, detail), excerpt)
                }
            };
            flow.drop(drop.rule);
            sidecar.push(Entry { source: &input, line, rule: drop.rule, detail: drop.detail, excerpt })?;
        }
        progress(Progress { stage: Stage::Tokenise, done: u64::from(next), total, traces: looked_at, kept });
        Ok(())
    })?;
    removed.into_iter().for_each(|trace| pool.remove(trace));
    Ok(())
}

/// What becomes of a record.
enum Made {
    /// It goes in: as one document, or a long plain text as several.
    Documents { documents: Vec<(Vec<u8>, Document)>, has_teacher: bool },
    /// It was dropped when it was looked at alone.
    Dropped { line: u64, drop: Drop, excerpt: String },
    /// It is too long or too short, or a special token of the tokenizer stands in its text.
    Unfit { line: u64, drop: Drop, excerpt: String },
    /// Another trace makes it superfluous.
    Twin { line: u64, excerpt: String },
}

fn in_window(len: usize, (shortest, longest): (usize, usize)) -> Result<(), Drop> {
    match len {
        len if len > longest => Err(Drop::new(Rule::TooLong, format!("{len} tokens, at most {longest} fit"))),
        len if len < shortest => Err(Drop::new(Rule::TooShort, format!("{len} tokens, at least {shortest} are wanted"))),
        _ => Ok(()),
    }
}

fn count_targets(teacher: &mut crate::card::TeacherFacts, document: &Document) {
    let targets = document.targets.at.len() as u64;
    teacher.targets += targets;
    teacher.masked += (document.tokens.len() - document.prompt_len) as u64 - targets;
    // A sum so far; the mean is taken at the end.
    teacher.mean_tail += document.targets.tails.iter().map(|&tail| f64::from(tail)).sum::<f64>();
}

/// The beginning of a question, for the sidecar.
pub(crate) fn excerpt(question: &str) -> String {
    const LONGEST: usize = 240;
    match question.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &question[..at]),
        None => question.to_owned(),
    }
}

/// Traces that are called as an earlier one of their source is.
pub(crate) fn count_repeated_ids(pool: &Pool, source_of: &[usize]) -> Result<BTreeMap<usize, u64>, Error> {
    let mut repeated = BTreeMap::new();
    pool.groups(
        crate::scan::keys::Column::Id,
        |_| true,
        |groups| {
            for run in groups.runs.into_iter().filter(|run| run[0].0 != 0) {
                let mut sources: Vec<usize> = run.iter().map(|(_, trace)| source_of[pool.scan_of(*trace)]).collect();
                sources.sort_unstable();
                for pair in sources.windows(2).filter(|pair| pair[0] == pair[1]) {
                    *repeated.entry(pair[0]).or_default() += 1;
                }
            }
            Ok(())
        },
    )?;
    Ok(repeated)
}
