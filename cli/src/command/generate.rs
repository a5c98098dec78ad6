//! `tristill generate`: one prompt, one answer, as it is written.

use std::sync::Arc;

use anyhow::{Context, Result};
use model::Message;
use runtime::{Engine, Finish, Options, Request, Student};

use crate::{
    arguments::{GenerateArguments, Sampling, StudentArguments, Threads},
    interrupt::{self, Interrupted},
    progress::{print, say},
};

pub fn generate(arguments: &GenerateArguments) -> Result<()> {
    let mut engine = open(&arguments.student)?;
    let student = engine.student().clone();
    let prompt = if arguments.raw { arguments.prompt.clone() } else { student.chat().render(&[Message::user(&arguments.prompt)], true)? };
    let tokens = student.tokenizer().encode(&prompt)?;
    answer(&mut engine, tokens, &arguments.student.sampling)?;
    Ok(())
}

/// A packed student, ready to answer.
pub fn open(arguments: &StudentArguments) -> Result<Engine> {
    let student = Student::open(&arguments.student).with_context(|| format!("cannot open {}", arguments.student.display()))?;
    Ok(Engine::new(Arc::new(student), &options(&arguments.threads, 1))?)
}

/// How the runtime is to run.
pub fn options(threads: &Threads, slots: usize) -> Options {
    let default = Options::default();
    Options { threads: threads.threads.unwrap_or(default.threads), slots, ..default }
}

/// Let the student go on from `tokens`, showing each piece of text as soon as it is certain; returns all of it.
pub fn answer(engine: &mut Engine, tokens: Vec<u32>, sampling: &Sampling) -> Result<String> {
    let mut request = Request::greedy(tokens, sampling.max_tokens);
    request.sampling.temperature = sampling.temperature;
    request.sampling.top_p = sampling.top_p;
    request.sampling.seed = sampling.seed;
    let stop = interrupt::flag();
    let id = engine.submit(request)?;
    let mut text = String::new();
    while !engine.is_idle() {
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            engine.cancel(id);
            print("\n")?;
            return Err(Interrupted("stopped".into()).into());
        }
        for event in engine.step() {
            print(&event.text)?;
            text.push_str(&event.text);
            match event.finish {
                None | Some(Finish::End | Finish::Stop(_)) => (),
                Some(Finish::Length) => say(&format!("\n(cut off after {} tokens; --max-tokens allows more)", sampling.max_tokens)),
                Some(Finish::Context) => say(&format!("\n(cut off: the context of {} tokens is full)", engine.student().config().context)),
            }
        }
    }
    print("\n")?;
    Ok(text)
}
