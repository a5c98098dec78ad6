//! The traces of all scans as one numbered list, and the rules that compare traces with each other. What is in memory is a few bytes
//! for each trace; keys are read column by column, texts only of traces that share a key.

use rayon::prelude::*;
use task::Trace;

use crate::Error;
use crate::rules::near_duplicates::{BANDS, Phrases};
use crate::rules::{Rule, duplicates};
use crate::scan::keys::{Column, KeyLookup};
use crate::scan::record::{Facts, Kept, Record};
use crate::scan::{Lookup, Scan};
use crate::words::Words;

/// So many keys are sorted at once (16 bytes each); more are done in several parts.
const KEYS_AT_ONCE: usize = 1 << 21;
/// A trace is compared with at most so many different ones that share a key with it, so that no step is quadratic.
const COMPARISONS: usize = 16;

/// The traces of all scans.
pub(crate) struct Pool {
    scans: Vec<Scan>,
    /// The number of the first trace of each scan, and behind the last the number of traces.
    starts: Vec<u32>,
    /// Whether a trace is still in.
    alive: Vec<bool>,
}

/// A trace that another one makes superfluous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Twin {
    pub trace: u32,
    pub rule: Rule,
    /// The earlier one, which stays.
    pub first: u32,
}

impl Pool {
    pub fn new(scans: Vec<Scan>) -> Result<Self, Error> {
        let mut starts = vec![0];
        let mut alive = Vec::new();
        for scan in &scans {
            scan.keys.each(Column::Facts, |bits| alive.push(Facts::from_bits(bits).is_kept))?;
            let Ok(end) = u32::try_from(alive.len()) else {
                return Err(Error::source(
                    &scan.input,
                    format!("with it there are {} traces, at most {} can be told apart", alive.len(), u32::MAX),
                ));
            };
            starts.push(end);
        }
        Ok(Self { scans, starts, alive })
    }

    pub fn scans(&self) -> &[Scan] {
        &self.scans
    }

    /// How many traces there are, those included that are only counted as attempts.
    pub fn len(&self) -> usize {
        self.alive.len()
    }

    pub fn is_alive(&self, trace: u32) -> bool {
        self.alive[trace as usize]
    }

    pub fn remove(&mut self, trace: u32) {
        self.alive[trace as usize] = false;
    }

    /// The scan that a trace is in.
    pub fn scan_of(&self, trace: u32) -> usize {
        self.starts.partition_point(|&start| start <= trace) - 1
    }

    /// Calls `take` with each trace's number and its value in a column.
    pub fn each(&self, column: Column, mut take: impl FnMut(u32, u64)) -> Result<(), Error> {
        for (scan, &start) in self.scans.iter().zip(&self.starts) {
            let mut trace = start;
            scan.keys.each(column, |value| {
                take(trace, value);
                trace += 1;
            })?;
        }
        Ok(())
    }

    /// Calls `take` with lists of traces of equal keys, of two traces at least, in order of their numbers. `wanted` says which
    /// traces are looked at.
    pub fn groups(
        &self,
        column: Column,
        wanted: impl Fn(u32) -> bool,
        mut take: impl FnMut(Groups) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let parts = (self.len() / KEYS_AT_ONCE + 1) as u64;
        for part in 0..parts {
            let mut entries: Vec<(u64, u32)> = Vec::new();
            self.each(column, |trace, key| {
                // The high bits of a key, as evenly as they are spread over the parts.
                if ((key >> 32) * parts) >> 32 == part && wanted(trace) {
                    entries.push((key, trace));
                }
            })?;
            entries.par_sort_unstable();
            let runs = entries.chunk_by(|one, other| one.0 == other.0).filter(|run| run.len() > 1).collect();
            take(Groups { runs })?;
        }
        Ok(())
    }

    /// The exact and the near duplicates of traces before them, which are removed.
    pub fn duplicates(&mut self, exact: bool, near: f64, progress: &mut dyn FnMut(u64, u64)) -> Result<Vec<Twin>, Error> {
        let mut twins = Vec::new();
        let columns = u64::from(exact) + if near < 1.0 { BANDS as u64 } else { 0 };
        let mut done = 0;
        progress(done, columns);
        if exact {
            let mut clusters = Clusters::new(self.len());
            self.merge(&mut clusters, Column::Identity, duplicates::evened, |one, other| one == other)?;
            twins.extend(self.take_out(&clusters));
            done += 1;
            progress(done, columns);
        }
        if near < 1.0 {
            let mut clusters = Clusters::new(self.len());
            let alike = |one: &Phrases, other: &Phrases| one.likeness(other) >= near;
            for band in 0..BANDS {
                self.merge(&mut clusters, Column::Band(band), phrases, alike)?;
                done += 1;
                progress(done, columns);
            }
            let found = self.near_twins(&clusters, alike)?;
            found.iter().for_each(|twin| self.remove(twin.trace));
            twins.extend(found);
        }
        twins.sort_unstable_by_key(|twin| twin.trace);
        Ok(twins)
    }

