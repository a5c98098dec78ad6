//! What can be typed. Commands take paths; settings live in the config, and `--set` overrides one of them for a run.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::RangedU64ValueParser};
use eval::SetKind;
use runtime::MAX_THREADS;
use serde::de::{DeserializeOwned, IntoDeserializer};
use task::PromptStyle;

/// Distils a teacher's reasoning traces into a small ternary student that runs fast on any CPU.
#[derive(Parser)]
#[command(name = "tristill", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Do a whole run: traces, dataset, training, packed file, score. Run again, it goes on where it stopped
    Distill(ConfigArguments),
    /// Do the run with every combination of some settings, one table at the end; or find a learning rate
    Sweep(SweepArguments),
    /// Show the resolved config and a few rows with their tokens and loss mask; trains nothing
    Check(ConfigArguments),
    /// Write the programmatic teacher's traces and its held-out problems
    Synth(ConfigArguments),
    /// Turn traces into the run's dataset, or explain what a file of traces would be taken for
    Ingest(IngestArguments),
    /// Ask the run's teacher about its dataset and keep its likeliest tokens there
    Annotate(ConfigArguments),
    /// Train the run's student on its dataset
    Train(ConfigArguments),
    /// Pack a run's last checkpoint, or any checkpoint or Hugging Face folder, into one GGUF file
    Export(ExportArguments),
    /// Write a checkpoint or Hugging Face folder as a Hugging Face folder, in another float type or with packed ternary codes
    Convert(ConvertArguments),
    /// Ask a packed student every question of a set and score it
    Eval(EvalArguments),
    /// Compare systems that answered the same questions
    Compare(CompareArguments),
    /// Make a run's page and model card from its facts
    Report(ReportArguments),
    /// Talk with a packed student
    Chat(StudentArguments),
    /// Let a packed student answer one prompt
    Generate(GenerateArguments),
    /// Measure a packed student's speed on this machine
    Bench(BenchArguments),
}

#[derive(Args)]
pub struct ConfigArguments {
    /// The run's config, a TOML file; the run is named after it
    pub config: PathBuf,
    #[command(flatten)]
    pub overrides: Overrides,
}

impl ConfigArguments {
    /// The command line of a command with these arguments.
    pub fn command(&self, name: &str) -> String {
        let path = |path: &PathBuf| path.display().to_string();
        let settings = self.overrides.set.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]);
        let folder = self.overrides.run.iter().flat_map(|run| ["--run".to_owned(), path(run)]);
        command_line([name.to_owned(), path(&self.config)].into_iter().chain(settings).chain(folder))
    }
}

#[derive(Args)]
pub struct SweepArguments {
    /// The config that the runs have in common
    pub config: PathBuf,
    /// A setting and its values, e.g. --over train.rate=1e-3,2e-3; may be given several times
    #[arg(long, value_name = "KEY=VALUE,VALUE", required_unless_present = "find_rate")]
    pub over: Vec<String>,
    /// Instead train for 100 steps while the learning rate rises from 1e-5 to 1e-1, and show at which rates the loss falls
    #[arg(long, conflicts_with = "over")]
    pub find_rate: bool,
    #[command(flatten)]
    pub overrides: Overrides,
}

#[derive(Args)]
pub struct IngestArguments {
    /// The run's config, a TOML file
    #[arg(required_unless_present = "explain")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Only show the layout that FILE is recognised as, three of its traces as they are learned, and what is uncertain; with a
    /// config, as the source of it that names FILE
    #[arg(long, value_name = "FILE")]
    pub explain: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub struct Overrides {
    /// Override one setting, e.g. --set train.steps=100; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The run's folder [default: checkpoints/ and the config's name, with -sweep behind it for a sweep]
    #[arg(long, value_name = "FOLDER")]
    pub run: Option<PathBuf>,
}

#[derive(Args)]
pub struct ExportArguments {
    /// A run's folder (its last checkpoint is taken), a checkpoint's folder or any Hugging Face folder
    pub folder: PathBuf,
    /// Where to write [default: student.gguf in FOLDER]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

#[derive(Args)]
pub struct ConvertArguments {
    /// A run's folder (its last checkpoint is taken), a checkpoint's folder or any Hugging Face folder
    pub folder: PathBuf,
    /// The folder to write, which must not be there yet
    #[arg(long, value_name = "FOLDER")]
    pub to: PathBuf,
    /// How weights are written
    #[arg(long, value_enum, default_value_t = FloatType::F32)]
    pub r#type: FloatType,
    /// Write ternary matrices as BitNet checkpoints have them, four codes to a byte
    #[arg(long)]
    pub packed: bool,
}

/// A float type.
#[derive(Clone, Copy, ValueEnum)]
pub enum FloatType {
    /// 32 bits
    F32,
    /// 16 bits
    F16,
    /// bfloat16: the upper 16 bits of a 32-bit float
    Bf16,
}

#[derive(Args)]
pub struct EvalArguments {
    /// The packed student. A file of completions instead is only marked again: our own, or what others recorded, as FILE:FIELD
    /// where one record holds several systems
    pub student: PathBuf,
    /// The questions: JSON lines, JSON, CSV or TSV, gzip or not
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    pub set: Option<PathBuf>,
    /// Take sets and settings from the [eval] table of a config instead
    #[arg(long, conflicts_with_all = ["set", "kind", "question", "answer", "id", "options", "limit", "prompt", "examples", "samples",
        "temperature", "top_p", "seed", "max_tokens"])]
    pub config: Option<PathBuf>,
    /// What the set asks: number, or choice (by likelihoods) [default: choice where records list options]
    #[arg(long, value_parser = word_of::<SetKind>)]
    pub kind: Option<SetKind>,
    /// The field with the question [default: by the names that published sets use]
    #[arg(long, value_name = "FIELD")]
    pub question: Option<String>,
    /// The field with the reference answer
    #[arg(long, value_name = "FIELD")]
    pub answer: Option<String>,
    /// The field with the problem's id
    #[arg(long, value_name = "FIELD")]
    pub id: Option<String>,
    /// The field with the options of multiple choice
    #[arg(long, value_name = "FIELD")]
    pub options: Option<String>,
    /// Ask only the first LIMIT questions
    #[arg(long)]
    pub limit: Option<usize>,
    /// chat, or exactly as lm-evaluation-harness asks: gsm8k (5 examples), gsm8k_zeroshot, gsm8k_cot (8), gsm8k_cot_zeroshot
    #[arg(long, value_name = "STYLE", default_value = "chat", value_parser = word_of::<PromptStyle>)]
    pub prompt: PromptStyle,
    /// Solved problems that the prompt gsm8k draws its examples from: GSM8K's training file
    #[arg(long, value_name = "FILE")]
    pub examples: Option<PathBuf>,
    /// Answers to each question; more than one needs a --temperature above 0, and gives pass@k, maj@k and their average as well
    #[arg(long, default_value_t = 1)]
    pub samples: u32,
    #[command(flatten)]
    pub sampling: Sampling,
    /// Where to write what the student said, and the report [default: beside the student]
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    #[command(flatten)]
    pub threads: Threads,
}

