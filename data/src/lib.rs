//! Teacher traces in, token dataset out.
//!
//! Files of traces in the layouts that teachers and their servers write are read piece by piece, each row is judged by named
//! rules, and what is kept becomes packed rows of tokens in Parquet. Every row of every input ends in the dataset or in
//! `dropped.parquet` with the rule that dropped it. The same input and settings give the same bytes.

mod align;
mod annotate;
mod card;
mod choose;
mod config;
mod dataset;
mod document;
mod encode;
mod error;
mod explain;
mod folder;
mod ingest;
mod inputs;
mod judge;
mod layout;
mod manifest;
mod order;
mod pack;
mod pool;
mod preview;
mod rows;
mod rules;
mod scan;
mod scans;
mod shard;
mod sidecar;
mod source;
mod stage;
pub mod synth;
mod teacher;
mod tokenise;
mod words;

pub use annotate::Annotation;
pub use card::{Card, Flow, TeacherFacts, marked};
pub use config::{Choose, DataConfig, Decontaminate, Rules, Source, System, Teacher, Verify};
pub use dataset::{Dataset, PackedRow, TeacherRow};
pub use error::Error;
pub use explain::{Explanation, explain};
pub use ingest::{Ingested, Job, Progress, Stage, ingest, is_there};
pub use layout::{Fields, Layout};
pub use manifest::{Input, Manifest, Shard};
pub use order::Cursor;
pub use preview::{Look, Piece, check};
pub use rows::Rows as RowStream;
pub use rules::Rule;
pub use rules::contamination::EvalSet;
pub use rules::script::Script;
pub use sidecar::Dropped;
