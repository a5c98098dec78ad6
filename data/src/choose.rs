//! The rules that choose among the traces that could all go in: by pass rate, by question, by weight. They look at keys and lengths
//! alone; what they drop goes into the sidecar behind everything else.

use crate::config::DataConfig;
use crate::pool::{Lookups, Pool};
use crate::rules::{Drop, pass_rate, per_question, weight};
use crate::scan::keys::Column;
use crate::scan::record::Facts;
use crate::sidecar::{Entry, Sidecar};
use crate::stage::{Stage, Staged};
use crate::tokenise::excerpt;
use crate::{Card, Error, card};

/// Applies the rules, and counts what is kept in the end.
pub(crate) fn choose(
    pool: &mut Pool,
    config: &DataConfig,
    source_of: &[usize],
    staging: &mut Stage,
    sidecar: &mut Sidecar,
    card: &mut Card,
) -> Result<(), Error> {
    let rules = &config.rules;
    let mut lookups = Lookups::default();
    let mut leave = |pool: &mut Pool, trace: u32, drop: Drop| {
        let kept = lookups.kept(pool, trace)?;
        let scan = pool.scan_of(trace);
        card.sources[source_of[scan]].drop(drop.rule);
        pool.remove(trace);
        let source = pool.scans()[scan].input.to_string_lossy();
        sidecar.push(Entry {
            source: &source,
            line: kept.line,
            rule: drop.rule,
            detail: drop.detail,
            excerpt: excerpt(&kept.trace.question),
        })
    };

    let rates = pass_rate::look(pool, rules.pass_rate)?;
    for (trace, right, tries) in rates.out {
        leave(pool, trace, pass_rate::drop(right, tries, rules.pass_rate))?;
    }
    if let Some(most) = rules.per_question {
        let documents = staging.documents();
        let tokens = |trace: u32| documents.binary_search_by_key(&trace, |staged| staged.trace).map_or(u32::MAX, |at| documents[at].len);
        for (trace, count) in per_question::surplus(pool, most, rules.choose, rules.seed, tokens)? {
            leave(pool, trace, per_question::drop(count, most, rules.choose))?;
        }
    }
    if config.sources.iter().any(|source| source.weight != 1.0) {
        let mut copies = vec![0; pool.len()];
        pool.each(Column::Identity, |trace, identity| {
            let weight = config.sources[source_of[pool.scan_of(trace)]].weight;
            copies[trace as usize] = weight::copies(weight, identity, rules.seed);
        })?;
        for staged in staging.documents_mut() {
            staged.copies = copies[staged.trace as usize];
        }
        for trace in (0..pool.len() as u32).filter(|&trace| copies[trace as usize] == 0) {
            if pool.is_alive(trace) {
                leave(pool, trace, weight::drop(config.sources[source_of[pool.scan_of(trace)]].weight))?;
            }
        }
    }
    for staged in staging.documents_mut().iter_mut().filter(|staged| !pool.is_alive(staged.trace)) {
        staged.copies = 0;
    }

    card.pass_rates = rates.tenths;
    let mut kept = staging.documents().iter().filter(|staged| staged.copies > 0).peekable();
    pool.each(Column::Facts, |trace, bits| {
        // A long plain text is several documents.
        if let Some(first) = kept.peek().filter(|staged| staged.trace == trace) {
            card.sources[source_of[pool.scan_of(trace)]].keep(Facts::from_bits(bits), first.copies);
        }
        while let Some(&Staged { len, prompt_len, .. }) = kept.next_if(|staged| staged.trace == trace) {
            card::count_length(&mut card.lengths, len);
            card::count_length(&mut card.learned_lengths, len - prompt_len);
        }
    })
}
