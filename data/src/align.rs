//! The teacher's probabilities, laid on the student's tokens by bytes. A student's token has a target where the teacher wrote a token
//! of exactly the same bytes at the same place of the text; what does not line up has none, and is counted. Of the alternatives
//! those count that are one token of the student; all other probability is the tail.

use std::collections::HashMap;

use model::Tokenizer;
use task::Trace;

use crate::layout::MARKS;
use crate::teacher::{Alternative, Step};

/// Targets of some of a document's tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Targets {
    /// Which tokens have one: ascending places in the document.
    pub at: Vec<u32>,
    /// `top_k` of the student's tokens for each, the most likely first, filled up with token 0.
    pub ids: Vec<u32>,
    /// The logarithms of their probabilities, filled up with minus infinity.
    pub logprobs: Vec<f32>,
    /// The probability of all other tokens together.
    pub tails: Vec<f32>,
}

/// What stands before the reasoning in a completion.
const OPENING: &str = "<think>\n";

/// How a teacher's tokens become the student's.
pub(crate) struct Aligner<'a> {
    tokenizer: &'a Tokenizer,
    /// How many alternatives a target has.
    top_k: usize,
    by_bytes: HashMap<&'a [u8], u32>,
}

/// A stretch of bytes that student and teacher have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    /// In the student's text.
    start: usize,
    end: usize,
    /// In the teacher's.
    teacher_start: usize,
}

impl<'a> Aligner<'a> {
    pub fn new(tokenizer: &'a Tokenizer, top_k: usize) -> Self {
        let mut by_bytes = HashMap::new();
        for token in 0..tokenizer.vocab() as u32 {
            let bytes = tokenizer.token_bytes(token);
            if !bytes.is_empty() {
                by_bytes.entry(bytes).or_insert(token);
            }
        }
        Self { tokenizer, top_k, by_bytes }
    }

    /// The targets of a completion's tokens, which are counted from `first`; the last one ends the turn. `of_teacher` says how many
    /// alternatives this source stores, `ids_count` whether the teacher's numbers are the student's.
    #[allow(clippy::too_many_arguments)]
    pub fn align(
        &self,
        steps: &[Step],
        trace: &Trace,
        completion: &str,
        tokens: &[u32],
        first: usize,
        of_source: usize,
        ids_count: bool,
    ) -> Targets {
        let mut targets = Targets::default();
        let spelled = |step: &Step| match step.id.filter(|_| ids_count) {
            Some(id) => self.spelled(id),
            None => step.bytes.clone(),
        };
        let mut starts = Vec::with_capacity(steps.len() + 1);
        let mut said = Vec::new();
        for step in steps {
            starts.push(said.len());
            said.extend(spelled(step));
        }
        starts.push(said.len());
        let (last, written) = tokens.split_last().expect("a completion ends its turn");
        let texts: Vec<Vec<u8>> = written.iter().map(|&token| self.spelled(token)).collect();
        // A tokenizer that changes the text cannot be laid over it.
        if texts.concat() != completion.as_bytes() {
            return targets;
        }
        let stretches = stretches(completion.as_bytes(), trace, &said);
        let mut at = 0;
        for (place, text) in texts.iter().enumerate() {
            let (start, end) = (at, at + text.len());
            at = end;
            let Some(stretch) = stretches.iter().find(|stretch| stretch.start <= start && end <= stretch.end) else { continue };
            let teacher_start = stretch.teacher_start + start - stretch.start;
            // Of several steps that begin here, all but the last are empty.
            let step = starts.partition_point(|&other| other <= teacher_start) - 1;
            if step < steps.len() && starts[step] == teacher_start && starts[step + 1] == teacher_start + text.len() {
                self.push(&mut targets, first + place, &steps[step].alternatives, of_source, ids_count);
            }
        }
        // The end of the turn has no bytes, so that only its number tells it.
        let end = stretches
            .last()
            .filter(|stretch| stretch.end == completion.len())
            .map(|stretch| stretch.teacher_start + stretch.end - stretch.start);
        let ends_here = |(step, start): (&Step, &usize)| Some(*start) == end && step.id == Some(*last);
        if let Some(step) = steps.iter().zip(&starts).position(ends_here).filter(|_| ids_count) {
            self.push(&mut targets, first + written.len(), &steps[step].alternatives, of_source, ids_count);
        }
        targets
    }

