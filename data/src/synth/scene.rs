//! The people, things and places of one problem, and how they fill a slot of a sentence.

use super::draw::Draw;
use super::template::Solved;
use super::words::{self, Noun, Things};

/// Drawn once per problem, so that the question and the chain of thought speak of the same people and things.
pub(super) struct Scene {
    name: &'static str,
    is_she: bool,
    other: &'static str,
    third: &'static str,
    /// None where the template speaks of no things.
    things: Option<[Noun; 2]>,
    container: Noun,
    place: &'static str,
}

impl Scene {
    pub(super) fn new(draw: &mut Draw, things: &[Things]) -> Self {
        let mut names: Vec<&'static str> = words::SHE.iter().chain(words::HE).copied().collect();
        let mut nouns: Vec<Noun> = things.iter().flat_map(|things| things.all()).copied().collect();
        let name = take(draw, &mut names);
        Self {
            name,
            is_she: words::SHE.contains(&name),
            other: take(draw, &mut names),
            third: take(draw, &mut names),
            things: (!nouns.is_empty()).then(|| [take(draw, &mut nouns), take(draw, &mut nouns)]),
            container: draw.pick(words::CONTAINERS),
            place: draw.pick(words::PLACES),
        }
    }

    /// What stands in the place of a slot. A slot that says nothing is a mistake in a template, which the tests find.
    pub(super) fn fill(&self, slot: &str, solved: &Solved) -> String {
        if let Some((number, value)) = solved.number(slot) {
            return number.text(value);
        }
        match slot.split_once(' ') {
            Some(("one", noun)) => format!("{} {}", article(self.noun(noun)), self.noun(noun).one),
            Some(("One", noun)) => format!("{} {}", article(self.noun(noun)).replace('a', "A"), self.noun(noun).one),
            Some((letter, "times")) => match self.count(letter, solved) {
                2 => "twice".into(),
                count => format!("{count} times"),
            },
            Some((letter, noun)) => {
                let (count, noun) = (self.count(letter, solved), self.noun(noun));
                format!("{count} {}", if count == 1 { noun.one } else { noun.many })
            }
            None => self.word(slot).to_owned(),
        }
    }

    fn count(&self, letter: &str, solved: &Solved) -> u32 {
        solved.number(letter).unwrap_or_else(|| panic!("no number is called {letter:?}")).1
    }

    /// The noun that a slot names in the singular or in the plural.
    fn noun(&self, slot: &str) -> Noun {
        match (slot, self.things) {
            ("box" | "boxes", _) => self.container,
            ("thing" | "things", Some([thing, _])) => thing,
            ("extra" | "extras", Some([_, extra])) => extra,
            _ => panic!("nothing is called {slot:?} in this template"),
        }
    }

    fn word(&self, slot: &str) -> &'static str {
        let (he, him, his) = if self.is_she { ("she", "her", "her") } else { ("he", "him", "his") };
        match slot {
            "name" => self.name,
            "other" => self.other,
            "third" => self.third,
            "he" => he,
            "him" => him,
            "his" => his,
            "He" if self.is_she => "She",
            "He" => "He",
            "His" if self.is_she => "Her",
            "His" => "His",
            "place" => self.place,
            "thing" | "extra" | "box" => self.noun(slot).one,
            _ => self.noun(slot).many,
        }
    }
}

fn take<T>(draw: &mut Draw, from: &mut Vec<T>) -> T {
    from.remove(draw.index(from.len()))
}

fn article(noun: Noun) -> &'static str {
    if noun.one.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
