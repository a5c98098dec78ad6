//! Attention over the pages of earlier tokens, for some queries that share their keys at a time.
//!
//! A tile of queries times positions stays in registers, so that a key or value that was read once serves several heads and, in a
//! prompt, several tokens. Each number is added up in one order whatever is beside it in the tile, and every product is fused with
//! its addition, so that the bits are those of any other batch and instruction set.

use half::f16;

use super::{
    Isa, KeyValues, Pool, Width,
    elementary::{exp, widen},
    key_values::{KEYS, PAGE},
    tile::Output,
};

/// Numbers of a vector.
const LANES: usize = 16;
/// The most queries that are computed together.
const QUERIES: usize = 16;
/// Queries of a tile where there are too few for a taller one.
const LOW: usize = 4;
const _: () = assert!(KEYS == LANES && PAGE.is_multiple_of(LANES));

/// Sixteen floats. Every operation rounds as in plain Rust.
///
/// # Safety
/// The CPU has the instruction set of the implementation, and pointers lead to sixteen numbers.
trait Floats: Copy {
    unsafe fn splat(number: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn widen(from: *const f16) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// self + a * b, rounded once.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// Consecutive rows of a batch that are consecutive tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// The first row and its position.
    pub(crate) row: usize,
    pub(crate) position: usize,
    pub(crate) rows: usize,
    pub(crate) sequence: usize,
}

/// How many rows a block should have at most, where so many heads share their keys.
pub(crate) fn block_rows(sharing: usize) -> usize {
    (QUERIES / sharing.max(1)).max(1)
}

/// Queries of a batch: those of row r are `[heads, width]` from `all[r * stride]` on, already divided by the square root of the
/// head's width. `heads` is a multiple of the keys' heads.
#[derive(Clone, Copy)]
pub(crate) struct Queries<'a> {
    pub(crate) all: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) heads: usize,
}

/// Attend with every query to the tokens of its sequence up to its own; `out` is `[rows, heads, width]`. `pages` are those of each
/// sequence. Source of the running softmax: arXiv:1805.02867.
pub(crate) fn attend<'p>(
    isa: Isa,
    pool: &Pool,
    (key_values, layer): (&KeyValues, usize),
    blocks: &[Block],
    pages: &(dyn Fn(usize) -> &'p [usize] + Sync),
    queries: Queries,
    out: &mut [f32],
) {
    let (kv_heads, width) = (key_values.heads(), key_values.width());
    let rows = blocks.iter().map(|block| block.rows).sum::<usize>();
    assert!(queries.heads.is_multiple_of(kv_heads) && queries.heads * width <= queries.stride, "a row has other queries");
    assert!(queries.all.len() >= rows * queries.stride && out.len() == rows * queries.heads * width, "there are other rows");
    let output = Output { start: out.as_mut_ptr(), stride: queries.heads * width };
    // A block's heads follow each other, so that two threads rarely read the same keys.
    pool.for_each(blocks.len() * kv_heads, &|task| {
        let block = &blocks[task / kv_heads];
        let task = Task { key_values, layer, kv_head: task % kv_heads, block, pages: pages(block.sequence), queries, output };
        match isa.width() {
            // SAFETY: the sizes were checked above, no two tasks have the same head of the same row, `out` stays borrowed until all
            // are done, and the `Isa` is the proof that the CPU has the instructions; so for the others.
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 => unsafe { avx512(&task) },
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => unsafe { avx2(&task) },
            Width::Baseline => unsafe { task.run::<[f32; LANES], LOW, 1>() },
        }
    });
}

/// One block and the heads that share one head of the keys.
struct Task<'a> {
    key_values: &'a KeyValues,
    layer: usize,
    kv_head: usize,
    block: &'a Block,
    pages: &'a [usize],
    queries: Queries<'a>,
    output: Output,
}

/// A query's softmax as far as it has come: the largest score, and in lanes the sum of e^(score - largest).
#[derive(Clone, Copy)]
struct Softmax {
    largest: f32,
    sums: [f32; LANES],
}

/// Some queries, where their results go and how many positions of the page each sees.
struct Tile {
    count: usize,
    query: [*const f32; QUERIES],
    out: [*mut f32; QUERIES],
    seen: [usize; QUERIES],
    weights: [[f32; PAGE]; QUERIES],
}

// SAFETY (of every `unsafe` below): these functions have the safety conditions of `attend`'s tasks and of `Floats`; every place is
// within a head's keys and values, a query or a result, whose lengths `attend` checked.

