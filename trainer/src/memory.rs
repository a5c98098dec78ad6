//! How many rows go through the student at once where a run may take only so much memory: `train.memory_gib`.
//!
//! An estimate from the sizes alone, so that the same config gives the same microbatches, and with them the same bits, on every
//! machine of as many threads. What is kept of a token for the backward pass is counted from the fused operations.

use model::{Kind, ModelConfig, Quant, inventory};

use crate::{AdapterTable, Error, TrainTable};

/// The program, its buffers and the rows that are read ahead.
const BASE_BYTES: f64 = 160e6;
/// Memory that is given back and taken again is never all in use.
const SLACK: f64 = 1.2;

/// The table with the microbatch that fits its budget, where it has one; otherwise the same.
pub(crate) fn resolve(table: &TrainTable, model: &ModelConfig, threads: usize) -> Result<TrainTable, Error> {
    let Some(budget) = table.memory_gib else { return Ok(table.clone()) };
    let bytes = |rows: usize| estimate(table, model, rows, threads);
    let fits = (1..=table.microbatch_rows()).rev().find(|rows| bytes(*rows) <= budget * GIB);
    let Some(rows) = fits else {
        let least = (1..=table.microbatch_rows()).map(bytes).fold(f64::INFINITY, f64::min) / GIB;
        let needed = format!(
            "but {} weights and rows of {} tokens need about {least:.2}; raise it, or lower model.context or the student's sizes",
            model.parameters(),
            model.context
        );
        return Err(Error::Config { key: "memory_gib", found: budget.to_string(), needed });
    };
    Ok(TrainTable { microbatch_rows: Some(rows), memory_gib: None, ..table.clone() })
}

const GIB: f64 = (1u64 << 30) as f64;

/// About how many bytes a run takes that gives the student `rows` rows at once.
fn estimate(table: &TrainTable, model: &ModelConfig, rows: usize, threads: usize) -> f64 {
    let side_by_side = table.rows.div_ceil(rows).min(threads) as f64;
    // Weights and two moments; the sum of the gradients, and those of each pass and of one that waits to be added.
    let mut copies = 4.0 * (1.0 + 2.0 + 1.0 + side_by_side + 1.0);
    if table.ema.is_some() {
        copies += 4.0 * 2.0;
    }
    let (weights, tokens) = (model.parameters() as f64, side_by_side * (rows * model.context) as f64);
    // With it the weights as the passes take them.
    let of_weights = match &table.adapter {
        None => weights * (copies + 4.0 * 1.25),
        Some(adapter) => adapted(adapter, model, copies, side_by_side),
    };
    BASE_BYTES + SLACK * (of_weights + tokens * bytes_per_token(model))
}

/// About how many bytes the weights of a run take that trains an adapter, with so many for each number of it.
fn adapted(adapter: &AdapterTable, model: &ModelConfig, copies: f64, side_by_side: f64) -> f64 {
    // The codes as the passes take them and as a line of the metrics compares them, or floats.
    let passes = if model.quant == Quant::Ternary { 1.25 + 1.0 } else { 4.0 + 1.25 };
    let of_tensors = inventory(model).into_iter().map(|spec| match spec.kind() {
        Kind::Linear => passes * spec.len() as f64 + copies * (adapter.rank * (spec.shape[0] + spec.shape[1])) as f64,
        Kind::Embedding | Kind::Vector => 4.0 * spec.len() as f64,
    });
    // The merged layers of a group before they are quantised, and what each pass dequantises of one.
    let moment = 4.0 * (1.0 + side_by_side) * (2 * model.width * model.feed_forward) as f64;
    of_tensors.sum::<f64>() + moment
}

/// Bytes of a token that a pass keeps until its backward pass is through, and the largest that are there for a moment.
fn bytes_per_token(model: &ModelConfig) -> f64 {
    let (d, q, f) = (model.width as f64, model.query_width() as f64, model.feed_forward as f64);
    let qkv = q + 2.0 * model.kv_width() as f64;
    // The inputs of the four groups, the two that attention and gate take in, and the codes of the four.
    let block = 4.0 * (2.0 * d + q + f + qkv + 2.0 * f) + (2.0 * d + q + f);
    let moment = 4.0 * (2.0 * d + 4.0 * f);
    model.layers as f64 * block + moment + 4.0 * 2.0 * d
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
        let rows = |gib: f64| resolve(&table(gib), &model(), 2).map(|table| (table.microbatch_rows(), table.memory_gib));
        assert_eq!(rows(64.0).unwrap(), (16, None), "more than the default is never taken");
        let (small, smaller) = (rows(0.4).unwrap().0, rows(0.32).unwrap().0);
        assert!((1..16).contains(&smaller) && smaller < small && small < 16, "{small} {smaller}");
        assert!(estimate(&table(0.4), &model(), small, 2) <= 0.4 * GIB && estimate(&table(0.4), &model(), small + 1, 2) > 0.4 * GIB);
        let message = rows(0.1).unwrap_err().to_string();
        assert!(message.starts_with("train.memory_gib is 0.1, but ") && message.contains("rows of 256 tokens need about 0."), "{message}");
    }

    #[test]
    fn a_run_with_a_budget_is_the_run_with_its_microbatch() {
        let found = resolve(&table(0.4), &model(), 2).unwrap();
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
        assert!(estimate(&adapter, &model, 1, 2) < estimate(&whole, &model, 1, 2) / 5.0);
    }
}
