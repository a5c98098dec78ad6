//! What is done with a file that may be damaged.

use std::{path::Path, sync::Arc};

use model::Message;
use tristill_runtime::{Engine, Options, Request, Student};

/// Open a file and have it answer; the text of the error where it does not come to that.
pub fn run(path: &Path) -> Result<(), String> {
    let student = Arc::new(Student::open(path).map_err(|error| error.to_string())?);
    let _ = student.chat().render(&[Message::user("three")], true);
    let options = Options { threads: 1, slots: 1, ..Options::default() };
    let mut engine = Engine::new(student, &options).map_err(|error| error.to_string())?;
    engine.generate(Request::greedy(vec![1, 2, 3], 3)).map_err(|error| error.to_string())?;
    Ok(())
}
