//! `report.html`: one file that needs nothing else, no network and no script, light and dark, on a phone too.

use minijinja::{AutoEscape, Environment, Value, context};

use super::metrics::Measured;
use super::numbers::add_filters;
use super::plot::{self, Smoothing};
use super::{Metrics, Report, Speed};

/// The curves that runs have, in the order in which one looks at them: column, title, what it is.
const CURVES: [(&str, &str, &str); 11] = [
    ("loss", "Loss", "nats per supervised token"),
    ("loss.cross_entropy", "Cross-entropy", "nats per supervised token"),
    ("loss.divergence", "Divergence from the teacher", "nats per token that it spoke of"),
    ("loss.states", "Inner states", "distance from the teacher's, as weighed"),
    ("teacher.share", "The teacher's share", "of the loss of a token"),
    ("teacher.ratio", "The teacher's pull", "its gradient at the logits as a multiple of the cross-entropy's, as weighed"),
    ("held_out_loss", "Held-out loss", "nats per supervised token of rows that are not trained on"),
    ("rate", "Learning rate", ""),
    ("gradient_norm", "Gradient norm", "before clipping"),
    ("tokens_per_s", "Speed", "tokens per second"),
    ("zeros", "Zeros", "share of the ternary codes"),
];
/// What is measured per layer, in the order in which one looks at it: name, title, what it is.
const LAYERS: [(&str, &str, &str); 5] = [
    ("layers.zeros", "Zeros", "share of the codes"),
    ("layers.flips", "Flips", "share of the codes that a step changes"),
    (SCALE, "Scale drift", "mean scale, times the first one"),
    ("layers.edges", "Near an edge", "share of the weights close to a threshold"),
    ("layers.gradient", "Gradient norm", "before clipping"),
];
/// The scales themselves say little; how far they moved does.
const SCALE: &str = "layers.scale";
/// Bytes of a weight as Q8_0 has it: 32 of a byte each share a scale of two.
const Q8_0_BYTES: f64 = 34.0 / 32.0;
/// Columns that are no measurement.
const NOT_DRAWN: [&str; 3] = ["tokens", "weight_decay", "score"];

/// The page of a run. A browser loads it again every `refresh_s` seconds, if that is given: while the run goes on.
pub fn page(report: &Report, metrics: &Metrics, refresh_s: Option<u32>) -> String {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    add_filters(&mut environment);
    environment.add_template("page", include_str!("page.html")).expect("the template parses");
    let template = environment.get_template("page").expect("the only template");
    let lengths = lengths(report);
    let values = context! {
        report => report,
        refresh_s => refresh_s,
        contamination => report.contamination(),
        curves => curves(metrics),
        layers => layers(metrics),
        scores => scores(metrics),
        times_smaller => report.times_smaller(),
        sizes => sizes(report),
        reach => report.comparisons.iter().flat_map(|one| [one.low.abs(), one.high.abs()]).fold(0.01, f64::max),
        trained_tokens => metrics.column("tokens").last().map(|last| last.1),
        lengths,
        longest => lengths.iter().map(|length| length.1).fold(1.0, f64::max),
        config => if report.config.is_null() { String::new() } else { format!("{:#}", report.config) },
    };
    template.render(values).expect("the template fits the report")
}

/// The packed file beside the same student at other precisions; the packed file of a student of full precision is f16 itself.
fn sizes(report: &Report) -> Vec<Value> {
    let f16 = report.f16_bytes as f64;
    let kind = |name: &str, bytes: f64, speed: [Option<f64>; 2]| {
        let share = if bytes == f16 { "1".to_owned() } else { format!("1/{:.1}", f16 / bytes) };
        let [decode, prefill] = speed;
        (bytes > 0.0).then(|| context! { name, bytes, share, decode, prefill })
    };
    let rates = |speed: Option<Speed>| [speed.map(|speed| speed.decode_tokens_per_s), speed.map(|speed| speed.prefill_tokens_per_s)];
    let packed = kind("this student, packed", report.packed_bytes as f64, [report.decode_tokens_per_s, report.prefill_tokens_per_s]);
    let q8 = kind("Q8_0", report.parameters as f64 * Q8_0_BYTES, rates(report.eight_bit_speed));
    [packed, q8, kind("f16", f16, rates(report.full_precision_speed))].into_iter().flatten().collect()
}

