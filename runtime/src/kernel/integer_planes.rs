//! Weights of 8, 6 and 4 bits as kernels see them: how the lines of each kind of matrix become planes of unsigned bytes, four inputs of
//! each row; `integer_tile.rs` multiplies with them.

use super::{integer_tile::Fine, integers::Bits, matrix::Line, tile::Vector};

// SAFETY (of every `unsafe` below): these functions have the safety conditions of `Codes::unpack` or `Group::line`, and a prefetch may name
// any address.

/// Weights of one kind, as a kernel sees them: planes of four inputs of each row, four planes in a step.
pub(super) trait Codes {
    const BITS: Bits;
    const SIZE: Size;

    /// What is multiplied is a weight plus this; for those of 8 bits the instruction set says what.
    fn offset<V: Fine>() -> i32 {
        V::BYTE_OFFSET
    }

    /// A step's planes.
    ///
    /// # Safety
    /// The CPU has `V`'s instruction set.
    unsafe fn unpack<V: Vector>(from: Group, step: usize) -> [V; PLANES];

    /// Which of the group's planes one of a step is.
    #[inline(always)]
    fn place(step: usize, plane: usize) -> usize {
        PLANES * step + plane
    }
}

/// Planes of a step.
pub(super) const PLANES: usize = 4;
/// Inputs of a plane.
pub(super) const INPUTS: usize = 4;

/// Where a group's lines are and, where those are apart, its high bits.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub lines: *const u8,
    pub high: *const u8,
}

impl Group {
    /// # Safety
    /// The CPU has `V`'s instruction set, and the group such a line; so for the other.
    #[inline(always)]
    unsafe fn line<V: Vector>(self, line: usize) -> V {
        unsafe { V::load(self.lines.add(line * size_of::<Line>())) }
    }

    #[inline(always)]
    unsafe fn high_line<V: Vector>(self, line: usize) -> V {
        unsafe { V::load(self.high.add(line * size_of::<Line>())) }
    }

    /// Ask for what is so many bytes further.
    #[inline(always)]
    pub(super) unsafe fn ask_ahead<V: Vector, C: Codes>(self, (lines, high): (usize, usize)) {
        for line in 0..C::BITS.lines() {
            unsafe { V::prefetch(self.lines.wrapping_add(lines + line * size_of::<Line>())) };
        }
        for line in 0..C::BITS.high_lines() {
            unsafe { V::prefetch(self.high.wrapping_add(high + line * size_of::<Line>())) };
        }
    }
}

/// How large unsigned bytes are that stand for weights.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Size {
    /// At most 63.
    Small,
    /// Those of 8 bits, as w + 128.
    Any,
}

pub(super) struct Four;
pub(super) struct Six;
pub(super) struct Eight;
pub(super) struct Apart;

impl Codes for Four {
    const BITS: Bits = Bits::Four;
    const SIZE: Size = Size::Small;

    fn offset<V: Fine>() -> i32 {
        8
    }

    #[inline(always)]
    unsafe fn unpack<V: Vector>(from: Group, step: usize) -> [V; PLANES] {
        unsafe {
            let (one, two) = (from.line::<V>(2 * step), from.line::<V>(2 * step + 1));
            [one.and(15), two.and(15), one.right(4).and(15), two.right(4).and(15)]
        }
    }

    /// Two of its lines' low halves, then the same lines' high ones.
    #[inline(always)]
    fn place(step: usize, plane: usize) -> usize {
        2 * step + plane % 2 + plane / 2 * Bits::Four.lines()
    }
}

impl Codes for Six {
    const BITS: Bits = Bits::Six;
    const SIZE: Size = Size::Small;

    fn offset<V: Fine>() -> i32 {
        32
    }

    #[inline(always)]
    unsafe fn unpack<V: Vector>(from: Group, _step: usize) -> [V; PLANES] {
        unsafe {
            let (front, back, high) = (from.line::<V>(0), from.line::<V>(1), from.line::<V>(2));
            [
                front.and(15).or(high.left(4).and(48)),
                front.right(4).and(15).or(high.left(2).and(48)),
                back.and(15).or(high.and(48)),
                back.right(4).and(15).or(high.right(2).and(48)),
            ]
        }
    }
}

impl Codes for Eight {
    const BITS: Bits = Bits::Eight;
    const SIZE: Size = Size::Any;

    #[inline(always)]
    unsafe fn unpack<V: Vector>(from: Group, step: usize) -> [V; PLANES] {
        unsafe {
            let line = PLANES * step;
            [from.line(line), from.line(line + 1), from.line(line + 2), from.line(line + 3)]
        }
    }
}

impl Codes for Apart {
    const BITS: Bits = Bits::Apart;
    const SIZE: Size = Size::Any;

    #[inline(always)]
    unsafe fn unpack<V: Vector>(from: Group, step: usize) -> [V; PLANES] {
        unsafe {
            let (one, two, three) = (from.line::<V>(3 * step), from.line::<V>(3 * step + 1), from.line::<V>(3 * step + 2));
            let high = from.high_line::<V>(step);
            [
                one.and(63).or(high.left(6).and(192)),
                two.and(63).or(high.left(4).and(192)),
                three.and(63).or(high.left(2).and(192)),
                one.right(6).and(3).or(two.right(4).and(12)).or(three.right(2).and(48)).or(high.and(192)),
            ]
        }
    }
}
