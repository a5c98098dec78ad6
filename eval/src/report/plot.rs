//! Drawings as inline SVG, in the page's colours.
//!
//! plotters writes colours as hexadecimal numbers; those drawn with here stand for the page's CSS variables and are replaced by them,
//! so that one drawing fits a light and a dark page.

mod axis;

use plotters::prelude::*;

use super::metrics::Measured;
use axis::Axis;

/// The drawing's size; small, because a phone and a column of the page show it at about this width.
const SIZE: (u32, u32) = (400, 240);
/// More points than these cannot be told apart in a drawing.
const MAX_POINTS: usize = 400;
/// The share of a curve that a smoothed point is the mean of.
const WINDOW: f64 = 0.05;

const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
const CURVE: RGBColor = RGBColor(3, 3, 3);
const RAW: RGBColor = RGBColor(4, 4, 4);
const COLOURS: [(RGBColor, &str); 4] =
    [(INK, "var(--muted)"), (GRID, "var(--line)"), (CURVE, "var(--accent)"), (RAW, "var(--accent-soft)")];

/// Whether a curve is drawn as measured, or as a mean over what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Smoothing {
    /// As measured.
    None,
    /// As it was set, from zero on: a schedule is no measurement, and its shape is what one looks for.
    Schedule,
    /// The mean of a twentieth of the curve around each point, so that it does not lag; what was measured stands faintly behind it.
    Centred,
}

/// Draw values over steps. None for fewer than two of them.
pub(super) fn curve(label: &str, points: &[(f64, f64)], smoothing: Smoothing) -> Option<String> {
    let points = thin(points);
    match smoothing {
        Smoothing::None => draw(label, vec![Line { points, colour: CURVE, width: 2 }], &[], f64::INFINITY),
        Smoothing::Schedule => draw(label, vec![Line { points, colour: CURVE, width: 2 }], &[], 0.0),
        Smoothing::Centred => {
            let smoothed = Line { points: centred_mean(&points), colour: CURVE, width: 2 };
            draw(label, vec![Line { points, colour: RAW, width: 1 }, smoothed], &[], f64::INFINITY)
        }
    }
}

/// Draw a line for each layer, from the first's colour to the last's.
pub(super) fn layers(label: &str, steps: &[(f64, Vec<f64>)]) -> Option<String> {
    let count = steps.iter().map(|(_, values)| values.len()).max()?;
    let line = |layer: usize| {
        let points: Vec<(f64, f64)> = steps.iter().filter_map(|(step, values)| Some((*step, *values.get(layer)?))).collect();
        Line { points: thin(&points), colour: layer_colour(layer), width: 2 }
    };
    let mut svg = draw(label, (0..count).map(line).collect(), &[], f64::INFINITY)?;
    for layer in 0..count {
        let share = 100 * layer / (count - 1).max(1);
        let mix = format!("color-mix(in oklab, var(--last) {share}%, var(--first))");
        svg = svg.replace(&hexadecimal(layer_colour(layer)), &mix);
    }
    Some(svg)
}

/// Draw a score over steps, with its interval.
pub(super) fn scores(label: &str, scores: &[Measured]) -> Option<String> {
    let points = scores.iter().map(|score| (score.step, score.accuracy)).collect();
    draw(label, vec![Line { points, colour: CURVE, width: 2 }], scores, f64::INFINITY)
}

struct Line {
    points: Vec<(f64, f64)>,
    colour: RGBColor,
    width: u32,
}

/// The axis of values reaches down to `ground`, if nothing lies below it.
fn draw(label: &str, mut lines: Vec<Line>, intervals: &[Measured], ground: f64) -> Option<String> {
    const WRITES: &str = "drawing into a string cannot fail";
    lines.iter_mut().for_each(|line| line.points.retain(|(_, value)| value.is_finite()));
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let points = || lines.iter().flat_map(|line| &line.points);
    let (first, last) = ends(&mut points().map(|point| point.0));
    if first >= last {
        return None;
    }
    let bounds = intervals.iter().flat_map(|score| [score.low, score.high]);
    let (low, high) = ends(&mut points().map(|point| point.1).chain(bounds));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin_top(10)
            .margin_right(24) // Room for half of the last step's label.
            .x_label_area_size(26)
            .y_label_area_size(58)
            .build_cartesian_2d(Axis::steps(first, last), Axis::values(low.min(ground), high))
            .expect(WRITES);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(("sans-serif", 15).into_font().color(&INK))
            .draw()
            .expect(WRITES);
        for score in intervals {
            let ends = [score.low, score.high].map(|bound| (score.step, bound));
            chart.draw_series([PathElement::new(ends, RAW.stroke_width(4))]).expect(WRITES);
        }
        for line in &lines {
            chart.draw_series(LineSeries::new(line.points.iter().copied(), line.colour.stroke_width(line.width))).expect(WRITES);
        }
        area.present().expect(WRITES);
    }
    Some(themed(&svg, label))
}

