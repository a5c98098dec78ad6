//! What the door would make of a file: how it is recognised, a few traces as they would be learned, and what is uncertain about it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use model::ChatTemplate;
use serde_json::{Map, Value};
use task::Verdict;

use crate::config::{Rules, Source, System};
use crate::document::Writer;
use crate::judge::{Judge, Judged};
use crate::layout::{Candidate, Layout, Reading, requests::Requests};
use crate::preview::Piece;
use crate::rules::contamination::Contamination;
use crate::rules::{Rule, answer};
use crate::scan::record::{Kept, Record};
use crate::source::{Reader, Row, files};
use crate::{Decontaminate, Error};

/// What a file is taken for.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The file: the first one, where a pattern stands for several.
    pub path: PathBuf,
    /// JSON lines, a JSON array, a table with separators, Parquet.
    pub form: &'static str,
    /// The layout's name.
    pub layout: &'static str,
    /// The keys of the first row, with what they hold.
    pub keys: String,
    /// Rows that were looked at, from the first one on.
    pub rows: u64,
    /// Traces in them.
    pub traces: u64,
    /// Traces that would be kept, as far as that can be told without looking at others.
    pub kept: u64,
    /// The first traces that are kept: what is given, then what is learned. The token that ends the turn is learned too.
    pub examples: Vec<[Piece; 2]>,
    /// What is uncertain, in sentences.
    pub doubts: Vec<String>,
}

/// So many traces are shown.
const EXAMPLES: usize = 3;

/// Looks at the beginning of a source's first file.
pub fn explain(source: &Source, rules: &Rules, chat: &ChatTemplate, system: System) -> Result<Explanation, Error> {
    let files = files(&source.path)?;
    let path = files.first().expect("a path stands for one file at least").clone();
    let mut reader = Reader::open(&path)?;
    let rows = reader.next_piece()?;
    let objects: Vec<Map<String, Value>> = rows.iter().filter_map(|row| row.object().ok()).collect();
    if let (Some(row), []) = (rows.first(), objects.as_slice()) {
        let detail = row.object().err().map(|drop| drop.detail).unwrap_or_default();
        return Err(Error::source(&path, format!("none of its first lines is a JSON object; line {}: {detail}", row.line)));
    }
    if rows.is_empty() {
        return Err(Error::source(&path, "it has no rows"));
    }
    let first = &objects[..objects.len().min(32)];
    let reading = Reading::of(source, &path, first)?;
    let requests = source.requests.as_deref().map(Requests::open).transpose()?;

    let mut doubts = Doubts::default();
    if files.len() > 1 {
        doubts.say(format!("{} files match {}, this is the first of them", files.len(), source.path.display()));
    }
    if !reader.passed_over().is_empty() {
        doubts.say(format!("columns of kinds that hold no text are not read: {}", reader.passed_over().join(", ")));
    }
    doubts.of_layouts(source, first);
    let more = !reader.next_piece()?.is_empty();
    if more {
        doubts.say(format!("only the first {} rows were looked at", rows.len()));
    }
    for row in &rows {
        let Ok(object) = row.object() else { continue };
        let object = requests.as_ref().map_or_else(|| object.clone(), |requests| requests.joined(object.clone()));
        reading.read(&object).iter().flatten().for_each(|candidate| doubts.look(row, candidate));
    }
    let contamination = Contamination::new(Decontaminate::Off, &[]);
    let judge = Judge { rules, system, contamination: &contamination };
    let judged: Vec<Judged> = rows.iter().flat_map(|row| judge.row(row, reading, source, requests.as_ref())).collect();
    let writer = Writer { chat, system };
    let (mut kept, mut examples) = (0, Vec::new());
    for record in judged.iter().map(|judged| &judged.record) {
        match record {
            Record::Kept(Kept { trace, .. }) => {
                kept += 1;
                if examples.len() < EXAMPLES {
                    let given = if trace.is_plain_text() { String::new() } else { writer.prompt(trace)? };
                    let learned = trace.completion();
                    examples.push([Piece { text: given, supervised: false }, Piece { text: learned, supervised: true }]);
                }
            }
            Record::Lost(lost) => doubts.lose(lost.rule, lost.line, &lost.detail),
        }
    }
    let traces = judged.len() as u64;
    Ok(Explanation {
        path,
        form: reader.form(),
        layout: reading.name(),
        keys: objects.first().map(crate::layout::keys).unwrap_or_default(),
        rows: rows.len() as u64,
        traces,
        kept,
        examples,
        doubts: doubts.finish(traces),
    })
}

