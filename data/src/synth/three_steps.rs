//! Templates of three steps that training sees.

use super::template::Family::Known;
use super::template::Number::{Any, Between, Bill, Few, Part, Percent};
use super::template::Template;
use super::words::Things::{Animals, Food, Goods, Keepsakes};

pub(super) const TEMPLATES: &[Template] = &[
    Template {
        name: "bus-three",
        family: Known,
        things: &[],
        numbers: &[('a', Any), ('b', Any), ('c', Any), ('d', Any)],
        asks: &[
            "There are {a} people on a bus. At the first stop {b} get off and {c} get on. At the second stop {d} get off. How many people are on the bus now?",
            "A train leaves with {a} people. First {b} people get off, then {c} get on, then {d} get off. How many people are on the train now?",
        ],
        work: &[
            "When some get off, there are {a - b = e}.",
            "With the new people there are {e + c = f}.",
            "When some get off, there are {f - d = g}.",
        ],
    },
    Template {
        name: "gain-gain-loss",
        family: Known,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('b', Any), ('c', Any), ('d', Any)],
        asks: &[
            "{name} has {a things}. {He} gets {b} from {other} and {c} from {third}. Then {he} loses {d}. How many {things} does {name} have now?",
            "There are {a things} in a {box}. {name} puts in {b}, {other} puts in {c}, and {third} takes out {d}. How many {things} are in the {box} now?",
        ],
        work: &["First there are {a + b = e}.", "Then there are {e + c = f}.", "Then there are {f - d = g}."],
    },
    Template {
        name: "two-groups",
        family: Known,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('n', Few), ('b', Any), ('m', Few)],
        asks: &[
            "{name} has {n boxes} with {a things} in each and {m boxes} with {b things} in each. How many {things} does {name} have in all?",
            "{name} fills {n boxes} with {a things} each. {other} fills {m boxes} with {b things} each. How many {things} is that together?",
        ],
        work: &["The first {boxes} hold {a x n = c}.", "The others hold {b x m = d}.", "Together that is {c + d = e}."],
    },
    Template {
        name: "two-kinds",
        family: Known,
        things: &[Goods],
        numbers: &[('p', Any), ('n', Few), ('q', Any), ('m', Few)],
        asks: &[
            "{name} buys {n things} for ${p} each and {m extras} for ${q} each. How many dollars does {he} spend?",
            "At {place} {one thing} costs ${p} and {one extra} costs ${q}. How many dollars do {n things} and {m extras} cost?",
        ],
        work: &["The {things} cost {p x n = c}.", "The {extras} cost {q x m = d}.", "Together that is {c + d = e}."],
    },
    Template {
        name: "shopping-change",
        family: Known,
        things: &[Goods],
        numbers: &[('p', Any), ('n', Few), ('q', Any), ('m', Bill)],
        asks: &[
            "{name} buys {n things} for ${p} each and {one extra} for ${q}. {He} pays with a ${m} bill. How many dollars does {he} get back?",
            "{name} has ${m}. At {place} {he} buys {n things} at ${p} each and {one extra} for ${q}. How many dollars are left?",
        ],
        work: &["The {things} cost {p x n = c}.", "With the {extra} it is {c + q = d}.", "The change is {m - d = e}."],
    },
    Template {
        name: "more-share",
        family: Known,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('b', Any), ('n', Few)],
        asks: &[
            "{name} has {a things}. {other} has {b} more than {name}. They put all of them equally into {n boxes}. How many {things} are in each {box}?",
            "{name} picks {a things} and {other} picks {b} more than that. They share all of them among {n} friends. How many {things} does each friend get?",
        ],
        work: &["{other} has more: {a + b = c}.", "Together that is {a + c = d}.", "Each share is {d / n = e}."],
    },
    Template {
        name: "groups-loss-share",
        family: Known,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('n', Few), ('b', Any), ('m', Few)],
        asks: &[
            "{name} has {n boxes} with {a things} in each. {He} keeps {b things} and shares the rest equally among {m} friends. How many {things} does each friend get?",
            "There are {a things} in each of {n boxes}. {name} takes out {b things} that are bad and shares the others equally among {m} friends. How many does each get?",
        ],
        work: &["All {n boxes} hold {a x n = c}.", "Then there are {c - b = d}.", "Each share is {d / m = e}."],
    },
    Template {
        name: "discount-many",
        family: Known,
        things: &[Goods],
        numbers: &[('a', Any), ('p', Percent), ('n', Few)],
        asks: &[
            "{One thing} costs ${a}. Today it is {p} cheaper. How many dollars does {name} pay for {n things} today?",
            "{name} buys {n things}. Each costs ${a}, but {he} gets {p} off the price. How many dollars does {he} pay in all?",
        ],
        work: &["The discount is {p of a = b}.", "The price of one is {a - b = c}.", "The price is {c x n = d}."],
    },
    Template {
        name: "fraction-left-gain",
        family: Known,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('f', Part), ('b', Any)],
        asks: &[
            "{name} has {a things}. {He} gives {f} of them to {other} and then gets {b} more. How many {things} does {name} have now?",
            "There are {a things} in a {box}. {name} takes {f} of them, and {other} puts in {b}. How many {things} are in the {box} now?",
        ],
        work: &["That is {f of a = c}.", "What is left is {a - c = d}.", "Then there are {d + b = e}."],
    },
    Template {
        name: "percent-left-loss",
        family: Known,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('p', Percent), ('b', Any)],
        asks: &[
            "{name} takes {a things} to {place} and sells {p} of them. Then {he} gives {b} to {other}. How many {things} are left?",
            "Of the {a things} in a {box}, {name} takes {p}. Then {other} takes {b}. How many {things} are still in the {box}?",
        ],
        work: &["That is {p of a = c}.", "What is left is {a - c = d}.", "Then there are {d - b = e}."],
    },
    Template {
        name: "earn-gift-spend",
        family: Known,
        things: &[Goods],
        numbers: &[('a', Any), ('n', Few), ('b', Any), ('p', Any)],
        asks: &[
            "{name} earns ${a} an hour and works {n} hours. {other} gives {him} ${b} more. Then {name} buys {one thing} for ${p}. How many dollars are left?",
            "{name} saves ${a} a week for {n} weeks. {He} gets ${b} as a present and spends ${p} on {one thing}. How many dollars does {he} have now?",
        ],
        work: &["That makes {a x n = c}.", "Then there are {c + b = d}.", "Then there are {d - p = e}."],
    },
    Template {
        name: "times-together-loss",
        family: Known,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('t', Between(2, 5)), ('b', Any)],
        asks: &[
            "{name} has {a things}. {other} has {t times} as many as {name}. Together they give {b things} to {third}. How many {things} do the two have left?",
            "{name} finds {a things} and {other} finds {t times} as many. They lose {b} of all the {things} on the way. How many {things} do they bring home?",
        ],
        work: &["{other} has {a x t = c}.", "Together that is {a + c = d}.", "Then there are {d - b = e}."],
    },
    Template {
        name: "farm-pens",
        family: Known,
        things: &[Animals],
        numbers: &[('a', Any), ('b', Any), ('c', Any), ('n', Few)],
        asks: &[
            "A farmer has {a things} and {b extras}, sells {c} of the animals and puts the rest equally into {n} pens. How many animals are in each pen?",
            "On {name}'s farm there are {a things} and {b extras}. After {c} of the animals are sold, the others go equally into {n} pens. How many are in each pen?",
        ],
        work: &["Together that is {a + b = d}.", "Then there are {d - c = e}.", "Each share is {e / n = f}."],
    },
];
