//! OpenR1-Math: one problem with several generations, and a list of verdicts for each list of generations. The lists are read
//! side by side; comparing one with a single value is how a loader loses every row without a word.

use serde_json::Value;
use task::Trace;

use super::{Candidate, Found, Object, first_of, id, list, reasoning, text};
use crate::rules::{Drop, Rule};

pub(super) fn fits(row: &Object) -> bool {
    matches!(row.get("problem"), Some(Value::String(_))) && matches!(row.get("generations"), Some(Value::Array(_)))
}

pub(super) fn read(row: &Object) -> Found {
    let (question, generations) = match (text(row, "problem"), list(row, "generations")) {
        (Ok(question), Ok(generations)) => (question.trim(), generations),
        (Err(drop), _) | (_, Err(drop)) => return vec![Err(drop)],
    };
    if generations.is_empty() {
        return vec![Err(Drop::new(Rule::Incomplete, "generations is an empty list"))];
    }
    let of_generation = |key: &str, at: usize| row.get(key).and_then(Value::as_array).and_then(|list| list.get(at));
    let is_true = |key: &str, at: usize| of_generation(key, at).and_then(Value::as_bool);
    let one = |at: usize, generation: &Value| {
        let Some(written) = generation.as_str() else {
            return Err(Drop::new(Rule::Incomplete, format!("generation {} is no text", at + 1)));
        };
        if is_true("is_reasoning_complete", at) == Some(false) {
            return Err(Drop::new(Rule::Unfinished, format!("is_reasoning_complete of generation {} is false", at + 1)));
        }
        let (reasoning, answer) = reasoning::split(written)?;
        let id = format!("{}#{at}", id(row));
        let trace = Trace { id, system: None, question: question.to_owned(), reasoning, answer, reference: first_of(row, &["answer"]) };
        let stopped_by = of_generation("finish_reasons", at).and_then(Value::as_str).map(str::to_owned);
        // Either checker's yes is a yes, as the set's authors filter it.
        let verdicts = [is_true("correctness_math_verify", at), is_true("correctness_llama", at)];
        let is_right = verdicts.into_iter().flatten().reduce(|one, other| one || other);
        Ok(Candidate { stopped_by, is_right, ..Candidate::of(trace) })
    };
    generations.iter().enumerate().map(|(at, generation)| one(at, generation)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_has_its_own_verdicts() {
        let row: Object = serde_json::from_str(
            r#"{"problem": "1 + 1?", "solution": "2", "answer": "2", "uuid": "u", "is_reasoning_complete": [true, true, false, true],
                "generations": ["<think>a</think>2", "<think>b</think>3", "<think>c", "<think>d</think>two"],
                "correctness_math_verify": [true, false, false, false], "correctness_llama": [null, false, false, true],
                "finish_reasons": ["stop", "stop", "length", null]}"#,
        )
        .unwrap();
        assert!(fits(&row));
        let found = read(&row);
        let good = |at: usize| found[at].as_ref().unwrap();
        assert_eq!((good(0).trace.id.as_str(), good(0).trace.reasoning.as_str(), good(0).is_right), ("u#0", "a", Some(true)));
        assert_eq!((good(1).trace.answer.as_str(), good(1).is_right), ("3", Some(false)));
        assert_eq!(found[2].as_ref().unwrap_err().rule, Rule::Unfinished);
        assert_eq!((good(3).is_right, good(3).stopped_by.as_deref()), (Some(true), None));
        assert_eq!(good(3).trace.reference.as_deref(), Some("2"));
    }

    #[test]
    fn a_row_without_generations_is_one_dropped_row() {
        let found = read(&serde_json::from_str(r#"{"problem": "1 + 1?", "generations": []}"#).unwrap());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].as_ref().unwrap_err().detail, "generations is an empty list");
    }
}
