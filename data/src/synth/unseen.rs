//! Templates that training never sees: other wordings, and structures that no known template has (a start or a change to be
//! found, a product of a sum, a difference of products, averages, perimeters). They ask whether a student can put its steps
//! together in a new way.

use super::template::Family::Unseen;
use super::template::Number::{Any, Few, Part, Percent};
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
        name: "start-of-two",
        family: Unseen,
        things: &[Keepsakes, Food],
        numbers: &[('b', Any), ('c', Any), ('a', Any)],
        asks: &[
            "{name} gave {b things} to {other} and {c} to {third}. Now {he} has {a} left. How many {things} did {name} have at first?",
            "When {b things} were sold on Monday and {c} on Tuesday, {a} were left. How many {things} were there at first?",
        ],
        work: &["Together that is {b + c = d}.", "At first there were {d + a = e}."],
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
        name: "still-to-fill",
        family: Unseen,
        things: &[Keepsakes, Food],
        numbers: &[('n', Few), ('a', Any), ('b', Any)],
        asks: &[
            "{name} wants to give {a things} to each of {n} friends, but has only {b}. How many {things} are missing?",
            "{n} children each need {a things}. {name} has brought {b} for them. How many more must {he} bring?",
        ],
        work: &["All of them need {a x n = c}.", "The number still missing is {c - b = d}."],
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
