//! Devices, and the one place that chooses between the fused and the composed form of every operation.

use burn::{backend::DispatchDevice, tensor::Device};

use crate::{DeviceName, Error};

/// Which form of the operations a student runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Operations written by hand for a CPU: forward and backward on slices.
    Fused,
    /// The same operations put together from burn's own; any device runs them, and they are the meaning of the fused ones.
    Composed,
}

/// The device of that name with derivatives on, or why there is none.
pub fn open(name: DeviceName) -> Result<Device, Error> {
    let missing = |what: &str| Err(Error::Device(format!("this program was built without {what}; take train.device = \"cpu\"")));
    match name {
        DeviceName::Cpu => Ok(cpu()),
        DeviceName::Wgpu => missing("wgpu"),
        DeviceName::Ndarray => missing("ndarray"),
        DeviceName::Cuda => missing("CUDA"),
    }
}

/// The CPU, with burn-flex below and derivatives on.
pub fn cpu() -> Device {
    Device::flex().autodiff()
}

impl Path {
    /// The fused form where it exists, which is on burn-flex, and the composed one elsewhere.
    pub fn of(device: &Device) -> Path {
        // With burn-flex as the only backend there is no other variant.
        #[allow(unreachable_patterns)]
        match device.clone().inner().as_dispatch() {
            DispatchDevice::Flex(_) => Path::Fused,
            _ => Path::Composed,
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
    fn a_device_that_was_not_built_is_named() {
        let message = open(DeviceName::Cuda).unwrap_err().to_string();
        assert_eq!(message, "cannot train on this device: this program was built without CUDA; take train.device = \"cpu\"");
        assert!(open(DeviceName::Cpu).unwrap().is_autodiff());
    }
}
