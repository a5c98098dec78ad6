//! A student's tensors in a Hugging Face folder by whomever: floats, or BitNet's codes with a scale beside them.
//!
//! Every tensor of the folder is accounted for when it is opened, and every one that is missing, mis-shaped, damaged or of no use is
//! named in one error. Codes become weights that quantise to these very codes and their scale.

use std::{collections::HashSet, path::Path};

use half::f16;
use model::{
    Kind, ModelConfig, Quant, Role, Scale, TensorSpec,
    hugging_face::{Description, WeightScale, codes},
    inventory, ternary,
};
use safetensors::Dtype;

use crate::{
    Error,
    tensor_file::{Stored, TensorFiles, extra_fault},
};

/// The tensors of a student, open and known to be complete.
#[derive(Debug)]
pub(crate) struct Weights {
    files: TensorFiles,
    /// Whether linear layers are codes, and what the number beside them is.
    codes: Option<WeightScale>,
}

impl Weights {
    pub(crate) fn open(folder: &Path, description: &Description) -> Result<Weights, Error> {
        let weights = Weights { files: TensorFiles::open_folder(folder)?, codes: description.codes };
        let (config, mut known) = (&description.config, HashSet::new());
        let mut faults = weights.files.faults.clone();
        for spec in inventory(config) {
            if weights.is_coded(&spec) {
                faults.extend(weights.code_faults(&spec));
                known.insert(scale_name(&spec));
            } else {
                faults.extend(weights.files.float_fault(&spec.name, &spec.shape));
            }
            known.insert(spec.name);
        }
        let extra = weights.files.names().into_iter().filter(|name| !known.contains(*name));
        faults.extend(extra.filter_map(|name| weights.extra_fault(name, config)));
        weights.files.refuse(faults)?;
        Ok(weights)
    }

    /// A tensor's weights, row-major: for a layer of this kind and scale those that quantise to its codes, where it is stored as codes.
    pub(crate) fn values(&self, spec: &TensorSpec, quant: Quant, scale: Scale) -> Vec<f32> {
        let stored = self.files.get(&spec.name).expect("every tensor was checked");
        let values = if self.is_coded(spec) {
            let codes = read_codes(stored).expect("every code was checked");
            let value = self.scale(spec).expect("every scale was checked");
            match quant {
                Quant::Ternary => ternary::weights_of(&codes, f16::from_f32(value), spec.shape[0], spec.shape[1], scale),
                Quant::None | Quant::Int8 | Quant::Int4 => codes.into_iter().map(|code| f32::from(code) * value).collect(),
            }
        } else {
            stored.values()
        };
        self.files.release(&spec.name);
        values
    }

    fn is_coded(&self, spec: &TensorSpec) -> bool {
        self.codes.is_some() && spec.kind() == Kind::Linear
    }

    /// What a code of 1 stands for, if the number beside the codes makes sense.
    fn scale(&self, spec: &TensorSpec) -> Option<f32> {
        let stored = self.files.get(&scale_name(spec)).filter(Stored::is_float)?;
        match (&stored.values()[..], self.codes?) {
            ([value], WeightScale::Multiplies) => Some(*value),
            ([value], WeightScale::Divides) => Some(1.0 / value),
            _ => None,
        }
    }

    /// What is wrong with a tensor of codes and its scale.
    fn code_faults(&self, spec: &TensorSpec) -> Vec<String> {
        let name = &spec.name;
        let mut faults = Vec::new();
        let packed = [spec.shape[0] / 4, spec.shape[1]];
        match self.files.get(name) {
            None => faults.push(format!("{name} is missing")),
            Some(stored) if stored.dtype == Dtype::U8 && (stored.shape != packed || !spec.shape[0].is_multiple_of(4)) => {
                faults.push(format!("{name} has the shape {:?}, {packed:?} was needed, four codes to a byte", stored.shape));
            }
            Some(stored) if stored.dtype != Dtype::U8 && !stored.is_float() => {
                faults.push(format!("{name} is stored as {}, U8 was needed", stored.dtype));
            }
            Some(stored) if stored.is_float() && stored.shape != spec.shape => {
                faults.push(format!("{name} has the shape {:?}, {:?} was needed", stored.shape, spec.shape));
            }
            Some(stored) => {
                let are_codes = if stored.dtype == Dtype::U8 { codes::are_codes(stored.bytes) } else { read_codes(stored).is_some() };
                if !are_codes {
                    faults.push(format!("{name} holds a code that is not -1, 0 or 1"));
                }
                self.files.release(name);
            }
        }
        let range = ternary::MIN_WEIGHT_SCALE..=f16::MAX.to_f32();
        let scale = scale_name(spec);
        match self.scale(spec) {
            None if self.files.get(&scale).is_none() => faults.push(format!("{scale} is missing")),
            None => faults.push(format!("{scale} is no single float")),
            Some(value) if !range.contains(&value) => {
                faults.push(format!("{scale} stands for {value}, a number from {} to {} was needed", range.start(), range.end()));
            }
            Some(_) => {}
        }
        faults
    }

    /// What is wrong with a tensor that the inventory does not have, if anything is: some folders repeat what is known.
    fn extra_fault(&self, name: &str, config: &ModelConfig) -> Option<String> {
        let stored = self.files.get(name).expect("a name of the files");
        if name == "lm_head.weight" && config.tied_head {
            let embedding = inventory(config).into_iter().find(|spec| spec.role == Role::Embedding).expect("every student has one");
            let same = self.files.get(&embedding.name).is_some_and(|embedding| embedding.bytes == stored.bytes);
            [name, &embedding.name].iter().for_each(|name| self.files.release(name));
            return (!same).then(|| format!("{name} is not {}, but config.json says tie_word_embeddings", embedding.name));
        }
        if name.ends_with("rotary_emb.inv_freq") && stored.is_float() {
            let (found, needed) = (stored.values(), config.rotary_frequencies());
            // As exact as a file of BF16 can be.
            let near = |(found, needed): (&f32, &f64)| (f64::from(*found) - needed).abs() <= needed / 128.0;
            let same = found.len() == needed.len() && found.iter().zip(&needed).all(near);
            return (!same).then(|| format!("{name} has other frequencies than config.json says"));
        }
        Some(extra_fault(name))
    }
}

/// The name of the number beside a matrix of codes.
fn scale_name(spec: &TensorSpec) -> String {
    format!("{}_scale", spec.name)
}

/// The codes of a matrix, row-major, or `None` if it holds something else. They are stored in bytes, or one by one as floats.
fn read_codes(stored: Stored) -> Option<Vec<i8>> {
    if stored.dtype == Dtype::U8 {
        return codes::unpack(stored.bytes);
    }
    let code = |value: f32| [-1.0, 0.0, 1.0].contains(&value).then_some(value as i8);
    stored.values().into_iter().map(code).collect()
}

#[cfg(test)]
mod tests;
