//! The two products of a ternary layer's backward pass on a tile unit: dX = dY Wq and dW = dY^T Xq, where scales are moved from
//! the codes to the gradient, so that the codes stay small whole numbers.
//!
//! dW is made the other way around, dW^T = Xq^T dY: then it is the codes that have to be transposed, not the gradient's two parts.

use rayon::prelude::*;
use runtime::kernel::Activations;

use crate::operation::{
    simd::for_each_isa,
    tiles::{BLOCK, Block, DEPTH, Pair, SIDE, Split, Tile, Tiles, split, whole, with_scratch},
};

/// Chunks of tokens whose gradients are in memory as tiles at once.
const CHUNKS: usize = 16;

/// The ternary layers of a group for their backward pass.
#[derive(Clone, Debug)]
pub(super) struct TiledWeights {
    tiles: Tiles,
    /// Outputs of each layer.
    outputs: Vec<usize>,
    inputs: usize,
    /// Inputs that share an output's scale.
    span: usize,
    /// For each span of inputs, the scale of each output.
    scales: Vec<Vec<f32>>,
    /// The codes as second factor of dX: `[panels of inputs, steps of outputs]`.
    panels: Vec<Tile>,
}

/// A layer's gradient in the making.
struct Layer<'a> {
    /// The first of its columns of dY.
    first: usize,
    /// The first of its panels of outputs; it has an even number of them.
    first_panel: usize,
    outputs: usize,
    dw_oi: &'a mut [f32],
}

/// What a chunk of tokens leaves for dW, from one step to the next in order: the codes transposed, dY's high and low parts.
struct Leavings<'a> {
    inputs: &'a [Tile],
    high: &'a [Tile],
    low: &'a [Tile],
}

impl TiledWeights {
    /// Row-major codes of layers one below the other, with a scale for each output and each `span` inputs, `[outputs, spans]`.
    pub(super) fn new(tiles: Tiles, codes: &[i8], outputs: Vec<usize>, inputs: usize, span: usize, scales: &[f32]) -> TiledWeights {
        let (o, spans) = (codes.len() / inputs, inputs / span);
        let steps = o.div_ceil(DEPTH);
        let mut panels = vec![Tile::ZERO; panels(inputs) * steps];
        panels.par_chunks_mut(steps).enumerate().for_each(|(panel, panel_tiles)| {
            let columns = (panel * SIDE).min(inputs)..((panel + 1) * SIDE).min(inputs);
            let row = |output: usize| if output < o { &codes[output * inputs..][columns.clone()] } else { &[] };
            for output in (0..o).step_by(2) {
                whole_pair(row(output), row(output + 1), &mut panel_tiles[output / DEPTH].0[output % DEPTH / 2]);
            }
        });
        let scales = (0..spans).map(|at| scales.iter().skip(at).step_by(spans).copied().collect()).collect();
        TiledWeights { tiles, outputs, inputs, span, scales, panels }
    }

