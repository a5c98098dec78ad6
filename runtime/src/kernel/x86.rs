//! The kernels for x86-64: row vectors in registers of 256 and 512 bits, each with the dot-product instruction (VNNI) and without.
//!
//! No closures around intrinsics, here and in `tile.rs`: a closure does not have the instruction set of the function around it, and
//! one that is not inlined is a hundred times slower.

mod register;

use std::{arch::x86_64::*, hint::black_box, sync::OnceLock};

pub(super) use register::Register;

use super::{
    integer_planes::Size,
    integer_tile::{Fine, Halves, Sums},
    matrix::Line,
    tile::Vector,
};

/// Four activations of a line's sixteen.
#[inline(always)]
pub(super) unsafe fn splat<R: Register>(token: *const i8, plane: usize) -> R {
    // SAFETY: the caller has sixteen codes there and the register's instruction set.
    unsafe { R::splat(token.add(4 * plane).cast::<i32>().read_unaligned()) }
}

/// The planes of a line of which a tile's tokens come one after the other: a compiler that knows how many there are reads the activations
/// of all of them at once, more than there are registers, and puts them on the stack.
#[inline(always)]
pub(super) fn planes(count: usize) -> usize {
    black_box(count)
}

/// With VNNI: one instruction for four products.
#[derive(Clone, Copy)]
pub(super) struct Vnni<R>(pub(super) R);

/// Without: the products of some lines are added in 16 bits before they are widened.
#[derive(Clone, Copy)]
pub(super) struct Maddubs<R>(R);

// A lane of 16 bits holds two products of each of four planes of so many lines; or those of two planes, four times too large, of fewer.
const _: () = assert!(<Maddubs<__m256i> as Vector>::LINES as i32 * 4 * 2 * 2 * 127 <= i16::MAX as i32);
const _: () = assert!(<Maddubs<__m256i> as Vector>::FEW_LINES as i32 * 2 * 2 * 8 * 127 <= i16::MAX as i32);

// SAFETY (of every `unsafe` below): these functions have the safety conditions of `Vector` and `Register`, which are those of
// the intrinsics and pointer reads that they consist of.

/// What both take from their register as it is.
macro_rules! as_register {
    ($vector:ident) => {
        const ROWS: usize = R::ROWS;
        const STEP: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { $vector(R::zero()) }
        }

        #[inline(always)]
        unsafe fn load(from: *const u8) -> Self {
            unsafe { $vector(R::load(from)) }
        }

        #[inline(always)]
        unsafe fn prefetch(from: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }

        #[inline(always)]
        unsafe fn splat(number: i32) -> Self {
            unsafe { $vector(R::splat(number)) }
        }

        #[inline(always)]
        unsafe fn times_128(self) -> Self {
            unsafe { $vector(self.0.times_128()) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { $vector(self.0.add(other.0)) }
        }

        #[inline(always)]
        unsafe fn and(self, mask: u8) -> Self {
            unsafe { $vector(self.0.and(mask as i8)) }
        }

        #[inline(always)]
        unsafe fn or(self, other: Self) -> Self {
            unsafe { $vector(self.0.or(other.0)) }
        }

        #[inline(always)]
        unsafe fn left(self, by: i32) -> Self {
            unsafe { $vector(self.0.left16(by)) }
        }

        #[inline(always)]
        unsafe fn right(self, by: i32) -> Self {
            unsafe { $vector(self.0.right16(by)) }
        }

        type Floats = R::Floats;

        #[inline(always)]
        unsafe fn zero_floats() -> R::Floats {
            unsafe { R::zero_floats() }
        }

        #[inline(always)]
        unsafe fn add_scaled(self, total: R::Floats, scales: *const f32) -> R::Floats {
            unsafe { self.0.add_scaled(total, scales) }
        }

        #[inline(always)]
        unsafe fn store_times(total: R::Floats, factor: f32, to: *mut f32) {
            unsafe { R::store_times(total, factor, to) }
        }
    };
}

impl<R: Register> Vector for Vnni<R> {
    as_register!(Vnni);

