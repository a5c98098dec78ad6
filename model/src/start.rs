//! The `[model]` table of a run's config: a student of new weights, or one that starts from the weights of a Hugging Face folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{Error, InputQuant, ModelConfig, ModelTable, Quant, Scale, hugging_face};

/// What a student is at the start of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum StudentTable {
    /// New weights of these sizes.
    New(ModelTable),
    /// The weights of a folder.
    From(FromTable),
}

/// The table's form with `from`: sizes come from the folder, and only these may be changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromTable {
    /// A Hugging Face folder; its tokenizer and chat template are the run's.
    pub from: PathBuf,
    /// The longest sequence, in tokens; at most what the folder says, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Default: what the folder's linear layers are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quant: Option<Quant>,
    /// Default: the folder's; `row` where its layers are not quantised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Default: what goes into the folder's layers; `int8` where these are not quantised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<InputQuant>,
    /// Put a norm (SubLN) before the output and down projections, where the folder has none. Default: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sub_norms: bool,
}

impl StudentTable {
    /// The student's sizes, for a tokenizer of `tokens` tokens. A folder's vocabulary may have more rows than that.
    pub fn resolve(&self, tokens: usize) -> Result<ModelConfig, Error> {
        match self {
            StudentTable::New(table) => table.resolve(tokens),
            StudentTable::From(table) => table.resolve(tokens),
        }
    }

    /// The longest sequence, in tokens.
    pub fn context(&self) -> Result<usize, Error> {
        match self {
            StudentTable::New(table) => Ok(table.context),
            StudentTable::From(table) => table.context.map_or_else(|| Ok(table.read()?.context), Ok),
        }
    }

    /// What a student that goes on from the weights in `from` is, where nothing else is said: as this table has it.
    pub fn going_on(&self, from: &Path) -> Result<FromTable, Error> {
        let (context, quant, scale, activations) = match self {
            StudentTable::New(table) => (table.context, table.quant, table.scale, table.activations),
            StudentTable::From(table) => {
                let found = table.change(table.read()?)?;
                (found.context, found.quant, found.scale, found.activations)
            }
        };
        let from = from.to_owned();
        Ok(FromTable {
            from,
            context: Some(context),
            quant: Some(quant),
            scale: Some(scale),
            activations: Some(activations),
            sub_norms: false,
        })
    }

    /// The folder that the weights come from.
    pub fn from(&self) -> Option<&Path> {
        match self {
            StudentTable::New(_) => None,
            StudentTable::From(table) => Some(&table.from),
        }
    }
}

impl FromTable {
    fn read(&self) -> Result<ModelConfig, Error> {
        hugging_face::refuse_adapter(&self.from)?;
        let path = self.from.join(hugging_face::CONFIG);
        let text = fs::read_to_string(&path).map_err(|source| Error::File { doing: "read", path: path.clone(), source })?;
        hugging_face::read_config(&text, &path)
    }

    fn resolve(&self, tokens: usize) -> Result<ModelConfig, Error> {
        let found = self.read()?;
        if tokens > found.vocab {
            let needed = format!("the rows of its embedding, but the tokenizer has {tokens} tokens");
            return Err(Error::Config { key: "from", found: found.vocab.to_string(), needed });
        }
        self.change(found)
    }

    /// The student that this table makes of one of these sizes.
    pub fn change(&self, found: ModelConfig) -> Result<ModelConfig, Error> {
        let context = self.context.unwrap_or(found.context);
        if context > found.context {
            let needed = format!("which is more than the {} of {}", found.context, self.from.display());
            return Err(Error::Config { key: "context", found: context.to_string(), needed });
        }
        let (quant, scale) = (self.quant.unwrap_or(found.quant), self.scale.unwrap_or(found.scale));
        let usual = if quant == Quant::None { InputQuant::default() } else { found.activations };
        let activations = self.activations.unwrap_or(usual);
        let found = ModelConfig { context, quant, scale, activations, ..found };
        if self.sub_norms { found.with_sub_norms() } else { found }.validated()
    }
}

impl<'de> Deserialize<'de> for StudentTable {
    /// Which of the two it is says the key `from`, so that a mistake is told of the form that was meant.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StudentTable, D::Error> {
        let table = serde_json::Value::deserialize(deserializer)?;
        let parsed = match table.get("from") {
            None => serde_json::from_value(table).map(StudentTable::New),
            Some(_) => serde_json::from_value(table).map(StudentTable::From),
        };
        parsed.map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Tokenizer, config::tests::table, hugging_face::Form};

    #[test]
    fn a_table_of_sizes_is_one_without_a_folder() {
        let value = serde_json::to_value(table()).unwrap();
        let found: StudentTable = serde_json::from_value(value.clone()).unwrap();
        assert_eq!((&found, found.from(), found.context().unwrap()), (&StudentTable::New(table()), None, 128));
        assert_eq!(serde_json::to_value(&found).unwrap(), value);
        assert_eq!(found.resolve(300).unwrap(), table().resolve(300).unwrap());
        let error = serde_json::from_value::<StudentTable>(json!({ "width": 256, "wdith": 1 })).unwrap_err().to_string();
        assert!(error.contains("unknown field `wdith`, expected one of `architecture`"), "{error}");
        let error = serde_json::from_value::<StudentTable>(json!({ "from": "x", "width": 256 })).unwrap_err().to_string();
        assert!(error.contains("unknown field `width`, expected one of `from`, `context`, `quant`, `scale`"), "{error}");
    }

    #[test]
    fn a_folder_brings_its_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(vec!["one two three".to_owned(); 4].into_iter(), 270).unwrap();
        let config = table().resolve(300).unwrap();
        fs::write(folder.path().join("config.json"), hugging_face::config_json(&config, &tokenizer, Form::default())).unwrap();
        let resolve = |keys: serde_json::Value, tokens: usize| {
            let mut keys = keys;
            keys["from"] = json!(folder.path());
            serde_json::from_value::<StudentTable>(keys).unwrap().resolve(tokens)
        };
        assert_eq!(resolve(json!({}), 270).unwrap(), config);
        let changed = resolve(json!({ "context": 64, "quant": "none", "scale": "group" }), 300).unwrap();
        assert_eq!(changed, ModelConfig { context: 64, quant: Quant::None, scale: Scale::Group, ..config.clone() });
        assert_eq!(resolve(json!({ "sub_norms": true }), 270).unwrap(), config, "a bitnet has them");
        let later = StudentTable::New(table()).going_on(folder.path()).unwrap();
        assert_eq!(later.change(ModelConfig { quant: Quant::None, ..config.clone() }).unwrap(), config);
        assert_eq!(StudentTable::From(later.clone()).going_on(folder.path()).unwrap(), later);
        for (keys, tokens, expected) in [
            (json!({ "context": 129 }), 270, "model.context is 129, which is more than the 128 of"),
            (json!({}), 301, "model.from is 300, the rows of its embedding, but the tokenizer has 301 tokens"),
        ] {
            let message = resolve(keys, tokens).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
