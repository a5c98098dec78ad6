//! Where an axis has its marks, and how they are labelled: plotters' own marks of a logarithmic axis are bare powers of ten, and its
//! labels do not know how far apart the marks are.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::super::numbers::count;

/// Values that span more than this ratio have a logarithmic axis.
const LOGARITHMIC_FROM: f64 = 20.0;
/// More marks than these do not fit beside a drawing.
const MOST_MARKS: usize = 9;
/// The fewest marks that a linear axis is given.
const MARKS: f64 = 3.0;

/// One axis of a drawing.
#[derive(Clone)]
pub(super) struct Axis {
    logarithmic: bool,
    range: Range<f64>,
    marks: Vec<f64>,
    /// Digits behind the point that tell neighbouring marks of a linear axis apart.
    decimals: usize,
}

impl Axis {
    /// An axis that ends where the values do.
    pub(super) fn steps(low: f64, high: f64) -> Axis {
        let (marks, decimals) = linear_marks(low, high);
        Axis { logarithmic: false, range: low..high, marks, decimals }
    }

    /// An axis with some room around the values: logarithmic where they span orders of magnitude.
    pub(super) fn values(low: f64, high: f64) -> Axis {
        if low > 0.0 && high / low > LOGARITHMIC_FROM {
            let range = low * 0.9..high * 1.1;
            return Axis { logarithmic: true, marks: decade_marks(&range), range, decimals: 0 };
        }
        let room = if high > low { 0.06 * (high - low) } else { 0.1 * high.abs().max(1e-9) };
        // Values that never go below zero have no ground below zero.
        let ground = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
        let (marks, decimals) = linear_marks(ground, high + room);
        Axis { logarithmic: false, range: ground..high + room, marks, decimals }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let place = |value: f64| if self.logarithmic { value.ln() } else { value };
        let (low, high) = (place(self.range.start), place(self.range.end));
        first + ((place(*value) - low) / (high - low) * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, mark: &f64) -> String {
        let decimals = if self.logarithmic { (-mark.log10().floor()).max(0.0) as usize } else { self.decimals };
        label(*mark, decimals)
    }
}

/// Short, so that it has room beside the drawing.
fn label(value: f64, decimals: usize) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 1e6 => format!("{} M", trimmed(value / 1e6, 2)),
        size if size >= 1e4 => format!("{} k", trimmed(value / 1e3, 1)),
        size if size < 1e-4 => {
            let text = format!("{value:.1e}");
            text.replace(".0e", "e").replace('-', "\u{2212}")
        }
        _ if decimals == 0 => count(value),
        _ => format!("{value:.decimals$}").replace('-', "\u{2212}"),
    }
}

fn trimmed(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$}").trim_end_matches('0').trim_end_matches('.').replace('-', "\u{2212}")
}

/// Multiples of 1, 2 or 5 times a power of ten, and the digits that they need behind the point.
fn linear_marks(low: f64, high: f64) -> (Vec<f64>, usize) {
    let rough = (high - low) / MARKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [5.0, 2.0, 1.0].into_iter().find(|nice| nice * power <= rough).unwrap_or(1.0) * power;
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    let decimals = -(power.log10().round()).min(0.0) as usize;
    ((first..=last).map(|mark| mark as f64 * step).collect(), decimals)
}

/// 1, 2 and 5 of every power of ten; over many, the powers alone.
fn decade_marks(range: &Range<f64>) -> Vec<f64> {
    let within = |digits: &[f64]| -> Vec<f64> {
        let decades = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
        // Dividing by a whole power keeps 0.1 and its like exact.
        let mark = |digit: f64, decade: i32| if decade < 0 { digit / 10f64.powi(-decade) } else { digit * 10f64.powi(decade) };
        let all = decades.flat_map(|decade| digits.iter().map(move |digit| mark(*digit, decade)));
        all.filter(|mark| range.contains(mark)).collect()
    };
    let all = within(&[1.0, 2.0, 5.0]);
    if all.len() > MOST_MARKS { within(&[1.0]) } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.marks.iter().map(|mark| axis.format_ext(mark)).collect()
    }

    #[test]
    fn marks_are_round_numbers_that_differ() {
        assert_eq!(labels(&Axis::steps(10.0, 1_600.0)), ["500", "1,000", "1,500"]);
        assert_eq!(labels(&Axis::values(0.3094, 0.3119)), ["0.3095", "0.3100", "0.3105", "0.3110", "0.3115", "0.3120"]);
        assert_eq!(labels(&Axis::values(0.0, 3e-3)), ["0", "0.001", "0.002", "0.003"]);
        assert_eq!(
            labels(&Axis::values(0.0, 1.2e-5)),
            ["0", "2e\u{2212}6", "4e\u{2212}6", "6e\u{2212}6", "8e\u{2212}6", "1e\u{2212}5", "1.2e\u{2212}5"]
        );
        assert_eq!(labels(&Axis::steps(0.0, 60_000.0)), ["0", "20 k", "40 k", "60 k"]);
        assert_eq!(labels(&Axis::steps(0.0, 3e6)), ["0", "1 M", "2 M", "3 M"]);
        assert_eq!(labels(&Axis::values(-1.0, 1.0)), ["\u{2212}1.0", "\u{2212}0.5", "0", "0.5", "1.0"]);
    }

    #[test]
    fn a_logarithmic_axis_has_marks_between_the_powers() {
        let axis = Axis::values(0.03, 4.6);
        assert_eq!(labels(&axis), ["0.05", "0.1", "0.2", "0.5", "1", "2", "5"]);
        assert_eq!(labels(&Axis::values(1e-3, 1e3)), ["0.001", "0.01", "0.1", "1", "10", "100", "1,000"]);
        assert_eq!([0.027, 4.6 * 1.1].map(|value| axis.map(&value, (0, 100))), [0, 100]);
    }

    #[test]
    fn one_value_alone_has_an_axis() {
        for value in [0.0, 1e-3, -5.0, 1e12] {
            let axis = Axis::values(value, value);
            assert!(axis.range.contains(&value) || value == axis.range.start, "{value}");
            assert!((1..20).contains(&axis.marks.len()), "{value} has {} marks", axis.marks.len());
        }
    }
}
