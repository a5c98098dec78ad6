//! The sound files that damage starts from.

use std::{fs, path::Path};

use model::{
    Activation, Architecture, ChatTemplate, Error, InputQuant, ModelTable, Quant, Scale, TensorSpec, Tokenizer, block::Format, packed,
};

fn weights(spec: &TensorSpec) -> Result<Vec<f32>, Error> {
    Ok((0..spec.len()).map(|i| ((i * 31 + spec.name.len()) % 17) as f32 * 0.1 - 0.8).collect())
}

/// Small files of different kinds, made in a folder.
pub fn files(folder: &Path) -> Vec<Vec<u8>> {
    let tokenizer = Tokenizer::train(vec!["one two three four".to_owned(); 3].into_iter(), 270).unwrap();
    let file = |architecture, quant, ternary, width| {
        let table = ModelTable {
            architecture,
            width,
            layers: 1,
            heads: 4,
            kv_heads: Some(2),
            feed_forward: width,
            context: 64,
            activation: Activation::Silu,
            rope_base: 10_000.0,
            norm_epsilon: 1e-5,
            quant,
            scale: Scale::Row,
            activations: InputQuant::Int8,
        };
        let config = table.resolve(tokenizer.vocab()).unwrap();
        let path = folder.join("sound.gguf");
        let options = packed::Options { name: "sound".into(), ternary };
        packed::write::<Error>(&path, &config, &tokenizer, &ChatTemplate::chatml(), &options, weights).unwrap();
        fs::read(path).unwrap()
    };
    vec![
        file(Architecture::Bitnet, Quant::Ternary, Format::Tq2_0, 256),
        file(Architecture::Llama, Quant::Ternary, Format::Tq1_0, 256),
        file(Architecture::Qwen2, Quant::Ternary, Format::Tq2_0, 64), // in Q2_0, which takes such rows
        file(Architecture::Qwen2, Quant::None, Format::Tq2_0, 32),
        file(Architecture::Qwen3, Quant::None, Format::Tq2_0, 32),
        file(Architecture::Llama, Quant::Int4, Format::Tq2_0, 32),
    ]
}
