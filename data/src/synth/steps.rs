//! How one step of arithmetic is written in a chain of thought: as a line of equal expressions that ends in the result.
//! A tiny student must be able to take every `=` in one forward pass, so numbers with several digits are taken apart by
//! place value: `47 x 6 = 40 x 6 + 7 x 6 = 240 + 42 = 282`. Whether one is taken apart depends on its digits alone, never
//! on whether there is a carry, so that the student need not know the result before it chooses the form.

use serde::{Deserialize, Serialize};

/// No number in a chain of thought is larger.
pub(super) const LARGEST: u32 = 9_999;

/// What a step may do with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A sum.
    Add,
    /// A difference; never negative.
    Subtract,
    /// A product.
    Multiply,
    /// An exact quotient.
    Divide,
    /// 10, 20, 25 or 50 percent of a number.
    Percent,
    /// A half, third, quarter or fifth of a number.
    Fraction,
}

impl Operation {
    /// Its name in a config.
    pub(super) fn key(self) -> &'static str {
        match self {
            Operation::Add => "add",
            Operation::Subtract => "subtract",
            Operation::Multiply => "multiply",
            Operation::Divide => "divide",
            Operation::Percent => "percent",
            Operation::Fraction => "fraction",
        }
    }
}

/// A step written out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub text: String,
    pub result: u32,
}

/// Writes out `left operation right`; for a percentage `left`% of `right`, for a fraction one `left`th of `right`.
/// None where the result is not a whole number from 1 to [`LARGEST`], or where the step would be too hard to take apart.
pub(super) fn write_out(operation: Operation, left: u32, right: u32) -> Option<Step> {
    let (expressions, result) = match operation {
        Operation::Add => add(left, right),
        Operation::Subtract => subtract(left, right)?,
        Operation::Multiply => multiply(left, right)?,
        Operation::Divide => divide(left, right)?,
        Operation::Percent => share_of(format!("{left}% of {right}"), right, 100 / left)?,
        Operation::Fraction => share_of(format!("1/{left} of {right}"), right, left)?,
    };
    let text = expressions.into_iter().chain([result.to_string()]).collect::<Vec<_>>().join(" = ");
    (1..=LARGEST).contains(&result).then_some(Step { text, result })
}

/// The equal expressions on the way, and the result.
type Written = (Vec<String>, u32);

fn add(left: u32, right: u32) -> Written {
    let mut expressions = vec![format!("{left} + {right}")];
    place_by_place(&mut expressions, left, right, "+", |sum, part| sum + part);
    (expressions, left + right)
}

fn subtract(left: u32, right: u32) -> Option<Written> {
    let result = left.checked_sub(right)?;
    let mut expressions = vec![format!("{left} - {right}")];
    place_by_place(&mut expressions, left, right, "-", |rest, part| rest - part);
    Some((expressions, result))
}

/// `338 + 147`: `338 + 100 + 40 + 7`, `438 + 40 + 7`, `478 + 7`. Nothing where the second number has one digit besides zeros.
fn place_by_place(expressions: &mut Vec<String>, left: u32, right: u32, sign: &str, apply: impl Fn(u32, u32) -> u32) {
    let parts = place_values(right);
    let mut so_far = left;
    for done in 0..parts.len().saturating_sub(1) {
        if done > 0 {
            so_far = apply(so_far, parts[done - 1]);
        }
        expressions.push(joined(so_far, &parts[done..], sign));
    }
    if parts.len() > 1 {
        so_far = apply(so_far, parts[parts.len() - 2]);
        expressions.push(joined(so_far, &parts[parts.len() - 1..], sign));
    }
}

fn joined(first: u32, rest: &[u32], sign: &str) -> String {
    rest.iter().fold(first.to_string(), |text, part| format!("{text} {sign} {part}"))
}

fn multiply(left: u32, right: u32) -> Option<Written> {
    let (left_parts, right_parts) = (place_values(left), place_values(right));
    let products: Vec<(u32, u32)> = match (left_parts.len(), right_parts.len()) {
        _ if left == 10 || right == 10 => Vec::new(),
        (1, _) => right_parts.iter().map(|&part| (left, part)).collect(),
        (_, 1) => left_parts.iter().map(|&part| (part, right)).collect(),
        _ => return None, // two numbers with several digits each would need a second round of parts
    };
    let mut expressions = vec![format!("{left} x {right}")];
    if products.len() > 1 {
        expressions.push(sum_of(products.iter().map(|(a, b)| format!("{a} x {b}"))));
        add_up(&mut expressions, products.iter().map(|(a, b)| a * b).collect());
    }
    Some((expressions, left * right))
}

