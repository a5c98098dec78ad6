//! What can be typed. Commands take paths; settings live in the config, and `--set` overrides one of them for a run.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Show the resolved config and a few rows with their tokens and loss mask; trains nothing
    Check(ConfigArguments),
    /// Write the programmatic teacher's traces and its held-out problems
    Synth(ConfigArguments),
    /// Turn traces into the run's dataset, or explain what a file of traces would be taken for
    Ingest(IngestArguments),
    /// Train the run's student on its dataset
    Train(ConfigArguments),
    /// Pack a run's last checkpoint, or any checkpoint folder, into one GGUF file
    Export(ExportArguments),
    /// Ask a packed student every problem of a set and score it
    Eval(EvalArguments),
    /// Compare two systems that answered the same problems
    Compare(CompareArguments),
    /// Make a run's page and model card again from its facts
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
    /// The run's folder [default: checkpoints/ and the config's name]
    #[arg(long, value_name = "FOLDER")]
    pub run: Option<PathBuf>,
}

#[derive(Args)]
pub struct ExportArguments {
    /// A run's folder (its last checkpoint is taken) or a checkpoint's folder
    pub folder: PathBuf,
    /// Where to write [default: student.gguf in the run's folder, or beside the checkpoint]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

#[derive(Args)]
pub struct EvalArguments {
    /// The packed student
    pub student: PathBuf,
    /// The problems: JSON lines, JSON, CSV or TSV, gzip or not
    #[arg(long, value_name = "FILE")]
    pub set: PathBuf,
    /// Ask only the first so many
    #[arg(long)]
    pub limit: Option<usize>,
    /// The longest answer, in tokens
    #[arg(long, default_value_t = 512)]
    pub max_tokens: usize,
    /// Where to write what the student said [default: beside the student]
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    #[command(flatten)]
    pub threads: Threads,
}

#[derive(Args)]
pub struct CompareArguments {
    /// One system: a run's folder, or a file of completions
    pub one: PathBuf,
    /// The other
    pub other: PathBuf,
    /// The problems that both were asked, where files are compared
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
}

#[derive(Args)]
pub struct Threads {
    /// Number of threads [default: one a core]
    #[arg(long)]
    pub threads: Option<usize>,
}

#[derive(Args)]
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
    #[command(flatten)]
    pub threads: Threads,
}

#[derive(Args)]
pub struct GenerateArguments {
    #[command(flatten)]
    pub student: StudentArguments,
    /// What to answer
    #[arg(long)]
    pub prompt: String,
    /// Go on from the prompt as it is, without the chat template
    #[arg(long)]
    pub raw: bool,
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
    /// Tokens of the prompt
    #[arg(long, default_value_t = 128)]
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
    /// Full precision
    #[value(name = "f32")]
    F32,
}