    /// dX, and dW of each layer, from dY [n, o] and the inputs in chunks of equally many tokens, a multiple of [`DEPTH`], but for
    /// the last.
    pub(super) fn backward(&self, dy_no: &[f32], chunks: &[&Activations], dx_ni: &mut [f32], dw_oi: &mut [Vec<f32>]) {
        let (i, o) = (self.inputs, self.outputs.iter().sum::<usize>());
        let tokens = chunks.first().map_or(1, |chunk| chunk.tokens());
        let (mut layers, mut first, mut first_panel) = (Vec::new(), 0, 0);
        for (dw_oi, &outputs) in dw_oi.iter_mut().zip(&self.outputs) {
            layers.push(Layer { first, first_panel, outputs, dw_oi });
            (first, first_panel) = (first + outputs, first_panel + panels(outputs));
        }
        let (input_panels, output_panels) = (panels(i), first_panel);
        let parts = dx_ni.chunks_mut(CHUNKS * tokens * i).zip(dy_no.chunks(CHUNKS * tokens * o)).zip(chunks.chunks(CHUNKS));
        for (part, ((dx_ni, dy_no), chunks)) in parts.enumerate() {
            let chunk_steps = tokens.div_ceil(DEPTH);
            let steps = chunks.iter().map(|chunk| chunk.tokens()).sum::<usize>().div_ceil(DEPTH);
            with_scratch(steps * (input_panels + 2 * output_panels), |scratch| {
                let (inputs, gradient) = scratch.split_at_mut(steps * input_panels);
                let (high, low) = gradient.split_at_mut(steps * output_panels);
                let tasks = dx_ni.par_chunks_mut(tokens * i).zip(dy_no.par_chunks(tokens * o)).zip(chunks);
                let tasks = tasks.zip(inputs.par_chunks_mut(chunk_steps * input_panels));
                let tasks = tasks.zip(high.par_chunks_mut(chunk_steps * output_panels));
                let tasks = tasks.zip(low.par_chunks_mut(chunk_steps * output_panels));
                tasks.for_each(|(((((dx, dy), chunk), inputs), high), low)| {
                    self.input_gradient(dy, dx);
                    self.transpose(chunk, inputs);
                    for layer in &layers {
                        split_columns(dy, o, layer, chunk.scales(), output_panels, high, low);
                    }
                });
                let leavings = Leavings { inputs, high, low };
                for layer in &mut layers {
                    let blocks = layer.dw_oi.par_chunks_mut(BLOCK * i).enumerate();
                    let panel = |block: usize| layer.first_panel + 2 * block;
                    blocks.for_each(|(block, dw)| self.weight_gradient(&leavings, panel(block), output_panels, steps, part > 0, dw));
                }
            });
        }
    }

    /// dX of some rows of dY.
    fn input_gradient(&self, dy_no: &[f32], dx_ni: &mut [f32]) {
        let (o, i) = (self.outputs.iter().sum::<usize>(), self.inputs);
        let steps = o.div_ceil(DEPTH);
        let row_panels = panels(dy_no.len() / o);
        let mut block = Block([0.0; BLOCK * BLOCK]);
        with_scratch(2 * row_panels * steps, |scratch| {
            let (high, low) = scratch.split_at_mut(row_panels * steps);
            for (at, scales) in self.scales.iter().enumerate() {
                for (row, dy) in dy_no.chunks(o).enumerate() {
                    let start = row / SIDE * steps;
                    split_row(dy, scales, row % SIDE, &mut high[start..start + steps], &mut low[start..start + steps]);
                }
                self.tiles.with(|unit| {
                    for first_column in (at * self.span..(at + 1) * self.span).step_by(BLOCK) {
                        let exact = pair(&self.panels, first_column / BLOCK, steps);
                        for (rows, dx) in dx_ni.chunks_mut(BLOCK * i).enumerate() {
                            unit.multiply(Split::First, exact, pair(high, rows, steps), pair(low, rows, steps), steps, &mut block);
                            for (dx, found) in dx.chunks_mut(i).zip(block.0.as_chunks::<BLOCK>().0) {
                                match dx[first_column..].first_chunk_mut() {
                                    Some(dx) => *dx = *found,
                                    None => dx[first_column..].copy_from_slice(&found[..i - first_column]),
                                }
                            }
                        }
                    }
                });
            }
        });
    }

    /// Some tokens' codes as rows of a first factor whose terms are the tokens: `[steps, panels]`.
    fn transpose(&self, chunk: &Activations, tiles: &mut [Tile]) {
        let panels = panels(self.inputs);
        for (step, tiles) in tiles.chunks_mut(panels).enumerate() {
            for first in (0..DEPTH).step_by(2) {
                let token = step * DEPTH + first;
                let codes = |token: usize| if token < chunk.tokens() { chunk.codes(token) } else { &[] };
                whole_row(codes(token), codes(token + 1), first / 2, tiles);
            }
            tiles.iter_mut().for_each(|tile| self.tiles.transpose(&mut tile.0));
        }
    }

    /// dW of at most [`BLOCK`] outputs, which are those of two panels, from some steps of tokens.
    fn weight_gradient(&self, leavings: &Leavings, panel: usize, output_panels: usize, steps: usize, add: bool, dw: &mut [f32]) {
        let i = self.inputs;
        let (high, low) = (neighbours(leavings.high, panel, output_panels), neighbours(leavings.low, panel, output_panels));
        let mut block = Block([0.0; BLOCK * BLOCK]);
        self.tiles.with(|unit| {
            for first_input in (0..i).step_by(BLOCK) {
                let exact = neighbours(leavings.inputs, first_input / SIDE, panels(i));
                unit.multiply(Split::Second, exact, high, low, steps, &mut block);
                self.put_transposed(&block, add, dw, first_input);
            }
        });
    }

