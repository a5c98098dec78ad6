use half::f16;
use model::{InputQuant, Quant, Scale, ternary};

use super::*;
use crate::{
    Student,
    device::{self, Path, Storage},
    operation::{
        check::{same_and_smooth, sample},
        linear::{Group, Layer, Precision, linear},
    },
    optimizer::{AdamW, BETAS, Gradients},
    student::tests::{differentiate, packed, tiny},
};

const TABLE: AdapterTable = AdapterTable { rank: 3, alpha: 4.0 };

/// A student whose frozen weights are those of `whole`.
fn adapted(whole: &Student) -> Student {
    let tensors = whole.tensors();
    let weights = move |spec: &TensorSpec| tensors.iter().find(|(other, _)| other == spec).expect("a tensor of the inventory").1.clone();
    Student::adapted(whole.config(), Frozen::new(String::new(), weights), &TABLE, 5, &device::cpu())
}

/// The same with a B that is not 0.
fn trained(whole: &Student) -> Student {
    let student = adapted(whole);
    let values = student.specs().iter().zip(0..).map(|(spec, at)| sample(spec.len(), at).iter().map(|x| 0.05 * x).collect()).collect();
    student.with_trained(values)
}

/// The student whose weights are another's, merged.
fn merged(student: &Student) -> Student {
    let mut values = student.tensors().into_iter().map(|(_, values)| values);
    Student::from_tensors(student.config(), |_| Ok::<_, ()>(values.next().unwrap()), &device::cpu()).unwrap()
}

#[test]
fn the_gradients_are_the_slope_and_those_of_the_composed_form() {
    let (n, i, outputs, r) = (70, 34, [20, 17], 5);
    let precision = Precision { quant: Quant::None, scale: Scale::Row, largest_input: None, share: 1.0, norm_epsilon: 1e-5 };
    let mut inputs = vec![(sample(n * i, 1), n), (sample(i, 2), 1)];
    for o in outputs {
        inputs.extend([(sample(r * i, o as u64), r), (sample(o * r, o as u64 + 1), o)]);
    }
    let spec = inventory(tiny(|_| {}).config()).remove(2);
    let layer = |o: usize, a_ri, b_or| {
        let frozen = Frozen::new(String::new(), move |spec| sample(spec.len(), 9));
        Layer::Adapted(Adapted { frozen, spec: TensorSpec { shape: vec![o, i], ..spec.clone() }, a_ri, b_or, scale: 0.7 })
    };
    same_and_smooth(&inputs, |path, inputs| {
        let [x_ni, gain_i, a, b, c, d] = inputs.try_into().unwrap();
        let layers = vec![layer(outputs[0], a, b), layer(outputs[1], c, d)];
        let group = Group { x_ni, gain_i: Some(gain_i.reshape([i])), layers, residual_no: None, prepared: &Default::default() };
        linear(path, group, precision)
    });
}

#[test]
fn both_paths_give_the_same_and_it_is_the_gradient_of_the_whole_layer() {
    for (quant, scale, share) in [
        (Quant::Ternary, Scale::Row, 1.0),
        (Quant::Ternary, Scale::Tensor, 0.4),
        (Quant::Ternary, Scale::Group, 1.0),
        (Quant::Int8, Scale::Row, 1.0),
        (Quant::Int4, Scale::Row, 1.0),
        (Quant::None, Scale::Row, 1.0),
    ] {
        let mut student = trained(&tiny(|t| (t.quant, t.scale) = (quant, scale)));
        let mut whole = merged(&student);
        student.quantise_in_part(share);
        whole.quantise_in_part(share);
        let batch = packed(67);
        let (composed_loss, composed) = differentiate(&student.clone().with_path(Path::Composed(Storage::F32)), &batch);
        let (loss, fused) = differentiate(&student, &batch);
        let (whole_loss, of_whole) = differentiate(&whole, &batch);
        let mut recomputed = student.clone();
        recomputed.recompute(true);
        assert!(differentiate(&recomputed, &batch) == (loss, fused.clone()), "{quant:?}");
        assert_eq!(loss, whole_loss, "{quant:?}: what is trained is what is merged");
        assert!((loss / composed_loss - 1.0).abs() < 1e-4, "{quant:?}: {loss} {composed_loss}");
        assert_eq!(fused.len(), 2 * 7 * student.config().layers);
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        for (at, ((name, fused), (_, composed))) in fused.iter().zip(&composed).enumerate() {
            let apart = norm(&mut fused.iter().zip(composed).map(|(a, b)| a - b));
            // An activation on the edge between two codes may fall to either side, which moves a gradient a little.
            assert!(apart <= 2e-2 * norm(&mut composed.iter().copied()), "{quant:?} {name}: {apart}");

            // dA = s B^T dW and dB = s dW A^T.
            let layer = name.split(".lora_").next().unwrap();
            let dw = &of_whole.iter().find(|(name, _)| *name == format!("{layer}.weight")).unwrap().1;
            let pair = at / 2 * 2;
            let [a, b] = [pair, pair + 1].map(|place| student.parameters()[place].values());
            let (r, i) = (TABLE.rank, a.len() / TABLE.rank);
            let o = b.len() / r;
            let (s, mut expected) = (TABLE.scale(), vec![0.0; fused.len()]);
            let (dw, rows) = (View::new(dw, o, i), if at == pair { r } else { o });
            let out = ViewMut::new(&mut expected, rows, fused.len() / rows);
            match at == pair {
                true => multiply(out, View::new(&b, o, r).transposed(), dw, s, Write::Replace, Workers::Caller),
                false => multiply(out, dw, View::new(&a, r, i).transposed(), s, Write::Replace, Workers::Caller),
            }
            let apart = norm(&mut fused.iter().zip(&expected).map(|(a, b)| a - b));
            assert!(apart <= 1e-4 * norm(&mut expected.iter().copied()), "{quant:?} {name}: {apart}");
        }
    }
}