/// How many kept traces have at most so many tokens, and more than the one before, by length.
fn lengths(report: &Report) -> Vec<(f64, f64)> {
    let number = |(length, count): (&String, &serde_json::Value)| Some((length.parse().ok()?, count.as_f64()?));
    let mut lengths: Vec<(f64, f64)> = report.dataset["lengths"].as_object().into_iter().flatten().filter_map(number).collect();
    lengths.sort_by(|one, other| one.0.total_cmp(&other.0));
    lengths
}

/// The loss is noise and trend, and smoothed; everything else is shown as it was. Known curves first, then every other number that the
/// trainer wrote.
fn curves(metrics: &Metrics) -> Vec<Value> {
    let known = CURVES.iter().map(|(name, title, what)| (*name, (*title).to_owned(), *what));
    let is_other = |name: &&str| !NOT_DRAWN.contains(name) && !CURVES.iter().any(|(known, ..)| known == name);
    let others = metrics.names().filter(is_other).map(|name| (name, words(name), ""));
    let draw = |(name, title, what): (&str, String, &str)| {
        let points = metrics.column(name);
        let smoothing = match name {
            "rate" => Smoothing::Schedule,
            name if name.starts_with("loss") => Smoothing::Centred,
            _ => Smoothing::None,
        };
        let svg = plot::curve(&title, points, smoothing)?;
        let last = points.last().map(|point| point.1);
        Some(context! { title, what, last, svg => Value::from_safe_string(svg) })
    };
    known.chain(others).filter_map(draw).collect()
}

fn layers(metrics: &Metrics) -> Vec<Value> {
    let known = LAYERS.iter().map(|(name, title, what)| (*name, (*title).to_owned(), *what));
    let is_other = |name: &&str| !LAYERS.iter().any(|(known, ..)| known == name);
    let others = metrics.layer_names().filter(is_other).map(|name| (name, words(name), ""));
    let draw = |(name, title, what): (&str, String, &str)| {
        let svg = if name == SCALE { plot::layers(&title, &drift(metrics.layer(name))) } else { plot::layers(&title, metrics.layer(name)) };
        Some(context! { title, what, svg => Value::from_safe_string(svg?) })
    };
    known.chain(others).filter_map(draw).collect()
}

/// Each layer's values as multiples of its first.
fn drift(steps: &[(f64, Vec<f64>)]) -> Vec<(f64, Vec<f64>)> {
    let Some((_, first)) = steps.first() else { return Vec::new() };
    let times = |values: &[f64]| values.iter().zip(first).map(|(value, first)| value / first).collect();
    steps.iter().map(|(step, values)| (*step, times(values))).collect()
}

fn scores(metrics: &Metrics) -> Vec<Value> {
    let draw = |(set, scores): (&str, &[Measured])| {
        let svg = plot::scores(set, scores)?;
        let last = scores.last().map(|score| score.accuracy);
        Some(context! { set, last, svg => Value::from_safe_string(svg) })
    };
    metrics.scores().filter_map(draw).collect()
}

