//! Many tokens with fewer products than weights, for CPUs that add bytes twice as fast as they multiply them (AMD's with AVX-512-VNNI).
//!
//! Two inputs x, y with weights v, w need one product instead of two: xv + yw = (x + w)(y + v) - xy - vw. What is taken off depends on
//! the token alone or on the row alone, and is computed once for each. Source: S. Winograd, A New Algorithm for Inner Product, IEEE
//! Transactions on Computers C-17, 1968. Its additions cost too, so of three planes of four inputs two are a pair and the third is
//! multiplied as it is: then additions and products take as long as each other.
//!
//! Weights are unpacked once, a span of a panel's rows at a time, and serve every token from the first cache.

use std::{arch::x86_64::*, cell::RefCell, ops::Range};

use super::{
    Activations, Isa, Matrix, Pool,
    isa::Kind,
    matrix::{Line, Packing, ROWS},
    panel::{Panel, Sums, Work},
    piece,
    pool::Chunks,
    tile::Output,
    x86,
};

/// With fewer tokens it does not pay to unpack weights first.
const LEAST_TOKENS: usize = 24;
/// Blocks of a panel and tokens of a tile: their sums and a trio's weights fill the registers.
const BLOCKS: usize = 4;
const TOKENS: usize = 4;
/// Planes of four inputs to a pair and what is multiplied as it is.
const TRIO: usize = 3;
/// Planes of a span: whole trios and whole lines, 30 KB of a panel's weights.
const SPAN: usize = 120;
const _: () = assert!(SPAN.is_multiple_of(TRIO * Packing::Four.planes()) && SPAN.is_multiple_of(TRIO * Packing::Five.planes()));

/// x + w + 128 and y + v have to be bytes, unsigned and signed, for weights that are stored as w + 1. With this code they are not. Where
/// it is one of a pair it counts as one less, and its weight is added apart.
const TOP: i8 = 127;
/// What makes a trio's codes such bytes.
const SHIFTS: [i8; TRIO] = [127, -1, 0];

/// Whether a multiply goes by pairs.
pub(super) fn fits(isa: Isa, matrix: &Matrix, activations: &Activations) -> bool {
    let unpacks = match matrix.packing() {
        Packing::Four => matches!(isa.0, Kind::Avx512Vnni | Kind::Avx512Vbmi),
        Packing::Five => isa.0 == Kind::Avx512Vbmi,
    };
    unpacks && x86::is_amd() && activations.tokens() >= LEAST_TOKENS
}

thread_local! {
    static PAIRED: RefCell<Paired> = RefCell::default();
    static WORK: RefCell<Work<BLOCKS>> = RefCell::default();
}

/// Multiply every token with the matrix.
///
/// # Safety
/// [`fits`] holds, `output` has room for all tokens and rows, and no one else writes it.
pub(super) unsafe fn multiply(pool: &Pool, matrix: &Matrix, activations: &Activations, output: Output) {
    PAIRED.with_borrow_mut(|paired| {
        paired.fill(pool, matrix, activations);
        let paired = &*paired;
        pool.for_each_range(matrix.blocks(), piece(matrix.columns(), activations.tokens()), &|range| {
            WORK.with_borrow_mut(|work| {
                work.reserve(SPAN, activations.tokens());
                for panel in Panel::all(matrix, activations, range, output) {
                    // SAFETY: passed on from the caller, and the ranges are disjoint.
                    unsafe { multiply_panel(&panel, paired, work) };
                }
            });
        });
    });
}

/// A section's planes that are trios.
fn trio_planes(planes: usize) -> usize {
    planes / TRIO * TRIO
}

/// Tokens as pairs need them. A section is what shares a scale: a row or a group of its inputs.
#[derive(Default)]
struct Paired {
    /// `[tokens, stride]`, the trios of each section shifted.
    codes: Vec<i8>,
    /// `[tokens, sections]`: what a token's sums exceed the products by, besides a row's part.
    excess: Vec<i32>,
    /// Where pairs have [`TOP`]: input and token, in this order.
    tops: Vec<(usize, usize)>,
    /// The same for each token by itself, inputs only.
    tops_of: Vec<Vec<usize>>,
}

impl Paired {
    fn fill(&mut self, pool: &Pool, matrix: &Matrix, activations: &Activations) {
        let (tokens, stride, sections) = (activations.tokens(), activations.stride(), matrix.groups());
        // None ever shrinks, because growing again would fill it with zeros each time.
        self.codes.resize(self.codes.len().max(tokens * stride), 0);
        self.excess.resize(self.excess.len().max(tokens * sections), 0);
        self.tops_of.resize_with(self.tops_of.len().max(tokens), Vec::new);
        let codes = Chunks::new(&mut self.codes[..tokens * stride], stride);
        let (excess, tops) = (Chunks::new(&mut self.excess[..tokens * sections], sections), Chunks::new(&mut self.tops_of[..tokens], 1));
        pool.for_each(tokens, &|token| {
            // SAFETY: there are as many chunks of each, and no two calls are for the same token.
            let (codes, excess, tops) = unsafe { (codes.get(token), excess.get(token), &mut tops.get(token)[0]) };
            tops.clear();
            for (section, excess) in excess.iter_mut().enumerate() {
                let inputs = inputs_of(matrix, &matrix.lines_of(section));
                let from = &activations.padded()[token * stride..][inputs.clone()];
                let sum = activations.group_sum(token, section, sections);
                // SAFETY: `fits` proves the features.
                *excess = sum.wrapping_add(unsafe { shift(from, inputs.start, &mut codes[inputs], tops) });
            }
        });
        self.tops.clear();
        for (token, tops) in self.tops_of[..tokens].iter().enumerate() {
            self.tops.extend(tops.iter().map(|input| (*input, token)));
        }
        self.tops.sort_unstable();
    }
}

