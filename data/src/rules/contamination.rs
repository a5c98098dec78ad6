//! Questions of the sets that a run will be scored on must not be trained on.
//!
//! A question is contaminated when it is an evaluation question word for word or holds a short one whole, when the two share a
//! phrase of 13 words (Brown et al. 2020, appendix C), or when it holds half of an evaluation question's phrases of 8 words. Any
//! single phrase of 8 words, as s1 and open-r1 have it, would also hit "how many more apples does Tom have than"; it is reported,
//! and drops where the config says `strict`.

use std::collections::{HashMap, HashSet};

use task::Problem;

use super::{Drop, Rule};
use crate::config::Decontaminate;
use crate::words::{AsItIs, Words, phrase_hash};

/// A phrase of this many words in common is enough.
const LONG_PHRASE: usize = 13;
/// Of phrases of this length, half of the evaluation question's must be found.
const SHORT_PHRASE: usize = 8;
/// A question of fewer words is only compared whole, never looked for inside another: "What is 2 + 2?" is in many.
const SHORTEST_INSIDE: usize = 6;

/// How a question touches an evaluation question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Whole,
    Inside,
    LongPhrase,
    HalfOfShortPhrases,
    /// Reported, not dropped.
    Masked,
    /// Reported, dropped only where the config is strict.
    ShortPhrase,
}

impl How {
    /// The name in the counts on the card.
    pub fn name(self) -> &'static str {
        match self {
            How::Whole => "word_for_word",
            How::Inside => "holds_it_whole",
            How::LongPhrase => "13_words",
            How::HalfOfShortPhrases => "half_of_8_word_phrases",
            How::Masked => "same_but_for_numbers",
            How::ShortPhrase => "8_words",
        }
    }

    fn detail(self, mode: Decontaminate) -> Option<&'static str> {
        match self {
            How::Whole => Some("it is word for word"),
            How::Inside => Some("it holds, whole,"),
            How::LongPhrase => Some("it shares 13 words in a row with"),
            How::HalfOfShortPhrases => Some("it holds half of the 8-word phrases of"),
            How::ShortPhrase if mode == Decontaminate::Strict => Some("it shares 8 words in a row with"),
            How::Masked | How::ShortPhrase => None,
        }
    }
}

/// A question's nearest contact with an evaluation question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    place: Place,
    pub how: How,
}

/// A set that the run will be scored on.
#[derive(Clone, Copy, Debug)]
pub struct EvalSet<'a> {
    /// As the report calls it.
    pub name: &'a str,
    /// Its problems.
    pub problems: &'a [Problem],
}

/// The phrases of all evaluation sets.
pub(crate) struct Contamination<'a> {
    sets: &'a [EvalSet<'a>],
    mode: Decontaminate,
    /// Whole questions, by their hash.
    whole: HashMap<u64, Place, AsItIs>,
    /// The questions that are looked for inside others: their lengths in words, by their first words.
    inside: HashMap<u64, Vec<usize>, AsItIs>,
    long: HashMap<u64, Place, AsItIs>,
    short: HashMap<u64, Vec<Place>, AsItIs>,
    /// How many different short phrases each question has.
    short_counts: HashMap<Place, usize>,
    /// Questions without their numbers.
    masked: HashMap<u64, Place, AsItIs>,
}

/// A set and a problem in it.
type Place = (u32, u32);