impl Task<'_> {
    /// All queries, in tiles of `TALL` queries and `WIDE` vectors.
    #[inline(always)]
    unsafe fn run<F: Floats, const TALL: usize, const WIDE: usize>(&self) {
        let (width, sharing) = (self.key_values.width(), self.queries.heads / self.key_values.heads());
        let count = self.block.rows * sharing;
        for first in (0..count).step_by(QUERIES) {
            let count = QUERIES.min(count - first);
            let mut tile = Tile {
                count,
                query: [std::ptr::null(); QUERIES],
                out: [std::ptr::null_mut(); QUERIES],
                seen: [0; QUERIES],
                weights: [[0.0; PAGE]; QUERIES],
            };
            let mut softmax = [Softmax { largest: f32::NEG_INFINITY, sums: [0.0; LANES] }; QUERIES];
            let row_of = |index: usize| (first + index) / sharing;
            for index in 0..count {
                let (row, head) = (self.block.row + row_of(index), self.kv_head * sharing + (first + index) % sharing);
                tile.query[index] = self.queries.all[row * self.queries.stride + head * width..][..width].as_ptr();
                tile.out[index] = self.output.at(row * self.output.stride + head * width);
                unsafe { std::slice::from_raw_parts_mut(tile.out[index], width).fill(0.0) };
            }
            let all = self.block.position + row_of(count - 1) + 1;
            for (page, start) in self.pages.iter().zip((0..all).step_by(PAGE)) {
                for index in 0..count {
                    tile.seen[index] = (self.block.position + row_of(index) + 1).saturating_sub(start).min(PAGE);
                }
                let (keys, values) = self.key_values.head(*page, self.layer, self.kv_head);
                unsafe {
                    tile.scores::<F, TALL, WIDE>(keys, width);
                    for (index, softmax) in softmax.iter_mut().enumerate().take(count) {
                        tile.weigh::<F>(index, softmax, width);
                    }
                    tile.add_values::<F, TALL, WIDE>(values, width);
                }
            }
            for index in 0..count {
                let inverse = 1.0 / softmax[index].sums.iter().sum::<f32>();
                let out = unsafe { std::slice::from_raw_parts_mut(tile.out[index], width) };
                out.iter_mut().for_each(|out| *out *= inverse);
            }
        }
    }
}

