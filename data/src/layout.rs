//! The layouts that files of traces come in. A layout turns a row into traces, or says why it cannot; it never guesses what a
//! trace says, and it never loses one.

mod chat_completion;
mod completions;
mod fields;
mod instruction;
mod json_text;
mod messages;
mod offline;
mod open_r1;
mod plain_text;
mod prompt;
mod prompt_completion;
mod question_answer;
mod reasoning;
pub(crate) mod requests;
mod sampled;
mod trajectory;
mod written;

pub use fields::Fields;
pub(crate) use messages::exchange_before;
pub(crate) use reasoning::MARKS;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use task::Trace;

use crate::Error;
use crate::config::Source;
use crate::rules::{Drop, Rule};
use crate::source::kind;
use crate::teacher::Step;

/// How the rows of a file are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Recognised from the first rows.
    #[default]
    Auto,
    /// A line of the output of OpenAI's Batch API: `custom_id`, `response.body`, `error`.
    Batch,
    /// A chat completion: `choices[].message`, with `logprobs`.
    ChatCompletion,
    /// vLLM's `RequestOutput`: `prompt`, `outputs[].text`, `token_ids`, `logprobs`.
    Vllm,
    /// SGLang's output: `text`, `meta_info` with `output_token_logprobs` and `output_top_logprobs`.
    Sglang,
    /// OpenR1-Math: `problem`, `generations[]`, verdicts in lists beside it.
    OpenR1,
    /// s1K and OpenThoughts' metadata: reasoning and answer in columns of their own.
    Trajectory,
    /// `question`, and `steps` of pairs of a text and a probability.
    Sampled,
    /// What `tristill eval` recorded of a packed teacher: `id`, `sample`, `text`, `finish`. The questions are in the source's `requests`.
    Completions,
    /// `messages` or `conversations`: turns with a role and a content, reasoning inline or beside it.
    Messages,
    /// `output`: a text that holds reasoning and answer as JSON.
    JsonText,
    /// A chain of thought and the reference in columns of their own: ReFT, LIMO.
    Written,
    /// `question` and `answer`, in the manner of GSM8K: steps, then `#### 24`.
    QuestionAnswer,
    /// TRL's `prompt` and `completion`, texts or lists of messages.
    PromptCompletion,
    /// Alpaca's `instruction`, `input` and `output`.
    Instruction,
    /// `text`: plain text without a question, all of which is learned.
    PlainText,
}

/// A trace as its source has it, with what the source says about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub trace: Trace,
    /// Why the teacher stopped, where the source says so.
    pub stopped_by: Option<String>,
    /// Whether its source found it right.
    pub is_right: Option<bool>,
    /// The teacher's own tokens, with their probabilities.
    pub teacher: Option<Vec<Step>>,
    /// Whether the text had to be mended before it could be read.
    pub is_mended: bool,
}

impl Candidate {
    /// A trace of which its source says nothing else.
    fn of(trace: Trace) -> Self {
        Self { trace, stopped_by: None, is_right: None, teacher: None, is_mended: false }
    }
}

/// What a layout finds in a row: at least one entry, because no row may vanish.
pub(crate) type Found = Vec<Result<Candidate, Drop>>;

pub(crate) type Object = Map<String, Value>;

/// Where a row states the right answer, beside what the teacher said.
const REFERENCES: [&str; 5] = ["reference", "reference_answer", "ground_truth", "answer", "expected_answer"];

/// How the rows of one file are read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading<'a> {
    /// As one of the known layouts, which is not [`Layout::Auto`].
    Known(Layout),
    /// By the fields that the config names.
    Fields(&'a Fields),
}

impl<'a> Reading<'a> {
    /// What the config says of a source, or else what its first rows look like.
    pub fn of(source: &'a Source, path: &Path, rows: &[Object]) -> Result<Self, Error> {
        match &source.fields {
            None if source.layout == Layout::Auto => Ok(Reading::Known(Layout::recognise(path, rows)?)),
            None => Ok(Reading::Known(source.layout)),
            Some(fields) => match (fields.missing(rows).as_slice(), rows.first()) {
                (&[], _) | (_, None) => Ok(Reading::Fields(fields)),
                (missing, Some(row)) => {
                    let why = format!("the config names the fields {}, its rows have {}", missing.join(", "), keys(row));
                    Err(Error::source(path, why))
                }
            },
        }
    }

    /// As the card calls it.
    pub fn name(self) -> &'static str {
        match self {
            Reading::Known(layout) => layout.name(),
            Reading::Fields(_) => "fields",
        }
    }

    /// The traces of a row.
    pub fn read(self, row: &Object) -> Found {
        match self {
            Reading::Known(layout) => layout.read(row),
            Reading::Fields(fields) => fields.read(row),
        }
    }
}

/// A layout, what its rows have, and the functions that know them.
struct Known {
    layout: Layout,
    needs: &'static str,
    fits: fn(&Object) -> bool,
    read: fn(&Object) -> Found,
}

