//! A run's config: one TOML file with a table for each crate, joined here and checked before anything starts.
//!
//! Every key must be known. `${NAME}` in a text stands for an environment variable, so that a config can name a download
//! without knowing where it lies. `--set` overrides one key; `stage.NAME.train.steps` is one of a stage.

use std::{fs, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use model::{ModelConfig, hugging_face};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use trainer::TrainTable;

use crate::stages::{self, StageTable};

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The programmatic teacher. Its traces are the run's first source, and its held-out sets are scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synth: Option<data::synth::SynthConfig>,
    /// Where the traces come from and what is kept of them.
    pub data: data::DataConfig,
    /// What the student is, or which folder it starts from.
    pub model: model::StudentTable,
    /// How it is trained.
    pub train: trainer::TrainTable,
    /// What it is asked in the end.
    #[serde(default)]
    pub eval: eval::EvalConfig,
    /// Parts of the training, one after the other. None is the same as one of which nothing is said.
    #[serde(default, rename = "stage", skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageTable>,
}

/// Read a config, whole or a part of it, and apply the overrides. The tables are not yet [checked](check).
pub fn load<C: DeserializeOwned>(path: &Path, overrides: &[String]) -> Result<C> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the config {}", path.display()))?;
    // The file as it stands is read first, because only then do errors know their line.
    let config: C = parse(&text, path)?;
    let config = if overrides.is_empty() && !text.contains("${") { config } else { resolve(&text, path, overrides)? };
    Ok(config)
}

fn parse<C: DeserializeOwned>(text: &str, path: &Path) -> Result<C> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let place = line.map_or_else(|| path.display().to_string(), |line| format!("{} line {line}", path.display()));
        anyhow!("{place}: {}", with_nearest(error.message()))
    })
}

fn resolve<C: DeserializeOwned>(text: &str, path: &Path, overrides: &[String]) -> Result<C> {
    let mut table: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    for setting in overrides {
        set(&mut table, setting).with_context(|| format!("--set {setting}"))?;
    }
    for (key, value) in &mut table {
        expand(value).with_context(|| format!("{}: {key}", path.display()))?;
    }
    table
        .try_into()
        .map_err(|error: toml::de::Error| anyhow!("{} with {}: {}", path.display(), overrides.join(" "), with_nearest(error.message())))
}

fn set(table: &mut toml::Table, setting: &str) -> Result<()> {
    let Some((key, value)) = setting.split_once('=') else { bail!("a setting has the form KEY=VALUE, as train.steps=100") };
    // A bare word is a text, so that quotes need not be typed twice for the shell.
    let value = match format!("value = {value}").parse::<toml::Table>() {
        Ok(mut parsed) => parsed.remove("value").expect("the key that was just written"),
        Err(_) => toml::Value::String(value.to_owned()),
    };
    let mut parts = key.split('.').peekable();
    let mut at = table;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            at.insert(part.to_owned(), value);
            return Ok(());
        }
        let mut next = at.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let toml::Value::Array(tables) = next {
            let name = parts.next().expect("it was looked at");
            let has_name = |table: &&mut toml::Value| table.get("name").and_then(toml::Value::as_str) == Some(name);
            next = tables.iter_mut().find(has_name).ok_or_else(|| anyhow!("there is no {part} of the name {name}"))?;
        }
        at = next.as_table_mut().ok_or_else(|| anyhow!("{part} is no table"))?;
    }
    bail!("the key ends before a setting")
}

/// The file and the line where a stage begins, as far as that can be told.
pub fn place_of_stage(path: &Path, number: usize) -> String {
    #[derive(Deserialize)]
    struct Lines {
        stage: Vec<toml::Spanned<toml::Table>>,
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    let start = toml::from_str(&text).ok().and_then(|lines: Lines| Some(lines.stage.get(number)?.span().start));
    start.map_or_else(|| path.display().to_string(), |start| format!("{} line {}", path.display(), line_of(&text, start)))
}

fn line_of(text: &str, place: usize) -> usize {
    text[..place].matches('\n').count() + 1
}

/// Put environment variables in the place of their names.
fn expand(value: &mut toml::Value) -> Result<()> {
    match value {
        toml::Value::String(text) => {
            while let Some((before, rest)) = text.split_once("${") {
                let Some((name, after)) = rest.split_once('}') else { bail!("{text:?} has a ${{ without its }}") };
                let found = std::env::var(name).map_err(|_| anyhow!("{text:?} needs the environment variable {name}, which is not set"))?;
                *text = format!("{before}{found}{after}");
            }
            Ok(())
        }
        toml::Value::Array(values) => values.iter_mut().try_for_each(expand),
        toml::Value::Table(table) => table.iter_mut().try_for_each(|(_, value)| expand(value)),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) | toml::Value::Datetime(_) => Ok(()),
    }
}

