//! `tristill chat`: questions and answers until the end of the input.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, Result};
use model::Message;

use crate::{
    arguments::StudentArguments,
    command::generate::{answer, open, system},
    interrupt::{self, Interrupted},
    progress::{print, say},
};

pub fn chat(arguments: &StudentArguments) -> Result<()> {
    let mut engine = open(arguments)?;
    let student = engine.student().clone();
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        say(&format!("{}: ask something; /new forgets what was said, Ctrl-C stops an answer, Ctrl-D ends", student.name()));
    }
    let (context, mut messages) = (student.config().context, system(arguments));
    let tokens_of = |messages: &[Message]| student.tokenizer().encode(&student.chat().render(messages, true)?);
    loop {
        if terminal {
            print("> ")?;
        }
        interrupt::idle(true);
        let mut line = Vec::new();
        if std::io::stdin().lock().read_until(b'\n', &mut line).context("cannot read the question")? == 0 {
            return Ok(());
        }
        interrupt::idle(false);
        match String::from_utf8_lossy(&line).trim() {
            "" => continue,
            "/new" => messages = system(arguments),
            question => {
                let question = Message::user(question);
                let alone = tokens_of(&[system(arguments), vec![question.clone()]].concat())?;
                if alone.len() >= context {
                    let what = if arguments.system.is_some() { "the system prompt and the question have" } else { "the question has" };
                    say(&format!("({what} {} tokens, the context is {context}; ask a shorter one)", alone.len()));
                    continue;
                }
                messages.push(question);
                let mut tokens = tokens_of(&messages)?;
                if tokens.len() >= context {
                    say(&format!("(the talk has {} tokens, the context is {context}; the earlier part is forgotten)", tokens.len()));
                    messages.drain(system(arguments).len()..messages.len() - 1);
                    tokens = alone;
                }
                let text = match answer(&mut engine, tokens, arguments, &[]) {
                    Err(error) if terminal && error.is::<Interrupted>() => {
                        say("(stopped; this question is forgotten)");
                        messages.pop();
                        continue;
                    }
                    text => text?,
                };
                // What the student thought is not part of the talk, as the R1 family's templates have it.
                let said = text.rsplit("</think>").next().unwrap_or(&text).trim();
                messages.push(Message::assistant(said));
            }
        }
    }
}
