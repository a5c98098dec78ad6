//! The `README.md` of a run's folder: what the student is, how good, and how to run it.

use minijinja::{AutoEscape, Environment, context};

use super::Report;
use super::numbers::add_filters;

/// The model card of a run's student, in the form that model hubs read. `file` is the packed file's name.
pub fn model_card(report: &Report, file: &str) -> String {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_trim_blocks(true);
    add_filters(&mut environment);
    environment.add_template("card", include_str!("model_card.md")).expect("the template parses");
    let template = environment.get_template("card").expect("the only template");
    template
        .render(context! { report, file, ternary => report.is_ternary(), times_smaller => report.times_smaller(), contamination => report.contamination() })
        .expect("the template fits the report")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::page::tests::whole;

    #[test]
    fn the_card_says_what_it_is_and_how_good() {
        let card = model_card(&whole(), "student.gguf");
        for text in ["| held_out | 75.0 % |", "tristill chat student.gguf", "| synth.jsonl | 1,000 | 940 |", "# proof"] {
            assert!(card.contains(text), "{text} is missing in\n{card}");
        }
        assert!(
            card.contains("| mmlu | 31.0 % |") && card.contains("held_out. Contamination: its questions were not looked for"),
            "{card}"
        );
        assert!(card.contains("A student with ternary weights") && card.contains("- ternary"));
        let twin = Report { student: "4 blocks of width 256, full precision".into(), ..whole() };
        assert!(!model_card(&twin, "student.gguf").to_lowercase().contains("ternary,") && !model_card(&twin, "x").contains("- ternary"));
        assert!(!model_card(&Report::default(), "student.gguf").is_empty());
    }
}