    /// Write a block of dW^T, or add it, where it belongs in rows of dW.
    fn put_transposed(&self, block: &Block, add: bool, dw: &mut [f32], first_input: usize) {
        let i = self.inputs;
        for (quarter, from) in [0, SIDE, SIDE * BLOCK, SIDE * BLOCK + SIDE].into_iter().enumerate() {
            let (first_output, first_input) = (quarter % 2 * SIDE, first_input + quarter / 2 * SIDE);
            let inputs = first_input.min(i)..(first_input + SIDE).min(i);
            let mut numbers = [[0u32; SIDE]; SIDE];
            for (numbers, found) in numbers.iter_mut().zip(block.0[from..].chunks(BLOCK)) {
                for (number, found) in numbers.iter_mut().zip(found) {
                    *number = found.to_bits();
                }
            }
            self.tiles.transpose(&mut numbers);
            for (dw, numbers) in dw.chunks_mut(i).skip(first_output).zip(&numbers) {
                for (dw, number) in dw[inputs.clone()].iter_mut().zip(numbers) {
                    let found = f32::from_bits(*number);
                    *dw = if add { *dw + found } else { found };
                }
            }
        }
    }
}

/// Panels of [`SIDE`] for so many rows or columns, an even number.
fn panels(count: usize) -> usize {
    count.div_ceil(BLOCK) * 2
}

/// Two panels that lie side by side in each step.
fn neighbours(tiles: &[Tile], panel: usize, panels: usize) -> Pair<'_> {
    Pair { tiles: [&tiles[panel..], &tiles[panel + 1..]], stride: panels }
}

/// A pair of panels whose steps lie one after the other.
fn pair(tiles: &[Tile], at: usize, steps: usize) -> Pair<'_> {
    let (first, second) = tiles[at * 2 * steps..(at + 1) * 2 * steps].split_at(steps);
    Pair { tiles: [first, second], stride: 1 }
}

/// Some tokens' gradients of a layer as second factor whose terms are the tokens, each times its scale: `[steps, panels]`.
fn split_columns(dy_no: &[f32], o: usize, layer: &Layer, scales: &[f32], panels: usize, high: &mut [Tile], low: &mut [Tile]) {
    let columns = layer.first..layer.first + layer.outputs;
    let of_layer = layer.first_panel..layer.first_panel + self::panels(layer.outputs);
    for (step, (high, low)) in high.chunks_mut(panels).zip(low.chunks_mut(panels)).enumerate() {
        let (high, low) = (&mut high[of_layer.clone()], &mut low[of_layer.clone()]);
        for first in (0..DEPTH).step_by(2) {
            let token = step * DEPTH + first;
            let row = |token: usize| match scales.get(token) {
                Some(scale) => (&dy_no[token * o..][columns.clone()], *scale),
                None => (&[][..], 0.0),
            };
            let (row, next) = (row(token), row(token + 1));
            split_pair(row.0, next.0, row.1, next.1, first / 2, high, low);
        }
    }
}

for_each_isa! {
    /// One row of a split first factor, `row` of its tiles; terms beyond the last one are zero.
    fn split_row(values: &[f32], scales: &[f32], row: usize, high: &mut [Tile], low: &mut [Tile]) {
        let terms = values.chunks(DEPTH).zip(scales.chunks(DEPTH));
        for (((values, scales), high), low) in terms.zip(high).zip(low) {
            let mut scaled = [0.0f32; DEPTH];
            for ((scaled, value), scale) in scaled.iter_mut().zip(values).zip(scales) {
                *scaled = value * scale;
            }
            for ((terms, high), low) in scaled.as_chunks::<2>().0.iter().zip(&mut high.0[row]).zip(&mut low.0[row]) {
                (*high, *low) = split(terms[0], terms[1]);
            }
        }
    }
}

