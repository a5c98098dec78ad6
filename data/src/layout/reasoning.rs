//! Takes a teacher's text apart into reasoning and answer, by the marks that the families of teachers write.

use task::Reading;

use crate::rules::{Drop, Rule};

/// Marks around the reasoning. The opening one is often part of the prompt, so that the text starts without it.
const THINKING: [(&str, &str); 3] =
    [("<think>", "</think>"), ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<thinking>", "</thinking>")];

/// Marks around the answer, which are taken off.
const ANSWERS: [(&str, &str); 2] = [("<|begin_of_solution|>", "<|end_of_solution|>"), ("<answer>", "</answer>")];

/// All of them, as a teacher may write them around the parts of its text.
pub(crate) const MARKS: [&str; 10] = [
    "<think>",
    "</think>",
    "<|begin_of_thought|>",
    "<|end_of_thought|>",
    "<thinking>",
    "</thinking>",
    "<|begin_of_solution|>",
    "<|end_of_solution|>",
    "<answer>",
    "</answer>",
];

/// Reasoning and answer; the reasoning is blank where the text has no marks.
pub(super) fn split(text: &str) -> Result<(String, String), Drop> {
    for (open, close) in THINKING {
        let (opened, closed) = (text.matches(open).count(), text.matches(close).count());
        if opened == 0 && closed == 0 {
            continue;
        }
        if closed != 1 || opened > 1 {
            return Err(Drop::new(Rule::Unclosed, format!("the reasoning is opened {opened} times and closed {closed} times")));
        }
        let (reasoning, answer) = text.split_once(close).expect("it is closed once");
        let reasoning = match reasoning.split_once(open) {
            Some((before, reasoning)) if before.trim().is_empty() => reasoning,
            Some((before, _)) => {
                return Err(Drop::new(Rule::Unclosed, format!("{} characters stand before {open}", before.trim().chars().count())));
            }
            None if opened == 0 => reasoning,
            None => return Err(Drop::new(Rule::Unclosed, format!("{close} stands before {open}"))),
        };
        return joined(reasoning, answer);
    }
    joined("", text)
}

/// Like [`split`], but without marks the last line is the answer if it states one, and the lines before it are the reasoning.
pub(super) fn split_worked(text: &str) -> Result<(String, String), Drop> {
    let (reasoning, answer) = split(text)?;
    if !reasoning.is_empty() {
        return Ok((reasoning, answer));
    }
    let (before, last) = answer.rsplit_once('\n').unwrap_or(("", &answer));
    // The last number of a line is no statement: it may be any number.
    let states = |line: &str| matches!(task::read(line), Reading::Number { rule, .. } if rule != task::Rule::LastNumber);
    if before.trim().is_empty() || !states(last) {
        return Ok((reasoning, answer));
    }
    let before = before.trim_end();
    let heading = before.rsplit_once('\n').map_or(before, |(_, line)| line);
    let is_heading = heading.trim_matches(|character: char| "*#: ".contains(character)).eq_ignore_ascii_case("final answer");
    let split_at = if is_heading { before.len() - heading.len() } else { before.len() };
    Ok((answer[..split_at].trim().to_owned(), answer[split_at..].trim().to_owned()))
}

/// Reasoning and answer that stand apart from each other in the source.
pub(super) fn joined(reasoning: &str, answer: &str) -> Result<(String, String), Drop> {
    let mut answer = answer.trim().to_owned();
    for (open, close) in ANSWERS {
        if let Some(inner) = answer.strip_prefix(open) {
            answer = inner.replacen(close, "", 1).trim().to_owned();
        }
    }
    if answer.is_empty() {
        return Err(Drop::new(Rule::Unfinished, "nothing follows the reasoning"));
    }
    Ok((reasoning.trim().to_owned(), answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_each_family() {
        let cases = [
            ("<think>\n1 + 1 = 2\n</think>\n\nIt is 2.", Ok(("1 + 1 = 2", "It is 2."))),
            ("1 + 1 = 2\n</think>\n2", Ok(("1 + 1 = 2", "2"))),
            ("<think>a</think><answer>b</answer>", Ok(("a", "b"))),
            ("<answer>2</answer>\n\nI hope this helps.", Ok(("", "2\n\nI hope this helps."))),
            ("<answer>2", Ok(("", "2"))),
            ("<|begin_of_thought|>a<|end_of_thought|>\n\n<|begin_of_solution|>b<|end_of_solution|>", Ok(("a", "b"))),
            ("just 2", Ok(("", "just 2"))),
            ("<think>a", Err(Rule::Unclosed)),
            ("<think>a</think>b</think>c", Err(Rule::Unclosed)),
            ("<think>a<think>b</think>c", Err(Rule::Unclosed)),
            ("a</think><think>b", Err(Rule::Unclosed)),
            ("Sure! <think>a</think>b", Err(Rule::Unclosed)),
            ("<think>a</think>  ", Err(Rule::Unfinished)),
            ("  ", Err(Rule::Unfinished)),
        ];
        for (text, expected) in cases {
            let found = split(text);
            match (&found, &expected) {
                (Ok((reasoning, answer)), Ok(expected)) => assert_eq!((reasoning.as_str(), answer.as_str()), *expected, "{text}"),
                (Err(drop), Err(rule)) => assert_eq!(drop.rule, *rule, "{text}"),
                _ => panic!("{text}: {found:?}"),
            }
        }
    }
}
