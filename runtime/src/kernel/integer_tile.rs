//! The multiplication with a matrix of integers, the embedding and head among them: for each of an input's groups two integer sums, of
//! the high and of the low bytes of the activations, then the scales in one fixed order.

use std::{hint::black_box, ops::Range};

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::{
    FineActivations, Isa, Pool,
    fine::Layout,
    integers::{Bits, IntegerMatrix},
    isa::Kind,
    matrix::{Line, ROWS},
    piece, scalar,
    tile::{Output, Vector, store_rows},
};

// High and low in one 32-bit sum, or whole activations, with weights stored as unsigned numbers.
const _: () = assert!(Bits::Eight.group() as i64 * 255 * (128 * 127 + 64) <= i32::MAX as i64);
const _: () = assert!(Bits::Eight.group() == Bits::Four.group());

/// Multiply every token with the matrix: `out` is `[tokens, rows]`. For each output: total = 0; for each group of inputs in order:
/// total += sum as f32 * s_w; y = total * s_x.
///
/// # Panics
/// If the sizes do not fit together, or the activations were quantised for an instruction set that wants them otherwise.
pub fn multiply_integers(isa: Isa, pool: &Pool, matrix: &IntegerMatrix, activations: &FineActivations, out: &mut [f32]) {
    let output = output_of(isa, matrix, activations, out);
    pool.for_each_range(matrix.blocks(), piece(matrix.columns(), activations.tokens()), &|blocks| {
        // SAFETY: the sizes were checked, the ranges are disjoint, and `out` stays borrowed until all are done.
        unsafe { multiply_range(isa, matrix, activations, blocks, output) };
    });
}

/// As [`multiply_integers`], for the rows of some blocks alone; the others of `out` stay as they are.
///
/// # Panics
/// If the sizes do not fit together, or the blocks are not the matrix's in ascending order.
pub(crate) fn multiply_blocks_of(
    isa: Isa,
    pool: &Pool,
    matrix: &IntegerMatrix,
    blocks: &[usize],
    activations: &FineActivations,
    out: &mut [f32],
) {
    assert!(
        blocks.is_sorted_by(|one, next| one < next) && blocks.last().is_none_or(|last| *last < matrix.blocks()),
        "blocks of another matrix, or not in order"
    );
    let output = output_of(isa, matrix, activations, out);
    pool.for_each_range(blocks.len(), piece(matrix.columns(), activations.tokens()), &|range| {
        for block in &blocks[range] {
            // SAFETY: as above, and no block comes twice.
            unsafe { multiply_range(isa, matrix, activations, *block..block + 1, output) };
        }
    });
}

/// Where the products go, whose sizes fit together.
fn output_of(isa: Isa, matrix: &IntegerMatrix, activations: &FineActivations, out: &mut [f32]) -> Output {
    assert_eq!(activations.layout(), Layout::of(isa), "the activations were laid out for another instruction set");
    assert_eq!(activations.width(), matrix.columns(), "the activations' width is not the matrix's columns");
    assert_eq!(out.len(), activations.tokens() * matrix.rows(), "the output is not tokens x rows");
    Output { start: out.as_mut_ptr(), stride: matrix.rows() }
}