/// The layouts that can be recognised, the more particular ones first.
const KNOWN: [Known; 15] = [
    Known { layout: Layout::Batch, needs: "custom_id and response", fits: chat_completion::fits_batch, read: chat_completion::read_batch },
    Known { layout: Layout::ChatCompletion, needs: "choices with a message", fits: chat_completion::fits, read: chat_completion::read },
    Known { layout: Layout::Vllm, needs: "prompt, and outputs with a text", fits: offline::fits_vllm, read: offline::read_vllm },
    Known { layout: Layout::Sglang, needs: "text and meta_info", fits: offline::fits_sglang, read: offline::read_sglang },
    Known { layout: Layout::OpenR1, needs: "problem, and generations as a list", fits: open_r1::fits, read: open_r1::read },
    Known {
        layout: Layout::Trajectory,
        needs: "columns of reasoning and of answer, as s1K",
        fits: trajectory::fits,
        read: trajectory::read,
    },
    Known { layout: Layout::Sampled, needs: "question, and steps with probabilities", fits: sampled::fits, read: sampled::read },
    Known { layout: Layout::Completions, needs: "sample, text and finish", fits: completions::fits, read: completions::read },
    Known {
        layout: Layout::Messages,
        needs: "messages or conversations, turns with role and content",
        fits: messages::fits,
        read: messages::read,
    },
    Known { layout: Layout::JsonText, needs: "question and output, with JSON inside", fits: json_text::fits, read: json_text::read },
    Known { layout: Layout::Written, needs: "question, solution and answer, or as ReFT", fits: written::fits, read: written::read },
    Known { layout: Layout::QuestionAnswer, needs: "question and answer", fits: question_answer::fits, read: question_answer::read },
    Known {
        layout: Layout::PromptCompletion,
        needs: "prompt and completion, both texts or both messages",
        fits: prompt_completion::fits,
        read: prompt_completion::read,
    },
    Known { layout: Layout::Instruction, needs: "instruction and output, or as Alpaca", fits: instruction::fits, read: instruction::read },
    Known { layout: Layout::PlainText, needs: "text", fits: plain_text::fits, read: plain_text::read },
];

impl Layout {
    /// The name in the config.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Auto => "auto",
            Layout::Batch => "batch",
            Layout::ChatCompletion => "chat_completion",
            Layout::Vllm => "vllm",
            Layout::Sglang => "sglang",
            Layout::OpenR1 => "open_r1",
            Layout::Trajectory => "trajectory",
            Layout::Sampled => "sampled",
            Layout::Completions => "completions",
            Layout::Messages => "messages",
            Layout::JsonText => "json_text",
            Layout::Written => "written",
            Layout::QuestionAnswer => "question_answer",
            Layout::PromptCompletion => "prompt_completion",
            Layout::Instruction => "instruction",
            Layout::PlainText => "plain_text",
        }
    }

    /// The traces of a row of this layout, which must not be [`Layout::Auto`].
    fn read(self, row: &Object) -> Found {
        let known = KNOWN.iter().find(|known| known.layout == self).expect("a file's layout is recognised before its rows are read");
        let mut found = (known.read)(row);
        for drop in found.iter_mut().filter_map(|found| found.as_mut().err()) {
            drop.question = drop.question.take().or_else(|| first_of(row, &["question", "problem"]));
        }
        found
    }

    /// All layouts that a row would fit.
    pub(crate) fn all_of(row: &Object) -> Vec<Layout> {
        KNOWN.iter().filter(|known| (known.fits)(row)).map(|known| known.layout).collect()
    }

    fn of(row: &Object) -> Option<Layout> {
        KNOWN.iter().find(|known| (known.fits)(row)).map(|known| known.layout)
    }

    /// The layout of a file, judged by its first rows: the one that fits at least half of them, while none of the others fits another.
    fn recognise(path: &Path, rows: &[Object]) -> Result<Layout, Error> {
        let layouts: Vec<Option<Layout>> = rows.iter().map(Layout::of).collect();
        let Some(at) = layouts.iter().position(Option::is_some) else {
            let why = match rows.first() {
                None => "its layout cannot be told, because none of its first lines is a JSON object".to_owned(),
                Some(row) => {
                    let known: Vec<String> = KNOWN.iter().map(|known| format!("{} ({})", known.layout.name(), known.needs)).collect();
                    let turns = messages::is_list(row).then(|| messages::read(row).remove(0).err()).flatten();
                    let turns = turns.map_or(String::new(), |drop| format!(", of which {}", drop.detail));
                    format!(
                        "its layout is not known: its rows have {}{turns}; known layouts are {}; for any other, name the fields, as fields = {{ question = \"…\", answer = \"…\" }}",
                        keys(row),
                        known.join("; ")
                    )
                }
            };
            return Err(Error::source(path, why));
        };
        let layout = layouts[at].expect("this one was found");
        if let Some(other) = layouts.iter().position(|found| found.is_some_and(|found| found != layout)) {
            let other_name = layouts[other].expect("this one was found").name();
            let why = format!(
                "row {} is laid out as {}, row {} as {other_name}; say layout = \"…\" for one of them, and the other rows are dropped",
                at + 1,
                layout.name(),
                other + 1
            );
            return Err(Error::source(path, why));
        }
        let fitting = layouts.iter().flatten().count();
        if 2 * fitting < rows.len() {
            let bad = layouts.iter().position(Option::is_none).expect("less than half fit");
            let why = format!(
                "only {fitting} of its first {} rows are laid out as {}, row {} has {}; say layout = \"{}\" if the other rows should be dropped",
                rows.len(),
                layout.name(),
                bad + 1,
                keys(&rows[bad]),
                layout.name()
            );
            return Err(Error::source(path, why));
        }
        Ok(layout)
    }
}