#[test]
fn the_first_student_is_that_of_the_start_and_a_merged_one_that_in_training() {
    for (quant, scale, activations) in [
        (Quant::Ternary, Scale::Row, InputQuant::Int8),
        (Quant::Ternary, Scale::Tensor, InputQuant::Int4),
        (Quant::Ternary, Scale::Group, InputQuant::None),
        (Quant::Int8, Scale::Row, InputQuant::Int8),
        (Quant::Int4, Scale::Row, InputQuant::Int8),
        (Quant::None, Scale::Row, InputQuant::Int8),
    ] {
        let whole = tiny(|t| (t.quant, t.scale, t.activations) = (quant, scale, activations));
        let tokens = [5, 6, 7, 8];
        assert_eq!(adapted(&whole).logits(&tokens), whole.logits(&tokens), "{quant:?} {scale:?}");
        let student = trained(&whole);
        let logits = student.logits(&tokens);
        assert_ne!(logits, whole.logits(&tokens), "{quant:?} {scale:?}");
        assert_eq!(logits, merged(&student).logits(&tokens), "{quant:?} {scale:?}");
    }
}

#[test]
fn a_step_moves_the_adapter_and_nothing_else() {
    let whole = tiny(|_| {});
    let mut student = trained(&whole);
    let before = student.parameters().iter().map(|parameter| parameter.values()).collect::<Vec<_>>();
    let mut optimizer = AdamW::new(&student, BETAS);
    let (loss, kept) = student.loss(&packed(67));
    let gradients = Gradients::of(&student, &loss, kept);
    optimizer.step(&mut student, gradients, 1e-2, 0.1, 1.0);
    for ((before, after), spec) in before.iter().zip(student.parameters()).zip(student.specs()) {
        assert!(after.values().iter().zip(before).filter(|(after, before)| after != before).count() > before.len() / 2, "{}", spec.name);
    }
    for ((spec, values), (_, start)) in student.tensors().iter().zip(whole.tensors()) {
        assert_eq!(*values == start, spec.kind() != Kind::Linear, "{}", spec.name);
    }
    let trained: usize = student.specs().iter().map(TensorSpec::len).sum();
    let layers = inventory(student.config()).into_iter().filter(|spec| spec.kind() == Kind::Linear);
    assert_eq!(trained, layers.map(|spec| TABLE.rank * (spec.shape[0] + spec.shape[1])).sum::<usize>());
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let student = trained(&tiny(|t| t.feed_forward = 512));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| differentiate(&student.clone().with_trained(vec_of(&student)), &packed(67)))
    };
    let alone = with(1);
    for threads in [2, 3, 5] {
        assert!(with(threads) == alone, "{threads} threads");
    }
}

fn vec_of(student: &Student) -> Vec<Vec<f32>> {
    student.parameters().iter().map(|parameter| parameter.values()).collect()
}

/// The share of codes that are others after `delta` is added.
fn changed(weights: &[f32], delta: &[f32], rows: usize) -> f64 {
    let codes = |weights: &[f32]| ternary::quantize(weights, rows, weights.len() / rows, Scale::Tensor).codes;
    let sum: Vec<f32> = weights.iter().zip(delta).map(|(w, d)| w + d).collect();
    codes(weights).iter().zip(codes(&sum)).filter(|(before, after)| **before != *after).count() as f64 / weights.len() as f64
}

/// Why an adapter by others is refused: of the size that is usual, 0.43 % of the weights, it changes no code.
#[test]
fn a_plain_adapter_is_lost_in_codes() {
    let (o, i, r) = (512, 768, 16);
    let masters = start::normal(1, 0, o * i, 0.02);
    let (a, b) = (start::normal(1, 1, r * i, 1.0), start::normal(1, 2, o * r, 1.0));
    let mut delta = vec![0.0; o * i];
    let mean = |x: &[f32]| x.iter().map(|x| f64::from(x.abs())).sum::<f64>() / x.len() as f64;
    multiply(ViewMut::new(&mut delta, o, i), View::new(&b, o, r), View::new(&a, r, i), 1.0, Write::Replace, Workers::Caller);
    let factor = (0.0043 * mean(&masters) / mean(&delta)) as f32;
    delta.iter_mut().for_each(|x| *x *= factor);

    let scale = f16::from_f32(mean(&masters) as f32);
    let coded = ternary::weights_of(&ternary::quantize(&masters, o, i, Scale::Tensor).codes, scale, o, i, Scale::Tensor);
    assert_eq!(changed(&coded, &delta, o), 0.0, "of weights that are codes");
    // Even where the weights before rounding are at hand, some of which lie at the edge.
    let share = changed(&masters, &delta, o);
    assert!(share > 0.0 && share < 0.005, "{share}");
    // A change of the size of the weights would show.
    let large: Vec<f32> = delta.iter().map(|x| x / 0.0043).collect();
    assert!(changed(&coded, &large, o) > 0.1);
}
