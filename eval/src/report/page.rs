//! `report.html`: one file that needs nothing else, no network and no script, light and dark, on a phone too.

use minijinja::{AutoEscape, Environment, Value, context};

use super::metrics::Measured;
use super::numbers::add_filters;
use super::plot::{self, Smoothing};
use super::{Metrics, Report};

/// The curves that every run has, in the order in which one looks at them: column, title, what it is.
const CURVES: [(&str, &str, &str); 5] = [
    ("loss", "Loss", "nats per supervised token"),
    ("rate", "Learning rate", ""),
    ("gradient_norm", "Gradient norm", "before clipping"),
    ("tokens_per_s", "Speed", "tokens per second"),
    ("zeros", "Zeros", "share of the ternary codes"),
];
/// What is measured per layer: name, title, what it is.
const LAYERS: [(&str, &str, &str); 3] = [
    ("layers.zeros", "Zeros by layer", "share of the codes"),
    ("layers.flips", "Flips by layer", "share of the codes per step"),
    ("layers.scale", "Scale by layer", "against the first step"),
];
/// Columns that are no measurement.
const NOT_DRAWN: [&str; 2] = ["tokens", "weight_decay"];

/// The page of a run. A browser loads it again every `refresh_s` seconds, if that is given: while the run goes on.
pub fn page(report: &Report, metrics: &Metrics, refresh_s: Option<u32>) -> String {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    add_filters(&mut environment);
    environment.add_template("page", include_str!("page.html")).expect("the template parses");
    let template = environment.get_template("page").expect("the only template");
    let values = context! {
        report => report,
        refresh_s => refresh_s,
        contamination => report.contamination(),
        curves => curves(metrics),
        layers => layers(metrics),
        scores => scores(metrics),
        times_smaller => report.times_smaller(),
        q8_bytes => report.parameters as f64 * 34.0 / 32.0,
        config => if report.config.is_null() { String::new() } else { format!("{:#}", report.config) },
    };
    template.render(values).expect("the template fits the report")
}

/// The loss is noise and trend, and smoothed; everything else is shown as it was. Known curves first, then every other number that the
/// trainer wrote.
fn curves(metrics: &Metrics) -> Vec<Value> {
    let known = CURVES.iter().map(|(name, title, what)| (*name, (*title).to_owned(), *what));
    let is_other = |name: &&str| !NOT_DRAWN.contains(name) && !CURVES.iter().any(|(known, ..)| known == name);
    let others = metrics.names().filter(is_other).map(|name| (name, words(name), ""));
    let draw = |(name, title, what): (&str, String, &str)| {
        let points = metrics.column(name);
        let smoothing = if name.starts_with("loss") { Smoothing::Centred } else { Smoothing::None };
        let svg = plot::curve(&title, points, smoothing)?;
        let last = points.last().map(|point| point.1);
        Some(context! { title, what, last, svg => Value::from_safe_string(svg) })
    };
    known.chain(others).filter_map(draw).collect()
}

fn layers(metrics: &Metrics) -> Vec<Value> {
    let draw = |(name, steps): (&str, &[(f64, Vec<f64>)])| {
        let known = LAYERS.iter().find(|(known, ..)| *known == name);
        let (title, what) = known.map_or_else(|| (words(name), ""), |(_, title, what)| ((*title).to_owned(), *what));
        let svg = plot::layers(&title, steps)?;
        Some(context! { title, what, svg => Value::from_safe_string(svg) })
    };
    metrics.layers().filter_map(draw).collect()
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
    name.replace(['_', '.'], " ")
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::journal::tests::{problems, said, settings};
    use crate::report::{Machine, Stage, pick_samples};
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
            stages: vec![Stage { name: "ingest".into(), wall_s: 4.2 }, Stage { name: "train".into(), wall_s: 480.0 }],
            machine: Machine { cpu: "a processor".into(), threads: 2, kernel: "avx512-vnni".into() },
            files: BTreeMap::from([("student".into(), "student.gguf".into())]),
            commands: vec!["tristill distill configs/proof.toml".into()],
            config: serde_json::json!({ "train": { "steps": 100 } }),
            dataset: serde_json::json!({ "sources": [{
                "path": "synth.jsonl", "layout": "messages", "licence": null, "rows": 1000, "traces": 1000, "kept": 940,
                "dropped": { "duplicate": 50, "wrong_answer": 10 }, "verified": 940,
            }] }),
            samples: BTreeMap::from([("held_out".into(), pick_samples(&problems, &completions, 2))]),
            ..Report::default()
        }
    }

    #[test]
    fn the_page_stands_alone() {
        let page = page(&whole(), &Metrics::default(), None);
        for text in ["75.0 %", "1,234", "avx512-vnni", "tristill distill configs&#x2f;proof.toml", "duplicate", "full precision", "31.0 %"]
        {
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
        report.dataset["sources"][0]["dropped"]["contaminated"] = 3.into();
        let found = report.contamination();
        assert!(found["held_out"].contains("its 40 questions were looked for in all 1,000 training traces, whole, or 13"), "{found:?}");
        assert!(found["held_out"].contains("; 3 traces were dropped") && found["mmlu"] == not_looked_for, "{found:?}");
        report.config = serde_json::json!({ "data": { "rules": { "decontaminate": "off" } } });
        assert_eq!(report.contamination()["held_out"], not_looked_for);
        assert!(Report::default().contamination().is_empty());
    }

    #[test]
    fn what_was_measured_is_drawn() {
        let page = page(&whole(), &crate::report::metrics::tests::everything(), None);
        for figure in ["Loss", "Learning rate", "Zeros by layer", "Flips by layer", "Scale by layer", "held_out"] {
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
