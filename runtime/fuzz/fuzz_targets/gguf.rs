//! Any bytes as a GGUF file: read and run, or refused. What it must not do is panic, read where it may not, or take much memory.

#![no_main]

#[path = "../../tests/damaged_files/run.rs"]
mod run;

use std::{cell::RefCell, fs};

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static FOLDER: RefCell<TempDir> = RefCell::new(tempfile::tempdir().unwrap());
}

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.with_borrow(|folder| folder.path().join("any.gguf"));
    fs::write(&path, bytes).unwrap();
    let _ = run::run(&path);
});
