//! Samples of a completion endpoint with the five best tokens of each step: `question`, `answer` (the reference, as in GSM8K) and
//! `steps`, each a list of `[text, probability]` whose first entry is the token that was chosen. The prompt was a worked example's
//! line, so that its label is taken off the question.

use serde_json::Value;
use task::Trace;

use super::{Candidate, Found, Object, id, list, reasoning, text};
use crate::rules::{Drop, Rule};
use crate::teacher::{Alternative, Step};

pub(super) fn fits(row: &Object) -> bool {
    let step = row.get("steps").and_then(Value::as_array).and_then(|steps| steps.first());
    row.contains_key("question") && step.and_then(|step| entry(step.get(0)?)).is_some()
}

pub(super) fn read(row: &Object) -> Found {
    vec![candidate(row)]
}

fn entry(entry: &Value) -> Option<Alternative> {
    let (text, probability) = (entry.get(0)?.as_str()?, entry.get(1)?.as_f64()?);
    Some(Alternative { bytes: text.as_bytes().to_vec(), id: None, logprob: probability.ln() as f32 })
}

fn candidate(row: &Object) -> Result<Candidate, Drop> {
    let question = text(row, "question")?.trim();
    let question = match question.split_once(": ") {
        Some((label, question))
            if label.strip_prefix("Question").is_some_and(|rest| rest.trim().bytes().all(|byte| byte.is_ascii_digit())) =>
        {
            question
        }
        _ => question,
    };
    let step = |step: &Value| {
        let entries: Vec<Alternative> = step.as_array()?.iter().map(entry).collect::<Option<_>>()?;
        Some(Step::new(entries.first()?.bytes.clone(), None, entries))
    };
    let steps = list(row, "steps")?.iter().map(step).collect::<Option<Vec<Step>>>();
    let steps = steps.ok_or_else(|| Drop::new(Rule::Incomplete, "a step is no list of pairs of a text and a probability"))?;
    let bytes: Vec<u8> = steps.iter().flat_map(|step| step.bytes.iter().copied()).collect();
    let written = String::from_utf8(bytes).map_err(|_| Drop::new(Rule::Incomplete, "the tokens do not make up a text"))?;
    let (reasoning, answer) = reasoning::split_worked(&written)?;
    let reference = text(row, "answer").ok().map(str::to_owned);
    let trace = Trace { id: id(row), system: None, question: question.to_owned(), reasoning, answer, reference };
    Ok(Candidate { teacher: Some(steps), ..Candidate::of(trace) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_tokens_make_up_the_text() {
        let row: Object = serde_json::from_str(
            r##"{"sample_idx": 0, "question": "Question 0: 1 + 1?\n", "answer": "Answer: 1 + 1 = <<1+1=2>>2\n#### 2\n", "steps": [
                [["One and one.", 0.5], ["One and one.", 0.5], ["!", 0.25]], [["\n", 1.0], ["\n", 1.0]],
                [["The answer is", 1.0]], [[" 2", 0.75], [" 3", 0.25], [" 2", 0.75]], [["\n\n", 1.0]]]}"##,
        )
        .unwrap();
        assert!(fits(&row));
        let found = candidate(&row).unwrap();
        assert_eq!(
            (found.trace.question.as_str(), found.trace.reasoning.as_str(), found.trace.answer.as_str()),
            ("1 + 1?", "One and one.", "The answer is 2")
        );
        let steps = found.teacher.unwrap();
        assert_eq!(
            steps[3].alternatives.iter().map(|it| (it.bytes.as_slice(), it.logprob.exp())).collect::<Vec<_>>(),
            [(&b" 2"[..], 0.75), (b" 3", 0.25)]
        );
    }
}
