//! A checkpoint: a Hugging Face folder that other tools open, with the state of the training beside it. Folders by others are opened
//! alike, without that state.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use model::{
    ChatTemplate, ModelConfig, Quant, Scale, TensorSpec, Tokenizer,
    hugging_face::{self, CHAT_TEMPLATE, CONFIG, Form, TOKENIZER_CONFIG},
    inventory,
};

use crate::optimizer::{AdamW, BETAS, Moment};
use crate::{
    Error,
    error::file,
    import::Weights,
    state::{STATE, TrainingState},
    student::Student,
    tensor_file::{self, NewTensor, TensorFiles, WEIGHTS, f32_bytes},
};

const TOKENIZER: &str = "tokenizer.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const OPTIMIZER: &str = "optimizer.safetensors";
/// What training goes on with, where the folder's weights are its moving average or an adapter merged.
const TRAINED: &str = "trained.safetensors";

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
    weights: Weights,
}

impl Checkpoint {
    /// Open a folder and check that every tensor of the student is there, and no other.
    pub fn open(folder: &Path) -> Result<Checkpoint, Error> {
        hugging_face::refuse_adapter(folder)?;
        let config_path = folder.join(CONFIG);
        let description = hugging_face::read_description(&read(&config_path)?, &config_path)?;
        let config = &description.config;
        let tokenizer = Tokenizer::open(&folder.join(TOKENIZER))?;
        // The embedding may have more rows: they are filled up so that they divide well.
        if tokenizer.vocab() > config.vocab {
            let found = format!("vocab_size is {}, {TOKENIZER} has {} tokens", config.vocab, tokenizer.vocab());
            return Err(Error::Checkpoint { path: config_path, found });
        }
        let chat = hugging_face::chat_template(folder, &tokenizer)?;
        let weights = Weights::open(folder, &description)?;
        Ok(Checkpoint { folder: folder.to_owned(), config: description.config, tokenizer, chat, weights })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The weights of a tensor in full precision, row-major.
    pub fn weights(&self, spec: &TensorSpec) -> Vec<f32> {
        self.weights_for(spec, self.config.quant, self.config.scale)
    }

    /// The weights of a tensor for a student whose linear layers are of another kind or scale. It makes a difference where they are
    /// stored as codes.
    pub fn weights_for(&self, spec: &TensorSpec, quant: Quant, scale: Scale) -> Vec<f32> {
        self.weights.values(spec, quant, scale)
    }

    /// As [`Checkpoint::weights_for`], or which weight is no finite number.
    pub(crate) fn finite_weights(&self, spec: &TensorSpec, quant: Quant, scale: Scale) -> Result<Vec<f32>, Error> {
        let weights = self.weights_for(spec, quant, scale);
        match weights.iter().position(|weight| !weight.is_finite()) {
            None => Ok(weights),
            Some(at) => {
                let found = format!("weight {at} of {} is {}, which is not a finite number", spec.name, weights[at]);
                Err(Error::Checkpoint { path: self.folder.clone(), found })
            }
        }
    }

    /// What training goes on with, in this order, where it is not the folder's weights.
    pub(crate) fn trained(&self, specs: &[TensorSpec]) -> Result<Vec<Vec<f32>>, Error> {
        let files = TensorFiles::open(&self.folder.join(TRAINED))?;
        files.check(specs.iter().map(|spec| (spec.name.clone(), &spec.shape[..])))?;
        Ok(specs.iter().map(|spec| files.values(&spec.name)).collect())
    }

    /// The state of the training that wrote it.
    pub(crate) fn state(&self) -> Result<TrainingState, Error> {
        let path = self.folder.join(STATE);
        TrainingState::read(&read(&path)?, &path)
    }

    /// The optimizer of the training that wrote it, which had taken `steps` steps of `student`.
    pub(crate) fn optimizer(&self, student: &Student, steps: u64) -> Result<AdamW, Error> {
        let moments = TensorFiles::open(&self.folder.join(OPTIMIZER))?;
        let named = |spec| [Moment::First, Moment::Second].map(|moment| (moment_name(spec, moment), &spec.shape[..]));
        moments.check(student.specs().iter().flat_map(named))?;
        AdamW::from_state(student, BETAS, steps, |spec, moment| Ok(moments.values(&moment_name(spec, moment))))
    }
}

/// What is written of a run besides the student's weights and the optimizer.
pub(crate) struct Parts<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) chat: &'a ChatTemplate,
    pub(crate) state: &'a TrainingState,
    /// The moving average of the student's weights, which takes their place in the folder.
    pub(crate) average: Option<&'a [Vec<f32>]>,
}

/// Write a checkpoint's files into a folder.
pub(crate) fn write(folder: &Path, student: &Student, optimizer: &AdamW, parts: &Parts) -> Result<(), Error> {
    let Parts { tokenizer, chat, state, average } = parts;
    write_texts(folder, student.config(), tokenizer, chat, Form::default())?;
    write_text(&folder.join(STATE), &state.to_json())?;
    // One tensor after the other, because copies of all of them would be most of what a run holds.
    let (whole, specs) = (inventory(student.config()), student.specs());
    let heads = |specs: &[TensorSpec]| specs.iter().map(|spec| NewTensor::f32(spec.name.clone(), &spec.shape)).collect::<Vec<_>>();
    tensor_file::write(&folder.join(WEIGHTS), &heads(&whole), |place| match average {
        None => Ok(f32_bytes(&student.tensor(&whole[place]))),
        Some(average) => Ok(f32_bytes(&average[place])),
    })?;
    if average.is_some() || student.frozen_weights().is_some() {
        tensor_file::write(&folder.join(TRAINED), &heads(specs), |place| Ok(f32_bytes(&student.parameters()[place].values())))?;
    }

    let moments = [Moment::First, Moment::Second];
    let named = |moment| specs.iter().map(move |spec| NewTensor::f32(moment_name(spec, moment), &spec.shape));
    let heads: Vec<NewTensor> = moments.into_iter().flat_map(named).collect();
    let values = |index| optimizer.values(moments[index / specs.len()], index % specs.len());
    tensor_file::write(&folder.join(OPTIMIZER), &heads, |index| Ok(f32_bytes(&values(index))))
}

/// Write what stands in a Hugging Face folder beside the weights.
pub(crate) fn write_texts(
    folder: &Path,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    chat: &ChatTemplate,
    form: Form,
) -> Result<(), Error> {
    let texts = [
        (CONFIG, hugging_face::config_json(config, tokenizer, form)),
        (TOKENIZER, tokenizer.to_json()),
        (TOKENIZER_CONFIG, hugging_face::tokenizer_config_json(config, tokenizer, chat.source())),
        (CHAT_TEMPLATE, chat.source().to_owned()),
        (GENERATION_CONFIG, hugging_face::generation_config_json(tokenizer)),
    ];
    texts.iter().try_for_each(|(name, text)| write_text(&folder.join(name), text))
}

fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let mut out = File::create(path)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()
    };
    write().map_err(file("write", path))
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
