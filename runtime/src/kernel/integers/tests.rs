//! Every instruction set against plain loops over what `model::block` decodes.

use half::f16;
use model::{
    block::decode_row,
    integer::{self, BLOCK},
    ternary,
};

use super::*;
use crate::kernel::{Activations, FineActivations, Isa, fine::LARGEST, multiply_integers};

/// The bytes of a matrix: `code(row, input)` as stored, and scales that differ from block to block.
fn pack(bits: Bits, rows: usize, columns: usize, code: &dyn Fn(usize, usize) -> u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in 0..rows {
        for block in 0..columns / bits.block() {
            let code = |at: usize| code(row, block * bits.block() + at);
            let scale = f16::from_f32((row % 7 + block) as f32 * 0.013 - 0.02).to_le_bytes();
            match bits {
                Bits::Four => {
                    bytes.extend(scale);
                    bytes.extend((0..16).map(|at| code(at) & 15 | code(at + 16) << 4));
                }
                Bits::Six => {
                    for half in [0, 128] {
                        bytes.extend((half..half + 64).map(|at| code(at) & 15 | code(at + 64) << 4));
                    }
                    for half in [0, 128] {
                        let high = |at: usize| (0..4).fold(0, |byte, plane| byte | (code(at + 32 * plane) >> 4 & 3) << (2 * plane));
                        bytes.extend((half..half + 32).map(high));
                    }
                    bytes.extend((0..16).map(|group| (row * 37 + group * 91) as u8));
                    bytes.extend(scale);
                }
                Bits::Eight | Bits::Apart => {
                    bytes.extend(scale);
                    bytes.extend((0..32).map(code));
                }
            }
        }
    }
    bytes
}

/// What the kernels compute for one row, which has these weights and a scale for each group.
fn reference(bits: Bits, row: &[f32], scales: &[f32], activations: &[f32]) -> f32 {
    let largest = activations.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let scale = (largest / LARGEST).max(f32::MIN_POSITIVE);
    let mut total = 0.0f32;
    for ((weights, weight_scale), activations) in row.chunks(bits.group()).zip(scales).zip(activations.chunks(bits.group())) {
        let code = |weight: f32| if *weight_scale == 0.0 { 0 } else { (weight / weight_scale).round() as i32 };
        let sum: i32 = weights.iter().zip(activations).map(|(w, x)| code(*w) * (x / scale).round_ties_even() as i32).sum();
        total += sum as f32 * weight_scale;
    }
    total * scale
}

fn format(bits: Bits) -> Format {
    bits.format()
}

