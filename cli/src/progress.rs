//! How long work shows itself: a bar on a terminal, plain lines where there is none.

use std::{
    io::{ErrorKind, IsTerminal, Write},
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a plain line is written at the most.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The bars that stand on the terminal now, for which text has to make room.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A bar, or lines.
pub struct Progress {
    bar: ProgressBar,
    what: String,
    lines: bool,
    last_line: Option<Instant>,
}

impl Progress {
    /// Work of `total` units, called `what`, of which `done` are done already.
    pub fn start(what: &str, total: u64, done: u64) -> Progress {
        let lines = !std::io::stderr().is_terminal();
        let style = ProgressStyle::with_template("{prefix:>10} {bar:30} {pos}/{len} {msg} {eta} left").expect("the template is right");
        let bar = BARS.add(ProgressBar::new(total).with_style(style).with_prefix(what.to_owned()).with_position(done));
        bar.reset_eta();
        Progress { bar, what: what.to_owned(), lines, last_line: None }
    }

    /// `done` units are done; `facts` says what is known now.
    pub fn at(&mut self, done: u64, total: u64, facts: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(facts.to_owned());
        let due = self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) || done == total;
        if self.lines && due {
            self.last_line = Some(Instant::now());
            say(&format!("{:>10} {done}/{total} {facts}", self.what));
        }
    }

    /// The work is over.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// Tell a person something: on standard error, so that standard output holds results alone.
pub fn say(line: &str) {
    // Nobody can be told that standard error is closed.
    let _ = BARS.suspend(|| writeln!(std::io::stderr(), "{line}"));
}

/// Print a result. A reader that has gone away, as `head` does, is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match BARS.suspend(|| out.write_all(text.as_bytes()).and_then(|()| out.flush())) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(()),
    }
}

/// The one place that prints errors: what was being done, then what the parts below said. What a part says again is said once.
pub fn say_error(error: &anyhow::Error) {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if cause.starts_with(&said) {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    say(&format!("error: {said}"));
}
