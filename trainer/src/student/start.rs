//! The values a student starts from: those of a folder, with gains that fit where sub-norms are added (`sub_norms.rs`); or normal
//! with deviation 0.02, the projections that add to the residual stream divided by sqrt(2 * layers) as in GPT-2, gains 1, biases 0.
//!
//! Each drawn tensor has a random stream of its own, so that its values depend on the seed and its place in the inventory alone.

use std::path::Path;

use burn::tensor::Device;
use model::{ModelConfig, Role, TensorSpec, Tokenizer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::sub_norms::Gains;
use crate::{Batch, Checkpoint, Error, Student};

const DEVIATION: f64 = 0.02;

impl Student {
    /// A student with the weights of a Hugging Face folder, whose sizes and tokenizer must be the student's. Context and kind of its
    /// linear layers may be others, and it may have sub-norms that the folder has not: their gains are fitted to `rows`.
    pub fn from_folder(
        folder: &Path,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        device: &Device,
        rows: impl FnOnce() -> Result<Batch, Error>,
    ) -> Result<Student, Error> {
        let checkpoint = open(folder, config, tokenizer)?;
        let own = &checkpoint.config;
        let gains = if config.has_sub_norms() && !own.has_sub_norms() {
            // As the folder's own student computes, whatever the kind of its layers is to be.
            let before = Student::from_tensors(own, |spec| weights(&checkpoint, own, spec), device)?;
            Some(Gains::fitted(&before, &rows()?))
        } else {
            None
        };
        let values = |spec: &_| match gains.as_ref().and_then(|gains| gains.of(spec)) {
            Some(values) => Ok(values),
            None => weights(&checkpoint, config, spec),
        };
        Student::from_tensors(config, values, device)
    }
}

/// A folder that a student of these sizes and this tokenizer can start from.
pub(crate) fn open(folder: &Path, config: &ModelConfig, tokenizer: &Tokenizer) -> Result<Checkpoint, Error> {
    let checkpoint = Checkpoint::open(folder)?;
    let refuse = |found: &str| Err(Error::Checkpoint { path: folder.to_owned(), found: found.to_owned() });
    let mut found = checkpoint.config.clone();
    (found.context, found.quant, found.scale, found.activations) = (config.context, config.quant, config.scale, config.activations);
    if config.has_sub_norms() && !found.has_sub_norms() {
        found = found.with_sub_norms();
    }
    if found != *config {
        return refuse("its sizes are not those of the student; start from it with model.from, and say no sizes there");
    }
    if checkpoint.tokenizer.fingerprint() != tokenizer.fingerprint() {
        return refuse("its tokenizer is not the one that the dataset was written with; ingest again with the folder's");
    }
    Ok(checkpoint)
}

/// What a tensor of such a student starts as.
pub(crate) fn weights(checkpoint: &Checkpoint, config: &ModelConfig, spec: &TensorSpec) -> Result<Vec<f32>, Error> {
    checkpoint.finite_weights(spec, config.quant, config.scale)
}

/// First values of the tensor at `place` in the inventory.
pub(super) fn values(config: &ModelConfig, spec: &TensorSpec, seed: u64, place: usize) -> Vec<f32> {
    match spec.role {
        Role::AttentionNorm
        | Role::QueryNorm
        | Role::KeyNorm
        | Role::AttentionSubNorm
        | Role::FeedForwardNorm
        | Role::FeedForwardSubNorm
        | Role::FinalNorm => vec![1.0; spec.len()],
        Role::QueryBias | Role::KeyBias | Role::ValueBias => vec![0.0; spec.len()],
        Role::Output | Role::Down => normal(seed, place, spec.len(), DEVIATION / (2.0 * config.layers as f64).sqrt()),
        Role::Embedding | Role::Head | Role::Query | Role::Key | Role::Value | Role::Gate | Role::Up => {
            normal(seed, place, spec.len(), DEVIATION)
        }
    }
}

/// Normal values by the Box-Muller transform, from the seed's random stream of this number.
pub(crate) fn normal(seed: u64, stream: usize, count: usize, deviation: f64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream as u64);
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 - [0, 1) is never 0, whose logarithm is infinite.
        let radius = deviation * (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * random.random::<f64>();
        values.extend([(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_normal_and_apart() {
        let values = normal(7, 3, 40_001, 0.5);
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.01 && (variance - 0.25).abs() < 0.01, "{mean} {variance}");
        assert_eq!(values, normal(7, 3, 40_001, 0.5));
        assert_ne!(values[..8], normal(7, 4, 8, 0.5));
        assert_ne!(values[..8], normal(8, 3, 8, 0.5));
    }
}
