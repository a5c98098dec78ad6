//! A student small enough to be made for every test.

use std::path::{Path, PathBuf};

use model::block::Format;
use model::packed::{self, Options};
use model::{ChatTemplate, ModelTable, TensorSpec, Tokenizer};
use task::Problem;

pub const PROBLEMS: usize = 24;

pub fn problems() -> Vec<Problem> {
    let problem = |i: usize| Problem {
        id: format!("p{i}"),
        question: format!("Anna has {i} apples and buys {} more. How many has she now?", 2 * i + 1),
        answer: (3 * i + 1).to_string(),
        steps: Some(1),
    };
    (0..PROBLEMS).map(problem).collect()
}

/// A student with weights that look random, so that its texts differ and end at different lengths.
pub fn pack(folder: &Path) -> PathBuf {
    let path = folder.join("student.gguf");
    let texts = problems().into_iter().map(|problem| problem.question);
    let tokenizer = Tokenizer::train(texts.chain((0..200).map(|i| format!("{i} is a number. "))), 300).unwrap();
    let table: ModelTable = toml::from_str("width = 256\nlayers = 2\nheads = 4\nkv_heads = 2\nfeed_forward = 256\ncontext = 192").unwrap();
    let config = table.resolve(tokenizer.vocab()).unwrap();
    let mut state = 1u32;
    let weights = |spec: &TensorSpec| -> Result<Vec<f32>, model::Error> {
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let is_norm = spec.shape.len() == 1;
        Ok((0..spec.len()).map(|_| if is_norm { 1.0 } else { draw() }).collect())
    };
    let options = Options { name: "tiny".into(), ternary: Format::Tq2_0 };
    packed::write(&path, &config, &tokenizer, &ChatTemplate::chatml(), &options, weights).unwrap();
    path
}
