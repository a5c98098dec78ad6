//! The instruction sets that kernels exist for. Holding an [`Isa`] is the proof that this CPU has it.

use std::fmt;

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::matrix::Packing;
use crate::Error;

/// An instruction set this CPU has. Only [`Isa::supported`] makes one, so holding an `Isa` is the proof that its code may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(pub(super) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// AVX-512-VNNI, and five weights to a byte.
    #[cfg(target_arch = "x86_64")]
    Avx512Vbmi,
    /// All of that, and tiles for many tokens.
    #[cfg(target_arch = "x86_64")]
    Amx,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    Dotprod,
    #[cfg(target_arch = "aarch64")]
    I8mm,
}

/// The vector registers that plain code may be compiled for.
#[derive(Clone, Copy)]
pub(crate) enum Width {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The plain kernels, which every CPU runs.
    pub const SCALAR: Isa = Isa(Kind::Scalar);

    /// What this CPU has, the fastest last.
    pub fn supported() -> Vec<Isa> {
        let mut found = vec![Kind::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") && is_x86_feature_detected!("fma");
            let avx512 = avx2 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            if avx2 {
                found.push(Kind::Avx2);
            }
            if avx2 && is_x86_feature_detected!("avxvnni") {
                found.push(Kind::AvxVnni);
            }
            if avx512 {
                found.push(Kind::Avx512);
            }
            if avx512 && is_x86_feature_detected!("avx512vnni") {
                found.push(Kind::Avx512Vnni);
                if is_x86_feature_detected!("avx512vbmi") {
                    found.push(Kind::Avx512Vbmi);
                    if amx::is_permitted() {
                        found.push(Kind::Amx);
                    }
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected;
            let dotprod = is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod");
            if is_aarch64_feature_detected!("neon") {
                found.push(Kind::Neon);
            }
            if dotprod {
                found.push(Kind::Dotprod);
            }
            if dotprod && is_aarch64_feature_detected!("i8mm") {
                found.push(Kind::I8mm);
            }
        }
        found.into_iter().map(Isa).collect()
    }

    /// The fastest this CPU has, or the one that the environment variable `TRISTILL_ISA` names.
    pub fn detect() -> Result<Isa, Error> {
        match std::env::var_os("TRISTILL_ISA") {
            Some(name) => Isa::named(&name.to_string_lossy()),
            None => Ok(Isa::fastest()),
        }
    }

    /// The fastest this CPU has.
    pub fn fastest() -> Isa {
        Isa::supported().pop().expect("scalar is always supported")
    }

    /// The one with this name, if this CPU has it.
    pub fn named(name: &str) -> Result<Isa, Error> {
        let supported = Isa::supported();
        supported.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| Error::Isa {
            name: name.to_owned(),
            supported: supported.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// How weights are best packed for it.
    pub(crate) fn packing(self) -> Packing {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vbmi | Kind::Amx => Packing::Five,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni | Kind::Avx512 | Kind::Avx512Vnni => Packing::Four,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon | Kind::Dotprod | Kind::I8mm => Packing::Four,
            Kind::Scalar => Packing::Four,
        }
    }

    /// The vector registers that plain code may use.
    pub(crate) fn width(self) -> Width {
        match self.0 {
            Kind::Scalar => Width::Baseline,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni => Width::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 | Kind::Avx512Vnni | Kind::Avx512Vbmi | Kind::Amx => Width::Avx512,
            // The baseline has these registers.
            #[cfg(target_arch = "aarch64")]
            Kind::Neon | Kind::Dotprod | Kind::I8mm => Width::Baseline,
        }
    }

    /// Its name, as `TRISTILL_ISA` takes it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vbmi => "avx512vbmi",
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => "amx",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Kind::Dotprod => "dotprod",
            #[cfg(target_arch = "aarch64")]
            Kind::I8mm => "i8mm",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for isa in Isa::supported() {
            assert_eq!(Isa::named(isa.name()).unwrap(), isa);
        }
    }

    #[test]
    fn an_unknown_name_lists_what_there_is() {
        let message = Isa::named("mmx").unwrap_err().to_string();
        assert!(message.contains("\"mmx\"") && message.contains("scalar"), "{message}");
    }
}
