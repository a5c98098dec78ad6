//! A student inside another program: open it, ask it, print its answer.
//!
//!     cargo run --release -p tristill-runtime --example embed -- STUDENT "How much is 2 + 2?"

#![allow(clippy::print_stdout, reason = "an example prints its answer")]

use std::{error::Error, path::Path, sync::Arc};

use model::Message;
use tristill_runtime::{Engine, Options, Request, Student};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(question)) = (arguments.next(), arguments.next()) else { return Err("needed: STUDENT QUESTION".into()) };
    let student = Arc::new(Student::open(Path::new(&path))?);
    let prompt = student.tokenizer().encode(&student.chat().render(&[Message::user(question)], true)?)?;
    let answer = Engine::new(student, &Options::default())?.generate(Request::greedy(prompt, 256))?;
    println!("{}", answer.text);
    Ok(())
}
