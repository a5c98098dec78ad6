//! `tristill bench`: how fast a packed student, or one of random weights and given sizes, reads and writes on this machine.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context, Result, bail};
use model::{InputQuant, Quant, hugging_face};
use runtime::{Options, Student, bench, bench::Speed, kernel::Bits};
use serde_json::json;

pub use bench::measure;

use crate::{
    arguments::{BenchArguments, HeadType, ShapeType},
    progress::{print, say},
};

/// The largest twin that is measured.
const MOST_TWIN_BYTES: usize = 1 << 30;

pub fn bench(arguments: &BenchArguments) -> Result<()> {
    let started = Instant::now();
    let student = match (&arguments.student, &arguments.shape) {
        (Some(path), None) => Student::open(path).with_context(|| format!("cannot open {}", path.display()))?,
        (None, Some(path)) => random(path, arguments.r#type, arguments.head)?,
        _ => bail!("either a packed student or --shape is needed"),
    };
    let student = Arc::new(student);
    let opened = started.elapsed().as_secs_f64();
    let most = arguments.threads.threads.unwrap_or(Options::default().threads);
    // Random weights are not opened.
    let first = arguments.student.as_ref().map(|_| bench::first_token(&student, most)).transpose()?.map(|first| opened + first);
    let mut rows = Vec::new();
    if !arguments.json {
        if let Some(first) = first {
            say(&format!("opened in {opened:.2} s, first token after {first:.2} s"));
        }
        print("threads  prefill tokens/s  decode tokens/s  16 answers tokens/s  bytes/token  of the bandwidth  kernel\n")?;
    }
    for threads in 1..=most {
        let speed = bench::measure_prompt(&student, threads, arguments.prompt)?;
        if threads == 1 && speed.prompt < arguments.prompt {
            let context = student.config().context;
            say(&format!("the context is {context} tokens, so that the prompt has {} and not {}", speed.prompt, arguments.prompt));
        }
        let (prefill, decode, bytes) = (speed.prefill_tokens_per_s, speed.decode_tokens_per_s, speed.bytes_per_token);
        if arguments.json {
            rows.push(json!({
                "threads": speed.threads,
                "prompt_tokens": speed.prompt,
                "prefill_tokens_per_s": prefill,
                "decode_tokens_per_s": decode,
                "batch_tokens_per_s": speed.batch_tokens_per_s,
                "bytes_per_token": bytes,
                "bandwidth_share": speed.bandwidth_share,
                "isa": speed.isa.name(),
                "open_s": first.map(|_| opened),
                "first_token_s": first,
            }));
        } else {
            let share = 100.0 * speed.bandwidth_share;
            let batch = speed.batch_tokens_per_s;
            print(&format!("{threads:7}  {prefill:16.1}  {decode:15.1}  {batch:19.1}  {bytes:11}  {share:14.0} %  {}\n", speed.isa))?;
        }
    }
    if arguments.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&rows)?))?;
    }
    Ok(())
}

/// The speed of random weights of another kind and a student's sizes; none where they would take much memory, or that kind has no such
/// sizes.
pub fn measure_twin(student: &Student, quant: Quant, threads: usize) -> Result<Option<Speed>> {
    let mut config = student.config().clone();
    (config.quant, config.activations) = (quant, InputQuant::Int8);
    if config.parameters() * size_of::<f32>() > MOST_TWIN_BYTES {
        return Ok(None);
    }
    let Ok(config) = config.validated() else { return Ok(None) };
    let twin = Arc::new(Student::random(&config, Bits::Eight, 1)?);
    Ok(Some(bench::measure(&twin, threads)?))
}

/// A student of random weights with the sizes of a Hugging Face `config.json`.
fn random(path: &Path, kind: ShapeType, head: HeadType) -> Result<Student> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut config = hugging_face::read_config(&text, path)?;
    config.quant = match kind {
        ShapeType::Tq2_0 => Quant::Ternary,
        ShapeType::Q8_0 => Quant::Int8,
        ShapeType::Q4_0 => Quant::Int4,
        ShapeType::F32 => Quant::None,
    };
    if config.quant == Quant::None {
        config.activations = InputQuant::Int8;
    }
    let head = match head {
        HeadType::Q8_0 => Bits::Eight,
        HeadType::Q6K => Bits::Six,
        HeadType::Q4_0 => Bits::Four,
    };
    Ok(Student::random(&config.validated()?, head, 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_student_has_the_twins_that_its_sizes_allow() {
        let student = |quant: &str, activations: &str, width: usize| {
            let table = json!({ "width": width, "layers": 1, "heads": 2, "feed_forward": 2 * width, "context": 256,
                "architecture": "llama", "quant": quant, "activations": activations });
            let config = serde_json::from_value::<model::ModelTable>(table).unwrap().resolve(64).unwrap();
            Student::random(&config, Bits::Eight, 1).unwrap()
        };
        let has = |student: &Student, quant| measure_twin(student, quant, 1).unwrap().is_some();
        let coarse = student("ternary", "int4", 64);
        assert!(has(&coarse, Quant::None) && has(&coarse, Quant::Int8));
        let narrow = student("none", "int8", 36);
        assert!(has(&narrow, Quant::None) && !has(&narrow, Quant::Int8));
    }
}