fn divide(left: u32, right: u32) -> Option<Written> {
    if left == 0 || right == 0 || !left.is_multiple_of(right) {
        return None;
    }
    let result = left / right;
    let quotients = place_values(result);
    let mut expressions = vec![format!("{left} / {right}")];
    if right != 10 && quotients.len() > 1 {
        if place_values(right).len() > 1 {
            return None; // a long division by a number of several digits
        }
        quotient_by_quotient(&mut expressions, left, right, &quotients);
        add_up(&mut expressions, quotients);
    }
    Some((expressions, result))
}

/// `685 / 5`: `500 / 5 + 185 / 5`, then `100 + 150 / 5 + 35 / 5`.
fn quotient_by_quotient(expressions: &mut Vec<String>, left: u32, right: u32, quotients: &[u32]) {
    let mut rest = left;
    for (done, quotient) in quotients[..quotients.len() - 1].iter().enumerate() {
        let part = quotient * right;
        rest -= part;
        let terms = quotients[..done].iter().map(u32::to_string);
        expressions.push(sum_of(terms.chain([format!("{part} / {right}"), format!("{rest} / {right}")])));
    }
}

fn share_of(named: String, whole: u32, divisor: u32) -> Option<Written> {
    let (mut expressions, result) = divide(whole, divisor)?;
    expressions.insert(0, named);
    Some((expressions, result))
}

/// `300 + 120 + 15`, then `420 + 15`: two numbers are added at a time.
fn add_up(expressions: &mut Vec<String>, mut parts: Vec<u32>) {
    while parts.len() > 1 {
        expressions.push(sum_of(parts.iter().map(u32::to_string)));
        let first = parts.remove(0);
        parts[0] += first;
    }
}

fn sum_of(terms: impl Iterator<Item = String>) -> String {
    terms.collect::<Vec<_>>().join(" + ")
}

/// 405 is 400 and 5.
fn place_values(number: u32) -> Vec<u32> {
    let mut values = Vec::new();
    let mut place = 1;
    while place <= number {
        let value = number / place % 10 * place;
        if value > 0 {
            values.insert(0, value);
        }
        place *= 10;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(operation: Operation, left: u32, right: u32) -> Option<String> {
        write_out(operation, left, right).map(|step| step.text)
    }

    #[test]
    fn small_numbers_take_one_step_and_large_ones_are_taken_apart() {
        let cases = [
            (Operation::Add, 12, 7, Some("12 + 7 = 19")),
            (Operation::Add, 47, 85, Some("47 + 85 = 47 + 80 + 5 = 127 + 5 = 132")),
            (Operation::Add, 338, 50, Some("338 + 50 = 388")),
            (Operation::Add, 338, 147, Some("338 + 147 = 338 + 100 + 40 + 7 = 438 + 40 + 7 = 478 + 7 = 485")),
            (Operation::Subtract, 19, 4, Some("19 - 4 = 15")),
            (Operation::Subtract, 73, 68, Some("73 - 68 = 73 - 60 - 8 = 13 - 8 = 5")),
            (Operation::Subtract, 100, 37, Some("100 - 37 = 100 - 30 - 7 = 70 - 7 = 63")),
            (Operation::Subtract, 4, 4, None),
            (Operation::Subtract, 4, 5, None),
            (Operation::Multiply, 40, 6, Some("40 x 6 = 240")),
            (Operation::Multiply, 17, 10, Some("17 x 10 = 170")),
            (Operation::Multiply, 47, 6, Some("47 x 6 = 40 x 6 + 7 x 6 = 240 + 42 = 282")),
            (Operation::Multiply, 6, 12, Some("6 x 12 = 6 x 10 + 6 x 2 = 60 + 12 = 72")),
            (Operation::Multiply, 145, 3, Some("145 x 3 = 100 x 3 + 40 x 3 + 5 x 3 = 300 + 120 + 15 = 420 + 15 = 435")),
            (Operation::Multiply, 47, 36, None),
            (Operation::Multiply, 5_000, 2, None),
            (Operation::Divide, 42, 7, Some("42 / 7 = 6")),
            (Operation::Divide, 84, 7, Some("84 / 7 = 70 / 7 + 14 / 7 = 10 + 2 = 12")),
            (Operation::Divide, 240, 6, Some("240 / 6 = 40")),
            (Operation::Divide, 685, 5, Some("685 / 5 = 500 / 5 + 185 / 5 = 100 + 150 / 5 + 35 / 5 = 100 + 30 + 7 = 130 + 7 = 137")),
            (Operation::Divide, 870, 10, Some("870 / 10 = 87")),
            (Operation::Divide, 85, 7, None),
            (Operation::Divide, 85, 0, None),
            (Operation::Percent, 25, 80, Some("25% of 80 = 80 / 4 = 20")),
            (Operation::Fraction, 3, 60, Some("1/3 of 60 = 60 / 3 = 20")),
            (Operation::Fraction, 3, 61, None),
        ];
        for (operation, left, right, expected) in cases {
            assert_eq!(text(operation, left, right).as_deref(), expected, "{operation:?} {left} {right}");
        }
    }
}
