//! A question with a worked chain of thought in one text and the reference answer in another column: ReFT (`answer_cot`,
//! `answer_value`), LIMO and the like (`solution`, `answer`). Where the last line states the answer, that line is what follows
//! the reasoning; otherwise the text stays whole.

use task::{Reading, Trace};

use super::{Candidate, Found, Object, first_of, id, reasoning, text};
use crate::rules::Drop;

/// Question, chain of thought and reference of each family.
const FAMILIES: [(&str, &str, &str); 4] = [
    ("question", "answer_cot", "answer_value"),
    ("question", "solution", "answer"),
    ("problem", "solution", "answer"),
    ("problem", "solution", "expected_answer"),
];

pub(super) fn fits(row: &Object) -> bool {
    family(row).is_some()
}

pub(super) fn read(row: &Object) -> Found {
    vec![trace(row).map(Candidate::of)]
}

fn family(row: &Object) -> Option<&'static (&'static str, &'static str, &'static str)> {
    FAMILIES.iter().find(|(question, written, reference)| [question, written, reference].iter().all(|key| row.contains_key(**key)))
}

fn trace(row: &Object) -> Result<Trace, Drop> {
    let (question, written, reference) = family(row).unwrap_or(&FAMILIES[0]);
    let question = text(row, question)?.trim().to_owned();
    let (reasoning, answer) = reasoning::split_worked(text(row, written)?)?;
    let reference = first_of(row, &[reference]).map(|reference| same_double(&answer, &reference).unwrap_or(reference));
    Ok(Trace { id: id(row), system: None, question, reasoning, answer, reference })
}

/// The answer's own number where the reference is the same one but for the last digits of a double. Such a reference was worked out
/// by a program and printed (0.4166666666666667, 3.3000000000000003); a double holds 15 decimal digits, and what follows depends on
/// the order in which the program calculated. A difference that a person could mean is far larger.
fn same_double(answer: &str, reference: &str) -> Option<String> {
    const UNITS_IN_THE_LAST_PLACE: f64 = 4.0;
    let Reading::Number { span, .. } = task::read(answer) else { return None };
    let (said, printed) = (&answer[span], reference.trim());
    let (Ok(one), Ok(other)) = (said.parse::<f64>(), printed.parse::<f64>()) else { return None };
    let is_printed = |text: &str| text.split_once('.').is_some_and(|(whole, digits)| whole.len() + digits.len() >= 16);
    let is_same = (one - other).abs() <= UNITS_IN_THE_LAST_PLACE * f64::EPSILON * other.abs();
    (is_same && (is_printed(said) || is_printed(printed))).then(|| said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(line: &str) -> (String, String, Option<String>) {
        let row = serde_json::from_str(line).unwrap();
        assert!(fits(&row), "{line}");
        let trace = trace(&row).unwrap();
        (trace.reasoning, trace.answer, trace.reference)
    }

    #[test]
    fn the_last_line_is_the_answer_where_it_states_one() {
        let reft = read_one(
            r#"{"item_id": "svamp_0", "question": "How many pairs?", "answer_value": "203.0",
                "answer_cot": "29 species * 7 pairs = 203 pairs\n\nTherefore, the answer is <203>."}"#,
        );
        assert_eq!(reft, ("29 species * 7 pairs = 203 pairs".into(), "Therefore, the answer is <203>.".into(), Some("203.0".into())));
        let limo = read_one(r#"{"question": "1 + 1?", "solution": "Okay, 1 + 1 is 2.\n\n**Final Answer**\n\\boxed{2}", "answer": "2"}"#);
        assert_eq!(limo, ("Okay, 1 + 1 is 2.".into(), "**Final Answer**\n\\boxed{2}".into(), Some("2".into())));
        let whole = read_one(r#"{"problem": "1 + 1?", "solution": "One and one\nmakes a pair.", "answer": 2}"#);
        assert_eq!(whole, (String::new(), "One and one\nmakes a pair.".into(), Some("2".into())));
        let thought = read_one(r#"{"question": "1 + 1?", "solution": "<think>a</think>b", "answer": "2"}"#);
        assert_eq!((thought.0.as_str(), thought.1.as_str()), ("a", "b"));
    }

    #[test]
    fn a_reference_that_a_program_printed_is_read_as_the_double_it_is() {
        let same = |answer: &str, reference: &str| same_double(&format!("The answer is <{answer}>."), reference);
        for (answer, reference) in [
            ("0.41666666666666663", "0.4166666666666667"),
            ("1.333333333333333", "1.3333333333333333"),
            ("3.3", "3.3000000000000003"),
            ("-10.333333333333332", "-10.333333333333334"),
        ] {
            assert_eq!(same(answer, reference).as_deref(), Some(answer));
        }
        for (answer, reference) in
            [("3.33", "3.3333333333333335"), ("3.2", "3.3"), ("0.333333333333", "0.3333333333333333"), ("12", "12.0")]
        {
            assert_eq!(same(answer, reference), None, "{answer}");
        }
        let line = r#"{"question": "?", "answer_cot": "5 / 12\n\nTherefore, the answer is <0.41666666666666663>.", "answer_value": "0.4166666666666667"}"#;
        let (_, answer, reference) = read_one(line);
        assert_eq!(task::mark(&answer, &reference.unwrap()), task::Verdict::Right);
    }
}
