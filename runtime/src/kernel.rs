//! The integer kernels: a ternary matrix times tokens of 8-bit activations, on every instruction set to the same bits.
//!
//! ```
//! use model::{Scale, ternary};
//! use tristill_runtime::kernel::{Activations, Isa, Matrix, Pool, multiply};
//!
//! let weights = ternary::quantize(&[0.5, -1.0, 0.1, 2.0], 2, 2, Scale::Row);
//! let (isa, pool) = (Isa::fastest(), Pool::new(1));
//! let mut activations = Activations::new();
//! activations.quantize(isa, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2); // three tokens
//! let mut out = [0.0; 6];
//! multiply(isa, &pool, &Matrix::new(&weights), &activations, &mut out); // [tokens, rows]
//! assert_eq!(out[2..4], ternary::multiply(&weights, activations.codes(1), activations.scales()[1]));
//! ```

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
#[allow(clippy::needless_range_loop, reason = "indices say best which query and which vector")]
mod attention;
mod bandwidth;
mod coarse;
mod codes;
#[allow(clippy::needless_range_loop, reason = "as above")]
mod dense;
mod digits;
mod elementary;
mod fine;
#[allow(clippy::needless_range_loop, reason = "as above")]
mod float;
mod integer_planes;
#[allow(clippy::needless_range_loop, reason = "as above")]
mod integer_tile;
mod integers;
mod isa;
mod key_values;
mod lengths;
#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "as above")]
mod lookup;
mod matrix;
mod memory;
#[cfg(target_arch = "aarch64")]
#[allow(clippy::needless_range_loop, reason = "as above")]
mod neon;
#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "as above")]
mod pairs;
#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "as above")]
mod panel;
mod pool;
mod scalar;
#[allow(clippy::needless_range_loop, reason = "as above")]
mod tile;
mod vectorise;
#[cfg(target_arch = "x86_64")]
#[allow(clippy::needless_range_loop, reason = "as above")]
mod x86;

use std::ops::Range;

pub use activations::{Activations, quantize_activations, quantize_activations_to, quantize_weights};
pub use elementary::exp;
pub use fine::FineActivations;
pub use integer_tile::multiply_integers;
pub(crate) use integer_tile::multiply_places;
pub(crate) use integers::HIGH_ACTIVATION;
pub use integers::{Bits, IntegerMatrix};
pub use isa::Isa;
pub(crate) use isa::Width;
pub use matrix::{MAX_COLUMNS, Matrix, Packing};
pub(crate) use matrix::{ROWS, to_word};
pub(crate) use memory::Memory;
pub use pool::Pool;

pub(crate) use attention::{Block, Queries, attend, block_rows};
pub(crate) use bandwidth::Bandwidth;
pub(crate) use coarse::{coarse, multiply_high};
pub(crate) use float::{FloatMatrix, multiply_floats};
pub(crate) use key_values::{KeyValues, NewKeyValues, PAGE};
pub(crate) use lengths::lengths;
pub(crate) use vectorise::vectorised;

use isa::Kind;
use tile::Output;

/// Multiply every token with the matrix: `out` is `[tokens, matrix.rows()]`. Equal to `model::ternary::multiply` in every bit, for
/// any instruction set and any number of threads.
///
/// # Panics
/// If the sizes do not fit together.
pub fn multiply(isa: Isa, pool: &Pool, matrix: &Matrix, activations: &Activations, out: &mut [f32]) {
    assert_eq!(activations.width(), matrix.columns(), "the activations' width is not the matrix's columns");
    assert_eq!(Some(out.len()), activations.tokens().checked_mul(matrix.rows()), "the output is not tokens x rows");
    let output = Output { start: out.as_mut_ptr(), stride: matrix.rows() };
    #[cfg(target_arch = "x86_64")]
    if pairs::fits(isa, matrix, activations) {
        // SAFETY: the sizes were checked above, and `out` stays borrowed until all are done.
        return unsafe { pairs::multiply(pool, matrix, activations, output) };
    }
    #[cfg(target_arch = "x86_64")]
    if lookup::fits(isa, matrix, activations) {
        // SAFETY: as above.
        return unsafe { lookup::multiply(pool, matrix, activations, output) };
    }
    pool.for_each_range(matrix.blocks(), piece(matrix.columns(), activations.tokens()), &|blocks| {
        // SAFETY: the sizes were checked above, the ranges are disjoint, and `out` stays borrowed until all are done.
        unsafe { multiply_blocks(isa, matrix, activations, blocks, output) };
    });
}

/// Blocks that are a piece of work worth taking from another thread, which costs some 100 ns.
fn piece(columns: usize, tokens: usize) -> usize {
    const PRODUCTS: usize = 1 << 18;
    PRODUCTS / (ROWS * columns * tokens).max(1)
}

