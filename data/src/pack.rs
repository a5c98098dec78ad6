//! Whole documents into rows of a fixed length, best fit first: a document goes where the least room is left over. No document is
//! cut, because a chain of thought without its beginning teaches nothing. Source: best-fit decreasing, Johnson 1973; for training
//! rows Ding et al. 2024, arXiv:2404.10830.

use std::collections::BTreeMap;

/// The documents of each row, as indices into `lengths`. Every length is at least 1 and at most `capacity`.
/// The rows come in the order of their first documents, the documents of a row in their own order.
pub(crate) fn best_fit(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut longest_first: Vec<usize> = (0..lengths.len()).collect();
    longest_first.sort_by_key(|&index| (std::cmp::Reverse(lengths[index]), index));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // The rows that have a certain room left.
    let mut by_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in longest_first {
        let length = lengths[index];
        let room = by_room.range(length..).next().map(|(&room, _)| room);
        let (row, left) = match room {
            Some(room) => {
                let with_room = by_room.get_mut(&room).expect("this room was found");
                let row = with_room.pop().expect("no entry is empty");
                if with_room.is_empty() {
                    by_room.remove(&room);
                }
                (row, room - length)
            }
            None => {
                rows.push(Vec::new());
                (rows.len() - 1, capacity - length)
            }
        };
        rows[row].push(index);
        if left > 0 {
            by_room.entry(left).or_default().push(row);
        }
    }
    for row in &mut rows {
        row.sort_unstable();
    }
    rows.sort_unstable_by_key(|row| row[0]);
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_document_goes_where_the_least_room_is_left() {
        assert_eq!(best_fit(&[6, 5, 4, 3, 2], 10), [vec![0, 2], vec![1, 3, 4]]);
        assert_eq!(best_fit(&[10, 1, 10], 10), [vec![0], vec![1], vec![2]]);
        assert!(best_fit(&[], 10).is_empty());
    }

    proptest! {
        #[test]
        fn every_document_is_in_one_row_and_no_row_is_too_long(lengths in prop::collection::vec(1usize..=64, 0..200)) {
            let rows = best_fit(&lengths, 64);
            let mut seen: Vec<usize> = rows.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for row in &rows {
                prop_assert!(row.iter().map(|&index| lengths[index]).sum::<usize>() <= 64);
            }
            // Any two rows together are more than full, so that at most twice the least number of rows is used.
            let total: usize = lengths.iter().sum();
            prop_assert!(rows.len() <= 2 * total.div_ceil(64).max(1));
        }
    }
}
