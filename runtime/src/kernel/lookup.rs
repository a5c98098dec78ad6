//! Many tokens without products, for CPUs that multiply bytes slowly and have no matrix or dot product instruction: four ternary weights of
//! a row add up their inputs in one of 81 ways, so for every four inputs all 81 sums are computed once, and each row looks its own up and adds
//! it. A table's entry holds the sums of a block of tokens side by side, so that one lookup serves them all.
//!
//! It is the method of the four Russians with digits of three values. Source: V. L. Arlazarov, E. A. Dinic, M. A. Kronrod and
//! I. A. Faradzhev, On Economical Construction of the Transitive Closure of a Directed Graph, Soviet Mathematics Doklady 11, 1970.

use std::{arch::x86_64::*, cell::RefCell, ops::Range};

use super::{
    Activations, Isa, Matrix, Pool, avx2,
    isa::Kind,
    matrix::{Line, Packing, ROWS},
    tile::Output,
};

/// With fewer tokens products are faster.
const LEAST_TOKENS: usize = 14;
/// Tokens of a register. A block has two of them, or one where that is enough.
const LANES: usize = 16;
/// Up to so many tokens are a block of one register and products beside it, more are a block of two.
const MOST_BESIDE: usize = 22;
/// Blocks of rows that are a piece of work: more would not leave their sums in the second cache, fewer not pay for the tables.
const MOST_BLOCKS: usize = 80;
const LEAST_BLOCKS: usize = 32;

/// Inputs of a lookup, which are those of a byte, and the lookups of a row's bytes of a line.
const INPUTS: usize = Packing::Four.planes();
const LOOKUPS: usize = 4;
/// Three to the [`INPUTS`] are used; a byte that holds no ternary weights would lead to 120 at most.
const ENTRIES: usize = 121;
/// Lines that are looked up together, so that a row's sums are read and written half as often.
const LINES: usize = 2;
/// Lines whose sums fit into 16 bits.
const SPAN: usize = 16;
const _: () = assert!(SPAN * LOOKUPS * INPUTS * 127 <= i16::MAX as usize);

/// Whether a multiply goes by lookups.
pub(super) fn fits(isa: Isa, matrix: &Matrix, activations: &Activations) -> bool {
    isa.0 == Kind::Avx2 && matrix.packing() == Packing::Four && activations.tokens() >= LEAST_TOKENS
}

/// The sums of `V` x 16 tokens, in 16 bits.
type Short<const V: usize> = [__m256i; V];

/// `[entries, lookups of a line]`.
#[repr(C, align(64))]
struct Table<const V: usize>([[Short<V>; LOOKUPS]; ENTRIES]);

/// What a thread needs for a block of `V` x 16 tokens.
struct Work<const V: usize> {
    tables: Box<[Table<V>; LINES]>,
    /// Every row's sums of a span of lines, then those of a group of inputs, then those times the groups' scales.
    short: Vec<Short<V>>,
    sums: Vec<[[i32; LANES]; V]>,
    totals: Vec<[[f32; LANES]; V]>,
}

impl<const V: usize> Default for Work<V> {
    fn default() -> Work<V> {
        // SAFETY: zeros are numbers.
        let tables = Box::new(unsafe { std::mem::zeroed() });
        Work { tables, short: Vec::new(), sums: Vec::new(), totals: Vec::new() }
    }
}

thread_local! {
    static WORK: RefCell<(Work<2>, Work<1>)> = RefCell::default();
}

/// Multiply every token with the matrix; the last few maybe by products.
///
/// # Safety
/// [`fits`] holds, `output` has room for all tokens and rows, and no one else writes it.
pub(super) unsafe fn multiply(pool: &Pool, matrix: &Matrix, activations: &Activations, output: Output) {
    let (blocks, tokens) = (matrix.blocks(), activations.tokens());
    let looked_up = tokens - beside(tokens);
    let token_blocks = looked_up.div_ceil(2 * LANES) + usize::from(looked_up < tokens);
    let share = (blocks * token_blocks).div_ceil(pool.threads());
    // As many pieces for each thread, four where they are not too low: one more for some would be waited for.
    let pieces = (share / LEAST_BLOCKS).min(4).max(share.div_ceil(MOST_BLOCKS));
    let height = share.div_ceil(pieces).min(blocks);
    pool.for_each(token_blocks * blocks.div_ceil(height), &|piece| {
        let (first, start) = (piece % token_blocks * 2 * LANES, piece / token_blocks * height);
        let (tokens, blocks) = (first..looked_up.min(first + 2 * LANES), start..blocks.min(start + height));
        WORK.with_borrow_mut(|(work, few)| {
            // SAFETY: passed on from the caller; `fits` proves the features, and no two pieces have the same rows and tokens.
            unsafe {
                if tokens.is_empty() {
                    // After the last block.
                    avx2(matrix, (activations, looked_up), blocks, output);
                } else if tokens.len() > LANES {
                    multiply_piece(matrix, activations, blocks, tokens, work, output);
                } else {
                    multiply_piece(matrix, activations, blocks, tokens, few, output);
                }
            }
        });
    });
}