    fn push(&self, targets: &mut Targets, at: usize, alternatives: &[Alternative], of_source: usize, ids_count: bool) {
        let mut found: Vec<(u32, f32)> = Vec::with_capacity(of_source);
        for alternative in alternatives {
            let id = match alternative.id.filter(|_| ids_count) {
                Some(id) => Some(id).filter(|&id| (id as usize) < self.tokenizer.vocab()),
                None => self.by_bytes.get(alternative.bytes.as_slice()).copied(),
            };
            if let Some(id) = id
                && found.len() < of_source
                && found.iter().all(|(known, _)| *known != id)
            {
                found.push((id, alternative.logprob.min(0.0)));
            }
        }
        if found.is_empty() {
            return;
        }
        let mass: f64 = found.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
        targets.at.push(at as u32);
        targets.tails.push((1.0 - mass).clamp(0.0, 1.0) as f32);
        found.resize(self.top_k, (0, f32::NEG_INFINITY));
        targets.ids.extend(found.iter().map(|(id, _)| id));
        targets.logprobs.extend(found.iter().map(|(_, logprob)| logprob));
    }

    /// The bytes that a token stands for; a control token stands for its name.
    fn spelled(&self, token: u32) -> Vec<u8> {
        match self.tokenizer.token_bytes(token) {
            [] => self.tokenizer.token_text(token).into_bytes(),
            bytes => bytes.to_vec(),
        }
    }
}

/// The stretches of a trace's completion that stand in the teacher's text too: its reasoning and its answer, and what agrees around
/// them. Before and between them the teacher may have written marks and white space alone; anything else means that the text was
/// changed, and then nothing is laid on it.
fn stretches(completion: &[u8], trace: &Trace, said: &[u8]) -> Vec<Stretch> {
    let mut found: Vec<Stretch> = Vec::new();
    let mut place = |text: &str, start: usize, from: usize| {
        let teacher_start = after_marks(said, from);
        let is_there = said[teacher_start..].starts_with(text.as_bytes()) && !text.is_empty();
        if is_there {
            found.push(Stretch { start, end: start + text.len(), teacher_start });
        }
        is_there.then_some(teacher_start + text.len())
    };
    let after_reasoning = place(&trace.reasoning, OPENING.len(), 0);
    // A server that gives the reasoning apart gives the probabilities of the answer alone.
    place(&trace.answer, completion.len() - trace.answer.len(), after_reasoning.unwrap_or(0));
    for at in 0..found.len() {
        let least = if at == 0 { 0 } else { found[at - 1].end };
        let most = found.get(at + 1).map_or(completion.len(), |next| next.start);
        let Stretch { start, end, teacher_start } = &mut found[at];
        while *start > least && *teacher_start > 0 && completion[*start - 1] == said[*teacher_start - 1] {
            *start -= 1;
            *teacher_start -= 1;
        }
        while *end < most && said.get(*teacher_start + *end - *start) == completion.get(*end) {
            *end += 1;
        }
    }
    found
}

