//! The real binary in a fresh folder, and the smallest run that does everything.
#![allow(dead_code, missing_docs)] // Each test file uses its own part.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    time::{Duration, Instant},
};

/// A run of seconds: one block, a handful of steps.
pub const TINY: &str = r#"
[synth]
seed = 3
problems = 300
held_out = 12
unseen = 6
steps = [1, 2]
max_operand = 20
operations = ["add", "subtract", "multiply"]

[data]
sources = []
vocab = 320
rules = { decontaminate = "exact" }

[model]
width = 256
layers = 1
heads = 4
kv_heads = 2
feed_forward = 256
context = 256

[train]
steps = 30
rows = 2
rate = 3e-3
save_every = 6
log_every = 1

[eval]
max_tokens = 24
"#;

/// A folder of its own with a config in it.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new(config: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tiny.toml"), config).unwrap();
        Place { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tristill"));
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Run what must succeed; returns standard output.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} failed:\n{errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Run what must fail with a sentence, never a panic; returns the sentence.
    pub fn fail(&self, arguments: &[&str]) -> String {
        sentence(&self.run(arguments))
    }
}

/// The error of a program that failed as it should.
pub fn sentence(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("no error line in:\n{errors}")).to_owned()
}

/// Wait until the run has at least so many lines of metrics.
pub fn wait_for_steps(run: &Path, steps: usize, child: &mut Child) {
    let patience = Instant::now() + Duration::from_secs(120);
    loop {
        let lines = fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
        if lines >= steps || child.try_wait().unwrap().is_some() {
            return;
        }
        assert!(Instant::now() < patience, "only {lines} steps after two minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The last checkpoint of a run.
pub fn last_checkpoint(run: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("step-"));
    found.sort();
    found.pop().expect("a checkpoint")
}