/// # Safety
/// `output` has room for every token and row, and no one else writes these blocks' rows of it.
unsafe fn multiply_blocks(isa: Isa, matrix: &Matrix, activations: &Activations, blocks: Range<usize>, output: Output) {
    if matrix.packing() == Packing::Five {
        return match isa.0 {
            // SAFETY: as below.
            #[cfg(target_arch = "x86_64")]
            Kind::Amx if amx::fits(matrix, activations) => unsafe { amx::multiply_blocks(matrix, activations, blocks, output) },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vbmi | Kind::Amx => unsafe { avx512vbmi(matrix, (activations, 0), blocks, output) },
            // A matrix is packed so only for those that are fast with it.
            _ => unsafe { tile::multiply_blocks::<dense::PlainDense, 1, 1, 1, 4>(matrix, (activations, 0), blocks, output) },
        };
    }
    match isa.0 {
        // SAFETY: passed on from the caller.
        Kind::Scalar => unsafe { tile::multiply_blocks::<scalar::Plain, 1, 1, 1, 4>(matrix, (activations, 0), blocks, output) },
        // SAFETY: passed on from the caller, and the `Isa` is the proof that the CPU has the instructions; so for the others.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { avx2(matrix, (activations, 0), blocks, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => unsafe { avxvnni(matrix, (activations, 0), blocks, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { avx512(matrix, (activations, 0), blocks, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::Amx if amx::fits(matrix, activations) => unsafe { amx::multiply_blocks(matrix, activations, blocks, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni | Kind::Avx512Vbmi | Kind::Amx => unsafe { avx512vnni(matrix, (activations, 0), blocks, output) },
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => unsafe { neon(matrix, (activations, 0), blocks, output) },
        #[cfg(target_arch = "aarch64")]
        Kind::Dotprod => unsafe { dotprod(matrix, (activations, 0), blocks, output) },
        #[cfg(target_arch = "aarch64")]
        Kind::I8mm => unsafe { i8mm(matrix, (activations, 0), blocks, output) },
    }
}

