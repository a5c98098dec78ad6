//! Ctrl-C: the first asks for an orderly stop, which saves; the second ends the program at once. So does the first while nothing is
//! done that could be stopped.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

/// The error of a command that was stopped before its end, after everything was saved.
#[derive(Debug)]
pub struct Interrupted(pub String);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}

static STOP: AtomicBool = AtomicBool::new(false);
static IDLE: AtomicBool = AtomicBool::new(false);
static HANDLER: OnceLock<()> = OnceLock::new();

/// Say whether nothing is done that could be stopped, as while a question is awaited. What was asked for before is forgotten.
pub fn idle(is_idle: bool) {
    STOP.store(false, Ordering::Relaxed);
    IDLE.store(is_idle, Ordering::Relaxed);
}

/// Whether Ctrl-C was pressed since this was first called.
pub fn flag() -> &'static AtomicBool {
    HANDLER.get_or_init(|| {
        let pressed = || {
            if STOP.swap(true, Ordering::Relaxed) || IDLE.load(Ordering::Relaxed) {
                std::process::exit(130);
            }
        };
        // Without a handler Ctrl-C ends the program at once, which no file is harmed by.
        let _ = ctrlc::set_handler(pressed);
    });
    &STOP
}
