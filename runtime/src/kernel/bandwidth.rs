//! How fast memory can be read: the limit of decoding, measured in the same run.

use std::{hint::black_box, time::Instant};

use super::{Isa, Pool, matrix::Line, memory::Lines, vectorise::vectorised};

/// How often each way of reading is tried.
const TIMES: usize = 3;

/// Bytes a second that the pool's threads read together: the fastest of several numbers of streams and distances of prefetching,
/// over `len_bytes` of memory.
pub(crate) fn read_bytes_per_s(isa: Isa, pool: &Pool, len_bytes: usize) -> f64 {
    // Written with ones: pages of zeros that were never written are all the same page.
    let mut lines = Lines::zeroed((len_bytes / size_of::<Line>()).max(64));
    lines.fill(Line([1; 64]));
    let mut best = f64::INFINITY;
    for streams in [1, 2, 4, 8] {
        for ahead_bytes in [0, 512, 1024, 4096] {
            for _ in 0..TIMES {
                let started = Instant::now();
                pool.for_each_range(lines.len(), 1, &|range| {
                    black_box(read(isa, &lines[range], streams, ahead_bytes));
                });
                best = best.min(started.elapsed().as_secs_f64());
            }
        }
    }
    size_of_val(&lines[..]) as f64 / best
}

vectorised! {
    /// Every line into one, in as many streams as asked for.
    fn read(lines: &[Line], streams: usize, ahead_bytes: usize) -> [u8; 64] {
        match streams {
            1 => read_streams::<1>(lines, ahead_bytes),
            2 => read_streams::<2>(lines, ahead_bytes),
            4 => read_streams::<4>(lines, ahead_bytes),
            _ => read_streams::<8>(lines, ahead_bytes),
        }
    }
}

#[inline(always)]
fn read_streams<const STREAMS: usize>(lines: &[Line], ahead_bytes: usize) -> [u8; 64] {
    let part = lines.len() / STREAMS;
    let mut sums = [[0u8; 64]; STREAMS];
    for at in 0..part {
        for (stream, sum) in sums.iter_mut().enumerate() {
            let line = &lines[stream * part + at];
            prefetch(std::ptr::from_ref(line).wrapping_byte_add(ahead_bytes));
            for (sum, byte) in sum.iter_mut().zip(line.0) {
                *sum ^= byte;
            }
        }
    }
    let mut all = [0; 64];
    sums.iter().for_each(|sum| all.iter_mut().zip(sum).for_each(|(all, sum)| *all ^= sum));
    all
}

/// Ask for a line, where there is an instruction for it.
#[inline(always)]
fn prefetch(line: *const Line) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch may name any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_once() {
        let lines: Vec<Line> = (0..64u8).map(|at| Line(std::array::from_fn(|i| at.wrapping_mul(i as u8 + 3)))).collect();
        let expected = read(Isa::SCALAR, &lines, 1, 0);
        assert!(expected.iter().any(|byte| *byte != 0));
        for isa in Isa::supported() {
            for streams in [1, 2, 4, 8] {
                assert_eq!(read(isa, &lines, streams, 512), expected, "{isa}, {streams} streams");
            }
        }
    }
}