/// How many of the tokens, the last ones, products are for: a block is computed whole, and these would fill little of one.
fn beside(tokens: usize) -> usize {
    match tokens % (2 * LANES) {
        rest @ 1..LEAST_TOKENS => rest,
        rest @ LANES..=MOST_BESIDE => rest - LANES,
        _ => 0,
    }
}

/// Multiply at most `V` x 16 tokens with the rows of some blocks.
///
/// # Safety
/// `output` has room for these tokens and rows, and no one else writes them.
#[target_feature(enable = "avx2")]
unsafe fn multiply_piece<const V: usize>(
    matrix: &Matrix,
    activations: &Activations,
    blocks: Range<usize>,
    tokens: Range<usize>,
    work: &mut Work<V>,
    output: Output,
) {
    let (rows, groups) = (blocks.len() * ROWS, matrix.groups());
    work.short.resize(work.short.len().max(rows), [_mm256_setzero_si256(); V]);
    work.sums.resize(work.sums.len().max(rows), [[0; LANES]; V]);
    work.totals.resize(work.totals.len().max(rows), [[0.0; LANES]; V]);
    work.totals[..rows].fill([[0.0; LANES]; V]);
    for group in 0..groups {
        sum_group(matrix, activations, &blocks, tokens.start, group, work);
        let scales = |block: usize| &matrix.scales()[(block * groups + group) * ROWS..][..ROWS];
        for ((totals, sums), scale) in work.totals[..rows].iter_mut().zip(&work.sums).zip(blocks.clone().flat_map(scales)) {
            let totals = totals.as_flattened_mut().iter_mut();
            totals.zip(sums.as_flattened()).for_each(|(total, sum)| *total += *sum as f32 * scale);
        }
    }
    for (block, totals) in blocks.zip(work.totals.as_chunks::<ROWS>().0) {
        let exist = ROWS.min(matrix.rows() - block * ROWS);
        for (place, token) in tokens.clone().enumerate() {
            let scale = activations.scales()[token];
            for (row, totals) in totals[..exist].iter().enumerate() {
                // SAFETY: the caller's output has the token and the row.
                unsafe { output.at(token * output.stride + block * ROWS + row).write(totals.as_flattened()[place] * scale) };
            }
        }
    }
}

/// The sums of a group of inputs with the tokens from `first` on, in `work`, which has no short ones before and after.
#[target_feature(enable = "avx2")]
fn sum_group<const V: usize>(
    matrix: &Matrix,
    activations: &Activations,
    blocks: &Range<usize>,
    first: usize,
    group: usize,
    work: &mut Work<V>,
) {
    let (rows, lines) = (blocks.len() * ROWS, matrix.lines_of(group));
    work.sums[..rows].fill([[0; LANES]; V]);
    for start in lines.clone().step_by(SPAN) {
        let end = lines.end.min(start + SPAN);
        for line in (start..end).step_by(LINES) {
            let count = LINES.min(end - line);
            for (line, table) in (line..end).zip(&mut *work.tables) {
                fill_table(activations, first, line, table);
            }
            for (block, short) in blocks.clone().zip(work.short.as_chunks_mut().0) {
                let weights = &matrix.lines()[block * matrix.block_lines() + line..][..count];
                match weights {
                    [one] => add_entries(work.tables.first_chunk().expect("a table"), std::array::from_ref(one), short),
                    _ => add_entries(&work.tables, weights.try_into().expect("as many lines as tables"), short),
                }
            }
        }
        for (sums, short) in work.sums[..rows].iter_mut().zip(&mut work.short) {
            move_to(sums, short);
        }
    }
}

/// All sums of a line's inputs, four and four, for the tokens from `first` on.
#[target_feature(enable = "avx2")]
fn fill_table<const V: usize>(activations: &Activations, first: usize, line: usize, table: &mut Table<V>) {
    for v in 0..V {
        let inputs = inputs_of(activations, first + v * LANES, line);
        for lookup in 0..LOOKUPS {
            let [low, high] = [0, 2].map(|plane| pairs(inputs[LOOKUPS * plane + lookup], inputs[LOOKUPS * (plane + 1) + lookup]));
            for (entries, high) in table.0.chunks_exact_mut(low.len()).zip(high) {
                for (entry, low) in entries.iter_mut().zip(low) {
                    entry[lookup][v] = _mm256_add_epi16(low, high);
                }
            }
        }
    }
}

/// A line's inputs of sixteen tokens each.
#[target_feature(enable = "avx2")]
fn inputs_of(activations: &Activations, first: usize, line: usize) -> [__m256i; LANES] {
    const { assert!(INPUTS * LOOKUPS == LANES) };
    let mut bytes = [_mm_setzero_si128(); LANES];
    for (token, bytes) in bytes.iter_mut().enumerate() {
        let codes = &activations.padded()[(first + token) * activations.stride() + line * LANES..][..LANES];
        // SAFETY: these are sixteen.
        *bytes = unsafe { _mm_loadu_si128(codes.as_ptr().cast()) };
    }
    // Each time a byte's place, of token and input, is turned by one bit: after four they have changed places.
    for _ in 0..LANES.ilog2() {
        let before = bytes;
        for half in 0..LANES / 2 {
            bytes[2 * half] = _mm_unpacklo_epi8(before[half], before[half + LANES / 2]);
            bytes[2 * half + 1] = _mm_unpackhi_epi8(before[half], before[half + LANES / 2]);
        }
    }
    let mut inputs = [_mm256_setzero_si256(); LANES];
    for (input, bytes) in inputs.iter_mut().zip(bytes) {
        *input = _mm256_cvtepi8_epi16(bytes);
    }
    inputs
}

