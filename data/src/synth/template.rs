//! What a template of word problems is. It is data alone: the numbers to draw, the ways to ask, and the lines of the chain
//! of thought. In a sentence `[buys|finds]` is a free choice, and `{...}` is filled in:
//!
//! - `{a}` a number (25% or half, where it is one); `{a things}`, `{a boxes}` with its noun; `{t times}` twice or 3 times
//! - `{thing}`, `{things}`, `{one thing}` (with its article), the same for a second thing `{extra}`; `{box}`, `{boxes}`, `{place}`
//! - `{name}`, `{other}`, `{third}` people; `{he}`, `{him}`, `{his}`, `{He}`, `{His}` stand for `{name}`
//! - in the chain of thought, `{a + b = c}` is a step: it computes `c` for the lines after it, and is written out
//!
//! The last step's result is the answer.

use super::draw::Draw;
use super::scene::Scene;
use super::steps::{self, Operation, Step};
use super::words::Things;

/// How often numbers of the kind [`Number::Any`] are drawn anew until the steps come out, before all are. Without this, halves
/// would crowd out fifths, which divide fewer numbers.
const REDRAWS: usize = 32;

/// One kind of word problem.
#[derive(Debug)]
pub(super) struct Template {
    /// Unique; part of every problem's id.
    pub name: &'static str,
    pub family: Family,
    /// What `{thing}` and `{extra}` may be.
    pub things: &'static [Things],
    /// The numbers that the question states, by letter.
    pub numbers: &'static [(char, Number)],
    /// Ways to ask.
    pub asks: &'static [&'static str],
    /// The lines of the chain of thought.
    pub work: &'static [&'static str],
}

/// Whether training sees a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// In the training set and in the held-out set.
    Known,
    /// In the unseen set alone.
    Unseen,
}

/// What kind of number a letter stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// From 2 to the config's largest operand.
    Any,
    /// From 2 to 10: how many boxes, days, friends.
    Few,
    /// In these bounds, and at most the config's largest operand.
    Between(u32, u32),
    /// What a banknote is worth.
    Bill,
    /// 10, 20, 25 or 50 percent.
    Percent,
    /// A half, third, quarter or fifth.
    Part,
}

impl Number {
    fn draw(self, draw: &mut Draw, max_operand: u32) -> u32 {
        match self {
            Number::Any => draw.between(2, max_operand),
            Number::Few => draw.between(2, max_operand.min(10)),
            Number::Between(low, high) => draw.between(low, max_operand.min(high)),
            Number::Bill => {
                let bills = [10, 20, 50, 100, 200, 500, 1_000];
                let affordable = bills.iter().filter(|&&bill| bill <= max_operand).count();
                draw.pick(&bills[..affordable])
            }
            Number::Percent => draw.pick(&[10, 20, 25, 50]),
            Number::Part => draw.pick(&[2, 3, 4, 5]),
        }
    }

    pub(super) fn text(self, value: u32) -> String {
        match (self, value) {
            (Number::Percent, _) => format!("{value}%"),
            (Number::Part, 2) => "half".into(),
            (Number::Part, 3) => "a third".into(),
            (Number::Part, 4) => "a quarter".into(),
            (Number::Part, 5) => "a fifth".into(),
            _ => value.to_string(),
        }
    }
}

/// A template's numbers, drawn and computed, and its steps written out.
pub(super) struct Solved {
    values: Vec<(char, Number, u32)>,
    steps: Vec<Step>,
}

impl Solved {
    /// The numbers that the question states, in the template's order.
    pub(super) fn stated(&self) -> impl Iterator<Item = u32> {
        let stated = self.values.len() - self.steps.len();
        self.values[..stated].iter().map(|&(_, _, value)| value)
    }

    /// The last step's result.
    pub(super) fn answer(&self) -> u32 {
        self.steps.last().expect("every template has a step").result
    }

    /// The number behind a letter, and its kind.
    pub(super) fn number(&self, letter: &str) -> Option<(Number, u32)> {
        let found = self.values.iter().find(|(known, _, _)| letter.chars().eq([*known]));
        found.map(|&(_, number, value)| (number, value))
    }