/// Every table's own limits.
pub fn check(config: &RunConfig) -> Result<()> {
    if let Some(synth) = &config.synth {
        synth.check()?;
    }
    config.data.check()?;
    config.model.resolve(config.data.vocab.unwrap_or(1))?;
    config.train.check()?;
    config.eval.check()?;
    Ok(())
}

/// What a training needs of its student, which starts from a folder's weights or from new ones, and of its teacher's sizes. `of_stage`
/// gives those of an earlier stage's student.
pub fn check_training(
    train: &TrainTable,
    student: &ModelConfig,
    from: Option<&Path>,
    of_stage: impl Fn(&str) -> Option<ModelConfig>,
) -> Result<()> {
    train.check_for(student, from)?;
    let Some(folder) = train.teacher.from.as_ref().filter(|_| train.teacher.has_states()) else { return Ok(()) };
    let teacher = match stages::reference(Some(folder)) {
        Some(stage) => of_stage(stage),
        None => Some(sizes_of(folder).context("cannot use train.teacher.from")?),
    };
    teacher.map_or(Ok(()), |teacher| Ok(train.teacher.check_for(student, &teacher)?))
}

/// The sizes of the student in a folder.
pub fn sizes_of(folder: &Path) -> Result<ModelConfig> {
    let path = folder.join(hugging_face::CONFIG);
    if let (false, Ok(Some((_, last)))) = (path.exists(), trainer::latest(folder)) {
        bail!("{} is the folder of a run; its last checkpoint is {}", folder.display(), last.display());
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hugging_face::read_config(&text, &path)?)
}

/// A message about an unknown key or word, with the nearest of those that it lists.
pub fn with_nearest(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((found, known)) = quoted.split_first() else { return message.to_owned() };
    let nearest = known.iter().max_by(|a, b| strsim::jaro_winkler(found, a).total_cmp(&strsim::jaro_winkler(found, b)));
    match nearest {
        Some(nearest) if message.starts_with("unknown") => format!("{message}; did you mean `{nearest}`?"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named() {
        let message = with_nearest("unknown field `stpes`, expected one of `rows`, `steps`, `seed`");
        assert!(message.ends_with("did you mean `steps`?"), "{message}");
        assert_eq!(with_nearest("expected `,`"), "expected `,`");
    }

    #[test]
    fn a_setting_overrides_one_key() {
        let mut table: toml::Table = "[train]\nsteps = 5\nrate = 0.1\n[[stage]]\nname = 'a'\n[[stage]]\nname = 'b'".parse().unwrap();
        for setting in
            ["stage.b.train.steps=3", "train.steps=7", "train.schedule=cosine", "model.scale=\"row\"", "data.sources=[{path='x'}]"]
        {
            set(&mut table, setting).unwrap();
        }
        assert_eq!(table["train"]["steps"].as_integer(), Some(7));
        assert_eq!((table["stage"][1]["train"]["steps"].as_integer(), table["stage"][0].get("train")), (Some(3), None));
        assert!(set(&mut table, "stage.c.train.steps=3").unwrap_err().to_string().contains("no stage of the name c"));
        assert!(set(&mut table, "stage.b=3").is_err());
        assert_eq!(table["train"]["rate"].as_float(), Some(0.1));
        assert_eq!(table["train"]["schedule"].as_str(), Some("cosine"));
        assert_eq!(table["model"]["scale"].as_str(), Some("row"));
        assert_eq!(table["data"]["sources"][0]["path"].as_str(), Some("x"));
        assert!(set(&mut table, "train.steps").is_err());
        assert!(set(&mut table, "train.steps.deep=1").is_err());
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let mut value = toml::Value::String("${TRISTILL_NO_SUCH_VARIABLE}/x".into());
        assert!(expand(&mut value).unwrap_err().to_string().contains("TRISTILL_NO_SUCH_VARIABLE"));
    }
}