    const LINES: usize = usize::MAX;
    /// A sum for each plane: four independent chains of additions, and no shifts in the loop.
    type Sums = [R; 4];
    const FEW_LINES: usize = usize::MAX;

    #[inline(always)]
    unsafe fn add_line<const M: usize, const N: usize>(sums: &mut [[Self; N]; M], line: [Self; M], tokens: *const i8, stride: usize) {
        let mut line = line;
        for plane in 0..planes(4) {
            unsafe {
                let mut weights = [R::zero(); M];
                for m in 0..M {
                    weights[m] = line[m].0.and(3);
                    line[m].0 = line[m].0.right16(2);
                }
                for n in 0..N {
                    let codes = splat::<R>(tokens.add(n * stride), plane);
                    for m in 0..M {
                        sums[m][n].0 = sums[m][n].0.dot(weights[m], codes);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn zero_sums() -> [R; 4] {
        unsafe { [R::zero(); 4] }
    }

    #[inline(always)]
    unsafe fn add_few<const M: usize, const N: usize>(sums: &mut [[[R; 4]; N]; M], line: [Self; M], tokens: *const i8, stride: usize) {
        for plane in 0..4 {
            unsafe {
                let mut weights = [R::zero(); M];
                for m in 0..M {
                    weights[m] = line[m].0.and((3u8 << (2 * plane)) as i8);
                }
                for n in 0..N {
                    let codes = splat::<R>(tokens.add(n * stride), plane);
                    for m in 0..M {
                        sums[m][n][plane] = sums[m][n][plane].dot(weights[m], codes);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn total([first, second, third, fourth]: [R; 4]) -> Self {
        unsafe { Vnni(first.add(second.add(third.add(fourth.quarter()).quarter()).quarter())) }
    }
}

impl<R: Register> Halves for Vnni<R> {
    const BYTE_OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn dot_bytes(sum: Self, weights: Self, four: *const i8) -> Self {
        unsafe {
            let codes = splat::<R>(four, 0);
            Vnni(sum.0.dot(weights.0, codes))
        }
    }

    #[inline(always)]
    unsafe fn dot_small(sum: Self, weights: Self, four: *const i8) -> Self {
        unsafe { Self::dot_bytes(sum, weights, four) }
    }
}

impl<R: Register> Vector for Maddubs<R> {
    as_register!(Maddubs);

    const LINES: usize = 16;
    /// In 16 bits the sum of planes 0 and 2, and that of planes 1 and 3, which is four times too large: so a line is shifted once.
    type Sums = [R; 2];
    const FEW_LINES: usize = 8;

    #[inline(always)]
    unsafe fn add_line<const M: usize, const N: usize>(sums: &mut [[Self; N]; M], line: [Self; M], tokens: *const i8, stride: usize) {
        let mut line = line;
        for plane in 0..4 {
            unsafe {
                let mut weights = [R::zero(); M];
                for m in 0..M {
                    weights[m] = line[m].0.and(3);
                    line[m].0 = line[m].0.right16(2);
                }
                for n in 0..N {
                    let codes = splat::<R>(tokens.add(n * stride), plane);
                    for m in 0..M {
                        sums[m][n].0 = sums[m][n].0.add16(weights[m].pairs(codes));
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn settle<const M: usize, const N: usize>(sums: &mut [[Self; N]; M]) {
        for m in 0..M {
            for n in 0..N {
                unsafe { sums[m][n].0 = sums[m][n].0.widen() };
            }
        }
    }

    #[inline(always)]
    unsafe fn zero_sums() -> [R; 2] {
        unsafe { [R::zero(); 2] }
    }

    #[inline(always)]
    unsafe fn add_few<const M: usize, const N: usize>(sums: &mut [[[R; 2]; N]; M], line: [Self; M], tokens: *const i8, stride: usize) {
        for half in 0..2 {
            unsafe {
                let mut weights = [[R::zero(); 2]; M];
                for m in 0..M {
                    let line = if half == 0 { line[m].0 } else { line[m].0.right16(4) };
                    weights[m] = [line.and(0x03), line.and(0x0c)];
                }
                for n in 0..N {
                    let token = tokens.add(n * stride);
                    let codes = [splat::<R>(token, 2 * half), splat::<R>(token, 2 * half + 1)];
                    for m in 0..M {
                        for odd in 0..2 {
                            sums[m][n][odd] = sums[m][n][odd].add16(weights[m][odd].pairs(codes[odd]));
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn total([even, odd]: [R; 2]) -> Self {
        unsafe { Maddubs(even.widen().add(odd.widen().quarter())) }
    }
}

/// Products of 16 bits: one with a whole activation for two with its bytes, and nothing to widen.
impl<R: Register> Fine for Maddubs<R> {
    const BYTE_OFFSET: i32 = 128;

    /// The bytes of 16 bits each.
    type Plane = [R; 2];

    #[inline(always)]
    unsafe fn plane(weights: Self) -> [R; 2] {
        unsafe { [weights.0.low_bytes(), weights.0.right16(8)] }
    }

    #[inline(always)]
    unsafe fn add_plane<const M: usize, const N: usize>(
        sums: &mut Sums<Self, M, N>,
        planes: [[R; 2]; M],
        _size: Size,
        (codes, width): (*const i8, usize),
        input: usize,
    ) {
        unsafe {
            for n in 0..N {
                let four = codes.add(2 * (n * width + input));
                for half in 0..2 {
                    let codes = splat::<R>(four, half);
                    for m in 0..M {
                        sums.low[m][n].0 = sums.low[m][n].0.add(planes[m][half].pairs16(codes));
                    }
                }
            }
        }
    }

    unsafe fn add_high_plane<const M: usize, const N: usize>(
        _sums: &mut [[Self; N]; M],
        _planes: [[R; 2]; M],
        _size: Size,
        _tokens: (*const i8, usize),
        _input: usize,
    ) {
        unreachable!("whole activations have no high bytes")
    }
}

/// A block's lines of [`Packing::Four`](super::Packing::Four), each of their four planes by itself.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn unpack(lines: &[Line], planes: &mut [Line]) {
    let mask = _mm512_set1_epi8(3);
    for (line, planes) in lines.iter().zip(planes.as_chunks_mut::<4>().0) {
        // SAFETY: a line is 64 bytes.
        unsafe {
            let line = _mm512_load_si512(line.0.as_ptr().cast());
            _mm512_store_si512(planes[0].0.as_mut_ptr().cast(), _mm512_and_si512(line, mask));
            _mm512_store_si512(planes[1].0.as_mut_ptr().cast(), _mm512_and_si512(_mm512_srli_epi16::<2>(line), mask));
            _mm512_store_si512(planes[2].0.as_mut_ptr().cast(), _mm512_and_si512(_mm512_srli_epi16::<4>(line), mask));
            _mm512_store_si512(planes[3].0.as_mut_ptr().cast(), _mm512_and_si512(_mm512_srli_epi16::<6>(line), mask));
        }
    }
}

/// Whether this is one of AMD's CPUs, which read memory fastest in one stream and begin twice as many additions as products. Measured: a
/// core of Zen 5 reads 40 GB/s in one stream and 27 in four beside each other, one of Cascade Lake 10.5 and 11.8; Zen 5 adds four
/// registers of bytes a cycle and multiplies two.
pub(super) fn is_amd() -> bool {
    static AMD: OnceLock<bool> = OnceLock::new();
    let is_amd = *AMD.get_or_init(|| {
        let vendor = __cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
    });
    #[cfg(test)]
    let is_amd = is_amd != tests::TURNED.load(std::sync::atomic::Ordering::Relaxed);
    is_amd
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Whether this CPU counts as another vendor's. Other tests that run meanwhile may go either way: results are the same.
    pub(super) static TURNED: AtomicBool = AtomicBool::new(false);

    /// Test what runs on another vendor's CPUs.
    pub(in super::super) fn on_another_vendors(test: impl FnOnce()) {
        TURNED.store(true, Ordering::Relaxed);
        test();
        TURNED.store(false, Ordering::Relaxed);
    }
}