#[test]
fn every_isa_equals_plain_loops_at_every_tail_and_extreme() {
    for bits in [Bits::Four, Bits::Six, Bits::Eight, Bits::Apart] {
        for (rows, blocks, fixed) in
            [(1, 1, None), (17, 2, None), (63, 3, None), (150, 1, None), (40, 2, Some(0)), (33, 1, Some(0x7f)), (20, 1, Some(0x80))]
        {
            let columns = blocks * bits.block();
            let code = |row: usize, at: usize| fixed.unwrap_or(((row * 131 + at * 71) % 256) as u8);
            let bytes = pack(bits, rows, columns, &code);
            let pool = Pool::new(3);
            let matrix = IntegerMatrix::new(&pool, bits, &bytes, rows, columns);
            let decoded: Vec<Vec<f32>> = bytes
                .chunks(bytes.len() / rows)
                .map(|bytes| {
                    let mut row = vec![0.0; columns];
                    decode_row(format(bits), bytes, &mut row).unwrap();
                    row
                })
                .collect();
            let scales = |row: usize| (0..matrix.groups()).map(|group| matrix.scales::<1>(row, group)[0]).collect::<Vec<_>>();
            for tokens in (1..=9).chain([16, 17]) {
                let activation = |at: usize| if fixed.is_some() { 1.0 } else { ((at * 37 % 211) as f32 - 100.0) * 0.01 };
                let activations: Vec<f32> = (0..tokens * columns).map(activation).collect();
                let of_token = |activations| decoded.iter().enumerate().map(move |(row, weights)| (row, weights, activations));
                let expected: Vec<u32> = activations
                    .chunks(columns)
                    .flat_map(of_token)
                    .map(|(row, weights, activations)| reference(bits, weights, &scales(row), activations).to_bits())
                    .collect();
                for isa in Isa::supported() {
                    let mut fine = FineActivations::default();
                    fine.quantize(isa, &activations, columns);
                    for threads in [1, 3] {
                        let mut out = vec![f32::NAN; tokens * rows];
                        multiply_integers(isa, &Pool::new(threads), &matrix, &fine, &mut out);
                        let found: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                        assert!(found == expected, "{isa}, {bits:?}, {rows} x {columns}, {tokens} tokens, {threads} threads");
                    }
                }
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_for_another_vendor_equals_plain_loops() {
    crate::kernel::x86::tests::on_another_vendors(every_isa_equals_plain_loops_at_every_tail_and_extreme);
}

#[test]
fn a_linear_layer_equals_the_reference_on_every_isa() {
    for (rows, blocks, tokens) in [(1, 1, 1), (40, 3, 5), (63, 8, 9), (17, 2, 4)] {
        let columns = blocks * BLOCK;
        let number = |at: usize| ((at * 7919 % 2003) as f32 / 1000.0 - 1.0) * (1 + at / 40 % 5) as f32;
        let weights: Vec<f32> = (0..rows * columns).map(|at| 0.03 * number(at)).collect();
        let inputs: Vec<f32> = (0..tokens * columns).map(|at| number(3 * at)).collect();
        for grid in [Grid::Eight, Grid::Four] {
            let reference = integer::quantize(&weights, rows, columns, grid);
            let matrix = IntegerMatrix::from_codes(&Pool::new(1), &reference);
            for largest in [127, 7] {
                let of_token = |x: &[f32]| {
                    let mut codes = vec![0; columns];
                    let scale = ternary::quantize_activations_to(largest, x, &mut codes);
                    integer::multiply(&reference, &codes, scale)
                };
                let expected: Vec<u32> = inputs.chunks(columns).flat_map(of_token).map(f32::to_bits).collect();
                for isa in Isa::supported() {
                    let (mut activations, mut fine) = (Activations::new(), FineActivations::default());
                    activations.quantize_to(isa, largest, &inputs, columns);
                    fine.widen(isa, &activations);
                    let mut out = vec![f32::NAN; tokens * rows];
                    multiply_integers(isa, &Pool::new(2), &matrix, &fine, &mut out);
                    let found: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                    assert!(found == expected, "{isa}, {grid:?}, {largest}, {rows} x {columns}, {tokens} tokens");
                }
            }
        }
    }
}

#[test]
fn a_row_comes_back() {
    for bits in [Bits::Four, Bits::Six, Bits::Eight, Bits::Apart] {
        let columns = 2 * bits.block();
        let bytes = pack(bits, 19, columns, &|row, at| (row * 7 + at * 13) as u8);
        let matrix = IntegerMatrix::new(&Pool::new(1), bits, &bytes, 19, columns);
        for (row, bytes) in bytes.chunks(bytes.len() / 19).enumerate() {
            let (mut expected, mut found) = (vec![0.0; columns], vec![f32::NAN; columns]);
            decode_row(format(bits), bytes, &mut expected).unwrap();
            matrix.row(row, &mut found);
            assert_eq!(found, expected, "{bits:?}, row {row}");
        }
        // Its file's bytes and none more, but for a row's scale of the high bits.
        let high = if bits == Bits::Apart { 32 * size_of::<f32>() } else { 0 };
        assert_eq!((matrix.len_bytes() - high) * 19, bytes.len() * 32, "{bits:?}");
    }
}
