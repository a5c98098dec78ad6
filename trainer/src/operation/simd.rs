//! Loops compiled once for each instruction set and chosen at run time, and the functions that they share.
//!
//! No multiplication is fused with an addition and every sum has sixteen running sums, so that all of them give the same bits.

/// Defines a function whose body is compiled for AVX-512, for AVX2 and for any CPU; each call runs the best that this CPU has.
macro_rules! for_each_isa {
    ($(#[$meta:meta])* $visible:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $visible fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn any($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($argument: $type),*) $(-> $result)? {
                    any($($argument),*)
                }

                #[target_feature(enable = "avx2")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    any($($argument),*)
                }

                match $crate::operation::simd::isa() {
                    // SAFETY: `isa` found the features that the function is compiled for.
                    $crate::operation::simd::Isa::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    $crate::operation::simd::Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::operation::simd::Isa::Any => {}
                }
            }
            any($($argument),*)
        }
    };
}
pub(crate) use for_each_isa;
pub(crate) use runtime::kernel::exp;

/// What the loops are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg(target_arch = "x86_64")]
pub(crate) enum Isa {
    Avx512,
    Avx2,
    Any,
}

/// The best that this CPU has. The detection is cached by the standard library.
#[cfg(target_arch = "x86_64")]
pub(crate) fn isa() -> Isa {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    if avx512 {
        Isa::Avx512
    } else if is_x86_feature_detected!("avx2") {
        Isa::Avx2
    } else {
        Isa::Any
    }
}

/// Running sums of a reduction, and the length of the vectors that the loops are written for.
pub(crate) const LANES: usize = 16;

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The sum of `of` over the elements of equally long slices, in a fixed order.
#[inline(always)]
pub(crate) fn sum<const N: usize>(slices: [&[f32]; N], of: impl Fn([f32; N]) -> f32) -> f32 {
    let length = slices[0].len();
    let whole = length / LANES;
    let chunks = slices.map(|slice| &slice[..length].as_chunks::<LANES>().0[..whole]);
    let mut lanes = [0.0f32; LANES];
    for at in 0..whole {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += of(chunks.map(|chunk| chunk[at][lane]));
        }
    }
    for (at, total) in (whole * LANES..length).zip(&mut lanes) {
        *total += of(slices.map(|slice| slice[at]));
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sigmoid_ends_at_0_and_1() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert!(sigmoid(-200.0) >= 0.0 && sigmoid(200.0) == 1.0);
    }

    #[test]
    fn every_isa_gives_the_same_bits() {
        for_each_isa! {
            fn chosen(x: &[f32]) -> f32 {
                sum([x], |[x]| exp(x) * x)
            }
        }
        for count in 0..70 {
            let x: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
            let plain = sum([&x], |[x]| exp(x) * x);
            assert_eq!(chosen(&x).to_bits(), plain.to_bits(), "{count}");
        }
    }
}
