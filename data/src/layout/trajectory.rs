//! Sets that keep reasoning and answer in columns of their own: s1K (thinking trajectory and attempt, once as texts and once as
//! lists) and OpenThoughts' metadata (reasoning and solution of DeepSeek).

use serde_json::Value;
use task::Trace;

use super::{Candidate, Found, Object, first_of, id, reasoning, text};
use crate::rules::{Drop, Rule};

/// Question, reasoning, answer and reference of each family. s1K's `solution` is a worked solution, not an answer, and its
/// grades are words, so that neither is a reference.
const FAMILIES: [(&str, &str, &str, Option<&str>); 3] = [
    ("question", "deepseek_thinking_trajectory", "deepseek_attempt", None),
    ("question", "thinking_trajectories", "attempt", None),
    ("problem", "deepseek_reasoning", "deepseek_solution", Some("ground_truth_solution")),
];

pub(super) fn fits(row: &Object) -> bool {
    FAMILIES.iter().any(|(question, reasoning, answer, _)| [question, reasoning, answer].iter().all(|key| row.contains_key(**key)))
}

pub(super) fn read(row: &Object) -> Found {
    vec![trace(row)]
}

fn trace(row: &Object) -> Result<Candidate, Drop> {
    let (question, thinking, answer, reference) = FAMILIES
        .iter()
        .find(|(_, thinking, ..)| row.contains_key(*thinking))
        .ok_or_else(|| Drop::new(Rule::Incomplete, format!("there is no column of reasoning; the row has {}", super::keys(row))))?;
    let question = text(row, question)?.trim().to_owned();
    let thinking = match row.get(*thinking) {
        // s1K keeps a list of one text.
        Some(Value::Array(texts)) => texts.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|texts| texts.join("\n")),
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    let thinking = thinking.ok_or_else(|| Drop::new(Rule::Incomplete, "the reasoning is no text"))?;
    let (reasoning, answer) = reasoning::joined(&thinking, text(row, answer)?)?;
    let reference = reference.and_then(|key| first_of(row, &[key]));
    let trace = Trace { id: id(row), system: None, question, reasoning, answer, reference };
    let is_right = match row.get("deepseek_grade").and_then(Value::as_str) {
        Some("Yes") => Some(true),
        Some("No") => Some(false),
        _ => None,
    };
    Ok(Candidate { is_right, ..Candidate::of(trace) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family() {
        let lines = [
            r#"{"question": "1 + 1?", "solution": "It is $2$.", "cot_type": "math", "deepseek_thinking_trajectory": "a\n", "deepseek_attempt": "2", "deepseek_grade": "Yes"}"#,
            r#"{"question": "1 + 1?", "solution": "It is $2$.", "thinking_trajectories": ["a"], "attempt": "2"}"#,
            r#"{"problem": "1 + 1?", "deepseek_reasoning": "a", "deepseek_solution": "2", "ground_truth_solution": "2", "domain": "math"}"#,
        ];
        for line in lines {
            let row: Object = serde_json::from_str(line).unwrap();
            assert!(fits(&row), "{line}");
            let found = trace(&row).unwrap();
            assert_eq!((found.trace.reasoning.as_str(), found.trace.answer.as_str()), ("a", "2"), "{line}");
            assert_eq!(found.trace.reference.is_some(), line.contains("ground_truth"));
            assert_eq!(found.is_right, line.contains("Yes").then_some(true));
        }
    }

    #[test]
    fn an_attempt_that_is_missing_is_named() {
        let row = serde_json::from_str(r#"{"question": "a", "thinking_trajectories": ["b"], "attempt": null}"#).unwrap();
        assert_eq!(trace(&row).unwrap_err().detail, "attempt is null, a text is needed");
    }
}