    /// An operand of a step: a letter, or a constant such as the 12 of a dozen.
    fn operand(&self, text: &str) -> u32 {
        let constant = || text.parse().expect("an operand is a known letter or a number");
        self.number(text).map_or_else(constant, |(_, value)| value)
    }
}

impl Template {
    /// What its steps do, one entry for each.
    pub(super) fn operations(&self) -> Vec<Operation> {
        self.equations().map(|equation| equation.operation).collect()
    }

    /// Draws its numbers and works its steps. None where they do not come out (a negative or broken number, a result of
    /// more than four digits): then the caller draws again.
    pub(super) fn solve(&self, draw: &mut Draw, max_operand: u32) -> Option<Solved> {
        let drawn = |&(letter, number): &(char, Number)| (letter, number, number.draw(draw, max_operand));
        let mut values: Vec<_> = self.numbers.iter().map(drawn).collect();
        (0..REDRAWS).find_map(|_| {
            for (_, number, value) in values.iter_mut().filter(|(_, number, _)| *number == Number::Any) {
                *value = number.draw(draw, max_operand);
            }
            self.work_out(values.clone())
        })
    }

    fn work_out(&self, values: Vec<(char, Number, u32)>) -> Option<Solved> {
        let mut solved = Solved { values, steps: Vec::new() };
        for Equation { left, operation, right, result } in self.equations() {
            let step = steps::write_out(operation, solved.operand(left), solved.operand(right))?;
            solved.values.push((result, Number::Any, step.result));
            solved.steps.push(step);
        }
        Some(solved)
    }

    /// One of the ways to ask, filled in.
    pub(super) fn question(&self, solved: &Solved, scene: &Scene, draw: &mut Draw) -> String {
        fill(draw.pick(self.asks), draw, &mut |slot| scene.fill(slot, solved))
    }

    /// The lines of the chain of thought.
    pub(super) fn reasoning(&self, solved: &Solved, scene: &Scene, draw: &mut Draw) -> String {
        let mut steps = solved.steps.iter();
        let mut slot = |slot: &str| match self.equation(slot) {
            Some(_) => steps.next().expect("one step was worked for each equation").text.clone(),
            None => scene.fill(slot, solved),
        };
        self.work.iter().map(|line| fill(line, draw, &mut slot)).collect::<Vec<_>>().join("\n")
    }

    fn equations(&self) -> impl Iterator<Item = Equation<'static>> {
        let slots = self.work.iter().flat_map(|line| line.split('{').skip(1));
        slots.filter_map(|rest| self.equation(rest.split('}').next()?))
    }

    /// Reads `a + b = c`. None for a slot that is not a step.
    fn equation<'a>(&self, slot: &'a str) -> Option<Equation<'a>> {
        let [left, sign, right, "=", result] = slot.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let percent = |&(letter, number): &(char, Number)| left.chars().eq([letter]) && number == Number::Percent;
        let operation = match sign {
            "+" => Operation::Add,
            "-" => Operation::Subtract,
            "x" => Operation::Multiply,
            "/" => Operation::Divide,
            "of" if self.numbers.iter().any(percent) => Operation::Percent,
            "of" => Operation::Fraction,
            _ => return None,
        };
        Some(Equation { left, operation, right, result: result.chars().next()? })
    }
}

/// A step as the template states it: `result = left operation right`.
struct Equation<'a> {
    left: &'a str,
    operation: Operation,
    right: &'a str,
    result: char,
}

/// Makes the free choices of a sentence and fills in its slots.
fn fill(text: &str, draw: &mut Draw, slot: &mut impl FnMut(&str) -> String) -> String {
    let Some(open) = text.find(['[', '{']) else {
        return text.to_owned();
    };
    let (is_choice, close) = if text[open..].starts_with('[') { (true, ']') } else { (false, '}') };
    let end = open + text[open..].find(close).expect("every bracket is closed");
    let inside = &text[open + 1..end];
    let filled = if is_choice {
        let choices: Vec<&str> = inside.split('|').collect();
        fill(draw.pick(&choices), draw, slot)
    } else {
        slot(inside)
    };
    format!("{}{filled}{}", &text[..open], fill(&text[end + 1..], draw, slot))
}
