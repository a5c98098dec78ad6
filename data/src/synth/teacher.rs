//! Draws problems until a set is full. The numbers of a template are held out or not by a hash of the template's name and the
//! numbers, so that the training set and the held-out set are apart by construction.

use std::collections::HashSet;

use task::{Problem, Trace};

use super::draw::Draw;
use super::scene::Scene;
use super::template::{Family, Solved, Template};
use super::{Error, SynthConfig};

/// One in so many drawings of a template's numbers is held out.
const HELD_OUT_ONE_IN: u64 = 8;
/// How often a template draws numbers that do not come out before another template has its turn.
const DRAWINGS: usize = 500;
/// How many templates in a row may fail to give a new question before the set counts as exhausted.
const TURNS: usize = 200;

/// What the teacher wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthesis {
    /// To train on.
    pub traces: Vec<Trace>,
    /// The same templates with other numbers.
    pub held_out: Vec<Problem>,
    /// Other templates.
    pub unseen: Vec<Problem>,
}

/// Writes the three sets. No question stands twice in one set or in two, and a larger set begins with the smaller one.
pub fn synthesize(config: &SynthConfig) -> Result<Synthesis, Error> {
    config.check()?;
    let problems = |set, count| -> Result<Vec<Problem>, Error> {
        let lessons = write_set(config, set, count)?;
        Ok(lessons.into_iter().enumerate().map(|(index, lesson)| lesson.problem(index)).collect())
    };
    let lessons = write_set(config, Set::Training, config.problems)?;
    Ok(Synthesis {
        traces: lessons.into_iter().enumerate().map(|(index, lesson)| lesson.trace(index)).collect(),
        held_out: problems(Set::HeldOut, config.held_out)?,
        unseen: problems(Set::Unseen, config.unseen)?,
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Set {
    Training,
    HeldOut,
    Unseen,
}

impl Set {
    /// Its name in messages, and its stream of random choices.
    fn name_and_stream(self) -> (&'static str, u64) {
        match self {
            Set::Training => ("training", 0),
            Set::HeldOut => ("held-out", 1),
            Set::Unseen => ("unseen", 2),
        }
    }

    fn family(self) -> Family {
        match self {
            Set::Training | Set::HeldOut => Family::Known,
            Set::Unseen => Family::Unseen,
        }
    }

    fn takes(self, template: &Template, solved: &Solved) -> bool {
        match self {
            Set::Training => !is_held_out(template, solved),
            Set::HeldOut => is_held_out(template, solved),
            Set::Unseen => true,
        }
    }
}

/// A question and all that the teacher has to say about it.
struct Lesson {
    template: &'static Template,
    question: String,
    reasoning: String,
    answer: u32,
}

impl Lesson {
    fn id(&self, index: usize) -> String {
        format!("{}-{index}", self.template.name)
    }

    fn trace(self, index: usize) -> Trace {
        Trace {
            id: self.id(index),
            system: None,
            question: self.question,
            reasoning: self.reasoning,
            answer: format!("The answer is {}.", self.answer),
            reference: Some(self.answer.to_string()),
        }
    }

    fn problem(self, index: usize) -> Problem {
        Problem {
            id: self.id(index),
            answer: self.answer.to_string(),
            steps: Some(self.template.operations().len() as u32),
            question: self.question,
        }
    }
}

fn write_set(config: &SynthConfig, set: Set, wanted: usize) -> Result<Vec<Lesson>, Error> {
    let [least, most] = config.steps;
    let by_steps = (least..=most).map(|steps| config.templates(set.family(), steps));
    let by_steps: Vec<_> = by_steps.filter(|templates| !templates.is_empty()).collect();
    fill_set(config, set, wanted, &by_steps)
}

/// Fills a set from groups of templates, each group with the same share of it.
fn fill_set(config: &SynthConfig, set: Set, wanted: usize, groups: &[Vec<&'static Template>]) -> Result<Vec<Lesson>, Error> {
    let (name, stream) = set.name_and_stream();
    let mut draw = Draw::new(config.seed, stream);
    let mut lessons = Vec::new();
    let mut asked = HashSet::new();
    let mut turns = 0;
    while lessons.len() < wanted {
        if turns == TURNS {
            return Err(Error::Exhausted { set: name, wanted, found: lessons.len() });
        }
        turns += 1;
        let templates = &groups[draw.index(groups.len())];
        let template = draw.pick(templates);
        let mut drawings = (0..DRAWINGS).filter_map(|_| template.solve(&mut draw, config.max_operand));
        let Some(solved) = drawings.find(|solved| set.takes(template, solved)) else {
            continue;
        };
        let scene = Scene::new(&mut draw, template.things);
        let question = template.question(&solved, &scene, &mut draw);
        if !asked.insert(question.clone()) {
            continue;
        }
        let reasoning = template.reasoning(&solved, &scene, &mut draw);
        lessons.push(Lesson { template, question, reasoning, answer: solved.answer() });
        turns = 0;
    }
    Ok(lessons)
}

/// FNV-1a over the template's name and the numbers that it states, its bits then mixed as in SplitMix64.
fn is_held_out(template: &Template, solved: &Solved) -> bool {
    let numbers = solved.stated().flat_map(u32::to_le_bytes);
    let hash = template
        .name
        .bytes()
        .chain(numbers)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).is_multiple_of(HELD_OUT_ONE_IN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::template::Number;

    static TWO_QUESTIONS: Template = Template {
        name: "two-questions",
        family: Family::Unseen,
        things: &[],
        numbers: &[('a', Number::Between(3, 4))],
        asks: &["What is one more than {a}?"],
        work: &["It is {a + 1 = b}."],
    };

    #[test]
    fn running_out_of_questions_is_an_error() {
        let config = SynthConfig::default();
        let fill = |wanted| fill_set(&config, Set::Unseen, wanted, &[vec![&TWO_QUESTIONS]]);
        assert_eq!(fill(2).map(|lessons| lessons.len()).unwrap(), 2);
        let error = fill(3).err().unwrap().to_string();
        assert!(error.contains("3 unseen problems: the templates gave only 2 different"), "{error}");
    }
}
