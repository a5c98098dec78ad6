//! How many rows go through the student at once where a run may take only so much memory: `train.memory_gib`.
//!
//! An estimate from the sizes alone, so that the same config gives the same microbatches, and with them the same bits, on every
//! machine: where there are more threads, fewer of them take microbatches of their own. What is kept of a token for the backward pass is counted from the fused operations.

use model::{Kind, ModelConfig, Quant, inventory};

use crate::{AdapterTable, Checkpoint, Error, TrainTable};

/// The program, its buffers and the rows that are read ahead.
const BASE_BYTES: f64 = 160e6;
/// Memory that is given back and taken again is never all in use.
const SLACK: f64 = 1.2;
/// How much of a pass's gradients waits for those of a pass before it that is slower. With it the estimate is 12 % below and 5 % above
/// what was measured at 16 and 53 million weights.
const WAITING: f64 = 0.5;

/// Microbatches side by side for which there is to be room, where one alone does not need all of it.
const SIDE_BY_SIDE: usize = 2;

/// The table with the microbatch that fits its budget, where it has one, and how many microbatches may be computed side by side;
/// otherwise the same table, and a microbatch for each thread.
pub(crate) fn resolve(table: &TrainTable, model: &ModelConfig, threads: usize) -> Result<(TrainTable, usize), Error> {
    let Some(budget) = table.memory_gib else { return Ok((table.clone(), threads)) };
    let teacher = table.teacher.beside().map(|folder| Checkpoint::open(folder)).transpose()?.map(|checkpoint| checkpoint.config);
    let bytes = |rows: usize, side_by_side: usize| estimate(table, model, teacher.as_ref(), rows, side_by_side);
    let fits = |rows: usize, side_by_side: usize| bytes(rows, side_by_side) <= budget * GIB;
    let most = |side_by_side: usize| (1..=table.microbatch_rows()).rev().find(|rows| fits(*rows, side_by_side));
    let Some(rows) = most(SIDE_BY_SIDE).or_else(|| most(1)) else {
        let least = (1..=table.microbatch_rows()).map(|rows| bytes(rows, 1)).fold(f64::INFINITY, f64::min) / GIB;
        let needed = format!(
            "but {} weights{} and rows of {} tokens need about {least:.2}; raise it, {}or lower model.context or the student's sizes",
            model.parameters(),
            teacher.map_or(String::new(), |teacher| format!(", a teacher of {}", teacher.parameters())),
            model.context,
            if table.gradient_checkpointing { "" } else { "set train.gradient_checkpointing, " }
        );
        return Err(Error::Config { key: "memory_gib", found: budget.to_string(), needed });
    };
    let side_by_side = (1..=threads).rev().find(|side_by_side| fits(rows, *side_by_side)).unwrap_or(1);
    Ok((TrainTable { microbatch_rows: Some(rows), memory_gib: None, ..table.clone() }, side_by_side))
}

const GIB: f64 = (1u64 << 30) as f64;

/// About how many bytes a run takes that gives the student, and a teacher beside it, `rows` rows at once, in so many microbatches side
/// by side.
fn estimate(table: &TrainTable, model: &ModelConfig, teacher: Option<&ModelConfig>, rows: usize, side_by_side: usize) -> f64 {
    let side_by_side = table.rows.div_ceil(rows).min(side_by_side) as f64;
    // Two moments, and the sum of the gradients with what of a pass waits to be added.
    let mut copies = 4.0 * (2.0 + 1.0 + WAITING * (side_by_side - 1.0));
    if table.ema.is_some() {
        copies += 4.0 * 2.0;
    }
    let tokens = side_by_side * (rows * model.context) as f64;
    let of_weights = match &table.adapter {
        None => weights(model, side_by_side) + model.parameters() as f64 * copies,
        Some(adapter) => adapted(adapter, model, 4.0 + copies, side_by_side),
    };
    let student = of_weights + tokens * (kept_of_token(model, table.gradient_checkpointing) + moment_of_token(model));
    let teacher = teacher.map_or(0.0, |teacher| weights(teacher, side_by_side) + tokens * moment_of_token(teacher));
    BASE_BYTES + SLACK * (student + teacher)
}

/// About how many bytes the weights of a run take that trains an adapter, with so many for each number of it.
fn adapted(adapter: &AdapterTable, model: &ModelConfig, copies: f64, side_by_side: f64) -> f64 {
    // The codes as the passes take them and as a line of the metrics compares them, or floats.
    let passes = if model.quant == Quant::Ternary { prepared(model) + 1.0 } else { 4.0 + 1.25 };
    let of_tensors = inventory(model).into_iter().map(|spec| match spec.kind() {
        Kind::Linear => passes * spec.len() as f64 + copies * (adapter.rank * (spec.shape[0] + spec.shape[1])) as f64,
        Kind::Embedding | Kind::Vector => 4.0 * spec.len() as f64,
    });
    // The merged layers of a group before they are quantised, and what each pass dequantises of one.
    of_tensors.sum::<f64>() + (1.0 + side_by_side) * largest_group(model)
}

/// Bytes of the weights, as they are and as the passes take them.
fn weights(model: &ModelConfig, side_by_side: f64) -> f64 {
    model.parameters() as f64 * (4.0 + prepared(model)) + side_by_side * largest_group(model)
}

/// Bytes of a weight as the passes take it, beside the master.
fn prepared(model: &ModelConfig) -> f64 {
    match model.quant {
        Quant::None => 0.0,
        Quant::Ternary => 1.25,
        Quant::Int8 | Quant::Int4 => 5.0,
    }
}