/// The keys of a row with what they hold, for error messages.
pub(crate) fn keys(row: &Object) -> String {
    if row.is_empty() {
        return "no keys".into();
    }
    row.iter().take(20).map(|(key, value)| format!("{key} ({})", kind(value))).collect::<Vec<_>>().join(", ")
}

/// A text that must be there and not be blank.
fn text<'a>(row: &'a Object, key: &str) -> Result<&'a str, Drop> {
    match row.get(key) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
        Some(Value::String(_)) => Err(Drop::new(Rule::Incomplete, format!("{key} is blank"))),
        Some(other) => Err(Drop::new(Rule::Incomplete, format!("{key} is {}, a text is needed", kind(other)))),
        None => Err(Drop::new(Rule::Incomplete, format!("there is no {key}; the row has {}", keys(row)))),
    }
}

/// A list that must be there.
fn list<'a>(row: &'a Object, key: &str) -> Result<&'a Vec<Value>, Drop> {
    match row.get(key) {
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(Drop::new(Rule::Incomplete, format!("{key} is {}, a list is needed", kind(other)))),
        None => Err(Drop::new(Rule::Incomplete, format!("there is no {key}; the row has {}", keys(row)))),
    }
}

/// The first of `keys` that holds a text or a number, as a text.
fn first_of(row: &Object, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match row.get(*key)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// The row's own name for itself; blank where it has none.
fn id(row: &Object) -> String {
    first_of(row, &["id", "uuid", "item_id", "custom_id"]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(lines: &[&str]) -> Vec<Object> {
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_unclear_layout_is_explained() {
        let recognise = |lines: &[&str]| Layout::recognise(Path::new("traces.jsonl"), &rows(lines)).map_err(|error| error.to_string());
        assert_eq!(recognise(&[r#"{"question": "a", "answer": "b"}"#]), Ok(Layout::QuestionAnswer));
        assert_eq!(recognise(&[r#"{"question": "a", "answer": "b"}"#, r#"{"question": "a"}"#]), Ok(Layout::QuestionAnswer));
        let unknown = recognise(&[r#"{"input": "a", "score": 2}"#]).unwrap_err();
        assert!(
            unknown.contains(
                "its rows have input (a text), score (a number); known layouts are batch (custom_id and response); chat_completion"
            ),
            "{unknown}"
        );
        let mixed = recognise(&[r#"{"question": "a", "answer": "b"}"#, r#"{"messages": [{"role": "user", "content": "a"}]}"#]).unwrap_err();
        assert!(mixed.contains("row 1 is laid out as question_answer, row 2 as messages"), "{mixed}");
        let few = recognise(&[r#"{"question": "a", "answer": "b"}"#, r#"{"input": "a"}"#, "{}"]).unwrap_err();
        assert!(few.contains("only 1 of its first 3 rows are laid out as question_answer, row 2 has input (a text)"), "{few}");
        assert!(recognise(&[]).unwrap_err().contains("none of its first lines"));
    }

    /// Values of any kind under the keys that layouts look for, with texts that hold the marks that they look for.
    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            Just("assistant".to_owned()),
            Just("user".to_owned()),
            "(<think>|</think>|####|\\{|\"answer\":|\"reasoning\":|<\\|im_start\\|>user\n|\\PC| |\n){0,8}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        let key = prop::sample::select(KEYS.to_vec());
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
            ]
        })
    }

    const KEYS: [&str; 40] = [
        "question",
        "answer",
        "problem",
        "solution",
        "messages",
        "conversations",
        "role",
        "from",
        "content",
        "value",
        "generations",
        "is_reasoning_complete",
        "choices",
        "message",
        "custom_id",
        "response",
        "body",
        "prompt",
        "outputs",
        "text",
        "token_ids",
        "logprobs",
        "meta_info",
        "output_token_logprobs",
        "output_top_logprobs",
        "steps",
        "output",
        "chat_history",
        "answer_cot",
        "answer_value",
        "thinking_trajectories",
        "attempt",
        "reasoning_content",
        "info",
        "top_logprobs",
        "logprob",
        "sample",
        "finish",
        "student",
        "samples",
    ];

    proptest! {
        #[test]
        fn no_layout_loses_a_row_or_panics(fields in prop::collection::vec((prop::sample::select(KEYS.to_vec()), value()), 0..6)) {
            let row: Object = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            for known in KNOWN {
                (known.fits)(&row);
                prop_assert!(!known.layout.read(&row).is_empty(), "{}", known.layout.name());
            }
        }
    }
}
