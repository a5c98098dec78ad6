//! `tristill chat`: questions and answers until the end of the input.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, Result};
use model::Message;

use crate::{
    arguments::StudentArguments,
    command::generate::{answer, open},
    progress::{print, say},
};

pub fn chat(arguments: &StudentArguments) -> Result<()> {
    let mut engine = open(arguments)?;
    let student = engine.student().clone();
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        say(&format!("{}: ask something; /new forgets what was said, Ctrl-D ends", student.name()));
    }
    let mut messages: Vec<Message> = Vec::new();
    loop {
        if terminal {
            print("> ");
        }
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).context("cannot read the question")? == 0 {
            return Ok(());
        }
        match line.trim() {
            "" => continue,
            "/new" => messages.clear(),
            question => {
                messages.push(Message::user(question));
                let tokens = student.tokenizer().encode(&student.chat().render(&messages, true)?)?;
                if tokens.len() >= student.config().context {
                    say(&format!(
                        "(the talk has {} tokens, the context is {}; the earlier part is forgotten)",
                        tokens.len(),
                        student.config().context
                    ));
                    messages.drain(..messages.len() - 1);
                }
                let tokens = student.tokenizer().encode(&student.chat().render(&messages, true)?)?;
                let text = answer(&mut engine, tokens, &arguments.sampling)?;
                // What the student thought is not part of the talk, as the R1 family's templates have it.
                let said = text.rsplit("</think>").next().unwrap_or(&text).trim();
                messages.push(Message::assistant(said));
            }
        }
    }
}