for_each_isa! {
    /// Two rows of a split second factor, the pair `pair` of its tiles; what the rows lack is zero.
    fn split_pair(first: &[f32], second: &[f32], scale: f32, next_scale: f32, pair: usize, high: &mut [Tile], low: &mut [Tile]) {
        for (at, (high, low)) in high.iter_mut().zip(low).enumerate() {
            let (first, second) = (sixteen(first.get(at * SIDE..).unwrap_or(&[])), sixteen(second.get(at * SIDE..).unwrap_or(&[])));
            for column in 0..SIDE {
                (high.0[pair][column], low.0[pair][column]) = split(first[column] * scale, second[column] * next_scale);
            }
        }
    }
}

for_each_isa! {
    /// Two rows of codes side by side over tiles, the pair `pair` of each; what the rows lack is zero.
    fn whole_row(first: &[i8], second: &[i8], pair: usize, tiles: &mut [Tile]) {
        for (at, tile) in tiles.iter_mut().enumerate() {
            whole_pair(first.get(at * SIDE..).unwrap_or(&[]), second.get(at * SIDE..).unwrap_or(&[]), &mut tile.0[pair]);
        }
    }
}

/// Two rows of codes as a row of a tile; what they lack is zero.
#[inline(always)]
fn whole_pair(first: &[i8], second: &[i8], row: &mut [u32; SIDE]) {
    let (first, second) = (sixteen(first), sixteen(second));
    for column in 0..SIDE {
        row[column] = whole(first[column], second[column]);
    }
}

/// The first numbers of a row, with zeros after its end.
#[inline(always)]
fn sixteen<T: Copy + Default>(row: &[T]) -> [T; SIDE] {
    match row.first_chunk() {
        Some(numbers) => *numbers,
        None => std::array::from_fn(|at| row.get(at).copied().unwrap_or_default()),
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
        for (n, o, inputs, span) in
            [(1, 1, 16, 16), (33, 20, 40, 40), (70, 100, 64, 32), (128, 260, 96, 96), (31, 33, 512, 256), (1100, 6, 32, 32)]
        {
            // Gradients of many sizes.
            let dy: Vec<f32> = sample(n * o, 1).iter().zip(sample(n * o, 2)).map(|(x, y)| x * (9.0 * y).exp2()).collect();
            let codes: Vec<i8> = sample(o * inputs, 3).iter().map(|x| (x * 1.5).round() as i8).collect();
            let scales: Vec<f32> = sample(o * inputs / span, 4).iter().map(|x| x.abs() + 0.01).collect();
            let weights: Vec<f32> = codes.iter().enumerate().map(|(at, code)| f32::from(*code) * scales[at / span]).collect();
            let dy_transposed: Vec<f32> = (0..o * n).map(|at| dy[at % n * o + at / n]).collect();
            let mut found = vec![f32::NAN; n * inputs];
            let tiled = TiledWeights::new(tiles, &codes, vec![o / 2, o - o / 2], inputs, span, &scales);
            tiled.input_gradient(&dy, &mut found);
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
            let mut found: Vec<_> = tiled.outputs.iter().map(|outputs| vec![f32::NAN; outputs * inputs]).collect();
            let mut again = vec![f32::NAN; n * inputs];
            tiled.backward(&dy, &chunks.iter().collect::<Vec<_>>(), &mut again, &mut found);
            let found: Vec<f32> = found.concat();
            let true_dx_again = error(&again, &true_dx);
            assert!(true_dx_again < 4e-6, "{n} {o} {inputs}: {true_dx_again:e}");
            let true_dw = exact(&dy, &quantised, n, o, inputs);
            assert!(error(&found, &true_dw) < 4e-6, "{n} {o} {inputs}: {:e}", error(&found, &true_dw));
        }
    }

    #[test]
    fn what_is_no_number_stays_so() {
        let Some(tiles) = Tiles::detect() else { return };
        for odd in [f32::NAN, f32::INFINITY, f32::from_bits(0x7FFF_FFFF)] {
            let mut dx = vec![0.0; 16];
            TiledWeights::new(tiles, &[1; 16], vec![1], 16, 16, &[1.0]).input_gradient(&[odd], &mut dx);
            assert!(dx.iter().all(|x| !x.is_finite()), "{odd}: {dx:?}");
        }
    }
}