/// The inputs of some lines.
fn inputs_of(matrix: &Matrix, lines: &Range<usize>) -> Range<usize> {
    let step = matrix.packing().step();
    lines.start * step..lines.end * step
}

/// Shift a section's codes, which begin with input `first`, and collect those that are [`TOP`]. Returns the sum of xy + 127 over its
/// pairs, of the codes as shifted.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn shift(from: &[i8], first: usize, to: &mut [i8], tops: &mut Vec<usize>) -> i32 {
    // Four trios at a time: their bytes that are of a pair, and their lanes that are a pair's first four.
    const WIDTH: usize = 4 * 4 * TRIO;
    const PAIRS: u64 = 0x0ff0_ff0f_f0ff;
    const FIRSTS: u16 = 0b0010_0100_1001;
    let shifts = _mm512_maskz_mov_epi8(PAIRS, _mm512_mask_set1_epi32(_mm512_set1_epi8(SHIFTS[1]), FIRSTS, 0x0101_0101 * SHIFTS[0] as i32));
    let trios = trio_planes(from.len() / 4) * 4;
    assert_eq!(from.len(), to.len(), "the codes of another section");
    to[trios..].copy_from_slice(&from[trios..]);
    let mut sums = _mm512_setzero_si512();
    for start in (0..trios).step_by(WIDTH) {
        let there = u64::MAX >> (64 - WIDTH.min(trios - start));
        // SAFETY: the masks keep within both slices.
        unsafe {
            let codes = _mm512_maskz_loadu_epi8(there, from.as_ptr().add(start));
            let mut top = _mm512_mask_cmpeq_epi8_mask(there & PAIRS, codes, _mm512_set1_epi8(TOP));
            let codes = _mm512_mask_sub_epi8(codes, top, codes, _mm512_set1_epi8(1));
            let codes = _mm512_mask_add_epi8(codes, there, codes, shifts);
            // A whole register is stored much faster; its end is overwritten by the next.
            if start + size_of_val(&codes) <= trios {
                _mm512_storeu_si512(to.as_mut_ptr().add(start).cast(), codes);
            } else {
                _mm512_mask_storeu_epi8(to.as_mut_ptr().add(start), there, codes);
            }
            sums = _mm512_dpbusd_epi32(sums, _mm512_maskz_mov_epi32(FIRSTS, codes), _mm512_alignr_epi32::<1>(codes, codes));
            while top != 0 {
                tops.push(first + start + top.trailing_zeros() as usize);
                top &= top - 1;
            }
        }
    }
    _mm512_reduce_add_epi32(sums).wrapping_add((trios / TRIO * 127) as i32)
}

/// # Safety
/// As [`multiply`], for the panel's rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply_panel(panel: &Panel<BLOCKS>, paired: &Paired, work: &mut Work<BLOCKS>) {
    let (matrix, tokens, stride) = (panel.matrix, panel.activations.tokens(), panel.activations.stride());
    let (lines_of_span, sections) = (SPAN / matrix.packing().planes(), matrix.groups());
    for section in 0..sections {
        let lines = matrix.lines_of(section);
        let mut excess = [_mm512_setzero_si512(); BLOCKS];
        work.sums[..tokens].fill(Sums([[0; ROWS]; BLOCKS]));
        for start in lines.clone().step_by(lines_of_span) {
            let span = start..lines.end.min(start + lines_of_span);
            let (planes, inputs) = (span.len() * matrix.packing().planes(), inputs_of(matrix, &span));
            panel.unpack(&span, SPAN, &mut work.weights);
            add_row_excess(&work.weights, planes, &mut excess);
            let tops = &paired.tops[paired.tops.partition_point(|(input, _)| *input < inputs.start)..];
            for (input, token) in tops.iter().take_while(|(input, _)| *input < inputs.end) {
                add_top(&work.weights, input - inputs.start, &mut work.sums[*token]);
            }
            for first in (0..tokens).step_by(TOKENS) {
                panel.ask_ahead(&span, first / TOKENS, tokens.div_ceil(TOKENS));
                let tile = first..tokens.min(first + TOKENS);
                let codes = paired.codes[first * stride + inputs.start..].as_ptr();
                // SAFETY: the tile's tokens have a span of codes each, and every block has a span of weights.
                unsafe { multiply_tile(&work.weights, planes, codes, stride, &mut work.sums[tile.clone()]) };
                if span.end == lines.end {
                    let excess_of = |token: usize| paired.excess[token * sections + section];
                    // SAFETY: passed on from the caller.
                    unsafe { panel.scale(section, &excess, &excess_of, tile, work) };
                }
            }
        }
    }
}