impl<'a> Contamination<'a> {
    pub fn new(mode: Decontaminate, sets: &'a [EvalSet<'a>]) -> Self {
        let mut index = Self {
            sets,
            mode,
            whole: HashMap::default(),
            inside: HashMap::default(),
            long: HashMap::default(),
            short: HashMap::default(),
            short_counts: HashMap::new(),
            masked: HashMap::default(),
        };
        for (set, of_set) in sets.iter().enumerate() {
            for (problem, of_problem) in of_set.problems.iter().enumerate() {
                index.add((set as u32, problem as u32), &of_problem.question);
            }
        }
        index
    }

    fn add(&mut self, place: Place, question: &str) {
        let words = Words::of(question);
        self.whole.entry(phrase_hash(&words.hashes)).or_insert(place);
        if self.mode == Decontaminate::Exact {
            return;
        }
        self.masked.entry(phrase_hash(&words.without_numbers())).or_insert(place);
        let words = words.hashes;
        if (SHORTEST_INSIDE..LONG_PHRASE).contains(&words.len()) {
            let lengths = self.inside.entry(phrase_hash(&words[..SHORTEST_INSIDE])).or_default();
            if !lengths.contains(&words.len()) {
                lengths.push(words.len());
            }
        }
        for phrase in words.windows(LONG_PHRASE) {
            self.long.entry(phrase_hash(phrase)).or_insert(place);
        }
        let phrases: HashSet<u64, AsItIs> = words.windows(SHORT_PHRASE).map(phrase_hash).collect();
        self.short_counts.insert(place, phrases.len());
        for phrase in phrases {
            self.short.entry(phrase).or_default().push(place);
        }
    }

    /// Where a question touches an evaluation set, if it does.
    pub fn look(&self, question: &Words) -> Option<Touch> {
        if self.mode == Decontaminate::Off || self.whole.is_empty() {
            return None;
        }
        let touch = |how: How| move |place: Place| Touch { place, how };
        let words = question.hashes.as_slice();
        if let Some(&place) = self.whole.get(&phrase_hash(words)) {
            return Some(touch(How::Whole)(place));
        }
        if self.mode == Decontaminate::Exact {
            return None;
        }
        let inside = |at: usize| {
            let mut lengths = self.inside.get(&phrase_hash(&words[at..at + SHORTEST_INSIDE]))?.iter();
            lengths.find_map(|length| self.whole.get(&phrase_hash(words.get(at..at + length)?)))
        };
        if let Some(&place) = (0..(words.len() + 1).saturating_sub(SHORTEST_INSIDE)).find_map(inside) {
            return Some(touch(How::Inside)(place));
        }
        if let Some(&place) = words.windows(LONG_PHRASE).find_map(|phrase| self.long.get(&phrase_hash(phrase))) {
            return Some(touch(How::LongPhrase)(place));
        }
        let mut found: HashMap<Place, usize> = HashMap::new();
        for phrase in words.windows(SHORT_PHRASE).map(phrase_hash).collect::<HashSet<_, AsItIs>>() {
            for place in self.short.get(&phrase).into_iter().flatten() {
                *found.entry(*place).or_default() += 1;
            }
        }
        // The smallest place, so that the outcome does not depend on the order in a hash table.
        let half = found.iter().filter(|(place, count)| 2 * **count >= self.short_counts[place]).map(|(place, _)| *place).min();
        let short = found.keys().min().copied().map(touch(How::ShortPhrase));
        let masked = || self.masked.get(&phrase_hash(&question.without_numbers())).copied().map(touch(How::Masked));
        // What drops goes before what is only reported.
        let less = if self.mode == Decontaminate::Strict { short.or_else(masked) } else { masked().or(short) };
        half.map(touch(How::HalfOfShortPhrases)).or(less)
    }

    /// The name of the set that is touched.
    pub fn set_name(&self, touch: Touch) -> &'a str {
        self.sets[touch.place.0 as usize].name
    }

    /// The reason to drop a question, if the touch is one.
    pub fn drop(&self, Touch { place: (set, problem), how }: Touch) -> Option<Drop> {
        let set = &self.sets[set as usize];
        let id = &set.problems[problem as usize].id;
        how.detail(self.mode).map(|how| Drop::new(Rule::Contaminated, format!("{how} question {id:?} of {}", set.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "Janet’s ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her \
                         friends every day with four. How much does she make?";

    fn problem(question: &str) -> Problem {
        Problem { id: "7".into(), question: question.into(), answer: "18".into(), steps: None }
    }

    fn rule(mode: Decontaminate, question: &str) -> Option<String> {
        let problems = [problem(ASKED), problem("How many legs do five dogs have?"), problem("What is 2 + 2?")];
        let sets = [EvalSet { name: "test", problems: &problems }];
        let index = Contamination::new(mode, &sets);
        index.look(&Words::of(question)).and_then(|touch| index.drop(touch)).map(|drop| drop.detail)
    }

    #[test]
    fn each_way_to_be_contaminated() {
        let overlap = |question: &str| rule(Decontaminate::Overlap, question);
        assert!(overlap("janets ducks lay 16 eggs per day; she eats three for breakfast every morning and bakes muffins for her friends every day with four. how much does she make").unwrap().starts_with("it is word for word question \"7\" of test"));
        assert!(overlap("Answer with a number. How many legs do five dogs have? Think.").unwrap().starts_with("it holds, whole,"));
        assert!(
            overlap("Tom eats three for breakfast every morning and bakes muffins for her friends every day.")
                .unwrap()
                .contains("13 words")
        );
        assert_eq!(overlap("A farmer asks: What is 2 + 2?"), None);
        assert_eq!(overlap("Janet’s ducks lay 17 eggs per day."), None);
    }

    #[test]
    fn half_of_the_short_phrases_are_enough_without_a_long_one() {
        // Words "w0 w1 ... w23": 17 phrases of 8 words. Two runs of 12 words hold 10 of them.
        let run = |range: std::ops::Range<u32>| range.map(|word| format!("w{word}")).collect::<Vec<_>>().join(" ");
        let problems = [problem(&run(0..24))];
        let sets = [EvalSet { name: "test", problems: &problems }];
        let index = Contamination::new(Decontaminate::Overlap, &sets);
        let found = index.look(&Words::of(&format!("{} and {}", run(0..12), run(12..24)))).unwrap();
        assert_eq!(index.drop(found).unwrap().detail, "it holds half of the 8-word phrases of question \"7\" of test");
        let less = index.look(&Words::of(&format!("{} and {}", run(0..12), run(12..22)))).unwrap();
        assert_eq!((less.how, index.drop(less), index.set_name(less)), (How::ShortPhrase, None, "test"));
        let strict = Contamination::new(Decontaminate::Strict, &sets);
        let one = strict.look(&Words::of(&format!("Say {} now", run(3..11)))).unwrap();
        assert_eq!(strict.drop(one).unwrap().detail, "it shares 8 words in a row with question \"7\" of test");
        assert_eq!(strict.look(&Words::of(&run(3..10))), None);
    }

    #[test]
    fn exact_looks_at_whole_questions_only() {
        assert!(rule(Decontaminate::Exact, "what is 2 2").is_some());
        assert_eq!(rule(Decontaminate::Exact, "Answer: How many legs do five dogs have?"), None);
        assert_eq!(rule(Decontaminate::Off, ASKED), None);
    }

    #[test]
    fn other_numbers_are_reported_only() {
        let problems = [problem("Tom has 5 hats and buys 3 more.")];
        let sets = [EvalSet { name: "test", problems: &problems }];
        let index = Contamination::new(Decontaminate::Overlap, &sets);
        let masked = index.look(&Words::of("Tom has 7 hats and buys 2 more.")).unwrap();
        assert_eq!((masked.how, index.drop(masked)), (How::Masked, None));
        assert_eq!(index.look(&Words::of("Tom has 7 caps and buys 2 more.")), None);
    }
}
