use burn::tensor::TensorData;
use model::{Activation, Architecture, InputQuant, ModelTable, Quant, Scale};

use super::*;
use crate::{
    device::{self, Storage},
    loss::divergence::Lesson,
};

/// A student of one or two blocks whose weights are large enough to matter; `change` edits the table.
pub(crate) fn tiny(change: impl FnOnce(&mut ModelTable)) -> Student {
    let mut table = ModelTable {
        architecture: Architecture::Bitnet,
        width: 256,
        layers: 2,
        heads: 4,
        kv_heads: Some(2),
        feed_forward: 256,
        context: 32,
        activation: Activation::Silu,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
        quant: Quant::Ternary,
        scale: Scale::Row,
        activations: InputQuant::Int8,
    };
    change(&mut table);
    Student::new(&table.resolve(67).unwrap(), 11, &device::cpu())
}

/// Two rows with several documents of several lengths, some targets supervised.
pub(crate) fn packed(vocab: u32) -> Batch {
    let documents = [vec![0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3], vec![7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8]].concat();
    let mut positions = vec![0u32; 26];
    for at in 1..26 {
        let same = at % 13 != 0 && documents[at] == documents[at - 1];
        positions[at] = if same { positions[at - 1] + 1 } else { 0 };
    }
    Batch {
        rows: 2,
        length: 13,
        tokens: (0..26).map(|i| (i * 29 + 5) % vocab).collect(),
        targets: (0..26).map(|i| (i * 17 + 3) % vocab).collect(),
        likely: vec![Vec::new(); 26],
        lesson: Lesson::NONE,
        keep: (0..26).map(|i| i % 3 != 1).collect(),
        documents,
        positions,
    }
}

