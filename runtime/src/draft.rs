//! Tokens guessed ahead of the student: what followed when the text's last few tokens stood in the prompt or the answer before.
//!
//! The guess is run in the same batch as the token before it and kept as far as the student itself says the same, so that the tokens
//! are those without it. It pays where reading the weights is what limits; how far to guess follows from how often guesses came
//! true and from how long steps of so many rows took. Source of the verification: arXiv:2211.17192, where the draft is a model's.

use crate::Draft;

/// The most tokens that are guessed for one sequence; with the one before them a tile of the kernels.
const MOST: usize = 11;
/// The longest end of the text that is looked for.
const LONGEST: usize = 8;
/// Steps of more rows are limited by computing, where a guess cannot pay.
const ROWS: usize = 24;
/// How much longer a step is believed to take for each more row before such steps were seen, as a share of one with one row.
const ROW_SHARE: f64 = 0.05;

/// A guess at how a text goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Guess<'t> {
    /// How many tokens agree between the text's end and where the guess comes from: at least 1, at most [`LONGEST`].
    pub(crate) agreement: usize,
    /// The text from there on.
    after: &'t [u32],
    /// How many tokens are guessed.
    pub(crate) count: usize,
}

impl Guess<'_> {
    /// The guessed token at a place below `count`; a text that repeats itself is taken to go on doing so.
    pub(crate) fn token(&self, place: usize) -> u32 {
        self.after[place % self.after.len()]
    }
}

/// What followed the latest of the longest earlier occurrences of the text's end.
fn continuation(tokens: &[u32], count: usize) -> Option<Guess<'_>> {
    let (last, before) = tokens.split_last()?;
    let mut best = (0, 0);
    for (at, token) in before.iter().enumerate().rev() {
        if token == last {
            let pairs = before[..at].iter().rev().zip(before.iter().rev());
            let agreement = 1 + pairs.take(LONGEST - 1).take_while(|(one, two)| one == two).count();
            if agreement > best.0 {
                best = (agreement, at + 1);
            }
            if agreement == LONGEST {
                break;
            }
        }
    }
    let (agreement, from) = best;
    (agreement > 0).then(|| Guess { agreement, after: &tokens[from..], count })
}

/// Decides how far to guess, from what came of earlier guesses.
#[derive(Debug)]
pub(crate) struct Drafter {
    draft: Draft,
    /// For each agreement, how likely a guessed token is right if those before it are.
    right: [f64; LONGEST + 1],
    /// How long a step of so many rows takes, in seconds.
    seconds: [f64; ROWS + 1],
}

impl Drafter {
    pub(crate) fn new(draft: Draft) -> Drafter {
        // Before anything is known, longer agreements are believed more.
        let right = std::array::from_fn(|length| length as f64 / (length as f64 + 1.0));
        Drafter { draft, right, seconds: [0.0; ROWS + 1] }
    }