/// A colour that stands for a layer and for nothing else.
fn layer_colour(layer: usize) -> RGBColor {
    RGBColor(0xf0 + (layer >> 16) as u8, (layer >> 8) as u8, layer as u8)
}

fn hexadecimal(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// The mean around each point; less far to both sides near the ends, so that a slope stays a slope.
fn centred_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = (points.len() as f64 * WINDOW / 2.0).round() as usize;
    let mean = |(place, (step, _)): (usize, &(f64, f64))| {
        let reach = reach.min(place).min(points.len() - 1 - place);
        let around = &points[place - reach..=place + reach];
        (*step, around.iter().map(|point| point.1).sum::<f64>() / around.len() as f64)
    };
    points.iter().enumerate().map(mean).collect()
}

/// Means of equally many neighbours, at most [`MAX_POINTS`] of them. What is no number is left out.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let together = points.len().div_ceil(MAX_POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let (steps, values) = part.iter().fold((0.0, 0.0), |(steps, values), point| (steps + point.0, values + point.1));
        (steps / part.len() as f64, values / part.len() as f64)
    };
    points.chunks(together).map(mean).collect()
}

/// In the page's colours and as wide as its place.
fn themed(svg: &str, label: &str) -> String {
    let (width, height) = SIZE;
    let sized = format!("<svg width=\"{width}\" height=\"{height}\"");
    let mut svg = svg.replacen(&sized, &format!("<svg role=\"img\" aria-label=\"{label} over training steps\""), 1);
    for (colour, variable) in COLOURS {
        svg = svg.replace(&hexadecimal(colour), variable);
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in_the_pages_colours(svg: &str) {
        let lines = svg.split('"').filter(|part| part.starts_with('#')).collect::<Vec<_>>();
        assert_eq!(lines, Vec::<&str>::new());
    }

    #[test]
    fn a_curve_is_drawn_in_the_pages_colours() {
        let points: Vec<(f64, f64)> = (1..=5_000).map(|step| (f64::from(step), 6.0 / f64::from(step))).collect();
        let svg = curve("loss", &points, Smoothing::Centred).unwrap();
        assert!(svg.starts_with("<svg role=\"img\" aria-label=\"loss over training steps\" viewBox="), "{}", &svg[..120]);
        assert!(svg.contains("var(--accent)") && svg.contains("var(--accent-soft)"));
        assert!(svg.len() < 60_000, "{} bytes", svg.len());
        is_in_the_pages_colours(&svg);
        assert!(!curve("norm", &points, Smoothing::None).unwrap().contains("var(--accent-soft)"));
        let zero = |smoothing| curve("rate", &points, smoothing).unwrap().contains("\n0\n");
        assert!(zero(Smoothing::Schedule) && !zero(Smoothing::None));
    }

    #[test]
    fn each_layer_has_a_line_of_its_own_colour() {
        let steps: Vec<(f64, Vec<f64>)> = (0..9).map(|step| (f64::from(step), vec![0.3, 0.31, 0.32 + f64::from(step) / 100.0])).collect();
        let svg = layers("zeros", &steps).unwrap();
        for share in [0, 50, 100] {
            assert_eq!(svg.matches(&format!("var(--last) {share}%")).count(), 1, "{share}");
        }
        is_in_the_pages_colours(&svg);
    }

    #[test]
    fn scores_have_intervals() {
        let score = |step: f64| Measured { step, accuracy: 0.5, low: 0.4, high: 0.6 };
        let svg = scores("held out", &[score(10.0), score(20.0)]).unwrap();
        assert_eq!(svg.matches("var(--accent-soft)").count(), 2);
    }

    #[test]
    fn what_is_no_curve_is_not_drawn() {
        let curve = |points: &[(f64, f64)]| curve("loss", points, Smoothing::Centred);
        assert_eq!(curve(&[]), None);
        assert_eq!(curve(&[(1.0, 2.0)]), None);
        assert_eq!(curve(&[(1.0, f64::NAN), (2.0, f64::NAN)]), None);
        assert!(curve(&[(1.0, 0.0), (2.0, 0.0)]).is_some());
        assert!(curve(&[(1.0, 1e-3), (2.0, 1e-3), (3.0, f64::INFINITY)]).is_some());
        assert_eq!(layers("zeros", &[]), None);
        assert_eq!(scores("set", &[]), None);
    }

    #[test]
    fn smoothing_does_not_lag() {
        let slope: Vec<(f64, f64)> = (0..200).map(|step| (f64::from(step), 3.0 * f64::from(step))).collect();
        for ((_, smoothed), (_, value)) in centred_mean(&slope).iter().zip(&slope) {
            assert!((smoothed - value).abs() < 1e-9);
        }
    }
}
