//! The one program. It reads a config, calls one function per sub-command and prints; what the words mean is in the crates below.

mod arguments;
mod command;
mod config;
mod hold;
mod interrupt;
mod progress;
mod run;
mod stages;
mod system;

use std::process::ExitCode;

use clap::Parser;

/// Training frees and takes large buffers all the time, which this allocator keeps instead of giving them back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    match command::dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say_error(&error);
            if error.is::<interrupt::Interrupted>() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}
