//! The two products of a ternary layer's backward pass on a tile unit: dX = dY Wq and dW = dY^T Xq, where scales are moved from
//! the codes to the gradient, so that the codes stay small whole numbers.

use std::ops::Range;

use rayon::prelude::*;
use runtime::kernel::Activations;

use crate::operation::{
    simd::for_each_isa,
    tiles::{BLOCK, Block, DEPTH, Pair, SIDE, Split, Tile, Tiles, split, whole, with_scratch},
};

/// A ternary matrix as second factor of dX = dY Wq.
#[derive(Clone, Debug)]
pub(super) struct TiledWeights {
    tiles: Tiles,
    outputs: usize,
    inputs: usize,
    /// Inputs that share an output's scale.
    span: usize,
    /// For each span of inputs, the scale of each output.
    scales: Vec<Vec<f32>>,
    /// `[pairs of panels, 2, steps]`.
    panels: Vec<Tile>,
}

impl TiledWeights {
    /// Row-major codes of `inputs` columns with a scale for each output and each `span` inputs, `[outputs, spans]`.
    pub(super) fn new(tiles: Tiles, codes: &[i8], inputs: usize, span: usize, scales: &[f32]) -> TiledWeights {
        let (outputs, spans) = (codes.len() / inputs, inputs / span);
        let steps = outputs.div_ceil(DEPTH);
        let mut panels = vec![Tile::ZERO; inputs.div_ceil(BLOCK) * 2 * steps];
        panels.par_chunks_mut(steps).enumerate().for_each(|(panel, panel_tiles)| {
            for (step, tile) in panel_tiles.iter_mut().enumerate() {
                for term in 0..DEPTH.min(outputs - step * DEPTH) {
                    let row = &codes[(step * DEPTH + term) * inputs..][..inputs];
                    for (column, code) in row.iter().skip(panel * SIDE).take(SIDE).enumerate() {
                        tile.0[(term / 2 * SIDE + column) * 2 + term % 2] = whole(*code);
                    }
                }
            }
        });
        let scales = (0..spans).map(|at| scales.iter().skip(at).step_by(spans).copied().collect()).collect();
        TiledWeights { tiles, outputs, inputs, span, scales, panels }
    }

    /// The unit that it is laid out for.
    pub(super) fn tiles(&self) -> Tiles {
        self.tiles
    }

    /// dX of some rows of dY.
    pub(super) fn input_gradient(&self, dy_no: &[f32], dx_ni: &mut [f32]) {
        let (o, i, steps) = (self.outputs, self.inputs, self.outputs.div_ceil(DEPTH));
        let panels = (dy_no.len() / o).div_ceil(BLOCK) * 2;
        let mut block = Block([0.0; BLOCK * BLOCK]);
        with_scratch(2 * panels * steps, |scratch| {
            let (high, low) = scratch.split_at_mut(panels * steps);
            self.tiles.with(|unit| {
                for (at, scales) in self.scales.iter().enumerate() {
                    for (row, dy) in dy_no.chunks(o).enumerate() {
                        let start = row / SIDE * steps;
                        split_row(dy, scales, row % SIDE, &mut high[start..start + steps], &mut low[start..start + steps]);
                    }
                    for first_column in (at * self.span..(at + 1) * self.span).step_by(BLOCK) {
                        let exact = pair(&self.panels, first_column / BLOCK, steps);
                        for (rows, dx) in dx_ni.chunks_mut(BLOCK * i).enumerate() {
                            unit.multiply(Split::First, exact, pair(high, rows, steps), pair(low, rows, steps), steps, &mut block);
                            let columns = BLOCK.min(i - first_column);
                            for (dx, found) in dx.chunks_mut(i).zip(block.0.chunks(BLOCK)) {
                                dx[first_column..first_column + columns].copy_from_slice(&found[..columns]);
                            }
                        }
                    }
                }
            });
        });
    }
}

/// A pair of panels whose steps lie one after the other.
fn pair(tiles: &[Tile], at: usize, steps: usize) -> Pair<'_> {
    let (first, second) = tiles[at * 2 * steps..(at + 1) * 2 * steps].split_at(steps);
    Pair { tiles: [first, second], stride: 1 }
}

