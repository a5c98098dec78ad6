//! The multiplication with a matrix of integers, the embedding and head among them: for each of an input's groups two integer sums, of
//! the high and of the low bytes of the activations, then the scales in one fixed order.

use std::{hint::black_box, ops::Range};

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::{
    FineActivations, Isa, Pool,
    fine::Layout,
    integer_planes::{Apart, Codes, Eight, Four, Group, INPUTS, PLANES, Six, Size},
    integers::{Bits, IntegerMatrix, MOST_PLANES},
    isa::Kind,
    matrix::ROWS,
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
    let tokens = activations.tokens();
    pool.for_each_range(matrix.blocks(), piece(matrix.columns(), tokens), &|blocks| {
        // SAFETY: the sizes were checked, the ranges are disjoint, and `out` stays borrowed until all are done.
        unsafe { multiply_part(isa, matrix, activations, (0..tokens, blocks), output) };
    });
}

/// As [`multiply_integers`], for the rows of some blocks with one token each: `places` are blocks and tokens. The others of `out` stay as
/// they are.
///
/// # Panics
/// If the sizes do not fit together, or the places are not the matrix's in ascending order.
pub(crate) fn multiply_places(
    isa: Isa,
    pool: &Pool,
    matrix: &IntegerMatrix,
    places: &[(usize, usize)],
    activations: &FineActivations,
    out: &mut [f32],
) {
    let is_place = |(block, token): &(usize, usize)| *block < matrix.blocks() && *token < activations.tokens();
    assert!(places.is_sorted_by(|one, next| one < next) && places.iter().all(is_place), "places of another matrix, or not in order");
    let output = output_of(isa, matrix, activations, out);
    pool.for_each_range(places.len(), piece(matrix.columns(), 1), &|range| {
        for (block, token) in &places[range] {
            // SAFETY: as above, and no place comes twice.
            unsafe { multiply_part(isa, matrix, activations, (*token..token + 1, *block..block + 1), output) };
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

/// Some tokens, and some blocks of rows.
type Part = (Range<usize>, Range<usize>);

/// # Safety
/// `output` has room for every token and row, the part is of those that there are, and no one else writes it.
unsafe fn multiply_part(isa: Isa, matrix: &IntegerMatrix, activations: &FineActivations, part: Part, output: Output) {
    match isa.0 {
        // SAFETY: passed on from the caller, and the `Isa` is the proof that the CPU has the instructions; so for the others.
        Kind::Scalar => unsafe { multiply_any::<scalar::Plain, 1, 1>(matrix, activations, part, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { avx2(matrix, activations, part, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => unsafe { avxvnni(matrix, activations, part, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { avx512(matrix, activations, part, output) },
        #[cfg(target_arch = "x86_64")]
        Kind::Amx if part.0.len() == activations.tokens() && amx::fits_integers(matrix, activations) => unsafe {
            amx::multiply_integer_blocks(matrix, activations, part.1, output)
        },
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni | Kind::Avx512Vbmi | Kind::Amx => unsafe { avx512vnni(matrix, activations, part, output) },
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => unsafe { neon(matrix, activations, part, output) },
        #[cfg(target_arch = "aarch64")]
        Kind::Dotprod => unsafe { dotprod(matrix, activations, part, output) },
        #[cfg(target_arch = "aarch64")]
        Kind::I8mm => unsafe { i8mm(matrix, activations, part, output) },
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compiled {
    ($name:ident, $features:literal, $vector:ty, $wide:literal, $tall:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn $name(matrix: &IntegerMatrix, activations: &FineActivations, part: Part, output: Output) {
            // SAFETY: passed on from the caller; the features are those of the vector.
            unsafe { multiply_any::<$vector, $wide, $tall>(matrix, activations, part, output) }
        }
    };
    ($name:ident, $features:literal, $vector:ty, one stream $one:literal, $wide:literal, $tall:literal) => {
        #[target_feature(enable = $features)]
        unsafe fn $name(matrix: &IntegerMatrix, activations: &FineActivations, part: Part, output: Output) {
            // SAFETY: as above.
            unsafe {
                if super::x86::is_amd() {
                    multiply_any::<$vector, $one, $tall>(matrix, activations, part, output)
                } else {
                    multiply_any::<$vector, $wide, $tall>(matrix, activations, part, output)
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

/// The sums of high and low products; where activations are whole, all in `low`.
pub(super) struct Sums<V, const M: usize, const N: usize> {
    pub high: [[V; N]; M],
    pub low: [[V; N]; M],
}

/// How an instruction set multiplies bytes with fine activations, of the [`Layout`] that it has.
pub(super) trait Fine: Vector {
    /// What is multiplied is a weight of 8 bits plus this.
    const BYTE_OFFSET: i32;

    /// A plane of weights as it is multiplied.
    type Plane: Copy;
    unsafe fn plane(weights: Self) -> Self::Plane;

    /// Add the products of a plane's inputs, `input` and the next, with `N` tokens of a width.
    ///
    /// # Safety
    /// The CPU has the vector's instruction set, and there are so many tokens.
    unsafe fn add_plane<const M: usize, const N: usize>(
        sums: &mut Sums<Self, M, N>,
        planes: [Self::Plane; M],
        size: Size,
        tokens: (*const i8, usize),
        input: usize,
    );

    /// The same with high bytes alone, where activations have two.
    ///
    /// # Safety
    /// As above.
    unsafe fn add_high_plane<const M: usize, const N: usize>(
        sums: &mut [[Self; N]; M],
        planes: [Self::Plane; M],
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

    type Plane = V;

    #[inline(always)]
    unsafe fn plane(weights: V) -> V {
        weights
    }

    #[inline(always)]
    unsafe fn add_plane<const M: usize, const N: usize>(
        sums: &mut Sums<Self, M, N>,
        planes: [V; M],
        size: Size,
        (codes, width): (*const i8, usize),
        input: usize,
    ) {
        for n in 0..N {
            unsafe {
                let high = codes.add(n * 2 * width + input);
                add_token(&mut sums.high, n, planes, size, high);
                add_token(&mut sums.low, n, planes, size, high.add(width));
            }
        }
    }

    #[inline(always)]
    unsafe fn add_high_plane<const M: usize, const N: usize>(
        sums: &mut [[V; N]; M],
        planes: [V; M],
        size: Size,
        (codes, width): (*const i8, usize),
        input: usize,
    ) {
        for n in 0..N {
            unsafe { add_token(sums, n, planes, size, codes.add(n * 2 * width + input)) };
        }
    }
}

/// Add a plane's products with a token's four activations. Here and where whole activations are multiplied rows are innermost: four
/// activations that were brought into a register serve all of them and are done with.
#[inline(always)]
unsafe fn add_token<V: Halves, const M: usize, const N: usize>(
    sums: &mut [[V; N]; M],
    n: usize,
    planes: [V; M],
    size: Size,
    four: *const i8,
) {
    for m in 0..M {
        sums[m][n] = match size {
            Size::Small => unsafe { V::dot_small(sums[m][n], planes[m], four) },
            Size::Any => unsafe { V::dot_bytes(sums[m][n], planes[m], four) },
        };
    }
}

// SAFETY (of every `unsafe` below): these functions have the safety conditions of `multiply_any`; `row` and the next rows belong to blocks
// that the matrix has, a token has codes for every group, and a prefetch may name any address.

/// # Safety
/// The CPU has `V`'s instruction set, `output` has room for all tokens and rows, the part is of those that there are, and no one else
/// writes it.
#[inline(always)]
unsafe fn multiply_any<V: Fine, const WIDE: usize, const TALL: usize>(
    matrix: &IntegerMatrix,
    activations: &FineActivations,
    part: Part,
    output: Output,
) {
    unsafe {
        match matrix.bits() {
            Bits::Four => multiply_blocks::<V, Four, WIDE, TALL>(matrix, activations, part, output),
            Bits::Six => multiply_blocks::<V, Six, WIDE, TALL>(matrix, activations, part, output),
            Bits::Eight => multiply_blocks::<V, Eight, WIDE, TALL>(matrix, activations, part, output),
            Bits::Apart => multiply_blocks::<V, Apart, WIDE, TALL>(matrix, activations, part, output),
        }
    }
}

/// Tokens of a tile.
const TOKENS: usize = 4;
/// Tokens that weights are unpacked for once: of more the sums would not stay in the first cache.
const MOST_TOKENS: usize = 4 * TOKENS;

/// One token with `WIDE` row vectors at a time, more with `TALL`.
#[inline(always)]
unsafe fn multiply_blocks<V: Fine, C: Codes, const WIDE: usize, const TALL: usize>(
    matrix: &IntegerMatrix,
    activations: &FineActivations,
    (tokens, blocks): Part,
    output: Output,
) {
    let (mut row, end) = (blocks.start * ROWS, blocks.end * ROWS);
    unsafe {
        if tokens.len() == 1 && !activations.is_high_alone() {
            while row + WIDE * V::ROWS <= end {
                single::<V, C, WIDE>(matrix, activations, row, tokens.start, output);
                row += WIDE * V::ROWS;
            }
        }
        while row + TALL * V::ROWS <= end {
            all_tokens::<V, C, TALL>(matrix, activations, (row, &tokens), output);
            row += TALL * V::ROWS;
        }
        while row < end {
            all_tokens::<V, C, 1>(matrix, activations, (row, &tokens), output);
            row += V::ROWS;
        }
    }
}

/// All those tokens with `M` row vectors.
#[inline(always)]
unsafe fn all_tokens<V: Fine, C: Codes, const M: usize>(
    matrix: &IntegerMatrix,
    activations: &FineActivations,
    (row, tokens): (usize, &Range<usize>),
    output: Output,
) {
    for first in tokens.clone().step_by(MOST_TOKENS) {
        unsafe {
            if first + 1 == tokens.end && !activations.is_high_alone() {
                single::<V, C, M>(matrix, activations, row, first, output);
            } else {
                several::<V, C, M>(matrix, activations, row, first..tokens.end.min(first + MOST_TOKENS), output);
            }
        }
    }
}

/// How far ahead one token's weights are asked for.
const PREFETCH_BYTES: usize = 4096;

/// `M` row vectors with one token: weights are multiplied as they come from memory.
#[inline(always)]
unsafe fn single<V: Fine, C: Codes, const M: usize>(
    matrix: &IntegerMatrix,
    activations: &FineActivations,
    row: usize,
    token: usize,
    output: Output,
) {
    let (inputs, codes) = (C::BITS.group(), (activations.codes(token), matrix.columns()));
    unsafe {
        let mut totals = [[V::zero_floats(); 1]; M];
        for group in 0..matrix.groups() {
            let from = groups::<V, M>(matrix, row, group);
            for m in 0..M {
                from[m].ask_ahead::<V, C>((PREFETCH_BYTES, PREFETCH_BYTES));
            }
            let mut sums = Sums { high: [[V::zero(); 1]; M], low: [[V::zero(); 1]; M] };
            for step in 0..black_box(inputs / (PLANES * INPUTS)) {
                let mut unpacked = [[V::zero(); PLANES]; M];
                for m in 0..M {
                    unpacked[m] = C::unpack(from[m], step);
                }
                for plane in 0..PLANES {
                    let mut planes = [V::plane(V::zero()); M];
                    for m in 0..M {
                        planes[m] = V::plane(unpacked[m][plane]);
                    }
                    V::add_plane(&mut sums, planes, C::SIZE, codes, group * inputs + C::place(step, plane) * INPUTS);
                }
            }
            for m in 0..M {
                sums.high[m][0] = sums.high[m][0].times_128();
            }
            add_scaled::<V, C, M, 1>(activations, token, (group, &scales_of::<V, M>(matrix, row, group)), &sums, &mut totals);
        }
        store_rows::<V, M, 1>(matrix.rows(), row, activations.scale(token), (&totals, 0), output, token);
    }
}

/// `M` row vectors with at most [`MOST_TOKENS`] tokens: tiles of [`TOKENS`], and those that are left one at a time.
#[inline(always)]
unsafe fn several<V: Fine, C: Codes, const M: usize>(
    matrix: &IntegerMatrix,
    activations: &FineActivations,
    row: usize,
    tokens: Range<usize>,
    output: Output,
) {
    let inputs = C::BITS.group();
    let tiled = tokens.start..tokens.end - tokens.len() % TOKENS;
    unsafe {
        let mut totals = [[[V::zero_floats(); TOKENS]; M]; MOST_TOKENS / TOKENS];
        let mut totals_left = [[[V::zero_floats(); 1]; M]; TOKENS - 1];
        let mut planes = [[V::plane(V::zero()); M]; MOST_PLANES];
        for group in 0..matrix.groups() {
            let from = groups::<V, M>(matrix, row, group);
            if tokens.start == 0 {
                let (lines, high) = matrix.block_bytes();
                for m in 0..M {
                    // The next row vectors.
                    V::prefetch(matrix.scale_start(row + (M + m) * V::ROWS, group));
                    from[m].ask_ahead::<V, C>((M * lines, M * high));
                }
            }
            for step in 0..inputs / (PLANES * INPUTS) {
                for m in 0..M {
                    let unpacked = C::unpack::<V>(from[m], step);
                    for plane in 0..PLANES {
                        planes[C::place(step, plane)][m] = V::plane(unpacked[plane]);
                    }
                }
            }
            let scales = scales_of::<V, M>(matrix, row, group);
            for (token, totals) in tiled.clone().step_by(TOKENS).zip(&mut totals) {
                tile::<V, C, M, TOKENS>(&planes, activations, token, (group, &scales), totals);
            }
            for (token, totals) in (tiled.end..tokens.end).zip(&mut totals_left) {
                tile::<V, C, M, 1>(&planes, activations, token, (group, &scales), totals);
            }
        }
        for (token, totals) in tiled.clone().step_by(TOKENS).zip(&totals) {
            for n in 0..TOKENS {
                store_rows::<V, M, TOKENS>(matrix.rows(), row, activations.scale(token + n), (totals, n), output, token + n);
            }
        }
        for (token, totals) in (tiled.end..tokens.end).zip(&totals_left) {
            store_rows::<V, M, 1>(matrix.rows(), row, activations.scale(token), (totals, 0), output, token);
        }
    }
}

/// Add a group's products with `N` tokens to their totals.
#[inline(always)]
unsafe fn tile<V: Fine, C: Codes, const M: usize, const N: usize>(
    planes: &[[V::Plane; M]; MOST_PLANES],
    activations: &FineActivations,
    token: usize,
    (group, scales): (usize, &[[f32; ROWS]; M]),
    totals: &mut [[V::Floats; N]; M],
) {
    let (inputs, codes) = (C::BITS.group(), (activations.codes(token), activations.width()));
    unsafe {
        let mut sums = Sums { high: [[V::zero(); N]; M], low: [[V::zero(); N]; M] };
        // A compiler that knows how many planes there are reads all their activations at once, more than there are registers.
        let count = black_box(inputs / INPUTS);
        let input = |plane: usize| group * inputs + plane * INPUTS;
        if activations.is_high_alone() {
            // Every second plane to other sums, which do not wait for each other.
            for plane in (0..count).step_by(2) {
                V::add_high_plane(&mut sums.high, planes[plane], C::SIZE, codes, input(plane));
                V::add_high_plane(&mut sums.low, planes[plane + 1], C::SIZE, codes, input(plane + 1));
            }
        } else {
            for plane in 0..count {
                V::add_plane(&mut sums, planes[plane], C::SIZE, codes, input(plane));
            }
            for m in 0..M {
                for n in 0..N {
                    sums.high[m][n] = sums.high[m][n].times_128();
                }
            }
        }
        add_scaled::<V, C, M, N>(activations, token, (group, scales), &sums, totals);
    }
}

/// Where a group of `M` row vectors is.
#[inline(always)]
unsafe fn groups<V: Vector, const M: usize>(matrix: &IntegerMatrix, row: usize, group: usize) -> [Group; M] {
    let mut from = [Group { lines: std::ptr::null(), high: std::ptr::null() }; M];
    for m in 0..M {
        let row = row + m * V::ROWS;
        from[m] = Group { lines: matrix.group_start(row, group), high: matrix.high_start(row, group) };
    }
    from
}

/// A group's scales of row vectors; a vector's come first.
#[inline(always)]
fn scales_of<V: Vector, const M: usize>(matrix: &IntegerMatrix, row: usize, group: usize) -> [[f32; ROWS]; M] {
    let mut scales = [[0.0; ROWS]; M];
    for m in 0..M {
        matrix.write_scales(row + m * V::ROWS, group, &mut scales[m][..V::ROWS]);
    }
    scales
}

/// totals += (high + low) as f32 * scale for one group, without what weights are stored too large by.
#[inline(always)]
unsafe fn add_scaled<V: Fine, C: Codes, const M: usize, const N: usize>(
    activations: &FineActivations,
    token: usize,
    (group, scales): (usize, &[[f32; ROWS]; M]),
    sums: &Sums<V, M, N>,
    totals: &mut [[V::Floats; N]; M],
) {
    let inputs = C::BITS.group();
    unsafe {
        let mut excess = [V::zero(); N];
        for n in 0..N {
            excess[n] = V::splat(-C::offset::<V>() * activations.sum(token + n, group * inputs, inputs));
        }
        for m in 0..M {
            for n in 0..N {
                let sum = sums.high[m][n].add(sums.low[m][n]).add(excess[n]);
                totals[m][n] = sum.add_scaled(totals[m][n], scales[m].as_ptr());
            }
        }
    }
}