/// The first byte from `at` on that belongs to no mark and is no white space.
fn after_marks(said: &[u8], mut at: usize) -> usize {
    loop {
        let rest = &said[at..];
        match MARKS.iter().find(|mark| rest.starts_with(mark.as_bytes())) {
            Some(mark) => at += mark.len(),
            None if rest.first().is_some_and(u8::is_ascii_whitespace) => at += 1,
            None => return at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer whose tokens of several bytes are known words.
    fn tokenizer() -> Tokenizer {
        let texts = (0..200).map(|number| format!("One and one is two, number {number}.\n<think>\n</think>\n\nThe answer is {number}"));
        Tokenizer::train(texts, 330).unwrap()
    }

    fn trace(reasoning: &str, answer: &str) -> Trace {
        Trace { id: String::new(), system: None, question: "?".into(), reasoning: reasoning.into(), answer: answer.into(), reference: None }
    }

    fn step(text: &str, id: Option<u32>, others: &[(&str, f32)]) -> Step {
        let other =
            |(text, probability): &(&str, f32)| Alternative { bytes: text.as_bytes().to_vec(), id: None, logprob: probability.ln() };
        Step::new(text.as_bytes().to_vec(), id, others.iter().map(other))
    }

    /// The student's tokens of a completion, with the end of the turn.
    fn tokens(tokenizer: &Tokenizer, trace: &Trace) -> Vec<u32> {
        let mut tokens = tokenizer.encode(&trace.completion()).unwrap();
        tokens.push(tokenizer.end_of_turn());
        tokens
    }

    #[test]
    #[allow(clippy::type_complexity)]
    fn tokens_of_the_same_bytes_have_a_target_and_the_rest_is_tail() {
        let tokenizer = tokenizer();
        let trace = trace("One and one", "The answer is 2");
        let tokens = tokens(&tokenizer, &trace);
        let text = |at: u32| tokenizer.token_text(tokens[at as usize - 100]);
        let steps = [
            step("<think>", None, &[("<think>", 1.0)]),
            step("\n", None, &[("\n", 0.75)]),
            step("One", None, &[("One", 0.5), (" zebra", 0.25), ("Tw", 0.125)]),
            step(" and one", None, &[(" and one", 1.0)]), // two tokens of the student
            step("\n</think>\n\n", None, &[]),
            step("The", None, &[("The", 0.5)]),
            step(" answer", None, &[(" answer", 0.5), (" number", 0.25)]),
            step(" is ", None, &[(" is ", 0.5)]),
            step("2", None, &[("2", 0.5), ("3", 0.5), ("4", 0.5)]),
        ];
        let aligner = Aligner::new(&tokenizer, 3);
        let targets = aligner.align(&steps, &trace, &trace.completion(), &tokens, 100, 2, false);
        let found: Vec<(String, Vec<(String, f32)>, f32)> = (0..targets.at.len())
            .map(|target| {
                let entries = (target * 3..target * 3 + 3).map(|at| (tokenizer.token_text(targets.ids[at]), targets.logprobs[at].exp()));
                (text(targets.at[target]), entries.filter(|(_, probability)| *probability > 0.0).collect(), targets.tails[target])
            })
            .collect();
        let entries =
            |entries: &[(&str, f32)]| entries.iter().map(|(text, probability)| ((*text).to_owned(), *probability)).collect::<Vec<_>>();
        assert!(found.contains(&("<think>".into(), entries(&[("<think>", 1.0)]), 0.0)), "{found:?}");
        // " zebra" is no token of the student, so that its mass is in the tail; only two alternatives are taken from this source.
        let (_, two, tail) = found.iter().find(|(text, ..)| text == "2").expect("2 is a token");
        assert!(*two == entries(&[("2", 0.5), ("3", 0.5)]) && *tail < 1e-6, "{found:?}");
        let (_, one, tail) = found.iter().find(|(text, ..)| text == "One").expect("One is a token");
        assert_eq!((one.as_slice(), *tail), (entries(&[("One", 0.5)]).as_slice(), 0.5));
        assert!(found.iter().any(|(text, ..)| text == " answer") && !found.iter().any(|(text, ..)| text == " and"), "{found:?}");
        assert!(targets.at.is_sorted() && targets.at.iter().all(|&at| at >= 100 && at < 100 + tokens.len() as u32 - 1));
    }

    #[test]
    fn a_text_that_was_changed_gets_no_target() {
        let tokenizer = tokenizer();
        let trace = trace("", "The answer is 2");
        let tokens = tokens(&tokenizer, &trace);
        let aligner = Aligner::new(&tokenizer, 1);
        let at = |steps: &[Step]| aligner.align(steps, &trace, &trace.completion(), &tokens, 0, 1, false).at.len();
        let said = |first: &'static str| {
            [step(first, None, &[(first, 1.0)]), step(" answer", None, &[(" answer", 1.0)]), step(" is 2", None, &[])]
        };
        assert_eq!(at(&said("The")), 2);
        assert_eq!(at(&said("  <answer>The")), 1);
        assert_eq!(at(&said("So the")), 0);
        assert_eq!(at(&[]), 0);
    }

    #[test]
    fn numbers_of_the_same_tokenizer_count_and_the_end_of_the_turn_has_one() {
        let tokenizer = tokenizer();
        let trace = trace("One and one is two", "The answer is 2");
        let tokens = tokens(&tokenizer, &trace);
        let steps: Vec<Step> = tokens
            .iter()
            .map(|&id| {
                // What servers print of half a character is not its bytes.
                let alternatives = [(id, -0.5), (tokenizer.token("\n").unwrap_or(0), -1.5)];
                let alternatives = alternatives.map(|(id, logprob)| Alternative { bytes: "\u{fffd}".into(), id: Some(id), logprob });
                Step::new("\u{fffd}".into(), Some(id), alternatives)
            })
            .collect();
        let aligner = Aligner::new(&tokenizer, 2);
        let targets = aligner.align(&steps, &trace, &trace.completion(), &tokens, 5, 2, true);
        assert_eq!(targets.at, (5..5 + tokens.len() as u32).collect::<Vec<_>>());
        assert!(targets.ids.chunks(2).zip(&tokens).all(|(ids, token)| ids[0] == *token));
        assert!(aligner.align(&steps, &trace, &trace.completion(), &tokens, 5, 2, false).at.is_empty());
    }
}