    /// The guess for a text in a step that has `rows` rows and brings `expected` tokens so far: of as many tokens, at most `room`, as
    /// bring the most tokens a second. Adds what it will to both.
    pub(crate) fn draft<'t>(&self, tokens: &'t [u32], room: usize, rows: &mut usize, expected: &mut f64) -> Option<Guess<'t>> {
        let most = match self.draft {
            Draft::Never => return None,
            Draft::Always(count) => {
                let guess = continuation(tokens, count.min(room))?;
                *rows += guess.count;
                return Some(guess);
            }
            Draft::WhenItPays => MOST.min(room).min(ROWS.saturating_sub(*rows)),
        };
        if most == 0 {
            return None;
        }
        let guess = continuation(tokens, most)?;
        let mut best = (*expected / self.seconds(*rows)?, 0, 0.0);
        let (mut chance, mut sum) = (1.0, 0.0);
        for count in 1..=most {
            chance *= self.right[guess.agreement];
            sum += chance;
            let rate = (*expected + sum) / self.seconds(*rows + count)?;
            if rate > best.0 {
                best = (rate, count, sum);
            }
        }
        (*rows, *expected) = (*rows + best.1, *expected + best.2);
        Some(Guess { count: best.1, ..guess })
    }

    /// After an agreement `right` guessed tokens came true, and then one did not if `wrong`.
    pub(crate) fn verified(&mut self, agreement: usize, right: usize, wrong: bool) {
        const WEIGHT: f64 = 1.0 / 32.0;
        let chance = &mut self.right[agreement];
        for _ in 0..right {
            *chance += WEIGHT * (1.0 - *chance);
        }
        if wrong {
            *chance -= WEIGHT * *chance;
        }
    }

    /// A step of decoding sequences alone had so many rows and took so long.
    pub(crate) fn took(&mut self, rows: usize, seconds: f64) {
        const WEIGHT: f64 = 1.0 / 8.0;
        if let Some(known) = self.seconds.get_mut(rows) {
            *known = if *known == 0.0 { seconds } else { *known + WEIGHT * (seconds.min(4.0 * *known) - *known) };
        }
        // More rows that once were slow, for a reason that has passed, are tried again some day.
        self.seconds.iter_mut().skip(rows + 1).for_each(|slower| *slower *= 0.999);
    }

    /// How long a step of so many rows takes, if one of as many or fewer was measured. Never less than one of fewer.
    fn seconds(&self, rows: usize) -> Option<f64> {
        let known =
            |range: std::ops::RangeInclusive<usize>| range.map(|rows| (rows, self.seconds[rows])).filter(|(_, seconds)| *seconds > 0.0);
        let (nearest, _) = known(1..=rows).next_back()?;
        let below = known(1..=rows).fold(0.0, |most: f64, (_, seconds)| most.max(seconds));
        let above = known(rows + 1..=ROWS).fold(f64::INFINITY, |least, (_, seconds)| least.min(seconds));
        Some((below * (1.0 + ROW_SHARE).powi((rows - nearest) as i32)).min(above).max(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_agreement_is_taken_and_of_equals_the_latest() {
        let found = |text: &[u32], count: usize| {
            continuation(text, count).map(|guess| (guess.agreement, (0..count).map(|place| guess.token(place)).collect::<Vec<_>>()))
        };
        let text = [1, 2, 3, 4, 9, 2, 3, 5, 7, 2, 3, 6, 1, 2, 3];
        assert_eq!(found(&text, 2), Some((3, vec![4, 9])));
        assert_eq!(found(&text[1..], 2), Some((2, vec![6, 1])));
        assert_eq!(found(&[4, 5, 4], 3), Some((1, vec![5, 4, 5])));
        assert_eq!(found(&[8; 30], 4), Some((LONGEST, vec![8; 4])));
        assert_eq!(found(&[4, 5, 6], 9), None);
        assert_eq!(found(&[4], 9), None);
    }

    /// A drafter that has seen steps of these rows and seconds, and guesses come true with this chance.
    fn drafter(seen: &[(usize, f64)], chance: f64) -> Drafter {
        let mut drafter = Drafter::new(Draft::WhenItPays);
        seen.iter().for_each(|(rows, seconds)| drafter.took(*rows, *seconds));
        drafter.right = [chance; LONGEST + 1];
        drafter
    }

    fn drafted(drafter: &Drafter, rows: usize) -> usize {
        let text: Vec<u32> = (0..20).chain(0..5).collect();
        let (mut all, mut expected) = (rows, rows as f64);
        let count = drafter.draft(&text, 100, &mut all, &mut expected).map_or(0, |guess| guess.count);
        assert_eq!(all, rows + count);
        assert!((rows as f64..=(rows + count) as f64).contains(&expected));
        count
    }

    #[test]
    fn it_guesses_as_far_as_it_pays() {
        assert_eq!(drafted(&drafter(&[], 0.9), 1), 0, "before anything was measured");
        let cheap = [(1, 1.0), (12, 1.1)];
        assert_eq!(drafted(&drafter(&cheap, 0.99), 1), MOST);
        assert_eq!(drafted(&drafter(&cheap, 0.02), 1), 0);
        let dear: Vec<_> = (1..=12).map(|rows| (rows, rows as f64)).collect();
        assert_eq!(drafted(&drafter(&dear, 0.9), 1), 0);
        assert_eq!(drafted(&drafter(&[(16, 1.0), (17, 1.06)], 0.9), 16), 0);
        assert_eq!(drafted(&drafter(&[(16, 1.0), (24, 1.01)], 0.9), 16), 8);
        // Free up to four rows, and then as dear as it is without.
        let tiled: Vec<_> = (1..=12usize).map(|rows| (rows, rows.next_multiple_of(4) as f64)).collect();
        assert_eq!(drafted(&drafter(&tiled, 0.8), 1), 3);
    }

    #[test]
    fn it_learns_how_good_guesses_are() {
        let mut drafter = drafter(&[(1, 1.0), (2, 1.2), (3, 1.4)], 0.5);
        (0..200).for_each(|_| drafter.verified(5, 0, true));
        assert_eq!(drafted(&drafter, 1), 0);
        (0..200).for_each(|_| drafter.verified(5, 3, false));
        assert!(drafted(&drafter, 1) > 4);
        assert!(drafter.right.iter().all(|chance| (0.0..=1.0).contains(chance)));
    }
}
