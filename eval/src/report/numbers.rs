//! Numbers as people read them. The same functions are filters of the page and of the model card.

use minijinja::Environment;

/// Make the functions below known to templates.
pub(super) fn add_filters(environment: &mut Environment<'_>) {
    environment.add_filter("percent", percent);
    environment.add_filter("points", points);
    environment.add_filter("count", count);
    environment.add_filter("bytes", bytes);
    environment.add_filter("duration", duration);
    environment.add_filter("significant", significant);
}

/// A share with one decimal: `82.4 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A difference of shares with its sign: `+1.2`.
fn points(difference: f64) -> String {
    let rounded = (1000.0 * difference).round() / 10.0;
    // Neither "+0.0" nor "-0.0".
    if rounded == 0.0 { "0.0".into() } else { format!("{rounded:+.1}").replace('-', "\u{2212}") }
}

/// A whole number in groups of three: `12,345`.
pub(super) fn count(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if number <= -0.5 { format!("\u{2212}{grouped}") } else { grouped }
}

/// A size in units of 1000 bytes.
pub(super) fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e9 => format!("{:.2} GB", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.2} MB", bytes / 1e6),
        bytes if bytes >= 1e3 => format!("{:.1} kB", bytes / 1e3),
        bytes => format!("{bytes:.0} B"),
    }
}

/// Seconds in the two largest units: `1 h 05 min`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// Three significant digits, without an exponent where one can do without.
pub(super) fn significant(number: f64) -> String {
    if number == 0.0 {
        return "0".into();
    }
    let magnitude = number.abs().log10().floor() as i32;
    match magnitude {
        3.. => count(number),
        -4..3 => {
            let text = format!("{number:.*}", (2 - magnitude).max(0) as usize);
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        }
        _ => format!("{number:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([percent(0.82449), percent(1.0), percent(0.0)], ["82.4 %", "100.0 %", "0.0 %"]);
        assert_eq!([points(0.0123), points(-0.5), points(-0.0001)], ["+1.2", "\u{2212}50.0", "0.0"]);
        assert_eq!([count(0.0), count(999.6), count(1_234_567.0), count(-1_000.0)], ["0", "1,000", "1,234,567", "\u{2212}1,000"]);
        assert_eq!([bytes(12.0), bytes(1_234.0), bytes(2.5e6), bytes(1.25e9)], ["12 B", "1.2 kB", "2.50 MB", "1.25 GB"]);
        assert_eq!(
            [duration(0.04), duration(59.6), duration(3_599.0), duration(7_260.0)],
            ["0.0 s", "1 min 00 s", "59 min 59 s", "2 h 01 min"]
        );
        assert_eq!([significant(0.0030), significant(1.5), significant(123.4), significant(12_345.0)], ["0.003", "1.5", "123", "12,345"]);
        assert_eq!([significant(0.0), significant(1e-9), significant(0.01234)], ["0", "1.00e-9", "0.0123"]);
    }
}
