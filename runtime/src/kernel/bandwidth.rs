//! How fast memory can be read: the limit of decoding, measured beside it.

use std::{hint::black_box, time::Instant};

use super::{Isa, Pool, matrix::Line, memory::Lines, vectorise::vectorised};

/// A figure is the median of so many.
const TIMES: usize = 5;

/// Memory to read, and the fastest way to read it.
pub(crate) struct Bandwidth {
    lines: Lines,
    streams: usize,
    ahead_bytes: usize,
}

impl Bandwidth {
    /// With `len_bytes` of memory, of which the pool's threads try several numbers of streams and distances of prefetching.
    pub(crate) fn new(isa: Isa, pool: &Pool, len_bytes: usize) -> Bandwidth {
        // Written with ones: pages of zeros that were never written are all the same page.
        let mut lines = Lines::zeroed((len_bytes / size_of::<Line>()).max(64));
        lines.fill(Line([1; 64]));
        let mut bandwidth = Bandwidth { lines, streams: 1, ahead_bytes: 0 };
        let mut ways = Vec::new();
        for streams in [1, 2, 4, 8] {
            for ahead_bytes in [0, 512, 1024, 4096] {
                (bandwidth.streams, bandwidth.ahead_bytes) = (streams, ahead_bytes);
                ways.push((bandwidth.bytes_per_s(isa, pool), streams, ahead_bytes));
            }
        }
        let fastest = ways.into_iter().max_by(|one, other| one.0.total_cmp(&other.0));
        (_, bandwidth.streams, bandwidth.ahead_bytes) = fastest.expect("some ways");
        bandwidth
    }

    /// Bytes a second that the pool's threads read together, now.
    pub(crate) fn bytes_per_s(&self, isa: Isa, pool: &Pool) -> f64 {
        let mut seconds = [0.0; TIMES];
        for seconds in &mut seconds {
            let started = Instant::now();
            pool.for_each_range(self.lines.len(), 1, &|range| {
                black_box(read(isa, &self.lines[range], self.streams, self.ahead_bytes));
            });
            *seconds = started.elapsed().as_secs_f64();
        }
        seconds.sort_by(f64::total_cmp);
        size_of_val(&self.lines[..]) as f64 / seconds[TIMES / 2]
    }
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
