//! A text's tokens by a Hugging Face folder's tokenizer, and the logits of its first positions by the student in training: what other
//! implementations are compared with.
//!
//!     cargo run --release --example folder_logits -- FOLDER TEXT POSITIONS TOKENS LOGITS
//!
//! Writes TOKENS, all of the text's, as u32, and LOGITS, `[positions, v]`, as f32, both little endian. With `none` as a sixth
//! argument linear layers are not quantised.

use std::{error::Error, fs, path::Path};

use model::Quant;
use tristill_trainer::{Checkpoint, Student, device};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (five, quant) = match &arguments[..] {
        [five @ .., last] if five.len() == 5 && last == "none" => (five, Some(Quant::None)),
        five => (five, None),
    };
    let [folder, text, positions, tokens_out, logits_out] = five else {
        return Err("needed: FOLDER TEXT POSITIONS TOKENS LOGITS, and none where layers are not to be quantised".into());
    };
    let checkpoint = Checkpoint::open(Path::new(folder))?;
    let mut config = checkpoint.config.clone();
    config.quant = quant.unwrap_or(config.quant);
    let weights = |spec: &_| Ok::<_, Box<dyn Error>>(checkpoint.weights_for(spec, config.quant, config.scale));
    let student = Student::from_tensors(&config, weights, &device::cpu())?;
    let tokens = checkpoint.tokenizer.encode(&fs::read_to_string(text)?)?;
    let positions = positions.parse::<usize>()?.min(tokens.len()).min(config.context);
    let logits = student.logits(&tokens[..positions]);
    fs::write(tokens_out, tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>())?;
    fs::write(logits_out, logits.iter().flat_map(|logit| logit.to_le_bytes()).collect::<Vec<u8>>())?;
    Ok(())
}
