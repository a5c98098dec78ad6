//! How hard a question is for its teacher: the share of its tries that came out right, where there are several. What the teacher
//! always gets right teaches little, what it never does may have a wrong reference.

use std::collections::BTreeMap;

use task::Verdict;

use super::{Drop, Rule};
use crate::Error;
use crate::pool::{Lookups, Pool};
use crate::scan::keys::Column;
use crate::scan::record::Facts;

/// Tries and successes of the questions that were tried more than once.
#[derive(Default)]
pub(crate) struct PassRates {
    /// How many questions were got right in at most so many tenths of the tries, and in more than the entry before.
    pub tenths: BTreeMap<u32, u64>,
    /// The traces of questions that are out of the limits, with successes and tries.
    pub out: Vec<(u32, u32, u32)>,
}

/// Looks at all tries, those included whose trace was dropped because it is wrong.
pub(crate) fn look(pool: &Pool, [least, most]: [f64; 2]) -> Result<PassRates, Error> {
    let mut rates = PassRates::default();
    let mut lookups = Lookups::default();
    pool.groups(
        Column::Question,
        |_| true,
        |groups| {
            for run in groups.runs {
                let (mut tries, mut right) = (0, 0);
                for &(_, trace) in run {
                    match Facts::from_bits(lookups.key(pool, Column::Facts, trace)?).verdict {
                        Some(Verdict::Right) => (tries, right) = (tries + 1, right + 1),
                        Some(Verdict::Wrong | Verdict::NoAnswer) => tries += 1,
                        Some(Verdict::Unverifiable) | None => {}
                    }
                }
                if tries < 2 {
                    continue;
                }
                let rate = f64::from(right) / f64::from(tries);
                *rates.tenths.entry((rate * 10.0).ceil() as u32).or_default() += 1;
                if !(least..=most).contains(&rate) {
                    rates.out.extend(run.iter().filter(|(_, trace)| pool.is_alive(*trace)).map(|&(_, trace)| (trace, right, tries)));
                }
            }
            Ok(())
        },
    )?;
    rates.out.sort_unstable();
    Ok(rates)
}

/// Why a trace goes.
pub(crate) fn drop(right: u32, tries: u32, [least, most]: [f64; 2]) -> Drop {
    Drop::new(Rule::PassRate, format!("its question was got right in {right} of {tries} tries, {least} to {most} of them are wanted"))
}
