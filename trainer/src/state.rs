//! What a checkpoint knows of the training besides weights and optimizer, so that a run goes on exactly where it was.
//!
//! No random state is in it: the first weights and the order of the rows are functions of the seed.

use std::{fs, path::Path};

use data::{Cursor, Manifest};
use model::ModelConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Error, TrainTable, balance::Balance, error::file};

/// The name of its file.
pub(crate) const STATE: &str = "training_state.json";

const VERSION: u32 = 1;

/// The file `training_state.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainingState {
    version: u32,
    /// Steps taken.
    pub(crate) step: u64,
    /// Steps that the optimizer has taken, by which it corrects its moments.
    pub(crate) optimizer_steps: u64,
    /// The next row.
    pub(crate) cursor: Cursor,
    /// How the terms of the loss stand to each other.
    #[serde(default)]
    pub(crate) balance: Balance,
    /// What was trained on and how long it took, over all processes that wrote the run.
    pub(crate) totals: Totals,
    /// Everything that the weights depend on.
    identity: Value,
}

/// What a run has cost up to a checkpoint, over all processes that trained it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Tokens that went in, without filler.
    pub tokens: u64,
    /// Supervised targets.
    pub supervised_tokens: u64,
    /// Seconds, saving included.
    pub wall_s: f64,
}

impl Totals {
    /// Tokens per second of the whole run.
    pub fn tokens_per_s(&self) -> f64 {
        if self.wall_s > 0.0 { self.tokens as f64 / self.wall_s } else { 0.0 }
    }
}

/// Everything that the weights of a run depend on; `frozen` is the fingerprint of those that it reads again and again.
pub(crate) fn identity(
    train: &TrainTable,
    model: &ModelConfig,
    from: Option<&Path>,
    frozen: Option<&str>,
    manifest: &Manifest,
) -> Result<Value, Error> {
    let mut identity = json!({ "train": train.same_training(), "model": model, "dataset": manifest.fingerprint });
    if let Some(from) = from {
        identity["from"] = origin(from)?;
    }
    if let Some(teacher) = &train.teacher.from {
        identity["train"]["teacher"]["from"] = origin(teacher)?;
    }
    if let Some(frozen) = frozen {
        identity["weights of from"] = json!(frozen);
    }
    // Written and read once, as the one that it is compared with was.
    Ok(serde_json::from_str(&identity.to_string()).expect("what was just written can be read"))
}

/// How the weights of a folder are known: those of a checkpoint by how it was trained, so that one that was trained anew in the same
/// place is another and one that was moved is not; all others by their place.
pub(crate) fn origin(folder: &Path) -> Result<Value, Error> {
    let path = folder.join(STATE);
    if !path.exists() {
        return Ok(json!(folder));
    }
    let state = TrainingState::read(&fs::read_to_string(&path).map_err(file("read", &path))?, &path)?;
    Ok(json!({ "step": state.step, "identity": state.identity }))
}

impl TrainingState {
    /// The state after `step` steps.
    pub(crate) fn new(step: u64, optimizer_steps: u64, cursor: Cursor, totals: Totals, identity: Value) -> TrainingState {
        TrainingState { version: VERSION, step, optimizer_steps, cursor, balance: Balance::default(), totals, identity }
    }

    /// The text of the file.
    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a state can be written");
        text.push('\n');
        text
    }

    /// Read the text of the file; `path` is named in errors.
    pub(crate) fn read(text: &str, path: &Path) -> Result<TrainingState, Error> {
        let refuse = |found: String| Error::Checkpoint { path: path.to_owned(), found };
        let value: Value = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        if value["version"] != VERSION {
            return Err(refuse(format!("it has version {}, version {VERSION} is needed; start the run again", value["version"])));
        }
        serde_json::from_value(value).map_err(|error| refuse(error.to_string()))
    }

    /// Whether the run that wrote it trained the same weights as one of this identity; `folder` is named in the error.
    pub(crate) fn check_identity(&self, identity: &Value, folder: &Path) -> Result<(), Error> {
        match first_difference(&self.identity, identity) {
            None => Ok(()),
            Some((key, then, now)) => Err(Error::OtherConfig { path: folder.to_owned(), key, then, now }),
        }
    }
}

/// The first key at which two records differ, and what stands there in each.
pub fn first_difference(then: &Value, now: &Value) -> Option<(String, String, String)> {
    difference_below(then, now, "")
}

fn difference_below(then: &Value, now: &Value, at: &str) -> Option<(String, String, String)> {
    let (Value::Object(old), Value::Object(new)) = (then, now) else {
        // Whole records, where one is held against something else, would hide what is said.
        let shown = |value: &Value| Some(value.to_string()).filter(|text| text.len() < 200).unwrap_or_else(|| "another record".to_owned());
        return (then != now).then(|| (at.to_owned(), shown(then), shown(now)));
    };
    let name = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    let value = |table: &serde_json::Map<String, Value>, key: &str| table.get(key).cloned().unwrap_or(Value::Null);
    keys.map(|key| difference_below(&value(old, key), &value(new, key), &name(key))).find_map(|difference| difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_with_its_place() {
        let then = json!({ "train": { "rate": 0.1, "steps": 5 }, "dataset": "a" });
        let now = json!({ "train": { "rate": 0.1, "steps": 6, "ema": 0.5 }, "dataset": "b" });
        assert_eq!(first_difference(&then, &now), Some(("train.steps".into(), "5".into(), "6".into())));
        assert_eq!(
            difference_below(&then["train"], &json!({ "rate": 0.1, "steps": 5, "ema": 1 }), "x"),
            Some(("x.ema".into(), "null".into(), "1".into()))
        );
        assert_eq!(first_difference(&then, &then), None);
    }

    #[test]
    fn a_state_of_another_version_says_what_to_do() {
        let state = TrainingState::new(3, 3, Cursor::default(), Totals::default(), json!({}));
        let path = Path::new("run/step-00000003/training_state.json");
        assert_eq!(TrainingState::read(&state.to_json(), path).unwrap(), state);
        let message = TrainingState::read(&state.to_json().replace("\"version\": 1", "\"version\": 9"), path).unwrap_err().to_string();
        assert!(message.contains("it has version 9, version 1 is needed"), "{message}");
        assert!(TrainingState::read("{", path).unwrap_err().to_string().starts_with("cannot read run/step-00000003"));
    }
}