/// # Safety
/// `output` has room for every token and row, and no one else writes these blocks' rows of it.
unsafe fn multiply_range(isa: Isa, matrix: &IntegerMatrix, activations: &FineActivations, blocks: Range<usize>, output: Output) {
    match isa.0 {
        // SAFETY: passed on from the caller, and the `Isa` is the proof that the CPU has the instructions; so for the others.
        Kind::Scalar => unsafe { multiply_any::<scalar::Plain, 1, 1>(matrix, activations, blocks, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { avx2(matrix, activations, blocks, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => unsafe { avxvnni(matrix, activations, blocks, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { avx512(matrix, activations, blocks, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::Amx if amx::fits_integers(matrix, activations) => unsafe {
            amx::multiply_integer_blocks(matrix, activations, blocks, output)
        },
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni | Kind::Avx512Vbmi | Kind::Amx => unsafe { avx512vnni(matrix, activations, blocks, output) },
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => unsafe { neon(matrix, activations, blocks, output) },
        #[cfg(target_arch = "aarch64")]
        Kind::Dotprod => unsafe { dotprod(matrix, activations, blocks, output) },
        #[cfg(target_arch = "aarch64")]
        Kind::I8mm => unsafe { i8mm(matrix, activations, blocks, output) },
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compiled {
    ($name:ident, $features:literal, $vector:ty, $wide:literal, $tall:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn $name(matrix: &IntegerMatrix, activations: &FineActivations, blocks: Range<usize>, output: Output) {
            // SAFETY: passed on from the caller; the features are those of the vector.
            unsafe { multiply_any::<$vector, $wide, $tall>(matrix, activations, blocks, output) }
        }
    };
    ($name:ident, $features:literal, $vector:ty, one stream $one:literal, $wide:literal, $tall:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn $name(matrix: &IntegerMatrix, activations: &FineActivations, blocks: Range<usize>, output: Output) {
            // SAFETY: as above.
            unsafe {
                if super::x86::is_amd() {
                    multiply_any::<$vector, $one, $tall>(matrix, activations, blocks, output)
                } else {
                    multiply_any::<$vector, $wide, $tall>(matrix, activations, blocks, output)
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(avx2, "avx2", super::x86::Maddubs<std::arch::x86_64::__m256i>, 2, 2);
#[cfg(target_arch = "x86_64")]
compiled!(avxvnni, "avx2,avxvnni", super::x86::Vnni<std::arch::x86_64::__m256i>, one stream 2, 4, 1);
#[cfg(target_arch = "x86_64")]
compiled!(avx512, "avx2,avx512f,avx512bw", super::x86::Maddubs<std::arch::x86_64::__m512i>, one stream 1, 4, 1);
#[cfg(target_arch = "x86_64")]
compiled!(avx512vnni, "avx2,avx512f,avx512bw,avx512vnni", super::x86::Vnni<std::arch::x86_64::__m512i>, one stream 1, 4, 2);
#[cfg(target_arch = "aarch64")]
compiled!(neon, "neon", super::neon::Neon, 4, 1);
#[cfg(target_arch = "aarch64")]
compiled!(dotprod, "neon,dotprod", super::neon::Dotprod, 4, 1);
#[cfg(target_arch = "aarch64")]
compiled!(i8mm, "neon,dotprod,i8mm", super::neon::I8mm, 4, 1);

/// Weights of one kind, as a kernel sees them.
trait Codes {
    const BITS: Bits;

    /// What is multiplied is a weight plus this.
    fn offset<V: Fine>() -> i32;

    /// Add the products of a group, which begins with `input`, with `N` tokens of a width.
    ///
    /// # Safety
    /// The CPU has `V`'s instruction set, and each of `from` leads to a group's lines.
    unsafe fn add<V: Fine, const M: usize, const N: usize>(
        sums: &mut Sums<V, M, N>,
        from: [*const u8; M],
        tokens: (*const i8, usize),
        input: usize,
    );
}

/// The sums of high and low products; where activations are whole, all in `low`.
pub(super) struct Sums<V, const M: usize, const N: usize> {
    pub high: [[V; N]; M],
    pub low: [[V; N]; M],
}

/// How large unsigned bytes are that stand for weights.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Size {
    /// At most 63.
    Small,
    /// Those of 8 bits, as w + 128.
    Any,
}

/// How an instruction set multiplies bytes with fine activations, of the [`Layout`] that it has.
pub(super) trait Fine: Vector {
    /// What is multiplied is a weight of 8 bits plus this.
    const BYTE_OFFSET: i32;

    /// Add the products of four inputs, `input` and the next, with `N` tokens of a width.
    ///
    /// # Safety
    /// The CPU has the vector's instruction set, and there are so many tokens.
    unsafe fn add_four<const M: usize, const N: usize>(
        sums: &mut Sums<Self, M, N>,
        weights: [Self; M],
        size: Size,
        tokens: (*const i8, usize),
        input: usize,
    );
}

/// One that multiplies bytes with bytes.
///
/// # Safety
/// As [`Vector`].
pub(super) trait Halves: Vector {
    /// What [`Halves::dot_bytes`] multiplies with is a weight plus this.
    const BYTE_OFFSET: i32;
    /// sum + the products of four bytes a lane, stored as w + 128, with four activations.
    unsafe fn dot_bytes(sum: Self, weights: Self, four: *const i8) -> Self;
    /// sum + the products of four unsigned bytes a lane, each at most 63, with four activations.
    unsafe fn dot_small(sum: Self, weights: Self, four: *const i8) -> Self;
}

impl<V: Halves> Fine for V {
    const BYTE_OFFSET: i32 = <V as Halves>::BYTE_OFFSET;

    // Here and where whole activations are multiplied rows are innermost: four activations that were brought into a register serve all of
    // them and are done with.
    #[inline(always)]
    unsafe fn add_four<const M: usize, const N: usize>(
        sums: &mut Sums<V, M, N>,
        weights: [V; M],
        size: Size,
        (codes, width): (*const i8, usize),
        input: usize,
    ) {
        for n in 0..N {
            unsafe {
                let high = codes.add(n * 2 * width + input);
                for (sums, four) in [(&mut sums.high, high), (&mut sums.low, high.add(width))] {
                    for m in 0..M {
                        sums[m][n] = match size {
                            Size::Small => V::dot_small(sums[m][n], weights[m], four),
                            Size::Any => V::dot_bytes(sums[m][n], weights[m], four),
                        };
                    }
                }
            }
        }
    }
}

struct Four;
struct Six;
struct Eight;

// SAFETY (of every `unsafe` below): these functions have the safety conditions of `Codes::add` and of `multiply_any`; `row` and the next
// rows belong to blocks that the matrix has, a token has codes for every group, and a prefetch may name any address.

impl Codes for Four {
    const BITS: Bits = Bits::Four;

    fn offset<V: Fine>() -> i32 {
        8
    }

    #[inline(always)]
    unsafe fn add<V: Fine, const M: usize, const N: usize>(
        sums: &mut Sums<V, M, N>,
        from: [*const u8; M],
        tokens: (*const i8, usize),
        input: usize,
    ) {
        for line in 0..lines_of::<N>(Bits::Four) {
            unsafe {
                let mut planes = [[V::zero(); M]; 2];
                for m in 0..M {
                    let packed = V::load(from[m].add(line * size_of::<Line>()));
                    (planes[0][m], planes[1][m]) = (packed.and(15), packed.right(4).and(15));
                }
                V::add_four(sums, planes[0], Size::Small, tokens, input + 4 * line);
                V::add_four(sums, planes[1], Size::Small, tokens, input + 16 + 4 * line);
            }
        }
    }
}

impl Codes for Six {
    const BITS: Bits = Bits::Six;

    fn offset<V: Fine>() -> i32 {
        32
    }

    #[inline(always)]
    unsafe fn add<V: Fine, const M: usize, const N: usize>(
        sums: &mut Sums<V, M, N>,
        from: [*const u8; M],
        tokens: (*const i8, usize),
        input: usize,
    ) {
        unsafe {
            let mut planes = [[V::zero(); M]; 4];
            for m in 0..M {
                let [front, back, high] = [0, 1, 2].map(|line| from[m].add(line * size_of::<Line>()));
                let (front, back, high) = (V::load(front), V::load(back), V::load(high));
                planes[0][m] = front.and(15).or(high.left(4).and(48));
                planes[1][m] = front.right(4).and(15).or(high.left(2).and(48));
                planes[2][m] = back.and(15).or(high.and(48));
                planes[3][m] = back.right(4).and(15).or(high.right(2).and(48));
            }
            for plane in 0..4 {
                V::add_four(sums, planes[plane], Size::Small, tokens, input + 4 * plane);
            }
        }
    }
}

impl Codes for Eight {
    const BITS: Bits = Bits::Eight;

    fn offset<V: Fine>() -> i32 {
        V::BYTE_OFFSET
    }

    #[inline(always)]
    unsafe fn add<V: Fine, const M: usize, const N: usize>(
        sums: &mut Sums<V, M, N>,
        from: [*const u8; M],
        tokens: (*const i8, usize),
        input: usize,
    ) {
        for line in 0..lines_of::<N>(Bits::Eight) {
            unsafe {
                let mut weights = [V::zero(); M];
                for m in 0..M {
                    weights[m] = V::load(from[m].add(line * size_of::<Line>()));
                }
                V::add_four(sums, weights, Size::Any, tokens, input + 4 * line);
            }
        }
    }
}

/// How many lines a group has. Of several tokens a compiler that knows it reads all the group's activations at once, more than there are
/// registers.
#[inline(always)]
fn lines_of<const N: usize>(bits: Bits) -> usize {
    if N == 1 { bits.lines() } else { black_box(bits.lines()) }
}

/// # Safety
/// The CPU has `V`'s instruction set, `output` has room for all tokens and rows, and no one else writes these blocks' rows.
#[inline(always)]
unsafe fn multiply_any<V: Fine, const WIDE: usize, const TALL: usize>(
    matrix: &IntegerMatrix,
    activations: &FineActivations,
    blocks: Range<usize>,
    output: Output,
) {
    unsafe {
        match matrix.bits() {
            Bits::Four => multiply_blocks::<V, Four, WIDE, TALL>(matrix, activations, blocks, output),
            Bits::Six => multiply_blocks::<V, Six, WIDE, TALL>(matrix, activations, blocks, output),
            Bits::Eight => multiply_blocks::<V, Eight, WIDE, TALL>(matrix, activations, blocks, output),
        }
    }
}

/// Tokens of a tile where there are as many.
const TOKENS: usize = 4;

#[inline(always)]
unsafe fn multiply_blocks<V: Fine, C: Codes, const WIDE: usize, const TALL: usize>(
    matrix: &IntegerMatrix,
    activations: &FineActivations,
    blocks: Range<usize>,
    output: Output,
) {
    let (mut row, end) = (blocks.start * ROWS, blocks.end * ROWS);
    unsafe {
        if activations.tokens() < TOKENS {
            while row + WIDE * V::ROWS <= end {
                tile_all::<V, C, WIDE, 1>(matrix, activations, row, output);
                row += WIDE * V::ROWS;
            }
        }
        while row + TALL * V::ROWS <= end {
            tile_all::<V, C, TALL, TOKENS>(matrix, activations, row, output);
            row += TALL * V::ROWS;
        }
        while row < end {
            tile_all::<V, C, 1, TOKENS>(matrix, activations, row, output);
            row += V::ROWS;
        }
    }
}

/// All tokens with `M` row vectors, `N` at a time and then one at a time.
#[inline(always)]
unsafe fn tile_all<V: Fine, C: Codes, const M: usize, const N: usize>(
    matrix: &IntegerMatrix,
    activations: &FineActivations,
    row: usize,
    output: Output,
) {
    let mut token = 0;
    unsafe {
        while token + N <= activations.tokens() {
            tile::<V, C, M, N>(matrix, activations, row, token, output);
            token += N;
        }
        while token < activations.tokens() {
            tile::<V, C, M, 1>(matrix, activations, row, token, output);
            token += 1;
        }
    }
}

/// How far ahead one token's weights are asked for.
const PREFETCH_BYTES: usize = 4096;

/// `M` row vectors with `N` tokens.
#[inline(always)]
unsafe fn tile<V: Fine, C: Codes, const M: usize, const N: usize>(
    matrix: &IntegerMatrix,
    activations: &FineActivations,
    row: usize,
    token: usize,
    output: Output,
) {
    let (group_inputs, width) = (C::BITS.group(), matrix.columns());
    unsafe {
        let tiles = (activations.tokens() / N).max(1);
        let mut totals = [[V::zero_floats(); N]; M];
        for group in 0..matrix.groups() {
            let mut from = [std::ptr::null(); M];
            for m in 0..M {
                from[m] = matrix.group_start(row + m * V::ROWS, group);
                if N > 1 && token == 0 {
                    V::prefetch(matrix.scale_start(row + (M + m) * V::ROWS, group));
                }
                for line in 0..C::BITS.lines() {
                    let line = line * size_of::<Line>();
                    if N == 1 {
                        V::prefetch(from[m].wrapping_add(line + PREFETCH_BYTES));
                    } else if line / size_of::<Line>() % tiles == token / N {
                        // The next rows, a part of them with each tile of these.
                        V::prefetch(from[m].wrapping_add(line + M * matrix.block_bytes()));
                    }
                }
            }
            let mut sums = Sums { high: [[V::zero(); N]; M], low: [[V::zero(); N]; M] };
            C::add(&mut sums, from, (activations.codes(token), width), group * group_inputs);
            let mut excess = [V::zero(); N];
            for n in 0..N {
                excess[n] = V::splat(-C::offset::<V>() * activations.sum(token + n, group * group_inputs, group_inputs));
            }
            for m in 0..M {
                let first = row + m * V::ROWS;
                let scales: [f32; ROWS] = matrix.scales(first / ROWS * ROWS, group);
                for n in 0..N {
                    let sum = sums.high[m][n].times_128().add(sums.low[m][n]).add(excess[n]);
                    totals[m][n] = sum.add_scaled(totals[m][n], scales[first % ROWS..].as_ptr());
                }
            }
        }
        for n in 0..N {
            store_rows::<V, M, N>(matrix.rows(), row, activations.scale(token + n), (&totals, n), output, token + n);
        }
    }
}
