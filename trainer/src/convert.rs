//! From a folder that a checkpoint can be opened from to a Hugging Face folder in the form that is asked for, one tensor at a time.

use std::path::Path;

use half::{bf16, f16};
use model::{
    Kind, Quant, Scale, TensorSpec,
    hugging_face::{Float, Form, WeightScale, codes, packed_scale},
    inventory, ternary,
};
use safetensors::Dtype;

use crate::{
    Checkpoint, Error,
    checkpoint::write_texts,
    run_folder::write_folder,
    tensor_file::{self, NewTensor, WEIGHTS, f32_bytes},
};

/// What of a tensor is written under a name of its own.
#[derive(Clone, Copy)]
enum Part {
    Floats,
    Codes,
    Scale,
}

/// Write a checkpoint as a new folder, which appears when it is whole. `report` is told how many weights are written, and of how many.
pub fn convert(checkpoint: &Checkpoint, folder: &Path, form: Form, report: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
    let config = &checkpoint.config;
    let weights_of = |spec| checkpoint.finite_weights(spec, config.quant, config.scale);
    let specs = inventory(config);
    if form.is_packed {
        if (config.quant, config.scale) != (Quant::Ternary, Scale::Tensor) {
            let found = format!("its linear layers are {:?} with a scale for each {:?}", config.quant, config.scale).to_lowercase();
            return refused(
                checkpoint,
                format!("{found}; packed codes have one for the whole matrix, so that only such a student can be written so"),
            );
        }
        if let Some(spec) = specs.iter().find(|spec| spec.kind() == Kind::Linear && !spec.shape[0].is_multiple_of(4)) {
            return refused(checkpoint, format!("{} has {} rows, packed codes come in fours", spec.name, spec.shape[0]));
        }
    }
    if folder.exists() {
        return Err(Error::Checkpoint { path: folder.to_owned(), found: "it is there already; give a folder that is not".into() });
    }
    let parts = specs.iter().flat_map(|spec| match spec.kind() {
        Kind::Linear if form.is_packed => vec![(spec, Part::Codes), (spec, Part::Scale)],
        Kind::Linear | Kind::Embedding | Kind::Vector => vec![(spec, Part::Floats)],
    });
    let parts: Vec<(&TensorSpec, Part)> = parts.collect();
    let heads: Vec<NewTensor> = parts.iter().map(|(spec, part)| head(spec, *part, form.float)).collect();

    let (mut done, total) = (0, config.parameters() as u64);
    let mut scale = Vec::new();
    write_folder(folder, |partial| {
        write_texts(partial, config, &checkpoint.tokenizer, &checkpoint.chat, form)?;
        tensor_file::write(&partial.join(WEIGHTS), &heads, |index| {
            let (spec, part) = parts[index];
            let bytes = match part {
                Part::Scale => std::mem::take(&mut scale),
                Part::Floats => floats(&spec.name, &weights_of(spec)?, form.float).or_else(|found| refused(checkpoint, found))?,
                Part::Codes => {
                    let weights = weights_of(spec)?;
                    let matrix = ternary::quantize(&weights, spec.shape[0], spec.shape[1], Scale::Tensor);
                    let value = matrix.scales[0].to_f32();
                    scale = f32_bytes(&[match packed_scale(config) {
                        WeightScale::Multiplies => value,
                        WeightScale::Divides => 1.0 / value,
                    }]);
                    codes::pack(&matrix.codes, matrix.rows, matrix.columns).expect("the rows were checked")
                }
            };
            if !matches!(part, Part::Scale) {
                done += spec.len() as u64;
                report(done, total);
            }
            Ok(bytes)
        })
    })
}

fn refused<T>(checkpoint: &Checkpoint, found: String) -> Result<T, Error> {
    Err(Error::Checkpoint { path: checkpoint.folder().to_owned(), found })
}

fn head(spec: &TensorSpec, part: Part, float: Float) -> NewTensor {
    let name = spec.name.clone();
    let float = match float {
        Float::F32 => Dtype::F32,
        Float::F16 => Dtype::F16,
        Float::Bf16 => Dtype::BF16,
    };
    match part {
        Part::Floats => NewTensor { name, dtype: float, shape: spec.shape.clone() },
        Part::Codes => NewTensor { name, dtype: Dtype::U8, shape: vec![spec.shape[0] / 4, spec.shape[1]] },
        // What the scale is rounded to is for the reader to say.
        Part::Scale => NewTensor::f32(format!("{name}_scale"), &[1]),
    }
}

/// Weights as bytes, or what of them the type cannot hold.
fn floats(name: &str, weights: &[f32], float: Float) -> Result<Vec<u8>, String> {
    let largest = weights.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
    if float == Float::F16 && largest > f16::MAX.to_f32() {
        return Err(format!("{name} has a weight of {largest}, which F16 cannot hold; take BF16 or F32"));
    }
    let halves = |bytes_of: fn(f32) -> [u8; 2]| weights.iter().flat_map(|weight| bytes_of(*weight)).collect();
    Ok(match float {
        Float::F32 => f32_bytes(weights),
        Float::F16 => halves(|weight| f16::from_f32(weight).to_le_bytes()),
        Float::Bf16 => halves(|weight| bf16::from_f32(weight).to_le_bytes()),
    })
}
