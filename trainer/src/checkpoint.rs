//! A checkpoint: a Hugging Face folder that other tools open, with the state of the training beside it.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use model::{ChatTemplate, ModelConfig, TensorSpec, Tokenizer, hugging_face, inventory};

use crate::optimizer::{AdamW, BETAS, Moment};
use crate::{Error, error::file, state::TrainingState, student::Student, tensor_file, tensor_file::TensorFile};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT: &str = "chat_template.jinja";
const GENERATION_CONFIG: &str = "generation_config.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "training_state.json";

/// A student on the disk, open and known to be complete.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    /// Its sizes.
    pub config: ModelConfig,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template.
    pub chat: ChatTemplate,
    weights: TensorFile,
}

impl Checkpoint {
    /// Open a folder and check that every tensor of the student is there, and no other.
    pub fn open(folder: &Path) -> Result<Checkpoint, Error> {
        let config_path = folder.join(CONFIG);
        let config = hugging_face::read_config(&read(&config_path)?, &config_path)?;
        let tokenizer = Tokenizer::open(&folder.join(TOKENIZER))?;
        if tokenizer.vocab() != config.vocab {
            let found = format!("vocab_size is {}, {TOKENIZER} has {} tokens", config.vocab, tokenizer.vocab());
            return Err(Error::Checkpoint { path: config_path, found });
        }
        let chat = ChatTemplate::parse(&read(&folder.join(CHAT))?)?;
        let weights = TensorFile::open(&folder.join(WEIGHTS))?;
        let specs = inventory(&config);
        weights.check(specs.iter().map(|spec| (spec.name.clone(), &spec.shape[..])))?;
        Ok(Checkpoint { folder: folder.to_owned(), config, tokenizer, chat, weights })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The weights of a tensor in full precision, row-major.
    pub fn weights(&self, spec: &TensorSpec) -> Vec<f32> {
        self.weights.values(&spec.name)
    }

    /// The state of the training that wrote it.
    pub(crate) fn state(&self) -> Result<TrainingState, Error> {
        let path = self.folder.join(STATE);
        TrainingState::read(&read(&path)?, &path)
    }

    /// The optimizer of the training that wrote it, which had taken `steps` steps of `student`.
    pub(crate) fn optimizer(&self, student: &Student, steps: u64) -> Result<AdamW, Error> {
        let moments = TensorFile::open(&self.folder.join(OPTIMIZER))?;
        let specs = inventory(&self.config);
        let named = |spec| [Moment::First, Moment::Second].map(|moment| (moment_name(spec, moment), &spec.shape[..]));
        moments.check(specs.iter().flat_map(named))?;
        AdamW::from_state(student, BETAS, steps, |spec, moment| Ok(moments.values(&moment_name(spec, moment))))
    }
}

/// What is written of a run besides the student's weights and the optimizer.
pub(crate) struct Parts<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) chat: &'a ChatTemplate,
    pub(crate) state: &'a TrainingState,
}

/// Write a checkpoint's files into a folder.
pub(crate) fn write(folder: &Path, student: &Student, optimizer: &AdamW, parts: &Parts) -> Result<(), Error> {
    let (config, Parts { tokenizer, chat, state }) = (student.config(), parts);
    let texts = [
        (CONFIG, hugging_face::config_json(config, tokenizer)),
        (TOKENIZER, tokenizer.to_json()),
        (TOKENIZER_CONFIG, hugging_face::tokenizer_config_json(config, tokenizer, chat.source())),
        (CHAT, chat.source().to_owned()),
        (GENERATION_CONFIG, hugging_face::generation_config_json(tokenizer)),
        (STATE, state.to_json()),
    ];
    for (name, text) in texts {
        let path = folder.join(name);
        let write = || -> std::io::Result<()> {
            let mut out = File::create(&path)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()
        };
        write().map_err(file("write", &path))?;
    }
    let tensors = student.tensors();
    let weights: Vec<_> = tensors.iter().map(|(spec, values)| (spec.name.clone(), &spec.shape[..], &values[..])).collect();
    tensor_file::write(&folder.join(WEIGHTS), &weights)?;

    let both = [Moment::First, Moment::Second].map(|moment| (moment, optimizer.moments(moment)));
    let mut moments = Vec::new();
    for (moment, values) in &both {
        let named = tensors.iter().zip(values);
        moments.extend(named.map(|((spec, _), values)| (moment_name(spec, *moment), &spec.shape[..], &values[..])));
    }
    tensor_file::write(&folder.join(OPTIMIZER), &moments)
}

fn moment_name(spec: &TensorSpec, moment: Moment) -> String {
    match moment {
        Moment::First => format!("{}.first_moment", spec.name),
        Moment::Second => format!("{}.second_moment", spec.name),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(file("read", path))
}
