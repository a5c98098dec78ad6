//! Rotary position embedding, half-split as Llama and BitNet have it: element i of a head turns with element i + e/2 by the angle
//! position * base^(-2i/e). Source: arXiv:2104.09864, eq. 34.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::simd::for_each_isa;

/// Cosines and sines of every position up to the context, computed once in f64.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    /// Half the width of a head, e / 2.
    half: usize,
    /// [context, e / 2].
    cosines: Arc<[f32]>,
    /// [context, e / 2].
    sines: Arc<[f32]>,
}

impl Rotary {
    /// `frequencies` are the angles of each pair at position 1, [e / 2].
    pub(crate) fn new(context: usize, frequencies: &[f64]) -> Rotary {
        let half = frequencies.len();
        let angle = |at: usize| (at / half) as f64 * frequencies[at % half];
        let table = |of: fn(f64) -> f64| (0..context * half).map(|at| of(angle(at)) as f32).collect();
        Rotary { half, cosines: table(f64::cos), sines: table(f64::sin) }
    }

    /// Turn one head, [e].
    pub(crate) fn turn_row(&self, head: &mut [f32], position: u32) {
        let (cosines, sines) = self.at(position);
        turn_row(head, cosines, sines, 1.0);
    }

    /// Turn one head by the opposite angle.
    pub(crate) fn turn_row_back(&self, head: &mut [f32], position: u32) {
        let (cosines, sines) = self.at(position);
        turn_row(head, cosines, sines, -1.0);
    }

    /// Cosines and sines at a position, [e / 2] each.
    fn at(&self, position: u32) -> (&[f32], &[f32]) {
        let start = position as usize * self.half;
        (&self.cosines[start..start + self.half], &self.sines[start..start + self.half])
    }

    /// Turn the heads of `x_nhe`, one position for each n; composed.
    pub(crate) fn turn(&self, x_nhe: Tensor<3>, positions_n: &[u32], device: &Device) -> Tensor<3> {
        let [n, h, e] = x_nhe.dims();
        let gather = |pick: fn(&Rotary, u32) -> &[f32]| {
            let values: Vec<f32> = positions_n.iter().flat_map(|position| pick(self, *position)).copied().collect();
            Tensor::<3>::from_data(TensorData::new(values, [n, 1, e / 2]), device)
        };
        let cosines = gather(|table, position| table.at(position).0);
        let sines = gather(|table, position| table.at(position).1);
        let low = x_nhe.clone().slice([0..n, 0..h, 0..e / 2]);
        let high = x_nhe.slice([0..n, 0..h, e / 2..e]);
        let turned_low = low.clone() * cosines.clone() - high.clone() * sines.clone();
        let turned_high = high * cosines + low * sines;
        Tensor::cat(vec![turned_low, turned_high], 2)
    }
}

for_each_isa! {
    fn turn_row(head: &mut [f32], cosines: &[f32], sines: &[f32], direction: f32) {
        let (low, high) = head.split_at_mut(cosines.len());
        for (((low, high), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
            let (x, y, sine) = (*low, *high, sine * direction);
            *low = x * cosine - y * sine;
            *high = y * cosine + x * sine;
        }
    }
}