/// Bytes of the largest group of layers in floats.
fn largest_group(model: &ModelConfig) -> f64 {
    4.0 * (2 * model.width * model.feed_forward) as f64
}

/// Bytes of a token that a pass keeps until its backward pass is through; of recomputed blocks only the residual stream before them,
/// but for one.
fn kept_of_token(model: &ModelConfig, is_recomputed: bool) -> f64 {
    let (d, q, f) = (model.width as f64, model.query_width() as f64, model.feed_forward as f64);
    let qkv = q + 2.0 * model.kv_width() as f64;
    // The inputs of the four groups, the two that attention and gate take in, and the codes of the four.
    let block = 4.0 * (2.0 * d + q + f + qkv + 2.0 * f) + (2.0 * d + q + f);
    let layers = model.layers as f64;
    4.0 * 2.0 * d + if is_recomputed { (layers - 1.0) * 4.0 * d + block } else { layers * block }
}

/// The most bytes of a token that are there for a moment.
fn moment_of_token(model: &ModelConfig) -> f64 {
    4.0 * (2 * model.width + 4 * model.feed_forward) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelConfig {
        let table = serde_json::json!({ "width": 256, "layers": 4, "heads": 4, "feed_forward": 512, "context": 256 });
        serde_json::from_value::<model::ModelTable>(table).unwrap().resolve(512).unwrap()
    }

    fn table(memory_gib: f64) -> TrainTable {
        serde_json::from_value(serde_json::json!({ "steps": 9, "rows": 64, "rate": 1e-3, "memory_gib": memory_gib })).unwrap()
    }

    #[test]
    fn less_memory_gives_smaller_microbatches_down_to_a_sentence() {
        let rows = |gib: f64| resolve(&table(gib), &model(), 2).map(|(table, _)| (table.microbatch_rows(), table.memory_gib));
        assert_eq!(rows(64.0).unwrap(), (16, None), "more than the default is never taken");
        let (small, smaller) = (rows(0.4).unwrap().0, rows(0.32).unwrap().0);
        assert!((1..16).contains(&smaller) && smaller < small && small < 16, "{small} {smaller}");
        let bytes = |rows: usize| estimate(&table(0.4), &model(), None, rows, 2);
        assert!(bytes(small) <= 0.4 * GIB && bytes(small + 1) > 0.4 * GIB);
        let message = rows(0.1).unwrap_err().to_string();
        assert!(message.starts_with("train.memory_gib is 0.1, but ") && message.contains("rows of 256 tokens need about 0."), "{message}");
    }

    #[test]
    fn blocks_that_are_computed_again_leave_room_for_rows() {
        let recomputed = |gib: f64| TrainTable { gradient_checkpointing: true, ..table(gib) };
        let rows = |table: TrainTable| resolve(&table, &model(), 2).unwrap().0.microbatch_rows();
        assert!(rows(recomputed(0.4)) > rows(table(0.4)));
        let message = |table: TrainTable| resolve(&table, &model(), 2).unwrap_err().to_string();
        assert!(message(table(0.1)).contains("raise it, set train.gradient_checkpointing, or lower"));
        assert!(message(recomputed(0.1)).contains("raise it, or lower"));
    }

    #[test]
    fn threads_change_how_many_microbatches_run_and_not_what_they_are() {
        for gib in [0.3, 0.35, 0.4] {
            let found = [1, 2, 3, 64].map(|threads| resolve(&table(gib), &model(), threads).unwrap());
            assert!(found.iter().all(|(table, _)| *table == found[0].0), "{gib}");
            let side_by_side = found.map(|(_, side_by_side)| side_by_side);
            assert!(side_by_side.is_sorted() && side_by_side[0] == 1 && side_by_side[3] < 64, "{gib} {side_by_side:?}");
        }
    }

    #[test]
    fn a_teacher_beside_the_student_is_counted() {
        let mut teacher = model();
        teacher.quant = Quant::None;
        let more = estimate(&table(4.0), &model(), Some(&teacher), 4, 2) - estimate(&table(4.0), &model(), None, 4, 2);
        assert!(more >= 4.0 * teacher.parameters() as f64, "{more}");
        let folder = tempfile::tempdir().unwrap();
        let mut with_teacher = table(4.0);
        with_teacher.teacher.from = Some(folder.path().to_owned());
        assert!(resolve(&with_teacher, &model(), 2).is_err(), "a folder without a teacher");
    }

    #[test]
    fn a_run_with_a_budget_is_the_run_with_its_microbatch() {
        let (found, _) = resolve(&table(0.4), &model(), 2).unwrap();
        let written = TrainTable { microbatch_rows: found.microbatch_rows, memory_gib: None, ..table(0.4) };
        assert_eq!(found.same_training(), written.same_training());
    }

    #[test]
    fn an_adapter_fits_where_its_weights_do_not() {
        let sizes = serde_json::json!({ "width": 2560, "layers": 30, "heads": 20, "kv_heads": 5, "feed_forward": 6912, "context": 256 });
        let model = serde_json::from_value::<model::ModelTable>(sizes).unwrap().resolve(128_256).unwrap();
        let whole = TrainTable { rows: 2, ..table(20.0) };
        let adapter = TrainTable { adapter: Some(serde_json::from_value(serde_json::json!({ "rank": 16 })).unwrap()), ..whole.clone() };
        assert!(resolve(&adapter, &model, 2).is_ok() && resolve(&whole, &model, 2).is_err());
        assert!(estimate(&adapter, &model, None, 1, 2) < estimate(&whole, &model, None, 1, 2) / 5.0);
    }
}