/// What is uncertain about a file.
#[derive(Default)]
struct Doubts {
    said: Vec<String>,
    /// How many traces each rule drops, and what it says about the first of them.
    lost: BTreeMap<Rule, (u64, String)>,
    readable: u64,
    with_reference: u64,
    unverifiable: u64,
    without_reasoning: u64,
    with_end: u64,
    with_system: u64,
    mended: u64,
    teacher_steps: u64,
    ids: HashMap<String, u64>,
    repeated_id: Option<(u64, String, u64)>,
}

impl Doubts {
    fn say(&mut self, doubt: String) {
        self.said.push(doubt);
    }

    /// Layouts that rows fit beside the one that they are read as.
    fn of_layouts(&mut self, source: &Source, rows: &[Map<String, Value>]) {
        if source.fields.is_some() || source.layout != Layout::Auto {
            return;
        }
        let mut others: Vec<&str> = rows.iter().flat_map(|row| Layout::all_of(row).into_iter().skip(1)).map(Layout::name).collect();
        others.sort_unstable();
        others.dedup();
        if !others.is_empty() {
            self.say(format!("its rows also fit {}; the key layout says so if that is meant", others.join(", ")));
        }
        let unknown = rows.iter().filter(|row| Layout::all_of(row).is_empty()).count();
        if unknown > 0 {
            self.say(format!("{unknown} of its first {} rows do not fit the layout", rows.len()));
        }
    }

    fn look(&mut self, row: &Row, candidate: &Candidate) {
        let trace = &candidate.trace;
        self.readable += 1;
        self.with_reference += u64::from(trace.reference.is_some() || candidate.is_right.is_some());
        self.unverifiable += u64::from(answer::verdict(candidate) == Some(Verdict::Unverifiable));
        self.without_reasoning += u64::from(trace.reasoning.is_empty());
        self.with_end += u64::from(candidate.stopped_by.is_some());
        self.with_system += u64::from(trace.system.is_some());
        self.mended += u64::from(candidate.is_mended);
        self.teacher_steps += candidate.teacher.as_ref().map_or(0, |steps| steps.len() as u64);
        if trace.id.is_empty() {
            return;
        }
        match self.ids.get(&trace.id) {
            Some(&first) => {
                self.repeated_id.get_or_insert((row.line, trace.id.clone(), first));
            }
            None => {
                self.ids.insert(trace.id.clone(), row.line);
            }
        }
    }

    fn lose(&mut self, rule: Rule, line: u64, detail: &str) {
        let (count, _) = self.lost.entry(rule).or_insert_with(|| (0, format!("the first one in line {line}: {detail}")));
        *count += 1;
    }

    fn finish(mut self, traces: u64) -> Vec<String> {
        for (rule, (count, first)) in std::mem::take(&mut self.lost) {
            self.say(format!("{count} of {traces} traces go by the rule {}, {first}", rule.name()));
        }
        let readable = self.readable;
        for (count, what) in [
            (readable - self.with_reference, "have no reference answer, so that nothing verifies them"),
            (readable - self.with_end, "do not say why the teacher stopped, so that one that was cut off looks like a finished one"),
            (self.unverifiable, "have an answer or a reference that is no exact number, so that no one can mark them"),
            (self.without_reasoning, "have no reasoning, so that the student learns their answers alone"),
            (self.with_system, "have a system prompt, which is left out unless data.system is \"keep\""),
            (self.mended, "hold JSON that is none and were mended"),
        ] {
            if count > 0 {
                self.say(format!("{count} of {readable} traces {what}"));
            }
        }
        if self.teacher_steps > 0 {
            self.say(format!(
                "the teacher's probabilities are there for {} tokens; they are used if the source has a teacher table",
                self.teacher_steps
            ));
        }
        if let Some((line, id, first)) = self.repeated_id.take() {
            self.say(format!("ids are repeated: line {line} has {id:?}, as line {first}"));
        }
        self.said
    }
}
