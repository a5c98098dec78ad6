//! At most so many traces of a question, so that a question with many traces does not outweigh the others. Questions are the same
//! when they differ in case and white space only.

use std::cmp::Reverse;

use task::Verdict;

use super::{Drop, Rule};
use crate::Error;
use crate::config::Choose;
use crate::pool::{Lookups, Pool};
use crate::scan::keys::Column;
use crate::scan::record::Facts;
use crate::words::mix;

/// The traces that are too many, each with how many its question has. `tokens` gives the length of a trace.
pub(crate) fn surplus(pool: &Pool, most: usize, choose: Choose, seed: u64, tokens: impl Fn(u32) -> u32) -> Result<Vec<(u32, u32)>, Error> {
    let mut surplus = Vec::new();
    let mut lookups = Lookups::default();
    pool.groups(
        Column::Question,
        |trace| pool.is_alive(trace),
        |groups| {
            for run in groups.runs.into_iter().filter(|run| run.len() > most) {
                let mut ranked = Vec::with_capacity(run.len());
                for &(_, trace) in run {
                    let rank = match choose {
                        Choose::Shortest => {
                            let is_right = Facts::from_bits(lookups.key(pool, Column::Facts, trace)?).verdict == Some(Verdict::Right);
                            (Reverse(is_right), u64::from(tokens(trace)))
                        }
                        Choose::Seeded => (Reverse(false), mix(lookups.key(pool, Column::Identity, trace)? ^ mix(seed))),
                    };
                    ranked.push((rank, trace));
                }
                ranked.sort_unstable();
                surplus.extend(ranked[most..].iter().map(|(_, trace)| (*trace, run.len() as u32)));
            }
            Ok(())
        },
    )?;
    surplus.sort_unstable();
    Ok(surplus)
}

/// Why a trace goes.
pub(crate) fn drop(count: u32, most: usize, choose: Choose) -> Drop {
    let which = match choose {
        Choose::Shortest => "the shortest right ones",
        Choose::Seeded => "some by chance",
    };
    Drop::new(Rule::PerQuestion, format!("its question has {count} traces, {most} stay: {which}"))
}