/// dW of every layer from the quantised inputs, in chunks of equally many tokens, a multiple of [`DEPTH`], but for the last; layers
/// are given by the first of their columns of dY, [n, o], and their dW.
///
/// The product is made the other way around, dW^T = Xq^T dY: then it is the whole numbers that have to be transposed.
pub(super) fn weight_gradients(tiles: Tiles, chunks: &[&Activations], inputs: usize, dy_no: &[f32], layers: &mut [(usize, Vec<f32>)]) {
    let tokens: usize = chunks.iter().map(|chunk| chunk.tokens()).sum();
    let chunk_steps = chunks.first().map_or(1, |chunk| chunk.tokens().div_ceil(DEPTH));
    let (steps, panels) = (tokens.div_ceil(DEPTH), inputs.div_ceil(BLOCK) * 2);
    let scales: Vec<f32> = chunks.iter().flat_map(|chunk| chunk.scales()).copied().collect();
    with_scratch(steps * panels, |transposed| {
        transposed.par_chunks_mut(chunk_steps * panels).zip(chunks).for_each(|(tiles, chunk)| transpose(chunk, panels, tiles));
        let product = Product { tiles, inputs, steps, panels, transposed, scales: &scales };
        for (first, dw_oi) in layers {
            let outputs = dw_oi.len() / inputs;
            dw_oi.par_chunks_mut(BLOCK * inputs).enumerate().for_each(|(at, dw)| {
                let from = *first + at * BLOCK;
                product.block_of_outputs(dy_no, from..from + BLOCK.min(outputs - at * BLOCK), dw);
            });
        }
    });
}

/// Some tokens' codes as rows of a first factor whose terms are the tokens: `[steps, panels]`.
fn transpose(chunk: &Activations, panels: usize, tiles: &mut [Tile]) {
    let tokens = chunk.tokens();
    if !tokens.is_multiple_of(DEPTH) || !chunk.width().is_multiple_of(BLOCK) {
        tiles.fill(Tile::ZERO);
    }
    for token in 0..tokens {
        let tiles = &mut tiles[token / DEPTH * panels..][..panels];
        for (tile, codes) in tiles.iter_mut().zip(chunk.codes(token).chunks(SIDE)) {
            for (column, code) in codes.iter().enumerate() {
                tile.0[column * DEPTH + token % DEPTH] = whole(*code);
            }
        }
    }
}

/// What all blocks of outputs share.
struct Product<'a> {
    tiles: Tiles,
    inputs: usize,
    steps: usize,
    panels: usize,
    /// `[steps, panels]`.
    transposed: &'a [Tile],
    /// The scale of each token.
    scales: &'a [f32],
}

impl Product<'_> {
    /// dW of at most [`BLOCK`] outputs, given by their columns of dY.
    fn block_of_outputs(&self, dy_no: &[f32], columns: Range<usize>, dw: &mut [f32]) {
        let (i, steps) = (self.inputs, self.steps);
        let o = dy_no.len() / self.scales.len();
        let mut block = Block([0.0; BLOCK * BLOCK]);
        with_scratch(4 * steps, |scratch| {
            let (high, low) = scratch.split_at_mut(2 * steps);
            for token in (0..steps * DEPTH).step_by(2) {
                let row = |token: usize| dy_no.get(token * o..(token + 1) * o).map_or(&[][..], |row| &row[columns.clone()]);
                let scales = &self.scales[token.min(self.scales.len())..];
                let step = token / DEPTH;
                split_pair(row(token), row(token + 1), scales, token % DEPTH / 2, high, low, [step, steps + step]);
            }
            self.tiles.with(|unit| {
                for first_input in (0..i).step_by(BLOCK) {
                    let panel = first_input / SIDE;
                    let exact = Pair { tiles: [&self.transposed[panel..], &self.transposed[panel + 1..]], stride: self.panels };
                    unit.multiply(Split::Second, exact, pair(high, 0, steps), pair(low, 0, steps), steps, &mut block);
                    let inputs = BLOCK.min(i - first_input);
                    for (output, dw) in dw.chunks_mut(i).enumerate() {
                        for (input, dw) in dw[first_input..first_input + inputs].iter_mut().enumerate() {
                            *dw = block.0[input * BLOCK + output];
                        }
                    }
                }
            });
        });
    }
}

for_each_isa! {
    /// One row of a split first factor, `row` of its tiles.
    fn split_row(values: &[f32], scales: &[f32], row: usize, high: &mut [Tile], low: &mut [Tile]) {
        let terms = values.chunks(DEPTH).zip(scales.chunks(DEPTH));
        for (((values, scales), high), low) in terms.zip(high).zip(low) {
            let (high, low) = (&mut high.0[row * DEPTH..][..DEPTH], &mut low.0[row * DEPTH..][..DEPTH]);
            // Terms beyond the last one are zero.
            high[values.len()..].fill(0);
            low[values.len()..].fill(0);
            for (((value, scale), high), low) in values.iter().zip(scales).zip(high).zip(low) {
                (*high, *low) = split(value * scale);
            }
        }
    }
}

