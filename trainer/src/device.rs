//! Devices, and the one place that chooses between the fused and the composed form of every operation.

#[cfg(feature = "wgpu")]
use burn::tensor::DeviceKind;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::tensor::DeviceType;
use burn::{
    backend::DispatchDevice,
    tensor::{Device, FloatDType, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{DeviceName, Error, TrainTable};

/// Which form of the operations a student runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Operations written by hand for a CPU: forward and backward on slices.
    Fused,
    /// The same operations put together from burn's own; any device runs them, and they are the meaning of the fused ones.
    Composed(Storage),
}

/// What burn's operations multiply with and keep for a student's backward pass; a teacher computes in f32. The weights that are trained,
/// their moments, the residual stream, norms, softmax and loss are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// Single precision.
    #[default]
    F32,
    /// Half precision with 10 bits of fraction. The loss is a sum over tokens and not a mean, so that its gradients are far from the
    /// least of these numbers and need no factor. The largest is 65,504; where that is passed the gradient is not finite and the run stops.
    F16,
    /// Half precision with the range of f32 and 7 bits of fraction.
    Bf16,
}

impl Storage {
    /// Its name in a config.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Storage::F32 => "f32",
            Storage::F16 => "f16",
            Storage::Bf16 => "bf16",
        }
    }

    fn dtype(self) -> FloatDType {
        match self {
            Storage::F32 => FloatDType::F32,
            Storage::F16 => FloatDType::F16,
            Storage::Bf16 => FloatDType::BF16,
        }
    }

    /// Numbers in this type.
    pub(crate) fn keep<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        x.cast(self.dtype())
    }
}

/// The device of that name with derivatives on, or why there is none.
pub fn open(name: DeviceName) -> Result<Device, Error> {
    match name {
        DeviceName::Cpu => Ok(cpu()),
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)] // selectable for as long as burn has it
        DeviceName::Ndarray => Ok(Device::ndarray().autodiff()),
        #[cfg(feature = "wgpu")]
        // Of several adapters, a processor that plays a card among them, wgpu takes the one that it thinks the fastest.
        DeviceName::Wgpu => first(DeviceType::Wgpu, "wgpu found no adapter").map(|_| Device::wgpu(DeviceKind::DefaultDevice).autodiff()),
        #[cfg(feature = "cuda")]
        DeviceName::Cuda => first(DeviceType::Cuda, "CUDA found no card"),
        #[allow(unreachable_patterns)] // with every feature on
        other => {
            let feature = other.feature();
            Err(Error::Device(format!(
                "this program was built without {feature}; build it with `--features {feature}`, or take train.device = \"cpu\""
            )))
        }
    }
}

/// The device of a training, or why there is none that computes as it wants. What is not kept there for the backward pass is burn's to
/// choose; on the fused path the student's.
pub fn of(config: &TrainTable) -> Result<Device, Error> {
    let device = open(config.device)?;
    let storage = config.storage;
    if !device.supports_dtype(storage.dtype()) {
        let (name, storage) = (config.device.feature(), storage.name());
        return Err(Error::Device(format!("{name} does not compute with {storage} here; take another train.storage, or leave it out")));
    }
    let is_burns = config.gradient_checkpointing && Path::of(&device) != Path::Fused;
    Ok(if is_burns { device.gradient_checkpointing() } else { device })
}

/// The first device of a kind.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn first(kind: DeviceType, none: &str) -> Result<Device, Error> {
    let found = Device::enumerate(kind).into_iter().next();
    let others = if cfg!(feature = "ndarray") { "cpu and ndarray" } else { "cpu" };
    found.map(Device::autodiff).ok_or_else(|| Error::Device(format!("{none}; found here: {others}; take train.device = \"cpu\"")))
}

/// The CPU, with burn-flex below and derivatives on.
pub fn cpu() -> Device {
    Device::flex().autodiff()
}

impl Path {
    /// The fused form where it exists, which is on burn-flex, and the composed one elsewhere.
    pub fn of(device: &Device) -> Path {
        // Without further features burn-flex is the only backend.
        #[allow(unreachable_patterns)]
        match device.clone().inner().as_dispatch() {
            DispatchDevice::Flex(_) => Path::Fused,
            _ => Path::Composed(Storage::F32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_runs_the_fused_path() {
        assert_eq!(Path::of(&cpu()), Path::Fused);
        assert_eq!(Path::of(&Device::flex()), Path::Fused);
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_was_not_built_names_its_feature() {
        let message = open(DeviceName::Cuda).unwrap_err().to_string();
        assert_eq!(
            message,
            "cannot train on this device: this program was built without cuda; build it with `--features cuda`, or take train.device = \"cpu\""
        );
        assert!(open(DeviceName::Cpu).unwrap().is_autodiff());
    }
}
