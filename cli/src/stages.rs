//! The stages of a run: each `[[stage]]` is a run of its own in `stages/NAME` of the run's folder, made of the config's tables with
//! the stage's own keys over them. It starts from the student of the stage before.
//!
//! Until a stage was trained, `stage:NAME` stands for the folder of its student.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use data::DataConfig;
use model::{ModelConfig, StudentTable};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    config::{self, RunConfig, with_nearest},
    run::{CONFIG, Run},
};

/// What stands before a stage's name where its student is meant.
const STUDENT: &str = "stage:";
/// The folder of a run's stages.
const FOLDER: &str = "stages";

/// A stage as the config has it: what in it is other than in the tables of the same names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageTable {
    /// Its name; its folder is called so.
    pub name: String,
    /// Over `[data]`.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub data: toml::Table,
    /// Over `[model]`; after the first stage without the sizes, which are those of the stage before.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub model: toml::Table,
    /// Over `[train]`.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub train: toml::Table,
}

/// The stages of a run whose own tables are resolved. `path` is that of its config.
pub fn stages(run: &Run, path: &Path) -> Result<Vec<Run>> {
    let mut making = Making { run, made: Vec::new(), data: Vec::new(), sizes: Vec::new() };
    for (number, table) in run.config.stages.iter().enumerate() {
        let place = || format!("{}, stage {}", config::place_of_stage(path, number), table.name);
        making.add(table).with_context(place)?;
    }
    Ok(making.made)
}

/// A stage whose student a path means.
pub fn reference(path: Option<&Path>) -> Option<&str> {
    path?.to_str()?.strip_prefix(STUDENT)
}

/// The same stage, with the students of those before it in the place of their names.
pub fn placed(stage: &Run, students: &BTreeMap<String, PathBuf>) -> Run {
    let mut stage = stage.clone();
    let from = match &mut stage.config.model {
        StudentTable::New(_) => None,
        StudentTable::From(table) => Some(&mut table.from),
    };
    for path in from.into_iter().chain(&mut stage.config.train.teacher.from) {
        if let Some(student) = reference(Some(path)).and_then(|name| students.get(name)) {
            *path = student.clone();
        }
    }
    stage
}

/// The last stage of which something is in a run's folder, by what `is_there` says of a stage's folder.
pub fn last(folder: &Path, is_there: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Names {
        #[serde(default)]
        stage: Vec<StageTable>,
    }
    let text = fs::read_to_string(folder.join(CONFIG)).ok()?;
    let names: Names = toml::from_str(&text).ok()?;
    names.stage.iter().rev().map(|stage| folder.join(FOLDER).join(&stage.name)).find(|stage| is_there(stage))
}

struct Making<'a> {
    run: &'a Run,
    made: Vec<Run>,
    /// What each of them is trained on, as the config has it, with the longest row.
    data: Vec<(DataConfig, usize)>,
    /// The sizes of each one's student.
    sizes: Vec<ModelConfig>,
}

impl Making<'_> {
    fn add(&mut self, table: &StageTable) -> Result<()> {
        let (name, base) = (&table.name, &self.run.config);
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
        if name.is_empty() || !name.chars().all(is_plain) {
            bail!("its name is to be that of a folder: letters, digits, _ and -");
        }
        if self.made.iter().any(|made| made.name == *name) {
            bail!("an earlier stage has that name");
        }
        if let Some(key) = ["vocab", "tokenizer"].into_iter().find(|key| table.data.contains_key(*key)) {
            bail!("data.{key} is given, but all stages have one tokenizer; say which in [data]");
        }
        let model = match self.made.last() {
            None if table.model.contains_key("from") && base.model.from().is_none() => {
                bail!("model.from is given, but [model] has the sizes of a new student; put it there in their place")
            }
            None => merged("model", &base.model, &table.model)?,
            Some(_) if table.model.contains_key("from") => bail!("model.from is given, but a stage starts from the one before it"),
            Some(before) => {
                let from = PathBuf::from(format!("{STUDENT}{}", before.name));
                StudentTable::From(merged("model", &base.model.going_on(&from)?, &table.model)?)
            }
        };
        let sizes = match (&model, self.sizes.last()) {
            (StudentTable::From(table), Some(sizes)) => table.change(sizes.clone())?,
            _ => model.resolve(base.data.vocab.unwrap_or(1))?,
        };
        let train: trainer::TrainTable = merged("train", &base.train, &table.train)?;
        if let Some(teacher) = reference(train.teacher.from.as_deref())
            && !self.made.iter().any(|made| made.name == teacher)
        {
            let earlier: Vec<&str> = self.made.iter().map(|made| made.name.as_str()).collect();
            let earlier = if earlier.is_empty() { "there is none".to_owned() } else { format!("these are {}", earlier.join(", ")) };
            bail!("train.teacher.from is {STUDENT}{teacher}, an earlier stage was needed; {earlier}");
        }
        train.check()?;
        let of_stage = |name: &str| self.made.iter().position(|made| made.name == name).map(|place| self.sizes[place].clone());
        config::check_training(&train, &sizes, model.from(), of_stage)?;

        let data: DataConfig = merged("data", &base.data, &table.data)?;
        data.check()?;
        let folder = self.run.folder.join(FOLDER).join(name);
        let known = (data.clone(), sizes.context);
        let dataset = match self.data.iter().position(|other| *other == known) {
            Some(same) => self.made[same].dataset(),
            None if self.made.is_empty() => self.run.dataset(),
            None => folder.join("dataset"),
        };
        let mut config = RunConfig { synth: None, data, model, train, stages: Vec::new(), ..base.clone() };
        if let (Some(first), Some(_)) = (self.made.first(), config.data.vocab) {
            (config.data.vocab, config.data.tokenizer) = (None, Some(first.dataset().join("tokenizer.json")));
        }
        self.data.push(known);
        self.sizes.push(sizes);
        self.made.push(self.run.stage(name, folder, dataset, config));
        Ok(())
    }
}

/// A table of the config with a stage's keys over it.
fn merged<T: Serialize + DeserializeOwned>(key: &str, base: &impl Serialize, over: &toml::Table) -> Result<T> {
    let mut table = toml::Table::try_from(base).with_context(|| format!("cannot write [{key}] as TOML"))?;
    lay(&mut table, over);
    table.try_into().map_err(|error: toml::de::Error| anyhow!("{key}: {}", with_nearest(error.message())))
}

/// Put every key of a table over those of another one; tables are laid over tables.
fn lay(table: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(toml::Value::Table(table)), toml::Value::Table(over)) => lay(table, over),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_laid_over_tables_and_all_else_is_replaced() {
        let mut table: toml::Table = "a = 1\nb = [1, 2]\nc = { d = 1, e = 2 }\nf = 3".parse().unwrap();
        lay(&mut table, &"b = [3]\nc = { e = 5, g = 6 }\nf = { h = 1 }".parse().unwrap());
        assert_eq!(table, "a = 1\nb = [3]\nc = { d = 1, e = 5, g = 6 }\nf = { h = 1 }".parse().unwrap());
    }
}
