//! A text's tokens, and the logits of its first positions: what other implementations are compared with.
//!
//!     cargo run --release -p tristill-runtime --example logits -- STUDENT TEXT POSITIONS WINDOW TOKENS LOGITS
//!
//! Writes TOKENS, all of the text's, as u32, and LOGITS, `[positions, v]`, as f32, both little endian. Each WINDOW positions start
//! anew, so that a text may be longer than the student's context.

use std::{
    error::Error,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    sync::Arc,
};

use tristill_runtime::{Engine, Options, Student};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [student, text, positions, window, tokens_out, logits_out] = &arguments[..] else {
        return Err("needed: STUDENT TEXT POSITIONS WINDOW TOKENS LOGITS".into());
    };
    let student = Arc::new(Student::open(Path::new(student))?);
    let tokens = student.tokenizer().encode(&fs::read_to_string(text)?)?;
    fs::write(tokens_out, tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>())?;
    let mut engine = Engine::new(student, &Options::default())?;
    let mut file = BufWriter::new(File::create(logits_out)?);
    let positions = positions.parse::<usize>()?.min(tokens.len());
    for part in tokens[..positions].chunks(window.parse::<usize>()?.max(1)) {
        for logit in engine.logits(part)? {
            file.write_all(&logit.to_le_bytes())?;
        }
    }
    file.flush()?;
    Ok(())
}
