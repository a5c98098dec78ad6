//! One curve as inline SVG, in the page's colours.
//!
//! plotters writes colours as hexadecimal numbers; those drawn with here stand for the page's CSS variables and are replaced by them,
//! so that one drawing fits a light and a dark page.

use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use super::numbers::significant;

/// The drawing's size; small, because a phone shows it at about this width.
const SIZE: (u32, u32) = (460, 250);
/// More points than these cannot be told apart in a drawing.
const MAX_POINTS: usize = 600;
/// A curve that spans more than this ratio has a logarithmic scale.
const LOGARITHMIC_FROM: f64 = 20.0;

const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
const CURVE: RGBColor = RGBColor(3, 3, 3);
const RAW: RGBColor = RGBColor(4, 4, 4);
const COLOURS: [(&str, &str); 4] =
    [("#010101", "var(--muted)"), ("#020202", "var(--line)"), ("#030303", "var(--accent)"), ("#040404", "var(--accent-soft)")];

/// Draw values over steps: as measured, and smoothed on top. None for fewer than two points.
pub(super) fn curve(label: &str, points: &[(f64, f64)]) -> Option<String> {
    let points: Vec<(f64, f64)> = points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let ((first, _), (last, _)) = (points.first()?, points.last()?);
    if first >= last {
        return None;
    }
    let points = thin(&points);
    let low = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let steps = points[0].0..points[points.len() - 1].0;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        if low > 0.0 && high / low > LOGARITHMIC_FROM {
            draw(&area, steps, (low * 0.9..high * 1.1).log_scale(), &points);
        } else {
            let room = if high > low { 0.06 * (high - low) } else { 0.1 * high.abs().max(1e-9) };
            // A curve that never goes below zero has no ground below zero.
            let ground = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
            draw(&area, steps, ground..high + room, &points);
        }
    }
    Some(themed(&svg, label))
}

fn draw<Y>(area: &DrawingArea<SVGBackend, plotters::coord::Shift>, steps: std::ops::Range<f64>, values: Y, points: &[(f64, f64)])
where
    Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    const WRITES: &str = "drawing into a string cannot fail";
    let mut chart =
        ChartBuilder::on(area).margin(8).x_label_area_size(24).y_label_area_size(52).build_cartesian_2d(steps, values).expect(WRITES);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(5)
        .y_labels(5)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .x_label_formatter(&|step| significant(*step))
        .y_label_formatter(&|value| significant(*value))
        .draw()
        .expect(WRITES);
    chart.draw_series(LineSeries::new(points.iter().copied(), RAW.stroke_width(1))).expect(WRITES);
    chart.draw_series(LineSeries::new(smooth(points), CURVE.stroke_width(2))).expect(WRITES);
    area.present().expect(WRITES);
}

/// Exponential mean over about a twentieth of the curve.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / (points.len() as f64 / 20.0).max(1.0);
    let mut mean = points[0].1;
    let smoothed = points.iter().map(|(step, value)| {
        mean = keep * mean + (1.0 - keep) * value;
        (*step, mean)
    });
    smoothed.collect()
}

/// Means of equally many neighbours, at most [`MAX_POINTS`] of them.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(MAX_POINTS);
    let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| values.sum::<f64>() / count as f64;
    let joined = points
        .chunks(together)
        .map(|part| (mean(&mut part.iter().map(|point| point.0), part.len()), mean(&mut part.iter().map(|point| point.1), part.len())));
    joined.collect()
}

/// In the page's colours and as wide as its place.
fn themed(svg: &str, label: &str) -> String {
    let (width, height) = SIZE;
    let sized = format!("<svg width=\"{width}\" height=\"{height}\"");
    let mut svg = svg.replacen(&sized, &format!("<svg role=\"img\" aria-label=\"{label} over training steps\""), 1);
    for (colour, variable) in COLOURS {
        svg = svg.replace(colour, variable);
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_drawn_in_the_pages_colours() {
        let points: Vec<(f64, f64)> = (1..=5_000).map(|step| (f64::from(step), 6.0 / f64::from(step))).collect();
        let svg = curve("loss", &points).unwrap();
        assert!(svg.starts_with("<svg role=\"img\" aria-label=\"loss over training steps\""), "{}", &svg[..120]);
        assert!(svg.contains("var(--accent)") && !svg.contains("#0"));
        assert!(svg.len() < 60_000, "{} bytes", svg.len());
    }

    #[test]
    fn what_is_no_curve_is_not_drawn() {
        assert_eq!(curve("loss", &[]), None);
        assert_eq!(curve("loss", &[(1.0, 2.0)]), None);
        assert_eq!(curve("loss", &[(1.0, f64::NAN), (2.0, f64::NAN)]), None);
        assert!(curve("rate", &[(1.0, 0.0), (2.0, 0.0)]).is_some());
        assert!(curve("rate", &[(1.0, 1e-3), (2.0, 1e-3), (3.0, f64::INFINITY)]).is_some());
    }
}