    /// Joins the traces that share a key and are alike. `view` is what of a trace is compared.
    fn merge<V>(
        &self,
        clusters: &mut Clusters,
        column: Column,
        view: impl Fn(&Trace) -> V + Sync,
        alike: impl Fn(&V, &V) -> bool + Sync,
    ) -> Result<(), Error> {
        self.groups(
            column,
            |trace| self.is_alive(trace),
            |groups| {
                let before = &*clusters;
                let compare = |lookups: &mut Lookups, run: &&[(u64, u32)]| {
                    // The different ones of this run so far, each with what is compared once it was needed.
                    let mut different: Vec<(u32, Option<V>)> = Vec::new();
                    let mut pairs = Vec::new();
                    for &(_, trace) in *run {
                        let root = before.root(trace);
                        if different.iter().any(|(other, _)| before.root(*other) == root) {
                            continue;
                        }
                        let mut seen = None;
                        for (other, other_view) in different.iter_mut().take(COMPARISONS) {
                            if seen.is_none() {
                                seen = Some(view(&lookups.kept(self, trace)?.trace));
                            }
                            if other_view.is_none() {
                                *other_view = Some(view(&lookups.kept(self, *other)?.trace));
                            }
                            if let (Some(one), Some(two)) = (&seen, &other_view)
                                && alike(one, two)
                            {
                                pairs.push((*other, trace));
                                break;
                            }
                        }
                        if pairs.last().is_none_or(|&(_, joined)| joined != trace) && different.len() < COMPARISONS {
                            different.push((trace, seen));
                        }
                    }
                    Ok(pairs)
                };
                let found: Result<Vec<Vec<(u32, u32)>>, Error> = groups.runs.par_iter().map_init(Lookups::default, compare).collect();
                for (one, other) in found?.into_iter().flatten() {
                    clusters.join(one, other);
                }
                Ok(())
            },
        )
    }

    /// Which traces of each cluster are like an earlier one that stays. Chains are no reason: where each is like the next, the last
    /// may be unlike the first, and stays as well.
    fn near_twins(&self, clusters: &Clusters, alike: impl Fn(&Phrases, &Phrases) -> bool + Sync) -> Result<Vec<Twin>, Error> {
        let mut members: Vec<(u32, u32)> = (0..self.len() as u32).map(|trace| (clusters.root(trace), trace)).collect();
        members.sort_unstable();
        let clusters: Vec<&[(u32, u32)]> = members.chunk_by(|one, other| one.0 == other.0).filter(|cluster| cluster.len() > 1).collect();
        let twins_of = |lookups: &mut Lookups, cluster: &&[(u32, u32)]| {
            let (mut stay, mut twins): (Vec<(u32, Phrases)>, Vec<Twin>) = (Vec::new(), Vec::new());
            for &(_, trace) in *cluster {
                let found = phrases(&lookups.kept(self, trace)?.trace);
                match stay.iter().rev().take(COMPARISONS).find(|(_, other)| alike(other, &found)) {
                    Some(&(first, _)) => twins.push(Twin { trace, rule: Rule::NearDuplicate, first }),
                    None => stay.push((trace, found)),
                }
            }
            Ok(twins)
        };
        let found: Result<Vec<Vec<Twin>>, Error> = clusters.par_iter().map_init(Lookups::default, twins_of).collect();
        Ok(found?.into_iter().flatten().collect())
    }

    /// Removes all traces of each cluster of equal ones but the first.
    fn take_out(&mut self, clusters: &Clusters) -> Vec<Twin> {
        let mut twins = Vec::new();
        for trace in 0..self.len() as u32 {
            let first = clusters.root(trace);
            if first != trace {
                self.remove(trace);
                twins.push(Twin { trace, rule: Rule::Duplicate, first });
            }
        }
        twins
    }
}

/// What of a trace near duplicates have in common.
fn phrases(trace: &Trace) -> Phrases {
    let mut words = Words::of(&trace.question);
    words.add(&trace.reasoning);
    words.add(&trace.answer);
    Phrases::of(&words)
}

/// Traces of equal keys.
pub(crate) struct Groups<'a> {
    /// Key and number of each trace.
    pub runs: Vec<&'a [(u64, u32)]>,
}

/// Sets of traces that are alike, as a forest whose roots are the first traces.
struct Clusters(Vec<u32>);

impl Clusters {
    fn new(count: usize) -> Self {
        Self((0..count as u32).collect())
    }

    fn root(&self, mut trace: u32) -> u32 {
        while self.0[trace as usize] != trace {
            trace = self.0[trace as usize];
        }
        trace
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other) as usize] = one.min(other);
    }
}

/// Single traces, from scans that are opened once.
#[derive(Default)]
pub(crate) struct Lookups(Vec<Option<(KeyLookup, Lookup)>>);

impl Lookups {
    /// What was written down of a trace.
    pub fn kept(&mut self, pool: &Pool, trace: u32) -> Result<Kept, Error> {
        let offset = self.key(pool, Column::Offset, trace)?;
        let (scan, (_, records)) = self.open(pool, trace)?;
        match records.at(offset)? {
            Record::Kept(kept) => Ok(kept),
            Record::Lost(_) => Err(Error::source(&pool.scans[scan].input, "its scan is damaged; delete the folder of scans")),
        }
    }

    /// One value of a trace's key.
    pub fn key(&mut self, pool: &Pool, column: Column, trace: u32) -> Result<u64, Error> {
        let (scan, (keys, _)) = self.open(pool, trace)?;
        keys.get(column, (trace - pool.starts[scan]) as usize)
    }

    fn open(&mut self, pool: &Pool, trace: u32) -> Result<(usize, &mut (KeyLookup, Lookup)), Error> {
        let scan = pool.scan_of(trace);
        self.0.resize_with(pool.scans.len(), || None);
        let open = match &mut self.0[scan] {
            Some(open) => open,
            closed => closed.insert((pool.scans[scan].keys.lookup()?, pool.scans[scan].lookup()?)),
        };
        Ok((scan, open))
    }
}