impl Tile {
    /// Every query's products with the page's keys, as far as one of them sees.
    #[inline(always)]
    unsafe fn scores<F: Floats, const TALL: usize, const WIDE: usize>(&mut self, keys: &[f16], width: usize) {
        let mut index = 0;
        unsafe {
            while index + TALL <= self.count {
                self.score_rows::<F, TALL, WIDE>(keys, width, index);
                index += TALL;
            }
            while index + LOW <= self.count {
                self.score_rows::<F, LOW, WIDE>(keys, width, index);
                index += LOW;
            }
            while index < self.count {
                self.score_rows::<F, 1, 1>(keys, width, index);
                index += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn score_rows<F: Floats, const M: usize, const WIDE: usize>(&mut self, keys: &[f16], width: usize, index: usize) {
        let vectors = self.seen[self.count - 1].div_ceil(LANES);
        let mut vector = 0;
        unsafe {
            while vector + WIDE <= vectors {
                self.score_tile::<F, M, WIDE>(keys, width, index, vector);
                vector += WIDE;
            }
            while vector < vectors {
                self.score_tile::<F, M, 1>(keys, width, index, vector);
                vector += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn score_tile<F: Floats, const M: usize, const N: usize>(&mut self, keys: &[f16], width: usize, index: usize, vector: usize) {
        unsafe {
            let mut sums = [[F::splat(0.0); N]; M];
            let keys = keys.as_ptr().add(vector * width * KEYS);
            for i in 0..width {
                let mut key = [F::splat(0.0); N];
                for n in 0..N {
                    key[n] = F::widen(keys.add((n * width + i) * KEYS));
                }
                for m in 0..M {
                    let query = F::splat(*self.query[index + m].add(i));
                    for n in 0..N {
                        sums[m][n] = sums[m][n].add_product(query, key[n]);
                    }
                }
            }
            for m in 0..M {
                for n in 0..N {
                    sums[m][n].store(self.weights[index + m].as_mut_ptr().add((vector + n) * LANES));
                }
            }
        }
    }

    /// Turn a query's scores into weights, and shrink what it has so far where a score is larger than all before.
    #[inline(always)]
    unsafe fn weigh<F: Floats>(&mut self, index: usize, softmax: &mut Softmax, width: usize) {
        let seen = self.seen[index];
        let vectors = &mut self.weights[index].as_chunks_mut::<LANES>().0[..seen.div_ceil(LANES)];
        let beyond = |vector: usize| (seen - vector * LANES).min(LANES)..LANES;
        let mut largest = [softmax.largest; LANES];
        for (at, scores) in vectors.iter_mut().enumerate() {
            scores[beyond(at)].fill(f32::NEG_INFINITY);
            for (largest, score) in largest.iter_mut().zip(scores) {
                *largest = if *score > *largest { *score } else { *largest };
            }
        }
        let largest = largest.into_iter().fold(softmax.largest, |largest, score| if score > largest { score } else { largest });
        if largest > softmax.largest {
            let shrink = exp(softmax.largest - largest);
            softmax.sums.iter_mut().for_each(|sum| *sum *= shrink);
            let out = unsafe { std::slice::from_raw_parts_mut(self.out[index], width) };
            out.iter_mut().for_each(|out| *out *= shrink);
            softmax.largest = largest;
        }
        for (at, scores) in vectors.iter_mut().enumerate() {
            scores.iter_mut().for_each(|score| *score = exp(*score - largest));
            scores[beyond(at)].fill(0.0);
            for (sum, weight) in softmax.sums.iter_mut().zip(scores) {
                *sum += *weight;
            }
        }
    }

    /// Add the values, weighted, to every query's result.
    #[inline(always)]
    unsafe fn add_values<F: Floats, const TALL: usize, const WIDE: usize>(&self, values: &[f16], width: usize) {
        let mut index = 0;
        unsafe {
            while index < self.count {
                // A query that sees nothing of the page comes before those that do.
                if index + TALL <= self.count && self.seen[index] > 0 {
                    self.add_rows::<F, TALL, WIDE>(values, width, index);
                    index += TALL;
                } else if index + LOW <= self.count && self.seen[index] > 0 {
                    self.add_rows::<F, LOW, WIDE>(values, width, index);
                    index += LOW;
                } else {
                    self.add_rows::<F, 1, WIDE>(values, width, index);
                    index += 1;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn add_rows<F: Floats, const M: usize, const WIDE: usize>(&self, values: &[f16], width: usize, index: usize) {
        let mut at = 0;
        unsafe {
            while at + WIDE * LANES <= width {
                self.value_tile::<F, M, WIDE>(values, width, index, at);
                at += WIDE * LANES;
            }
            while at + LANES <= width {
                self.value_tile::<F, M, 1>(values, width, index, at);
                at += LANES;
            }
            // What is no whole vector.
            for m in 0..M {
                for i in at..width {
                    let out = self.out[index + m].add(i);
                    for (weight, value) in self.weights[index + m][..self.seen[index + m]].iter().zip(values[i..].iter().step_by(width)) {
                        *out = weight.mul_add(value.to_f32(), *out);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn value_tile<F: Floats, const M: usize, const N: usize>(&self, values: &[f16], width: usize, index: usize, at: usize) {
        unsafe {
            let values = values.as_ptr().add(at);
            let mut sums = [[F::splat(0.0); N]; M];
            for m in 0..M {
                for n in 0..N {
                    sums[m][n] = F::load(self.out[index + m].add(at + n * LANES));
                }
            }
            // All of them see as far as the first, and beyond it fewer and fewer.
            for position in 0..self.seen[index] {
                let mut value = [F::splat(0.0); N];
                for n in 0..N {
                    value[n] = F::widen(values.add(position * width + n * LANES));
                }
                for m in 0..M {
                    let weight = F::splat(self.weights[index + m][position]);
                    for n in 0..N {
                        sums[m][n] = sums[m][n].add_product(weight, value[n]);
                    }
                }
            }
            for m in 0..M {
                for position in self.seen[index]..self.seen[index + m] {
                    let weight = F::splat(self.weights[index + m][position]);
                    for n in 0..N {
                        sums[m][n] = sums[m][n].add_product(weight, F::widen(values.add(position * width + n * LANES)));
                    }
                }
                for n in 0..N {
                    sums[m][n].store(self.out[index + m].add(at + n * LANES));
                }
            }
        }
    }
}

impl Floats for [f32; LANES] {
    #[inline(always)]
    unsafe fn splat(number: f32) -> Self {
        [number; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { from.cast::<Self>().read() }
    }

    #[inline(always)]
    unsafe fn widen(from: *const f16) -> Self {
        unsafe { from.cast::<[u16; LANES]>().read() }.map(widen)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<Self>().write(self) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], self[lane]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::*;

    #[target_feature(enable = "avx2,f16c,fma")]
    pub(super) unsafe fn avx2(task: &Task) {
        unsafe { task.run::<[__m256; 2], LOW, 1>() }
    }

    #[target_feature(enable = "avx2,f16c,fma,avx512f,avx512bw")]
    pub(super) unsafe fn avx512(task: &Task) {
        unsafe { task.run::<__m512, 8, 2>() }
    }

    impl Floats for [__m256; 2] {
        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            unsafe { [_mm256_set1_ps(number); 2] }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        }

        #[inline(always)]
        unsafe fn widen(from: *const f16) -> Self {
            unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast()))] }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self[0]);
                _mm256_storeu_ps(to.add(8), self[1]);
            }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            unsafe { [_mm256_fmadd_ps(a[0], b[0], self[0]), _mm256_fmadd_ps(a[1], b[1], self[1])] }
        }
    }

    impl Floats for __m512 {
        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            unsafe { _mm512_set1_ps(number) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn widen(from: *const f16) -> Self {
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
use x86::{avx2, avx512};

#[cfg(test)]
mod tests;
