//! A student's inner states beside its teacher's: the residual stream after the last block, and how the tokens are related in the
//! queries, keys and values of one block. Summed over the supervised places, as all losses.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use super::{
    hidden::hidden,
    relation::{Comparison, relation},
};
use crate::{
    config::{HiddenTable, RelationTable},
    device::Path,
    student::{Batch, States},
};

/// What the student is to come near to.
#[derive(Clone, Debug)]
pub(crate) struct Exemplar<'a> {
    pub(crate) hidden: Option<&'a HiddenTable>,
    pub(crate) relation: Option<&'a RelationTable>,
    /// The teacher's states for the same batch.
    pub(crate) teacher: States,
}

/// The loss of the student's states.
pub(crate) fn states(path: Path, exemplar: &Exemplar, student: &States, batch: &Batch, places: &[u32]) -> Tensor<1> {
    let (device, n) = (student.hidden_kd.device(), batch.tokens.len());
    let mut loss = Tensor::zeros([1], &device);
    if let Some(table) = exemplar.hidden {
        let (ours, theirs) = (student.hidden_kd.clone(), exemplar.teacher.hidden_kd.clone());
        loss = loss + hidden(table.likeness, ours, theirs).mul_scalar(table.weight);
    }
    if let (Some(table), Some(ours), Some(theirs)) = (exemplar.relation, &student.qkv, &exemplar.teacher.qkv) {
        let layout = Arc::new(batch.layout());
        let mut weights = vec![0.0f32; n];
        places.iter().for_each(|place| weights[*place as usize] = 1.0);
        let weights_n = Tensor::<1>::from_data(TensorData::new(weights, [n]), &device);
        for (ours, theirs) in ours.iter().zip(theirs) {
            let (teacher_nw, layout, weights_n) = (theirs.clone(), layout.clone(), weights_n.clone());
            let comparison = Comparison { relation: table.relation, heads: table.heads, teacher_nw, layout, weights_n };
            let of_one = relation(path, ours.clone(), comparison);
            loss = loss + of_one.mul_scalar(table.weight);
        }
    }
    loss
}