/// The sums of two inputs for every two weights, the first one's digit counting 1 and the second one's 3.
#[target_feature(enable = "avx2")]
fn pairs(one: __m256i, two: __m256i) -> [__m256i; 9] {
    let zero = _mm256_setzero_si256();
    let (no_one, no_two) = (_mm256_sub_epi16(zero, one), _mm256_sub_epi16(zero, two));
    let (both, difference) = (_mm256_add_epi16(one, two), _mm256_sub_epi16(one, two));
    let (no_both, no_difference) = (_mm256_sub_epi16(zero, both), _mm256_sub_epi16(zero, difference));
    [no_both, no_two, difference, no_one, zero, one, no_difference, two, both]
}

/// Sums of 16 bits added to those of 32, and made zero.
#[target_feature(enable = "avx2")]
fn move_to<const V: usize>(sums: &mut [[i32; LANES]; V], short: &mut Short<V>) {
    for (sums, short) in sums.iter_mut().zip(short) {
        let halves = [_mm256_castsi256_si128(*short), _mm256_extracti128_si256::<1>(*short)];
        *short = _mm256_setzero_si256();
        for (sums, half) in sums.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
            let sums: *mut __m256i = sums.as_mut_ptr().cast();
            // SAFETY: these are eight numbers.
            unsafe { _mm256_storeu_si256(sums, _mm256_add_epi32(_mm256_loadu_si256(sums), _mm256_cvtepi16_epi32(half))) };
        }
    }
}

/// Add the entries of `L` lines to their sixteen rows.
#[target_feature(enable = "avx2")]
fn add_entries<const V: usize, const L: usize>(tables: &[Table<V>; L], weights: &[Line; L], sums: &mut [Short<V>; ROWS]) {
    let mut offsets = [[[0; LOOKUPS]; ROWS]; L];
    for (weights, offsets) in weights.iter().zip(&mut offsets) {
        offsets_of::<V>(weights, offsets);
    }
    for (row, sums) in sums.iter_mut().enumerate() {
        let mut all = *sums;
        for line in 0..L {
            for (lookup, offset) in offsets[line][row].into_iter().enumerate() {
                // SAFETY: no byte leads beyond `ENTRIES`.
                let added = unsafe { &*tables[line].0.as_ptr().byte_add(usize::from(offset)).cast::<Short<V>>().add(lookup) };
                for v in 0..V {
                    all[v] = _mm256_add_epi16(all[v], added[v]);
                }
            }
        }
        *sums = all;
    }
}

/// Two digits of base four, the weights of half a byte, as a number of base three; a half that holds no weights is 12 at most. And nine
/// times that.
const HALVES: [u8; 16] = [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12];
const NINES: [u8; 16] = [0, 9, 18, 27, 27, 36, 45, 54, 54, 63, 72, 81, 81, 90, 99, 108];

const _: () = assert!(((HALVES[15] + NINES[15]) as usize) < ENTRIES);

/// Where a line's entries begin, in bytes.
#[target_feature(enable = "avx2")]
fn offsets_of<const V: usize>(weights: &Line, offsets: &mut [[u16; LOOKUPS]; ROWS]) {
    const { assert!(V.is_power_of_two() && V <= 2) };
    let mask = _mm256_set1_epi8(15);
    for (weights, offsets) in weights.0.as_chunks::<32>().0.iter().zip(offsets.as_chunks_mut::<8>().0) {
        // SAFETY: these are 32 bytes, and as many numbers of two.
        unsafe {
            let [halves, nines] = [HALVES, NINES].map(|halves| _mm256_broadcastsi128_si256(_mm_loadu_si128(halves.as_ptr().cast())));
            let bytes = _mm256_loadu_si256(weights.as_ptr().cast());
            let low = _mm256_shuffle_epi8(halves, _mm256_and_si256(bytes, mask));
            let high = _mm256_shuffle_epi8(nines, _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask));
            // Each in the upper half of 16 bits, in order.
            let entries = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_add_epi8(low, high));
            let zero = _mm256_setzero_si256();
            let offsets: *mut __m256i = offsets.as_mut_ptr().cast();
            // Entries of two registers are 256 bytes apart, as they are now; those of one half of it.
            let down = _mm_cvtsi32_si128(if V == 2 { 0 } else { 1 });
            offsets.write_unaligned(_mm256_srl_epi16(_mm256_unpacklo_epi8(zero, entries), down));
            offsets.add(1).write_unaligned(_mm256_srl_epi16(_mm256_unpackhi_epi8(zero, entries), down));
        }
    }
}