/// The shared way through, compiled for one instruction set with the numbers of `tile::multiply_blocks`: what its registers hold.
/// The first two may differ where memory is best read in one stream.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compiled {
    ($name:ident, $features:literal, $vector:ty, ($wide:literal, $deep:literal), $tall:literal, $tokens:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn $name(matrix: &Matrix, activations: (&Activations, usize), blocks: Range<usize>, output: Output) {
            // SAFETY: passed on from the caller; the features are those of the vector.
            unsafe { tile::multiply_blocks::<$vector, $wide, $deep, $tall, $tokens>(matrix, activations, blocks, output) }
        }
    };
    ($name:ident, $features:literal, $vector:ty, one stream ($one:literal, $one_deep:literal), ($wide:literal, $deep:literal), $tall:literal,
     $tokens:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn $name(matrix: &Matrix, activations: (&Activations, usize), blocks: Range<usize>, output: Output) {
            // SAFETY: as above.
            unsafe {
                if x86::is_amd() {
                    tile::multiply_blocks::<$vector, $one, $one_deep, $tall, $tokens>(matrix, activations, blocks, output)
                } else {
                    tile::multiply_blocks::<$vector, $wide, $deep, $tall, $tokens>(matrix, activations, blocks, output)
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(avx2, "avx2", x86::Maddubs<std::arch::x86_64::__m256i>, (2, 1), 2, 4);
#[cfg(target_arch = "x86_64")]
compiled!(avxvnni, "avx2,avxvnni", x86::Vnni<std::arch::x86_64::__m256i>, (2, 1), 2, 4);
#[cfg(target_arch = "x86_64")]
compiled!(avx512, "avx2,avx512f,avx512bw", x86::Maddubs<std::arch::x86_64::__m512i>, one stream (1, 2), (4, 1), 2, 8);
#[cfg(target_arch = "x86_64")]
compiled!(avx512vnni, "avx2,avx512f,avx512bw,avx512vnni", x86::Vnni<std::arch::x86_64::__m512i>, one stream (1, 2), (4, 1), 2, 8);
#[cfg(target_arch = "x86_64")]
compiled!(avx512vbmi, "avx2,avx512f,avx512bw,avx512vnni,avx512vbmi", dense::Dense, one stream (1, 2), (4, 1), 2, 8);
#[cfg(target_arch = "aarch64")]
compiled!(neon, "neon", neon::Neon, (4, 1), 1, 12);
#[cfg(target_arch = "aarch64")]
compiled!(dotprod, "neon,dotprod", neon::Dotprod, (4, 1), 1, 12);
#[cfg(target_arch = "aarch64")]
compiled!(i8mm, "neon,dotprod,i8mm", neon::I8mm, (4, 1), 1, 12);

#[cfg(test)]
mod tests {
    use model::{Scale, Ternary, ternary};
    use proptest::prelude::*;

    use super::*;

    /// A matrix and tokens that look random and are the same every time.
    fn sample(rows: usize, columns: usize, tokens: usize, scale: Scale, seed: u64) -> (Ternary, Vec<i8>, Vec<f32>) {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        };
        let codes = (0..rows * columns).map(|_| (next() % 3) as i8 - 1).collect();
        let scales = (0..scale.count(rows, columns)).map(|_| half::f16::from_f32((next() % 1000) as f32 * 1e-3 + 1e-3)).collect();
        let activations = (0..tokens * columns).map(|_| (next() % 255) as u8 as i8).map(|code| code.max(-127)).collect();
        let activation_scales = (0..tokens).map(|_| (next() % 1000) as f32 * 1e-3).collect();
        (Ternary { rows, columns, codes, scale, scales }, activations, activation_scales)
    }

    fn check(ternary: &Ternary, codes: &[i8], scales: &[f32], threads: &[usize]) {
        check_matrix(&Matrix::new(ternary), ternary, codes, scales, threads);
        if ternary.scale != Scale::Group {
            check_matrix(&Matrix::dense(ternary), ternary, codes, scales, threads);
        }
    }

    fn check_matrix(matrix: &Matrix, ternary: &Ternary, codes: &[i8], scales: &[f32], threads: &[usize]) {
        let expected: Vec<u32> = codes
            .chunks(ternary.columns)
            .zip(scales)
            .flat_map(|(codes, scale)| ternary::multiply(ternary, codes, *scale))
            .map(f32::to_bits)
            .collect();
        for isa in Isa::supported() {
            let activations = Activations::from_codes(isa, codes, scales, ternary.columns);
            for threads in threads {
                let mut out = vec![f32::NAN; expected.len()];
                multiply(isa, &Pool::new(*threads), matrix, &activations, &mut out);
                let found: Vec<u32> = out.into_iter().map(f32::to_bits).collect();
                assert_eq!(
                    found,
                    expected,
                    "{isa}, {:?}, {threads} threads, {} x {}, {} tokens",
                    matrix.packing(),
                    ternary.rows,
                    ternary.columns,
                    scales.len()
                );
            }
        }
    }

    #[test]
    fn every_isa_equals_the_reference_at_every_tail() {
        for columns in (1..=40).chain([64, 192, 255, 256, 257, 300]) {
            for (rows, tokens) in [(1, 1), (15, 2), (16, 3), (17, 5), (33, 1), (48, 13), (65, 1), (81, 7), (47, 33)] {
                let (ternary, codes, scales) = sample(rows, columns, tokens, Scale::Row, (rows * columns) as u64);
                check(&ternary, &codes, &scales, &[1]);
            }
        }
    }

    #[test]
    fn every_isa_equals_the_reference_for_every_number_of_tokens() {
        for tokens in 1..=40 {
            for columns in [100, 128] {
                let (ternary, codes, scales) = sample(50, columns, tokens, Scale::Tensor, tokens as u64);
                check(&ternary, &codes, &scales, &[1]);
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_is_for_another_vendor_equals_the_reference() {
        x86::tests::on_another_vendors(|| {
            every_isa_equals_the_reference_for_every_number_of_tokens();
            every_isa_equals_the_reference_over_many_spans();
            every_isa_equals_the_reference_for_every_scale_and_thread_count();
            nothing_overflows_at_the_extremes();
        });
    }

    #[test]
    fn every_isa_equals_the_reference_over_many_spans() {
        for columns in [320, 384, 1280, 1344, 2624] {
            for (rows, tokens) in [(16, 6), (70, 16), (130, 17), (33, 40)] {
                let (ternary, codes, scales) = sample(rows, columns, tokens, Scale::Row, columns as u64);
                check(&ternary, &codes, &scales, &[1, 2]);
            }
        }
    }

    #[test]
    fn every_isa_equals_the_reference_for_every_scale_and_thread_count() {
        for scale in [Scale::Tensor, Scale::Row, Scale::Group] {
            for tokens in [1, 2, 15, 31] {
                let (ternary, codes, scales) = sample(100, 3 * ternary::GROUP, tokens, scale, 7);
                check(&ternary, &codes, &scales, &[1, 2, 3, 8]);
            }
        }
    }

    #[test]
    fn nothing_overflows_at_the_extremes() {
        for columns in [256, 6912, 30_000] {
            for weight in [-1, 0, 1] {
                for activation in [-127, 127] {
                    let (rows, scale) = (18, Scale::Row);
                    let scales = vec![half::f16::ONE; rows];
                    let ternary = Ternary { rows, columns, codes: vec![weight; rows * columns], scale, scales };
                    for tokens in [1, 13, 25] {
                        check(&ternary, &vec![activation; tokens * columns], &vec![1.0; tokens], &[1]);
                    }
                }
            }
        }
    }

    #[test]
    fn the_widest_matrix_does_not_overflow() {
        for activation in [-127, 127] {
            let ternary =
                Ternary { rows: 1, columns: MAX_COLUMNS, codes: vec![1; MAX_COLUMNS], scale: Scale::Row, scales: vec![half::f16::ONE] };
            for tokens in [1, 2, 24] {
                check(&ternary, &vec![activation; tokens * MAX_COLUMNS], &vec![1.0; tokens], &[1]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_isa_equals_the_reference(rows in 1usize..150, columns in 1usize..1000, tokens in 1usize..50, threads in 1usize..4, seed: u64) {
            let (ternary, codes, scales) = sample(rows, columns, tokens, Scale::Row, seed);
            check(&ternary, &codes, &scales, &[threads]);
        }
    }
}