/// Loss and gradients by tensor name.
pub(crate) fn differentiate(student: &Student, batch: &Batch) -> (f32, Vec<(String, Vec<f32>)>) {
    let (loss, _) = student.loss(batch);
    let mut gradients = loss.backward();
    let values = |(spec, parameter): (&TensorSpec, &Parameter)| {
        let gradient = parameter.take_gradient(&mut gradients).unwrap_or_else(|| panic!("no gradient of {}", spec.name));
        (spec.name.clone(), gradient.try_into_vec_as().unwrap())
    };
    let gradients = student.specs().iter().zip(student.parameters()).map(values).collect();
    (loss.into_scalar(), gradients)
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn both_paths_give_the_same_loss_and_gradients() {
    let tables: [fn(&mut ModelTable); 15] = [
        |_| {},
        |t| t.scale = Scale::Tensor,
        |t| (t.scale, t.feed_forward) = (Scale::Group, 512),
        |t| t.quant = Quant::None,
        |t| (t.quant, t.width, t.heads, t.kv_heads, t.feed_forward) = (Quant::None, 36, 6, Some(3), 50),
        |t| (t.activation, t.kv_heads) = (Activation::Relu2, Some(1)),
        |t| t.architecture = Architecture::Llama,
        |t| (t.architecture, t.kv_heads) = (Architecture::Qwen2, None),
        |t| t.architecture = Architecture::Qwen3,
        |t| t.quant = Quant::Int8,
        |t| (t.quant, t.width, t.feed_forward) = (Quant::Int4, 96, 160),
        |t| (t.quant, t.activations) = (Quant::Int4, InputQuant::None),
        |t| (t.scale, t.activations) = (Scale::Tensor, InputQuant::None),
        |t| t.activations = InputQuant::Int4,
        |t| (t.width, t.feed_forward) = (192, 320),
    ];
    // Every kind of weights as it is, some in part.
    let shares = |case: usize| if [0, 9, 11, 13].contains(&case) { vec![1.0, 0.0, 0.4] } else { vec![1.0] };
    for (case, share, table) in
        tables.into_iter().enumerate().flat_map(|(case, table)| shares(case).into_iter().map(move |s| (case, s, table)))
    {
        let mut student = tiny(table);
        student.quantise_in_part(share);
        let batch = packed(67);
        let (composed_loss, composed) = differentiate(&student.clone().with_path(Path::Composed(Storage::F32)), &batch);
        let (fused_loss, fused) = differentiate(&student.with_path(Path::Fused), &batch);
        assert!((fused_loss / composed_loss - 1.0).abs() < 1e-4, "case {case}: {fused_loss} {composed_loss}");
        for ((name, fused), (_, composed)) in fused.iter().zip(&composed) {
            let apart: Vec<f32> = fused.iter().zip(composed).map(|(a, b)| a - b).collect();
            // An activation on the edge between two codes may fall to either side, which moves a gradient a little.
            assert!(norm(&apart) <= 2e-2 * norm(composed) + 1e-6, "case {case} {name}: {} of {}", norm(&apart), norm(composed));
        }
    }
}

#[test]
fn half_precision_gives_nearly_the_same_loss_and_gradients() {
    // Codes on an edge fall to the other side here and there, which moves a gradient more than the roundings do.
    let tables: [fn(&mut ModelTable); 3] =
        [|t| t.quant = Quant::None, |_| {}, |t| (t.architecture, t.kv_heads) = (Architecture::Qwen2, None)];
    let tolerances = [[1e-2, 5e-2], [1e-1, 3e-1], [1e-1, 3e-1]];
    for (case, (table, tolerances)) in tables.into_iter().zip(tolerances).enumerate() {
        let student = tiny(table);
        let with = |storage| differentiate(&student.clone().with_path(Path::Composed(storage)), &packed(67));
        let (loss, gradients) = with(Storage::F32);
        for (storage, tolerance) in [Storage::F16, Storage::Bf16].into_iter().zip(tolerances) {
            let (half_loss, half) = with(storage);
            let apart = f64::from((half_loss / loss - 1.0).abs());
            assert!(0.0 < apart && apart < 0.2 * tolerance, "case {case} {storage:?}: {half_loss} {loss}");
            for ((name, half), (_, single)) in half.iter().zip(&gradients) {
                let apart = norm(&half.iter().zip(single).map(|(a, b)| a - b).collect::<Vec<_>>()) / norm(single);
                assert!(apart < tolerance, "case {case} {storage:?} {name}: {apart}");
            }
        }
    }
}

#[test]
fn what_burn_computes_again_gives_the_same_bits() {
    let kept = tiny(|_| {}).with_path(Path::Composed(Storage::F32));
    let mut tensors = kept.tensors().into_iter().map(|(_, values)| values);
    let device = device::cpu().gradient_checkpointing();
    let next = |_: &TensorSpec| Ok::<_, std::convert::Infallible>(tensors.next().unwrap());
    let Ok(mut recomputed) = Student::from_tensors(kept.config(), next, &device);
    recomputed = recomputed.with_path(Path::Composed(Storage::F32));
    // Forks and changed parameters are of the same kind.
    recomputed.update(|parameter| parameter.map_flat(|values| values));
    assert!(differentiate(&recomputed.fork(), &packed(67)) == differentiate(&kept, &packed(67)));
}

#[test]
fn blocks_that_are_computed_again_give_the_same_bits() {
    let tables: [fn(&mut ModelTable); 4] = [
        |_| {},
        |t| (t.architecture, t.kv_heads) = (Architecture::Qwen2, None),
        |t| (t.architecture, t.scale) = (Architecture::Qwen3, Scale::Tensor),
        |t| t.quant = Quant::None,
    ];
    for (case, table) in tables.into_iter().enumerate() {
        let kept = tiny(|t| {
            table(t);
            t.layers = 3;
        });
        let mut recomputed = kept.clone();
        recomputed.recompute(true);
        assert!(differentiate(&recomputed, &packed(67)) == differentiate(&kept, &packed(67)), "case {case}");
    }
}

#[test]
fn no_quantisation_at_all_is_full_precision_and_all_of_it_is_the_student() {
    for path in [Path::Composed(Storage::F32), Path::Fused] {
        let mut student = tiny(|t| t.activations = InputQuant::Int4).with_path(path);
        let full = tiny(|t| t.quant = Quant::None).with_path(path);
        let all = student.logits(&[5, 6, 7, 8]);
        student.quantise_in_part(0.0);
        let (none, expected) = (student.logits(&[5, 6, 7, 8]), full.logits(&[5, 6, 7, 8]));
        let apart: Vec<f32> = none.iter().zip(&expected).map(|(a, b)| a - b).collect();
        assert!(norm(&apart) <= 1e-6 * norm(&expected), "{path:?}");
        assert_ne!(none, all);
        student.quantise_in_part(1.0);
        assert_eq!(student.logits(&[5, 6, 7, 8]), all);
    }
}

#[test]
fn documents_of_a_row_do_not_see_each_other() {
    for path in [Path::Composed(Storage::F32), Path::Fused] {
        let student = tiny(|_| {}).with_path(path);
        let batch = packed(67);
        let (together, kept) = student.loss(&batch);
        let (mut apart, mut kept_apart, mut start) = (0.0f32, 0, 0);
        while start < batch.tokens.len() {
            let row_end = (start / batch.length + 1) * batch.length;
            let end = (start..row_end).find(|at| batch.documents[*at] != batch.documents[start]).unwrap_or(row_end);
            let mut document = Batch::document(&batch.tokens[start..end]);
            document.targets = batch.targets[start..end].to_vec();
            document.keep = batch.keep[start..end].to_vec();
            let (loss, kept) = student.loss(&document);
            apart += loss.into_scalar::<f32>();
            kept_apart += kept;
            start = end;
        }
        let together: f32 = together.into_scalar();
        assert_eq!(kept, kept_apart);
        assert!((together / apart - 1.0).abs() < 1e-5, "{path:?}: {together} {apart}");
    }
}

#[test]
fn a_later_token_changes_no_earlier_logit() {
    for path in [Path::Composed(Storage::F32), Path::Fused] {
        let student = tiny(|_| {}).with_path(path);
        let vocab = student.config().vocab;
        let one = student.logits(&[5, 6, 7, 8, 9]);
        let other = student.logits(&[5, 6, 7, 60, 9]);
        assert_eq!(one.len(), 5 * vocab);
        assert_eq!(one[..3 * vocab], other[..3 * vocab], "{path:?}");
        assert_ne!(one[3 * vocab..4 * vocab], other[3 * vocab..4 * vocab]);
    }
}

#[test]
fn the_loss_is_that_of_the_logits() {
    for path in [Path::Composed(Storage::F32), Path::Fused] {
        let student = tiny(|_| {}).with_path(path);
        let mut batch = Batch::document(&[5, 6, 7, 8, 9, 10, 11]);
        batch.targets = vec![6, 7, 8, 9, 10, 11, 12];
        batch.keep = vec![false, true, false, true, true, false, true];
        let logits = student.logits(&batch.tokens);
        let mut expected = 0.0f64;
        for (at, row) in logits.chunks(student.config().vocab).enumerate().filter(|(at, _)| batch.keep[*at]) {
            let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            expected += total.ln() - f64::from(row[batch.targets[at] as usize]);
        }
        let (loss, kept) = student.loss(&batch);
        let loss = f64::from(loss.into_scalar::<f32>());
        assert_eq!(kept, 4);
        assert!((loss / expected - 1.0).abs() < 1e-5, "{path:?}: {loss} {expected}");
    }
}

#[test]
fn tensors_come_back_as_they_went_in() {
    let student = tiny(|t| t.architecture = Architecture::Qwen2);
    let tensors = student.tensors();
    assert!(tensors.iter().map(|(spec, _)| spec).eq(&inventory(student.config())));
    let mut values = tensors.iter().map(|(_, values)| values.clone());
    let other = Student::from_tensors(student.config(), |_| Ok::<_, ()>(values.next().unwrap()), &device::cpu()).unwrap();
    assert_eq!(other.tensors(), tensors);
    let refused = Student::from_tensors(student.config(), |spec| Err(spec.name.clone()), &device::cpu());
    assert_eq!(refused.unwrap_err(), "model.embed_tokens.weight");
}

#[test]
fn a_changed_parameter_changes_the_next_forward_pass() {
    // Whatever is kept between forward passes must not outlive the weights it was made from.
    let mut student = tiny(|_| {});
    let before = student.logits(&[1, 2, 3]);
    student.update(|parameter| parameter.map_flat(|values| values.mul_scalar(1.5)));
    let mut values = student.tensors().into_iter().map(|(_, values)| values);
    let fresh = Student::from_tensors(student.config(), |_| Ok::<_, ()>(values.next().unwrap()), &device::cpu()).unwrap();
    assert_ne!(student.logits(&[1, 2, 3]), before);
    assert_eq!(student.logits(&[1, 2, 3]), fresh.logits(&[1, 2, 3]));
}

#[test]
fn the_gradient_of_a_gain_is_the_slope_of_the_loss() {
    // Full precision, so that the loss is smooth.
    for path in [Path::Composed(Storage::F32), Path::Fused] {
        let student = tiny(|t| t.quant = Quant::None).with_path(path);
        let batch = packed(67);
        let (_, gradients) = differentiate(&student, &batch);
        let tensors = student.tensors();
        for (place, at) in [(0, 777), (1, 3), (2, 100), (4, 9000), (5, 17), (6, 1234), (8, 4321), (10, 55), (11, 5)] {
            let loss_at = |step: f32| {
                let mut given = tensors.iter().enumerate().map(|(index, (_, values))| {
                    let mut values = values.clone();
                    if index == place {
                        values[at] += step;
                    }
                    values
                });
                let moved = Student::from_tensors(student.config(), |_| Ok::<_, ()>(given.next().unwrap()), &device::cpu());
                f64::from(moved.unwrap().with_path(path).loss(&batch).0.into_scalar::<f32>())
            };
            let step = 1e-2;
            let slope = (loss_at(step) - loss_at(-step)) / f64::from(2.0 * step);
            let (name, gradient) = &gradients[place];
            let found = f64::from(gradient[at]);
            assert!((found - slope).abs() < 2e-2 * slope.abs() + 1e-2, "{path:?} {name}[{at}]: {found} {slope}");
        }
    }
}

#[test]
fn a_batch_with_nothing_supervised_has_no_loss() {
    let (loss, kept) = tiny(|_| {}).loss(&Batch::document(&[1, 2, 3]));
    assert_eq!((loss.into_data(), kept), (TensorData::from([0.0f32]), 0));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let student = tiny(|t| t.feed_forward = 512);
    let mut batch = packed(67);
    // More tokens than one task takes.
    (batch.rows, batch.tokens) = (12, batch.tokens.repeat(6));
    (batch.targets, batch.keep) = (batch.targets.repeat(6), batch.keep.repeat(6));
    (batch.documents, batch.positions) = (batch.documents.repeat(6), batch.positions.repeat(6));
    batch.likely = vec![Vec::new(); batch.tokens.len()];
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| differentiate(&student, &batch))
    };
    let alone = with(1);
    for threads in [2, 3, 5] {
        assert!(with(threads) == alone, "{threads} threads");
    }
}
