//! The programmatic teacher: grade-school word problems, each with a short chain of thought in the manner of reasoning models.
//! The same seed writes the same bytes on every machine, and a longer set begins with the shorter one. Which numbers of a
//! template are held out is decided by the numbers alone, whatever the seed: no held-out problem is a training problem with
//! other names.

mod draw;
mod files;
mod four_steps;
mod one_step;
mod scene;
mod steps;
mod teacher;
mod template;
#[cfg(test)]
mod tests;
mod three_steps;
mod two_steps;
mod unseen;
mod words;

pub use files::{Lengths, Written, write};
pub use steps::Operation;
pub use teacher::{Synthesis, synthesize};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use template::{Family, Template};

/// What the teacher writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthConfig {
    /// Every choice follows from it.
    pub seed: u64,
    /// Training traces.
    pub problems: usize,
    /// Held-out problems of the templates that training sees, with numbers that it does not.
    pub held_out: usize,
    /// Held-out problems of templates that training never sees.
    pub unseen: usize,
    /// The least and the most steps of a problem; each count in between is equally frequent.
    pub steps: [u32; 2],
    /// The largest number that a question states.
    pub max_operand: u32,
    /// What the steps may do.
    pub operations: Vec<Operation>,
}

/// The quickstart's range.
impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            problems: 60_000,
            held_out: 500,
            unseen: 300,
            steps: [1, 2],
            max_operand: 20,
            operations: vec![Operation::Add, Operation::Subtract, Operation::Multiply],
        }
    }
}

/// Why the teacher wrote nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A config value out of its limits.
    #[error("{key} is {value}, but must be {limit}")]
    Config {
        /// The key in the config's table.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        limit: String,
    },
    /// More problems were asked for than the templates can say.
    #[error(
        "cannot write {wanted} {set} problems: the templates gave only {found} different questions; \
         raise max_operand, allow more operations or steps, or ask for fewer"
    )]
    Exhausted {
        /// Which set.
        set: &'static str,
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl SynthConfig {
    const MAX_PROBLEMS: usize = 5_000_000;

    /// Whether every value is within its limits and the templates can serve them.
    pub fn check(&self) -> Result<(), Error> {
        let require = |holds: bool, key, value: String, limit: &str| {
            if holds { Ok(()) } else { Err(Error::Config { key, value, limit: limit.to_owned() }) }
        };
        let most = Self::MAX_PROBLEMS;
        for (key, count, least) in [("problems", self.problems, 1), ("held_out", self.held_out, 0), ("unseen", self.unseen, 0)] {
            let fits = (least..=most).contains(&count);
            require(fits, key, count.to_string(), &format!("from {least} to {most}"))?;
        }
        let [least, most] = self.steps;
        let ordered = 1 <= least && least <= most && most <= 4;
        require(ordered, "steps", format!("{:?}", self.steps), "[least, most] with 1 <= least <= most <= 4")?;
        let fits = (10..=1_000).contains(&self.max_operand);
        require(fits, "max_operand", self.max_operand.to_string(), "from 10 to 1000")?;

        let names = self.operations.iter().map(|operation| operation.key()).collect::<Vec<_>>().join(", ");
        for steps in least..=most {
            let served = !self.templates(Family::Known, steps).is_empty();
            let limit = format!("enough for a known template of {steps} steps; add one of those missing");
            require(served, "operations", format!("[{names}]"), &limit)?;
        }
        let served = self.unseen == 0 || (least..=most).any(|steps| !self.templates(Family::Unseen, steps).is_empty());
        require(served, "unseen", self.unseen.to_string(), &format!("0, as no unseen template does with operations [{names}]"))
    }

    fn templates(&self, family: Family, steps: u32) -> Vec<&'static Template> {
        let fits = |template: &&Template| {
            let operations = template.operations();
            template.family == family
                && operations.len() == steps as usize
                && operations.iter().all(|operation| self.operations.contains(operation))
        };
        all_templates().filter(fits).collect()
    }
}

fn all_templates() -> impl Iterator<Item = &'static Template> {
    let files = [one_step::TEMPLATES, two_steps::TEMPLATES, three_steps::TEMPLATES, four_steps::TEMPLATES, unseen::TEMPLATES];
    files.into_iter().flatten()
}
