//! What this crate takes lm-evaluation-harness to do, for `benches/lm_eval_agreement.py` to hold against the real one.
//!
//! `readings`: JSON lines with `completion` and `answer` from standard input; for each, the readings of the three tasks.
//! `prompts SET EXAMPLES`: for each problem of the set, the prompts and stop strings of the four styles.

use std::error::Error;
use std::io::{BufRead, BufWriter, Write, stdin, stdout};
use std::path::Path;

use serde_json::{Value, json};
use tristill_task::{Fields, HarnessTask, PromptContent, PromptStyle, prompts, read_as_harness, read_set};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = BufWriter::new(stdout().lock());
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["readings"] => {
            for line in stdin().lock().lines() {
                let case: Value = serde_json::from_str(&line?)?;
                let field = |name: &str| case[name].as_str().ok_or_else(|| format!("a line has no {name}"));
                let (completion, answer) = (field("completion")?, field("answer")?);
                let tasks = [HarnessTask::Gsm8k, HarnessTask::Gsm8kCot, HarnessTask::Gsm8kCotZeroshot];
                let readings = tasks.map(|task| read_as_harness(task, completion, answer));
                writeln!(out, "{}", json!(readings))?;
            }
        }
        ["prompts", set, examples] => {
            let problems = |path: &str| read_set(Path::new(path), &Fields::default()).map(|set| set.problems);
            let (problems, examples) = (problems(set)?, problems(examples)?);
            for style in [PromptStyle::Gsm8k, PromptStyle::Gsm8kZeroshot, PromptStyle::Gsm8kCot, PromptStyle::Gsm8kCotZeroshot] {
                for prompt in prompts(style, &problems, &examples)? {
                    let (PromptContent::Text(text) | PromptContent::Chat(text)) = prompt.content;
                    writeln!(out, "{}", json!({"style": style, "text": text, "stop": prompt.stop}))?;
                }
            }
        }
        _ => return Err("usage: harness_view readings < CASES, or harness_view prompts SET EXAMPLES".into()),
    }
    Ok(out.flush()?)
}
