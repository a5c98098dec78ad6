//! Teacher traces in, token dataset out.
//!
//! Files of traces in the layouts that teachers and their servers write are read piece by piece, each row is judged by named
//! rules, and what is kept becomes packed rows of tokens in Parquet. Every row of every input ends in the dataset or in
//! `dropped.parquet` with the rule that dropped it. The same input and settings give the same bytes.

mod card;
mod config;
mod dataset;
mod document;
mod error;
mod folder;
mod ingest;
mod layout;
mod manifest;
mod order;
mod pack;
mod preview;
mod rows;
mod rules;
mod shard;
mod sidecar;
mod source;
mod stage;
pub mod synth;
mod teacher;
mod traces;
mod words;

pub use card::{Card, Flow};
pub use config::{DataConfig, Decontaminate, Rules, Source, System, Verify};
pub use dataset::{Dataset, PackedRow};
pub use error::Error;
pub use ingest::{Ingested, Job, Progress, Stage, ingest};
pub use layout::{Fields, Layout};
pub use manifest::{Input, Manifest, Shard};
pub use order::Cursor;
pub use preview::{Piece, check};
pub use rows::Rows as RowStream;
pub use rules::Rule;
pub use rules::contamination::EvalSet;
pub use sidecar::Dropped;