/// Add what each row's sums exceed the products by: those of a token of zeros, but for the 127 that a token's part has.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn add_row_excess(weights: &[Line], planes: usize, excess: &mut [__m512i; BLOCKS]) {
    let shifts = [_mm512_set1_epi8(SHIFTS[0]), _mm512_set1_epi8(SHIFTS[1])];
    for trio in (0..trio_planes(planes)).step_by(TRIO) {
        for (weights, excess) in weights.chunks_exact(SPAN).zip(&mut *excess) {
            // SAFETY: a line is 64 bytes.
            unsafe {
                let first = _mm512_load_si512(weights[trio].0.as_ptr().cast());
                let second = _mm512_load_si512(weights[trio + 1].0.as_ptr().cast());
                *excess = _mm512_dpbusd_epi32(*excess, _mm512_add_epi8(shifts[0], second), _mm512_add_epi8(shifts[1], first));
            }
        }
    }
}

/// Add the weights of a span's input that counts as one less.
#[target_feature(enable = "avx512f,avx512bw")]
fn add_top(weights: &[Line], input: usize, sums: &mut Sums<BLOCKS>) {
    let bits = _mm_cvtsi32_si128((input % 4 * 8) as i32);
    for (weights, sums) in weights.chunks_exact(SPAN).zip(&mut sums.0) {
        // SAFETY: a line is 64 bytes, and so are sixteen sums.
        unsafe {
            let weights = _mm512_srl_epi32(_mm512_load_si512(weights[input / 4].0.as_ptr().cast()), bits);
            let sums: *mut __m512i = sums.as_mut_ptr().cast();
            sums.write(_mm512_add_epi32(sums.read(), _mm512_and_si512(weights, _mm512_set1_epi32(3))));
        }
    }
}

/// Add a span's products with at most [`TOKENS`] tokens, whose codes lie `stride` apart.
///
/// # Safety
/// There are `4 * planes` codes of each of the tokens that have sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply_tile(weights: &[Line], planes: usize, codes: *const i8, stride: usize, sums: &mut [Sums<BLOCKS>]) {
    let multiply = match sums.len() {
        1 => multiply_tokens::<1>,
        2 => multiply_tokens::<2>,
        3 => multiply_tokens::<3>,
        _ => multiply_tokens::<TOKENS>,
    };
    // SAFETY: passed on from the caller.
    unsafe { multiply(weights, planes, codes, stride, sums) };
}

/// # Safety
/// As [`multiply_tile`] with `N` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply_tokens<const N: usize>(weights: &[Line], planes: usize, codes: *const i8, stride: usize, sums: &mut [Sums<BLOCKS>]) {
    let weights: [*const Line; BLOCKS] = std::array::from_fn(|block| weights[block * SPAN..][..planes].as_ptr());
    // SAFETY: passed on from the caller; weights are read below `planes`.
    unsafe {
        let mut all = [[_mm512_setzero_si512(); BLOCKS]; N];
        for n in 0..N {
            for m in 0..BLOCKS {
                all[n][m] = _mm512_load_si512(sums[n].0[m].as_ptr().cast());
            }
        }
        let load = |m: usize, plane: usize| weights[m].add(plane).cast::<__m512i>().read();
        let four = |n: usize, plane: usize| _mm512_set1_epi32(codes.add(n * stride + 4 * plane).cast::<i32>().read_unaligned());
        let mut plane = 0;
        while plane + TRIO <= planes {
            let mut trio = [[_mm512_setzero_si512(); BLOCKS]; TRIO];
            for m in 0..BLOCKS {
                for at in 0..TRIO {
                    trio[at][m] = load(m, plane + at);
                }
            }
            for n in 0..N {
                let [first, second, third] = [four(n, plane), four(n, plane + 1), four(n, plane + 2)];
                for m in 0..BLOCKS {
                    all[n][m] = _mm512_dpbusd_epi32(all[n][m], _mm512_add_epi8(first, trio[1][m]), _mm512_add_epi8(second, trio[0][m]));
                }
                for m in 0..BLOCKS {
                    all[n][m] = _mm512_dpbusd_epi32(all[n][m], trio[2][m], third);
                }
            }
            plane += TRIO;
        }
        while plane < planes {
            for n in 0..N {
                for m in 0..BLOCKS {
                    all[n][m] = _mm512_dpbusd_epi32(all[n][m], load(m, plane), four(n, plane));
                }
            }
            plane += 1;
        }
        for n in 0..N {
            for m in 0..BLOCKS {
                _mm512_store_si512(sums[n].0[m].as_mut_ptr().cast(), all[n][m]);
            }
        }
    }
}
