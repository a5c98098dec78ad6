//! What several samples of the same problem say together.

/// The unbiased estimate of the chance that at least one of `k` samples is right, from `right` of `samples`:
/// 1 - C(samples - right, k) / C(samples, k), as a product that cannot overflow. None where `k` is 0 or exceeds `samples`.
///
/// Source: Chen et al., arXiv:2107.03374, eq. 1.
pub fn pass_at_k(samples: u32, right: u32, k: u32) -> Option<f64> {
    if k == 0 || k > samples || right > samples {
        return None;
    }
    if samples - right < k {
        return Some(1.0);
    }
    let all_wrong: f64 = (samples - right + 1..=samples).map(|i| 1.0 - f64::from(k) / f64::from(i)).product();
    Some(1.0 - all_wrong)
}

/// The place of the first sample that gave the most frequent answer.
///
/// **Tie rule: of answers given equally often, the one given first wins.** A sample without an answer has no vote. None where no
/// sample has an answer.
pub fn majority<A: PartialEq>(answers: &[Option<A>]) -> Option<usize> {
    let mut best: Option<(usize, usize)> = None;
    for (place, answer) in answers.iter().enumerate() {
        let Some(answer) = answer else { continue };
        let votes = answers.iter().flatten().filter(|other| *other == answer).count();
        if best.is_none_or(|(_, most)| votes > most) {
            best = Some((place, votes));
        }
    }
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_at_one_is_the_average() {
        for samples in 1..=40 {
            for right in 0..=samples {
                let difference = pass_at_k(samples, right, 1).unwrap() - f64::from(right) / f64::from(samples);
                assert!(difference.abs() < 1e-12, "{right} of {samples}");
            }
        }
    }

    #[test]
    fn pass_at_k_counts_the_subsets_that_hold_a_right_sample() {
        for samples in 1..=10u32 {
            for right in 0..=samples {
                for k in 1..=samples {
                    let subsets: Vec<u32> = (0u32..1 << samples).filter(|set| set.count_ones() == k).collect();
                    let holding = subsets.iter().filter(|set| *set & ((1u32 << right) - 1) != 0).count();
                    let exact = holding as f64 / subsets.len() as f64;
                    assert!((pass_at_k(samples, right, k).unwrap() - exact).abs() < 1e-12, "{right} of {samples}, k {k}");
                }
            }
        }
        assert_eq!(pass_at_k(3, 1, 4), None);
        assert_eq!(pass_at_k(3, 1, 0), None);
    }

    #[test]
    fn the_first_of_equally_frequent_answers_wins() {
        assert_eq!(majority(&[None, Some(7), Some(3), Some(3), Some(7)]), Some(1));
        assert_eq!(majority(&[Some(7), Some(3), Some(3)]), Some(1));
        assert_eq!(majority::<u32>(&[None, None]), None);
        assert_eq!(majority::<u32>(&[]), None);
    }
}
