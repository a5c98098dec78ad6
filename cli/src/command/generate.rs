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
    let prompt = match arguments.prompt.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()).context("cannot read the prompt from standard input")?,
        prompt => prompt.to_owned(),
    };
    let chat = |prompt: &str| student.chat().render(&[system(&arguments.student), vec![Message::user(prompt)]].concat(), true);
    let prompt = if arguments.raw { prompt } else { chat(prompt.trim_end_matches(['\r', '\n']))? };
    let tokens = student.tokenizer().encode(&prompt)?;
    answer(&mut engine, tokens, &arguments.student, &arguments.stop)?;
    Ok(())
}

/// A packed student, ready to answer.
pub fn open(arguments: &StudentArguments) -> Result<Engine> {
    let student = Student::open(&arguments.student).with_context(|| format!("cannot open {}", arguments.student.display()))?;
    Ok(Engine::new(Arc::new(student), &options(&arguments.threads, 1))?)
}

/// What stands before every question.
pub fn system(arguments: &StudentArguments) -> Vec<Message> {
    arguments.system.iter().map(Message::system).collect()
}

/// How the runtime is to run.
pub fn options(threads: &Threads, slots: usize) -> Options {
    let default = Options::default();
    Options { threads: threads.threads.unwrap_or(default.threads), slots, ..default }
}

/// Let the student go on from `tokens`, showing each piece of text as soon as it is certain; returns all of it.
pub fn answer(engine: &mut Engine, tokens: Vec<u32>, arguments: &StudentArguments, stop: &[String]) -> Result<String> {
    let StudentArguments { sampling, top_k, min_p, repetition_penalty, .. } = arguments;
    let (Sampling { temperature, top_p, seed, max_tokens }, top_k) = (*sampling, *top_k);
    let drawn = runtime::Sampling { temperature, top_k, top_p, min_p: *min_p, repetition_penalty: *repetition_penalty, seed };
    let request = Request { sampling: drawn, stop: stop.to_vec(), ..Request::greedy(tokens, max_tokens) };
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
                Some(Finish::Length) => say(&format!("\n(cut off after {} tokens; --max-tokens allows more)", max_tokens)),
                Some(Finish::Context) => say(&format!("\n(cut off: the context of {} tokens is full)", engine.student().config().context)),
            }
        }
    }
    print("\n")?;
    Ok(text)
}
