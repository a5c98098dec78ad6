//! Templates of four steps that training sees.

use super::template::Family::Known;
use super::template::Number::{Any, Between, Bill, Few, Part, Percent};
use super::template::Template;
use super::words::Things::{Food, Goods, Keepsakes};

pub(super) const TEMPLATES: &[Template] = &[
    Template {
        name: "bus-four",
        family: Known,
        things: &[],
        numbers: &[('a', Any), ('b', Any), ('c', Any), ('d', Any), ('e', Any)],
        asks: &[
            "There are {a} people on a bus. At the first stop {b} get off and {c} get on. At the second stop {d} get off and {e} get on. How many people are on the bus now?",
            "A train leaves with {a} people. First {b} get off and {c} get on, then {d} get off and {e} get on. How many people are on the train now?",
        ],
        work: &[
            "When some get off, there are {a - b = f}.",
            "With the new people there are {f + c = g}.",
            "When some get off, there are {g - d = h}.",
            "With the new people there are {h + e = i}.",
        ],
    },
    Template {
        name: "two-groups-share",
        family: Known,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('n', Few), ('b', Any), ('m', Few), ('k', Few)],
        asks: &[
            "{name} has {n boxes} with {a things} in each and {m boxes} with {b things} in each. {He} shares all of them equally among {k} friends. How many {things} does each friend get?",
            "{name} fills {n boxes} with {a things} each. {other} fills {m boxes} with {b things} each. They share all of them equally among {k} friends. How many {things} does each friend get?",
        ],
        work: &[
            "The first {boxes} hold {a x n = c}.",
            "The others hold {b x m = d}.",
            "Together that is {c + d = e}.",
            "Each share is {e / k = f}.",
        ],
    },
    Template {
        name: "two-kinds-change",
        family: Known,
        things: &[Goods],
        numbers: &[('p', Any), ('n', Few), ('q', Any), ('k', Few), ('m', Bill)],
        asks: &[
            "{name} buys {n things} for ${p} each and {k extras} for ${q} each. {He} pays with a ${m} bill. How many dollars does {he} get back?",
            "{name} has ${m}. At {place} {he} buys {n things} at ${p} each and {k extras} at ${q} each. How many dollars are left?",
        ],
        work: &[
            "The {things} cost {p x n = c}.",
            "The {extras} cost {q x k = d}.",
            "Together that is {c + d = e}.",
            "The change is {m - e = f}.",
        ],
    },
    Template {
        name: "earn-spend-save",
        family: Known,
        things: &[Goods],
        numbers: &[('a', Any), ('n', Few), ('p', Any), ('k', Few), ('b', Any)],
        asks: &[
            "{name} earns ${a} an hour and works {n} hours. {He} buys {k things} for ${p} each and then gets ${b} from {other}. How many dollars does {name} have now?",
            "{name} saves ${a} a week for {n} weeks and buys {k things} at ${p} each. Then {he} finds ${b}. How many dollars does {he} have now?",
        ],
        work: &["That makes {a x n = c}.", "The {things} cost {p x k = d}.", "Then there are {c - d = e}.", "Then there are {e + b = f}."],
    },
    Template {
        name: "more-times-together",
        family: Known,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('b', Any), ('t', Between(2, 5))],
        asks: &[
            "{name} has {a things}. {other} has {b} more than {name}, and {third} has {t times} as many as {other}. How many {things} do the three have together?",
            "{name} finds {a things}, {other} finds {b} more than that, and {third} finds {t times} as many as {other}. How many {things} do they find in all?",
        ],
        work: &[
            "{other} has more: {a + b = c}.",
            "{third} has {c x t = d}.",
            "The first two have {a + c = e}.",
            "All three have {e + d = f}.",
        ],
    },
    Template {
        name: "fraction-percent-left",
        family: Known,
        things: &[Keepsakes, Food],
        numbers: &[('a', Any), ('f', Part), ('p', Percent)],
        asks: &[
            "{name} has {a things} and gives {f} of them to {other}. Then {he} sells {p} of the rest. How many {things} does {he} still have?",
            "There are {a things} in a {box}. {name} takes {f} of them, and {other} takes {p} of what is left. How many {things} are still in the {box}?",
        ],
        work: &["That is {f of a = c}.", "What is left is {a - c = d}.", "That is {p of d = e}.", "What is left is {d - e = g}."],
    },
    Template {
        name: "discount-change",
        family: Known,
        things: &[Goods],
        numbers: &[('a', Any), ('p', Percent), ('n', Few), ('m', Bill)],
        asks: &[
            "{One thing} costs ${a}. Today it is {p} cheaper. {name} buys {n things} and pays with a ${m} bill. How many dollars does {he} get back?",
            "{name} has ${m} and buys {n things}. Each costs ${a}, but {he} gets {p} off the price. How many dollars does {he} have left?",
        ],
        work: &[
            "The discount is {p of a = b}.",
            "The price of one is {a - b = c}.",
            "The price is {c x n = d}.",
            "The change is {m - d = e}.",
        ],
    },
];
