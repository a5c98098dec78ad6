use super::*;
use crate::kernel::NewKeyValues;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| (((i + seed) * 7919 % 1009) as f32 - 504.0) * 0.002).collect()
}

/// Two sequences that share no page: `lengths` tokens each, of which the last `rows` attend.
fn attend_all(isa: Isa, (heads, kv_heads, width): (usize, usize, usize), lengths: [usize; 2], rows: usize, block: usize) -> Vec<f32> {
    let pool = Pool::new(2);
    let mut key_values = KeyValues::new(2, kv_heads, width);
    let pages = [[3, 0, 4], [1, 5, 2]];
    (0..6).for_each(|_| key_values.add_page());
    let stride = (heads + 2 * kv_heads) * width;
    let mut queries = Vec::new();
    let mut blocks: Vec<Block> = Vec::new();
    for (sequence, length) in lengths.into_iter().enumerate() {
        let all = numbers(length * stride, sequence * 100);
        let new = NewKeyValues { all: &all, stride, start: heads * width };
        key_values.store(&pool, 1, new, &|row| (pages[sequence][row / PAGE], row % PAGE));
        let first = length - rows;
        for start in (0..rows).step_by(block) {
            blocks.push(Block { row: sequence * rows + start, position: first + start, rows: block.min(rows - start), sequence });
        }
        queries.extend_from_slice(&all[first * stride..]);
    }
    let mut out = vec![f32::NAN; 2 * rows * heads * width];
    let queries = Queries { all: &queries, stride, heads };
    attend(isa, &pool, (&key_values, 1), &blocks, &|sequence| &pages[sequence][..], queries, &mut out);
    out
}

/// One query at a time, in f64.
fn reference((heads, kv_heads, width): (usize, usize, usize), lengths: [usize; 2], rows: usize) -> Vec<f64> {
    let stride = (heads + 2 * kv_heads) * width;
    let mut out = Vec::new();
    for (sequence, length) in lengths.into_iter().enumerate() {
        let all = numbers(length * stride, sequence * 100);
        let half = |x: f32| f64::from(f16::from_f32(x).to_f32());
        for position in length - rows..length {
            for head in 0..heads {
                let query = &all[position * stride + head * width..][..width];
                let kv =
                    |part: usize, at: usize| &all[at * stride + (heads + part * kv_heads + head / (heads / kv_heads)) * width..][..width];
                let score = |at: usize| query.iter().zip(kv(0, at)).map(|(q, k)| f64::from(*q) * half(*k)).sum::<f64>();
                let scores: Vec<f64> = (0..=position).map(score).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                out.extend((0..width).map(|i| weights.iter().enumerate().map(|(at, w)| w * half(kv(1, at)[i])).sum::<f64>() / total));
            }
        }
    }
    out
}

#[test]
fn it_is_softmax_attention_to_the_same_bits_in_any_tile() {
    for (shape, lengths, rows) in [
        ((1, 1, 16), [1, 3], 1),
        ((4, 2, 64), [64, 65], 1),
        ((20, 5, 128), [140, 70], 9),
        ((6, 2, 40), [150, 17], 17),
        ((3, 3, 6), [130, 129], 33),
        ((34, 1, 32), [66, 20], 3),
    ] {
        let expected = attend_all(Isa::SCALAR, shape, lengths, rows, 1);
        for (found, expected) in expected.iter().zip(reference(shape, lengths, rows)) {
            assert!((f64::from(*found) - expected).abs() < 5e-5, "{shape:?}: {found} {expected}");
        }
        for isa in Isa::supported() {
            for block in [1, 2, 4, 16] {
                let found = attend_all(isa, shape, lengths, rows, block);
                let same = found.iter().zip(&expected).all(|(found, expected)| found.to_bits() == expected.to_bits());
                assert!(same && found.len() == expected.len(), "{isa}, {shape:?}, blocks of {block}");
            }
        }
    }
}

#[test]
fn what_a_query_does_not_see_does_not_touch_it() {
    let (heads, width, stride) = (2, 32, 4 * 32);
    let mut key_values = KeyValues::new(1, 1, width);
    key_values.add_page();
    let all: Vec<f32> = numbers(8 * stride, 1).into_iter().enumerate().map(|(at, x)| if at < 5 * stride { x } else { f32::NAN }).collect();
    let new = NewKeyValues { all: &all, stride, start: heads * width };
    key_values.store(&Pool::new(1), 0, new, &|row| (0, row));
    for isa in Isa::supported() {
        let mut out = vec![f32::NAN; 5 * heads * width];
        let blocks = [Block { row: 0, position: 0, rows: 5, sequence: 0 }];
        let queries = Queries { all: &all, stride, heads };
        attend(isa, &Pool::new(1), (&key_values, 0), &blocks, &|_| &[0][..], queries, &mut out);
        assert!(out.iter().all(|x| x.is_finite()), "{isa}");
    }
}
