//! One file per sub-command. A command reads files, calls a crate and writes files; `distill` calls the others in order.

mod annotate;
mod bench;
mod chat;
mod check;
mod compare;
mod convert;
mod distill;
mod eval;
mod export;
mod generate;
mod ingest;
mod report;
mod sweep;
mod synth;
mod train;

use anyhow::Result;

use crate::arguments::Command;

/// Do what was typed.
pub fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Distill(arguments) => distill::distill(&arguments),
        Command::Sweep(arguments) => sweep::sweep(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Synth(arguments) => synth::command(&arguments),
        Command::Ingest(arguments) => ingest::command(&arguments),
        Command::Annotate(arguments) => annotate::command(&arguments),
        Command::Train(arguments) => train::command(&arguments),
        Command::Export(arguments) => export::command(&arguments),
        Command::Convert(arguments) => convert::command(&arguments),
        Command::Eval(arguments) => eval::command(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Report(arguments) => report::command(&arguments),
        Command::Chat(arguments) => chat::chat(&arguments),
        Command::Generate(arguments) => generate::generate(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
    }
}