/// One of the words that a config knows, as the config spells it.
fn word_of<T: DeserializeOwned>(word: &str) -> Result<T, String> {
    T::deserialize(word.into_deserializer()).map_err(|error: serde::de::value::Error| error.to_string())
}

#[derive(Args)]
pub struct CompareArguments {
    /// The system that the others are held against: the folder of a run or of an evaluation, a file of completions, or what others
    /// recorded, as FILE:FIELD where one record holds several systems
    pub one: PathBuf,
    /// The others
    #[arg(required = true)]
    pub others: Vec<PathBuf>,
    /// The questions that all were asked [default: the sets of the first that is a run]
    #[arg(long, value_name = "FILE")]
    pub set: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ReportArguments {
    /// A run's folder
    pub folder: PathBuf,
    /// Hold the run against another that answered the same questions, as `compare` does; may be given several times
    #[arg(long, value_name = "SYSTEM")]
    pub against: Vec<PathBuf>,
    /// Make the page again while the run goes on, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

#[derive(Args)]
pub struct Threads {
    /// Number of threads [default: one per core]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_THREADS as u64))]
    pub threads: Option<usize>,
}

#[derive(Args, Clone, Copy)]
pub struct Sampling {
    /// 0 is greedy
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Keep the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Same seed, same text
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The longest answer, in tokens
    #[arg(long, default_value_t = 512)]
    pub max_tokens: usize,
}

#[derive(Args)]
pub struct StudentArguments {
    /// The packed student
    pub student: PathBuf,
    #[command(flatten)]
    pub sampling: Sampling,
    /// Draw among so many of the likeliest tokens; 0 is all
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Draw among the tokens that have this share of the likeliest one's probability; 0 is all
    #[arg(long, default_value_t = 0.0)]
    pub min_p: f32,
    /// Make tokens that were there before less likely; 1 is off
    #[arg(long, default_value_t = 1.0)]
    pub repetition_penalty: f32,
    /// A system prompt before every question
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    #[command(flatten)]
    pub threads: Threads,
}

#[derive(Args)]
pub struct GenerateArguments {
    #[command(flatten)]
    pub student: StudentArguments,
    /// What to answer; - reads it from standard input
    #[arg(long)]
    pub prompt: String,
    /// Go on from the prompt as it is, without the chat template
    #[arg(long, conflicts_with = "system")]
    pub raw: bool,
    /// A text that ends the answer and is not part of it; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

#[derive(Args)]
pub struct BenchArguments {
    /// The packed student
    #[arg(required_unless_present = "shape")]
    pub student: Option<PathBuf>,
    /// Measure random weights of these sizes instead: a Hugging Face config.json
    #[arg(long, value_name = "CONFIG.json", conflicts_with = "student")]
    pub shape: Option<PathBuf>,
    /// How the random weights are stored
    #[arg(long, value_enum, default_value_t = ShapeType::Tq2_0, requires = "shape")]
    pub r#type: ShapeType,
    /// How their embedding and head are stored
    #[arg(long, value_enum, default_value_t = HeadType::Q8_0, requires = "shape")]
    pub head: HeadType,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 128, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub prompt: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub threads: Threads,
}

/// How random weights are stored.
#[derive(Clone, Copy, ValueEnum)]
pub enum ShapeType {
    /// Ternary, two bits a weight
    #[value(name = "tq2_0")]
    Tq2_0,
    /// 8 bits a weight
    #[value(name = "q8_0")]
    Q8_0,
    /// 4 bits a weight
    #[value(name = "q4_0")]
    Q4_0,
    /// Full precision
    #[value(name = "f32")]
    F32,
}

/// How a random embedding and head are stored.
#[derive(Clone, Copy, ValueEnum)]
pub enum HeadType {
    /// 8 bits a weight
    #[value(name = "q8_0")]
    Q8_0,
    /// 6 bits a weight
    #[value(name = "q6_k")]
    Q6K,
    /// 4 bits a weight
    #[value(name = "q4_0")]
    Q4_0,
}

/// The program with these words behind it, as a shell takes it.
pub fn command_line(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = ["tristill".to_owned()].into_iter().chain(words).collect();
    // A word with a zero byte, which alone cannot be quoted, no shell can have given.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}
