//! The card for people: where the rows went as a table whose lines sum up, lengths as bars, and a few traces as they are learned.

use std::fmt::Write;

use crate::preview::Piece;
use crate::rules::Rule;
use crate::{Card, Flow, Manifest};

/// Of a long trace so many characters are shown, half of them from its end.
const SHOWN_CHARACTERS: usize = 2400;
/// The longest bar of a histogram.
const BAR: u64 = 40;

/// The card of a dataset, with a few of its traces.
pub(crate) fn markdown(card: &Card, manifest: &Manifest, traces: &[Vec<Piece>]) -> String {
    let mut text = format!(
        "# Dataset card\n\n{} traces in {} rows of at most {} tokens: {} tokens, {} of them learned.\n\
         The tokenizer has {} tokens, its fingerprint is `{}`.\n",
        card.kept(),
        manifest.rows,
        manifest.context,
        manifest.tokens,
        manifest.supervised_tokens,
        manifest.vocab,
        manifest.tokenizer
    );
    flows(&mut text, card);
    sources(&mut text, card);
    contamination(&mut text, card);
    let bars = |text: &mut String, title: &str, bins: &std::collections::BTreeMap<u32, u64>, unit: &dyn Fn(u32) -> String| {
        let Some(&most) = bins.values().max() else { return };
        let _ = write!(text, "\n## {title}\n\n```\n");
        for (bin, count) in bins {
            let _ = writeln!(text, "{:>16} {count:>10} {}", unit(*bin), "█".repeat((count * BAR).div_ceil(most) as usize));
        }
        text.push_str("```\n");
    };
    bars(&mut text, "Tokens of a trace, prompt included", &card.lengths, &|bin| format!("up to {bin}"));
    bars(&mut text, "Learned tokens of a trace", &card.learned_lengths, &|bin| format!("up to {bin}"));
    bars(&mut text, "Questions by the share of tries that were right", &card.pass_rates, &|bin| format!("up to {} %", bin * 10));
    if let Some(teacher) = &card.teacher {
        let _ = write!(
            text,
            "\n## The teacher's probabilities\n\n{} learned tokens have a target of {} alternatives and a tail (mean {:.4}); {} tokens of traces with \
             probabilities have none, because nothing lines up with them. A target has {} bytes, {:.1} as it is packed on the disk.\n",
            teacher.targets, teacher.top_k, teacher.mean_tail, teacher.masked, teacher.bytes_per_target, teacher.packed_bytes_per_target
        );
    }
    let _ =
        write!(text, "\n## {} traces as they are learned\n\nWhat stands between « and » is learned, the rest is given.\n", traces.len());
    for trace in traces {
        // A fence longer than any in the trace.
        let marked = marked(trace, "«", "»");
        let longest = marked.split(|character| character != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        let _ = write!(text, "\n{fence}\n{marked}\n{fence}\n");
    }
    text
}

/// The way of all rows, rule by rule; the last column is the sum.
fn flows(text: &mut String, card: &Card) {
    let row = |text: &mut String, name: &str, of: &dyn Fn(&Flow) -> u64| {
        let counts: Vec<u64> = card.sources.iter().map(of).collect();
        let total: u64 = counts.iter().sum();
        let cells: String = counts.iter().map(|count| format!(" {count} |")).collect();
        let _ = writeln!(text, "| {name} |{cells} {total} |");
    };
    let heads: String = (1..=card.sources.len()).map(|at| format!(" source {at} |")).collect();
    let _ = write!(text, "\n## Where every row went\n\n| |{heads} all |\n|---|{}--:|\n", "--:|".repeat(card.sources.len()));
    row(text, "rows", &|flow| flow.rows);
    row(text, "traces in them", &|flow| flow.traces);
    for rule in Rule::ALL.map(Rule::name) {
        if card.sources.iter().any(|flow| flow.dropped.contains_key(rule)) {
            row(text, &format!("dropped: {rule}"), &|flow| flow.dropped.get(rule).copied().unwrap_or(0));
        }
    }
    row(text, "kept", &|flow| flow.kept);
    row(text, "of these verified to be right", &|flow| flow.verified);
    row(text, "of these not to be verified", &|flow| flow.unverifiable);
    row(text, "of these without reasoning", &|flow| flow.without_reasoning);
    for (name, of) in [
        ("of these mended before they could be read", (|flow| flow.mended) as fn(&Flow) -> u64),
        ("of these an evaluation question with other numbers", |flow| flow.masked_matches),
        ("repeated because of the source's weight", |flow| flow.repeats),
        ("called as an earlier trace is", |flow| flow.repeated_ids),
    ] {
        if card.sources.iter().any(|flow| of(flow) > 0) {
            row(text, name, &of);
        }
    }
}

fn sources(text: &mut String, card: &Card) {
    text.push_str("\n## Sources\n\n");
    for (at, flow) in card.sources.iter().enumerate() {
        let files = if flow.files == 1 { String::new() } else { format!(" ({} files)", flow.files) };
        let licence = flow.licence.as_deref().unwrap_or("not stated");
        let _ = writeln!(text, "{}. `{}`{files}, read as {}; licence: {licence}", at + 1, flow.path.display(), flow.layout);
    }
}

fn contamination(text: &mut String, card: &Card) {
    text.push_str("\n## Questions of evaluation sets\n\n");
    match &card.decontaminate_off_because {
        Some(why) => {
            let _ = writeln!(text, "**They were not looked for:** {why}");
        }
        None if card.decontaminated_against.is_empty() => text.push_str("No evaluation set was given.\n"),
        None => {
            for (set, problems) in &card.decontaminated_against {
                let touches = card.touches.get(set).into_iter().flatten().map(|(how, count)| format!("{how} {count}"));
                let touches = touches.collect::<Vec<_>>().join(", ");
                let touches = if touches.is_empty() { "none" } else { &touches };
                let _ = writeln!(text, "- {set} ({problems} problems); traces that touch them: {touches}");
            }
        }
    }
}

/// A trace as text with what is learned between two marks. A long one is cut in the middle, and says so.
pub fn marked(pieces: &[Piece], open: &str, close: &str) -> String {
    let total: usize = pieces.iter().map(|piece| piece.text.chars().count()).sum();
    let gap = match total > SHOWN_CHARACTERS {
        true => SHOWN_CHARACTERS / 2..total - SHOWN_CHARACTERS / 2,
        false => total..total,
    };
    let (mut text, mut learned, mut at) = (String::new(), false, 0);
    for piece in pieces {
        for character in piece.text.chars() {
            if at == gap.start && !gap.is_empty() {
                let _ = write!(text, " [… {} characters …] ", gap.len());
            }
            if !gap.contains(&at) {
                if piece.supervised != learned {
                    text.push_str(if piece.supervised { open } else { close });
                    learned = piece.supervised;
                }
                text.push(character);
            }
            at += 1;
        }
    }
    if learned {
        text.push_str(close);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, supervised: bool) -> Piece {
        Piece { text: text.into(), supervised }
    }

    #[test]
    fn what_is_learned_stands_between_marks() {
        let pieces = [piece("1 + 1", false), piece("?", false), piece("2", true), piece("!", true)];
        assert_eq!(marked(&pieces, "«", "»"), "1 + 1?«2!»");
        let long: Vec<Piece> = (0..2000).map(|_| piece("ab", true)).collect();
        let shown = marked(&long, "«", "»");
        assert!(shown.contains("ab [… 1600 characters …] ab") && shown.ends_with('»'), "{shown}");
    }
}
