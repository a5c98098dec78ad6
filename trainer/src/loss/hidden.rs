//! Hidden states that should come near a teacher's of the same width: the mean squared difference, |x - y|^2 / d, or the angle,
//! 1 - x.y / (|x| |y|), of each token. Source: DistilBERT, arXiv:1910.01108, section 3 (cosine); FitNets, arXiv:1412.6550, eq. 2 (squares).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// How a token's two states are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Likeness {
    /// Mean squared difference.
    Squares,
    /// One minus the cosine of the angle.
    Cosine,
}

/// Added to squared lengths, so that a state of zeros has a direction.
const EPSILON: f32 = 1e-12;

/// The loss of the student's states against the teacher's, both [k, d], summed over the tokens.
///
/// # Panics
/// If the widths are not the same.
pub(crate) fn hidden(likeness: Likeness, student_kd: Tensor<2>, teacher_kd: Tensor<2>) -> Tensor<1> {
    assert_eq!(student_kd.dims(), teacher_kd.dims(), "states of one width are compared");
    let teacher_kd = teacher_kd.detach();
    let of_tokens: Tensor<1> = match likeness {
        Likeness::Squares => (student_kd - teacher_kd).square().mean_dim(1).flatten(0, 1),
        Likeness::Cosine => {
            let length = |x: Tensor<2>| x.square().sum_dim(1).add_scalar(EPSILON).sqrt();
            let lengths = length(student_kd.clone()) * length(teacher_kd.clone());
            ((student_kd * teacher_kd).sum_dim(1) / lengths).neg().add_scalar(1.0).flatten(0, 1)
        }
    };
    of_tokens.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        device,
        operation::check::{same_and_smooth, sample},
    };

    fn value(likeness: Likeness, student: [f32; 4], teacher: [f32; 4]) -> f32 {
        let rows = |values: [f32; 4]| Tensor::<1>::from_floats(values, &device::cpu()).reshape([2, 2]);
        hidden(likeness, rows(student), rows(teacher)).into_scalar()
    }

    #[test]
    fn values_are_those_of_the_formulas() {
        // Two tokens of two numbers.
        assert_eq!(value(Likeness::Squares, [1.0, 2.0, 0.0, 4.0], [0.0, 0.0, 2.0, 0.0]), 2.5 + 10.0);
        let cosine = value(Likeness::Cosine, [1.0, 0.0, 3.0, 3.0], [1.0, 1.0, -1.0, -1.0]);
        assert!((cosine - (1.0 - 0.5f32.sqrt() + 2.0)).abs() < 1e-6, "{cosine}");
        assert!(value(Likeness::Cosine, [0.0; 4], [1.0; 4]).is_finite());
    }

    #[test]
    fn gradients_are_slopes() {
        for likeness in [Likeness::Squares, Likeness::Cosine] {
            same_and_smooth(&[(sample(5 * 6, 1), 5)], |_, inputs| {
                let [student] = inputs.try_into().expect("one input");
                let teacher = Tensor::<1>::from_floats(&sample(5 * 6, 2)[..], &device::cpu()).reshape([5, 6]);
                hidden(likeness, student, teacher).unsqueeze()
            });
        }
    }
}
