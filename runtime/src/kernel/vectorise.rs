//! Plain functions compiled once for each vector width.
//!
//! The body is ordinary Rust whose order of additions does not depend on the width (sixteen running sums), so that all versions
//! give the same bits: the compiler neither reorders float additions nor fuses them with multiplications.

/// Define a function that takes an [`super::Isa`] first and runs the version compiled for it.
macro_rules! vectorised {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name(isa: $crate::kernel::Isa, $($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain($($argument: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($argument: $kind),*) $(-> $result)? {
                plain($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c,avx512f,avx512bw")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($argument: $kind),*) $(-> $result)? {
                plain($($argument),*)
            }

            match isa.width() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the `Isa` is the proof that this CPU has the features.
                $crate::kernel::Width::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::kernel::Width::Avx2 => unsafe { avx2($($argument),*) },
                $crate::kernel::Width::Baseline => plain($($argument),*),
            }
        }
    };
}

pub(crate) use vectorised;
