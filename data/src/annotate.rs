//! A dataset again, with a teacher's probabilities beside its tokens: the same rows, and five columns more.

use std::path::Path;

use serde_json::{Value, json};

use crate::card::{FILE as CARD_FILE, TEXT_FILE as CARD_TEXT_FILE, TeacherFacts, markdown};
use crate::dataset::{CHAT_FILE, DROPPED_FILE, Dataset, PackedRow, TOKENIZER_FILE, TeacherRow};
use crate::folder::Building;
use crate::ingest::SHOWN_TRACES;
use crate::manifest::{self, sha256, write_json};
use crate::pack::Shards;
use crate::shard::packed_target_bytes;
use crate::{Error, Manifest};

/// What is to be written beside the tokens.
#[derive(Clone, Debug)]
pub struct Annotation<'a> {
    /// The folder to write.
    pub to: &'a Path,
    /// What the teacher is known by. Another teacher is another dataset.
    pub teacher: &'a Value,
    /// How many of its tokens are kept at each place.
    pub top_k: usize,
    /// The temperature at which it is asked.
    pub temperature: f32,
}

/// Rows that are asked about together.
const ROWS: usize = 4;

impl Dataset {
    /// Write the dataset with a teacher's probabilities, unless it is there already. `ask` gives those of some rows, one for each;
    /// `report` is told how many rows are done, and of how many. False where it is there.
    pub fn annotate<E: From<Error>>(
        &self,
        annotation: &Annotation,
        mut ask: impl FnMut(&[PackedRow]) -> Result<Vec<TeacherRow>, E>,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<(Dataset, bool), E> {
        let Annotation { to, teacher, top_k, temperature } = *annotation;
        let of_rows = self.manifest();
        if of_rows.top_k > 0 {
            let why = format!("its traces came with {} probabilities to a token already, and only one teacher is kept", of_rows.top_k);
            return Err(Error::dataset(self.folder(), why).into());
        }
        let settings = json!({ "dataset": of_rows.settings, "teacher": teacher, "top_k": top_k, "temperature": temperature });
        let fingerprint = sha256(format!("{} {settings}", of_rows.fingerprint).as_bytes());
        if let Some(there) = Dataset::open(to).ok().filter(|there| there.manifest().fingerprint == fingerprint) {
            return Ok((there, false));
        }

        let building = Building::start(to)?;
        let at = |name: &str| building.path().join(name);
        let mut shards = Shards::new(building.path(), true);
        let (mut facts, mut done) = (TeacherFacts::default(), 0);
        for block in self.blocks() {
            for rows in block.read(0)?.chunks(ROWS) {
                for (row, teacher) in rows.iter().zip(ask(rows)?) {
                    facts.targets += teacher.at.len() as u64;
                    facts.mean_tail += teacher.tails.iter().map(|tail| f64::from(*tail)).sum::<f64>();
                    shards.push(row.stored(teacher))?;
                }
                done += rows.len() as u64;
                report(done, of_rows.rows);
            }
        }
        let shards = shards.finish()?;
        let packed = shards.iter().map(|shard| packed_target_bytes(&at(&shard.file))).sum::<Result<u64, _>>()?;
        facts.masked = of_rows.supervised_tokens - facts.targets;
        facts.finish(top_k, packed);

        for file in [TOKENIZER_FILE, CHAT_FILE, DROPPED_FILE] {
            std::fs::copy(self.folder().join(file), at(file)).map_err(Error::file("write", &at(file)))?;
        }
        let mut card = self.card()?;
        card.teacher = Some(facts);
        let manifest = Manifest { fingerprint, top_k, shards, settings, ..of_rows.clone() };
        write_json(&at(CARD_FILE), &card)?;
        write_json(&at(manifest::FILE), &manifest)?;
        let shown = Dataset::open(building.path())?.preview(SHOWN_TRACES)?;
        std::fs::write(at(CARD_TEXT_FILE), markdown(&card, &manifest, &shown)).map_err(Error::file("write", &at(CARD_TEXT_FILE)))?;
        building.finish()?;
        Ok((Dataset::open(to)?, true))
    }
}