fn words(name: &str) -> String {
    name.trim_start_matches("layers.").replace(['_', '.'], " ")
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::journal::tests::{problems, said, settings};
    use crate::report::{Machine, Packing, Stage, pick_samples};
    use crate::{ChoiceScore, Share, System, compare, score};

    /// A run that has everything.
    pub(in crate::report) fn whole() -> Report {
        let mut problems = problems(40);
        problems.iter_mut().enumerate().for_each(|(i, problem)| problem.steps = Some(1 + i as u32 % 3));
        problems[1].question = "Is 1 < 2 & \"<script>alert(1)</script>\"?".into();
        let answer = |i: usize, fits: bool| {
            said(i, &format!("<think>\n{i} + 1 = {}\n</think>\n\nThe answer is {}.", i + 1, if fits { i + 1 } else { i }))
        };
        let completions: Vec<_> = (0..40).map(|i| answer(i, i % 4 != 1)).collect();
        let twin: Vec<_> = (0..40).map(|i| answer(i, i % 5 != 1)).collect();
        let systems = [("full precision", &twin), ("ternary", &completions)].map(|(name, completions)| System { name, completions });
        Report {
            run: "proof".into(),
            eval: BTreeMap::from([("held_out".into(), score(&problems, &completions, Some(&settings())))]),
            choices: BTreeMap::from([(
                "mmlu".into(),
                ChoiceScore {
                    n: 100,
                    chance: 0.25,
                    letters: Share { accuracy: 0.31, low: 0.23, high: 0.41, standard_error: None },
                    ..ChoiceScore::default()
                },
            )]),
            comparisons: vec![compare("held_out", &problems, systems[0], systems[1]).unwrap()],
            student: "bitnet, 4 layers of width 256, ternary with one scale per row".into(),
            parameters: 2_500_000,
            packed_bytes: 812_345,
            f16_bytes: 5_000_000,
            decode_tokens_per_s: Some(1_234.5),
            prefill_tokens_per_s: Some(8_000.0),
            train_tokens_per_s: Some(2_100.0),
            wall_s: 512.0,
            stages: vec![
                Stage { name: "ingest".into(), wall_s: 4.2, loss: None },
                Stage { name: "train".into(), wall_s: 480.0, loss: Some(0.25) },
            ],
            machine: Machine { cpu: "a processor".into(), threads: 2, kernel: "avx512-vnni".into() },
            files: BTreeMap::from([("student".into(), "student.gguf".into())]),
            commands: vec!["tristill distill configs/proof.toml".into()],
            config: serde_json::json!({ "train": { "steps": 100 } }),
            dataset: serde_json::json!({ "sources": [{
                "path": "synth.jsonl", "layout": "messages", "licence": null, "rows": 1000, "traces": 1000, "kept": 940,
                "dropped": { "duplicate": 50, "wrong_answer": 10 }, "verified": 940,
            }], "lengths": { "64": 900, "128": 40 } }),
            packing: Some(Packing { traces: 940, rows: 120, context: 512, tokens: 60_000, supervised_tokens: 40_000 }),
            full_precision_speed: Some(Speed { decode_tokens_per_s: 321.0, prefill_tokens_per_s: 654.0 }),
            eight_bit_speed: Some(Speed { decode_tokens_per_s: 432.0, prefill_tokens_per_s: 765.0 }),
            samples: BTreeMap::from([("held_out".into(), pick_samples(&problems, &completions, 2))]),
            ..Report::default()
        }
    }

    #[test]
    fn the_page_stands_alone() {
        let page = page(&whole(), &Metrics::default(), None);
        for text in [
            "75.0 %",
            "1,234",
            "avx512-vnni",
            "tristill distill configs&#x2f;proof.toml",
            "duplicate",
            "full precision",
            "31.0 %",
            "60,000",
            "up to 128",
            "321",
        ] {
            assert!(page.contains(text), "{text} is missing");
        }
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        for outside in ["http://", "https://", "src=", "@import"] {
            assert!(!page.replace("http://www.w3.org", "").contains(outside), "{outside}");
        }
    }

    #[test]
    fn contamination_is_told_for_each_set() {
        let mut report = whole();
        let not_looked_for = "Contamination: its questions were not looked for in the training traces.";
        assert_eq!(report.contamination()["mmlu"], not_looked_for);
        report.dataset["decontaminated_against"] = serde_json::json!({ "held_out": 40 });
        report.dataset["touches"] = serde_json::json!({ "held_out": { "13_words": 3, "8_words": 5 } });
        report.dataset["sources"][0]["dropped"]["contaminated"] = 3.into();
        let found = report.contamination();
        assert!(found["held_out"].contains("its 40 questions were looked for in all 1,000 training traces, whole, or 13"), "{found:?}");
        assert!(found["held_out"].contains("; 3 traces that hold a question of a scored set were dropped. "), "{found:?}");
        assert!(found["held_out"].ends_with("3 share 13 words in a row, 5 share 8 words in a row."), "{found:?}");
        assert_eq!(found["mmlu"], not_looked_for);
        report.config = serde_json::json!({ "data": { "rules": { "decontaminate": "off" } } });
        assert_eq!(report.contamination()["held_out"], not_looked_for);
        report.dataset["decontaminate_off_because"] = "it is a test".into();
        assert!(report.contamination()["held_out"].ends_with("in the training traces: it is a test"));
        assert!(Report::default().contamination().is_empty());
    }

    #[test]
    fn what_was_measured_is_drawn() {
        let page = page(&whole(), &crate::report::metrics::tests::everything(), None);
        for figure in ["Loss", "Learning rate", "Zeros", "Flips", "Scale drift", "held_out"] {
            assert!(page.contains(&format!("aria-label=\"{figure} over training steps\"")), "{figure} is missing");
        }
        assert!(!page.contains("aria-label=\"tokens over"));
    }

    #[test]
    fn a_run_that_has_only_begun_has_a_page() {
        let page = page(&Report::default(), &Metrics::default(), Some(5));
        assert!(page.contains("</html>") && page.contains("<meta http-equiv=\"refresh\" content=\"5\">"));
        assert!(!page.contains("Size and speed"));
    }
}
