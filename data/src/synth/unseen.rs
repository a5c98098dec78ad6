//! Templates that training never sees: other wordings, and structures that no known template has (a start or a change to be
//! found, products of sums and differences, averages, perimeters). They ask whether a student can put its steps
//! together in a new way.

use super::template::Family::Unseen;
use super::template::Number::{Any, Between, Few, Part, Percent};
use super::template::Template;
use super::words::Things::{Food, Goods, Keepsakes};

pub(super) const TEMPLATES: &[Template] = &[
    Template {
        name: "start-unknown",
        family: Unseen,
        things: &[Keepsakes, Food],
        numbers: &[('b', Any), ('a', Any)],
        asks: &[
            "{name} gave {b things} to {other} and now has {a} left. How many {things} did {name} have at first?",
            "After {name} took {b things} out of the {box}, {a} were left in it. How many {things} were in the {box} before?",
        ],
        work: &["At first there were {a + b = c}."],
    },
    Template {
        name: "change-unknown",
        family: Unseen,
        things: &[Keepsakes, Food],
        numbers: &[('b', Any), ('a', Any)],
        asks: &[
            "{name} had {b things}. After a visit to {place} {he} has {a}. How many {things} did {he} buy there?",
            "In the morning the {box} held {b things}, and in the evening it held {a}. How many {things} were put in?",
        ],
        work: &["The difference is {a - b = c}."],
    },
    Template {
        name: "part-unknown",
        family: Unseen,
        things: &[],
        numbers: &[('a', Any), ('b', Any)],
        asks: &[
            "There are {a} children in {name}'s class. {b} of them are girls. How many boys are in the class?",
            "A team has {a} players. {b} of them are women and the others are men. How many men are in the team?",
        ],
        work: &["The difference is {a - b = c}."],
    },
    Template {
        name: "sum-of-groups",
        family: Unseen,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('b', Any), ('n', Few)],
        asks: &[
            "{name} puts {a} big and {b} small {things} into each {box}. How many {things} does {he} need for {n boxes}?",
            "Every child gets {a things} from {name} and {b things} from {other}. How many {things} do {n} children get?",
        ],
        work: &["Together that is {a + b = c}.", "All of them get {c x n = d}."],
    },
    Template {
        name: "loss-in-groups",
        family: Unseen,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('b', Any), ('n', Few)],
        asks: &[
            "{n boxes} held {a things} each. {name} took {b things} out of every {box}. How many {things} are left in all?",
            "{n} children get {a things} each, and each of them gives {b} away. How many {things} do the children keep?",
        ],
        work: &["In each there are {a - b = c}.", "That makes {c x n = d}."],
    },
    Template {
        name: "perimeter",
        family: Unseen,
        things: &[],
        numbers: &[('a', Any), ('b', Any)],
        asks: &[
            "A garden is {a} feet long and {b} feet wide. {name} walks around it once. How many feet does {he} walk?",
            "{name} puts a fence around a field that is {a} feet long and {b} feet wide. How many feet of fence does {he} need?",
        ],
        work: &["One long and one wide side are {a + b = c}.", "There are two of each: {c x 2 = d}."],
    },
    Template {
        name: "times-more",
        family: Unseen,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('t', Between(2, 5))],
        asks: &[
            "{other} has {t times} as many {things} as {name}, who has {a}. How many more {things} does {other} have than {name}?",
            "{name} has {a things} and {other} has {t times} as many. How many more does {name} need to have as many as {other}?",
        ],
        work: &["{other} has {a x t = c}.", "The difference is {c - a = d}."],
    },
    Template {
        name: "average-of-two",
        family: Unseen,
        things: &[],
        numbers: &[('a', Any), ('b', Any)],
        asks: &[
            "{name} reads {a} pages on Monday and {b} on Tuesday. How many pages a day is that on average?",
            "{name} scored {a} points in one game and {b} in the next. What is the average?",
        ],
        work: &["Together that is {a + b = c}.", "Each share is {c / 2 = d}."],
    },
    Template {
        name: "dearer-by",
        family: Unseen,
        things: &[Goods],
        numbers: &[('a', Any), ('p', Percent)],
        asks: &[
            "Last year {one thing} cost ${a}. This year it costs {p} more. How many dollars does it cost now?",
            "{name} bought {one thing} for ${a} and wants to sell it for {p} more. How many dollars must {he} ask for?",
        ],
        work: &["The rise is {p of a = b}.", "The price is {a + b = c}."],
    },
    Template {
        name: "difference-of-groups",
        family: Unseen,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('n', Few), ('b', Any), ('m', Few)],
        asks: &[
            "{name} has {n boxes} with {a things} in each. {other} has {m boxes} with {b things} in each. How many more {things} does {name} have?",
            "{name} reads {a} pages a day for {n} days, and {other} reads {b} pages a day for {m} days. How many more pages does {name} read?",
        ],
        work: &["{name} has {a x n = c}.", "{other} has {b x m = d}.", "The difference is {c - d = e}."],
    },
    Template {
        name: "fence-price",
        family: Unseen,
        things: &[],
        numbers: &[('a', Any), ('b', Any), ('p', Few)],
        asks: &[
            "A field is {a} feet long and {b} feet wide. A foot of fence costs ${p}. How many dollars does a fence around the field cost?",
        ],
        work: &["One long and one wide side are {a + b = c}.", "There are two of each: {c x 2 = d}.", "The price is {d x p = e}."],
    },
    Template {
        name: "two-fractions",
        family: Unseen,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('f', Part), ('b', Any), ('g', Part)],
        asks: &[
            "{name} has {a things} and gives {f} of them away. {other} has {b} and gives {g} of them away. How many {things} do they give away together?",
        ],
        work: &["{name} gives {f of a = c}.", "{other} gives {g of b = d}.", "Together that is {c + d = e}."],
    },
    Template {
        name: "profit",
        family: Unseen,
        things: &[Goods],
        numbers: &[('p', Any), ('q', Any), ('n', Few), ('r', Any)],
        asks: &[
            "{name} buys {n things} for ${p} each and sells them for ${q} each at {place}. A table there costs ${r}. How many dollars does {he} gain?",
        ],
        work: &["{He} pays {p x n = c}.", "{He} gets {q x n = d}.", "The difference is {d - c = e}.", "Then there are {e - r = f}."],
    },
    Template {
        name: "week",
        family: Unseen,
        things: &[],
        numbers: &[('a', Any), ('b', Any), ('n', Few)],
        asks: &[
            "{name} reads {a} pages on each of 5 days and {b} pages on each of the 2 other days of a week. How many pages does {he} read in {n} weeks?",
        ],
        work: &["The 5 days make {a x 5 = c}.", "The 2 days make {b x 2 = d}.", "Together that is {c + d = e}.", "That makes {e x n = f}."],
    },
];