for_each_isa! {
    /// Two rows of a split second factor, the pair `pair` of the tiles at `at`; what the rows lack is zero.
    fn split_pair(first: &[f32], second: &[f32], scales: &[f32], pair: usize, high: &mut [Tile], low: &mut [Tile], at: [usize; 2]) {
        let mut rows = [[0.0f32; BLOCK]; 2];
        for ((row, values), scale) in rows.iter_mut().zip([first, second]).zip(scales) {
            for (scaled, value) in row.iter_mut().zip(values) {
                *scaled = value * scale;
            }
        }
        for (side, at) in at.into_iter().enumerate() {
            let from = pair * BLOCK;
            let (high, low) = (&mut high[at].0[from..from + BLOCK], &mut low[at].0[from..from + BLOCK]);
            for column in 0..SIDE {
                for term in 0..2 {
                    (high[2 * column + term], low[2 * column + term]) = split(rows[term][side * SIDE + column]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use runtime::kernel::Isa;

    use super::*;
    use crate::operation::{
        check::sample,
        matmul::{View, ViewMut, Workers, Write, multiply},
    };

    /// The distance of a product from the true one, in parts of the true one's norm.
    fn error(found: &[f32], exact: &[f64]) -> f64 {
        let apart: f64 = found.iter().zip(exact).map(|(found, exact)| (f64::from(*found) - exact).powi(2)).sum();
        (apart / exact.iter().map(|x| x * x).sum::<f64>().max(1e-300)).sqrt()
    }

    /// a^T b in f64; a is [k, m], b is [k, n].
    fn exact(a: &[f32], b: &[f32], k: usize, m: usize, n: usize) -> Vec<f64> {
        let mut out = vec![0.0; m * n];
        for term in 0..k {
            for row in 0..m {
                for column in 0..n {
                    out[row * n + column] += f64::from(a[term * m + row]) * f64::from(b[term * n + column]);
                }
            }
        }
        out
    }

    #[test]
    fn products_are_as_near_the_true_ones_as_those_in_f32() {
        let Some(tiles) = Tiles::detect() else { return };
        for (n, o, inputs, span) in [(1, 1, 16, 16), (33, 20, 40, 40), (70, 100, 64, 32), (128, 260, 96, 96), (31, 33, 512, 256)] {
            // Gradients of many sizes.
            let dy: Vec<f32> = sample(n * o, 1).iter().zip(sample(n * o, 2)).map(|(x, y)| x * (9.0 * y).exp2()).collect();
            let codes: Vec<i8> = sample(o * inputs, 3).iter().map(|x| (x * 1.5).round() as i8).collect();
            let scales: Vec<f32> = sample(o * inputs / span, 4).iter().map(|x| x.abs() + 0.01).collect();
            let weights: Vec<f32> = codes.iter().enumerate().map(|(at, code)| f32::from(*code) * scales[at / span]).collect();
            let dy_transposed: Vec<f32> = (0..o * n).map(|at| dy[at % n * o + at / n]).collect();
            let mut found = vec![f32::NAN; n * inputs];
            TiledWeights::new(tiles, &codes, inputs, span, &scales).input_gradient(&dy, &mut found);
            let mut plain = vec![0.0; n * inputs];
            let (dy_view, weights_view) = (View::new(&dy, n, o), View::new(&weights, o, inputs));
            multiply(ViewMut::new(&mut plain, n, inputs), dy_view, weights_view, 1.0, Write::Replace, Workers::Caller);
            let true_dx = exact(&dy_transposed, &weights, o, n, inputs);
            assert!(error(&found, &true_dx) < 4e-6, "{n} {o} {inputs}: {:e} {:e}", error(&found, &true_dx), error(&plain, &true_dx));

            let x = sample(n * inputs, 5);
            let isa = Isa::fastest();
            let chunks: Vec<Activations> = x
                .chunks(64 * inputs)
                .map(|x| {
                    let mut activations = Activations::new();
                    activations.quantize(isa, x, inputs);
                    activations
                })
                .collect();
            let quantised: Vec<f32> = chunks
                .iter()
                .flat_map(|chunk| {
                    (0..chunk.tokens()).flat_map(move |t| chunk.codes(t).iter().map(move |c| f32::from(*c) * chunk.scales()[t]))
                })
                .collect();
            let layers = [(0, o / 2), (o / 2, o - o / 2)];
            let mut found: Vec<_> = layers.iter().map(|(first, outputs)| (*first, vec![f32::NAN; outputs * inputs])).collect();
            weight_gradients(tiles, &chunks.iter().collect::<Vec<_>>(), inputs, &dy, &mut found);
            let found: Vec<f32> = found.into_iter().flat_map(|(_, dw)| dw).collect();
            let true_dw = exact(&dy, &quantised, n, o, inputs);
            assert!(error(&found, &true_dw) < 4e-6, "{n} {o} {inputs}: {:e}", error(&found, &true_dw));
        }
    }

    #[test]
    fn what_is_no_number_stays_so() {
        let Some(tiles) = Tiles::detect() else { return };
        for odd in [f32::NAN, f32::INFINITY, f32::from_bits(0x7FFF_FFFF)] {
            let mut dx = vec![0.0; 16];
            TiledWeights::new(tiles, &[1; 16], 16, 16, &[1.0]).input_gradient(&[odd], &mut dx);
            assert!(dx.iter().all(|x| !x.is_finite()), "{odd}: {dx:?}");
        }
    }
}
