//! Intel's matrix tiles (AMX) for many tokens at once: one instruction multiplies sixteen tokens with sixteen rows over 64 inputs.
//!
//! A line of the layout, one of its four planes taken out, is exactly one row of the second operand: four bytes for each of sixteen
//! matrix rows. So two blocks are unpacked to bytes once and then serve every token. Written in assembly because Rust's
//! intrinsics for tiles are not stable.

use std::{
    arch::{asm, x86_64::*},
    cell::RefCell,
    ops::Range,
    sync::OnceLock,
};

use super::{
    Activations, Matrix,
    activations::{LEAST_TILE_TOKENS, TILE_TOKENS as TOKENS},
    matrix::{Line, MAX_COLUMNS, Packing, ROWS},
    tile::Output,
    x86,
};

/// Lines of the layout that are unpacked to one tile: 64 inputs.
const TILE_LINES: usize = 4;

const _: () = assert!(MAX_COLUMNS as i64 * 2 * 127 <= i32::MAX as i64);

/// Whether this CPU has the tiles and the system lets this process use them, for which it has to be asked.
pub(super) fn is_permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| {
        // CPUID leaf 7: AMX-TILE and AMX-INT8. Source: Intel's instruction set reference, CPUID.
        let has = __cpuid_count(7, 0).edx & (3 << 24) == 3 << 24;
        has && cfg!(target_os = "linux") && ask_linux()
    })
}

/// arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA). Source: the kernel's Documentation/arch/x86/xstate.rst.
fn ask_linux() -> bool {
    const ARCH_PRCTL: isize = 158;
    let mut result = ARCH_PRCTL;
    // SAFETY: the call changes nothing but which registers this process may use.
    unsafe {
        asm!("syscall", inlateout("rax") result, in("rdi") 0x1023, in("rsi") 18, out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

/// Whether a multiply goes through the tiles.
pub(super) fn fits(matrix: &Matrix, activations: &Activations) -> bool {
    let packed = matrix.packing() == Packing::Four && matrix.columns().is_multiple_of(64);
    packed && activations.tokens() >= LEAST_TILE_TOKENS
}

/// What `ldtilecfg` reads: palette 1, every tile of sixteen rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

const CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Sums of sixteen tokens and sixteen rows.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Sums([[i32; ROWS]; TOKENS]);

thread_local! {
    /// Two blocks, unpacked.
    static UNPACKED: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Multiply the rows of `blocks` with every token.
///
/// # Safety
/// [`is_permitted`] and [`fits`] hold, the CPU has AVX-512 F and BW, `output` has room for all tokens and rows, and no one else writes
/// these blocks' rows.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn multiply_blocks(matrix: &Matrix, activations: &Activations, blocks: Range<usize>, output: Output) {
    UNPACKED.with_borrow_mut(|unpacked| {
        let block_lines = 4 * matrix.block_lines();
        unpacked.resize(2 * block_lines, Line([0; 64]));
        // SAFETY: passed on from the caller; between the two instructions no one else uses this thread's tiles.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) std::ptr::from_ref(&CONFIGURATION), options(nostack, readonly));
            for first in blocks.clone().step_by(2) {
                // A last block without a second one is multiplied twice.
                let pair = [first, (first + 1).min(blocks.end - 1)];
                for (block, unpacked) in pair.into_iter().zip(unpacked.chunks_exact_mut(block_lines)) {
                    x86::unpack(&matrix.lines()[block * matrix.block_lines()..][..matrix.block_lines()], unpacked);
                }
                for token in (0..activations.tokens()).step_by(2 * TOKENS) {
                    multiply_tiles(matrix, activations, pair, token, unpacked, output);
                }
            }
            asm!("tilerelease", options(nostack, nomem));
        }
    });
}

/// Two blocks with up to 32 tokens.
///
/// # Safety
/// As [`multiply_blocks`]; the tiles are configured, and `unpacked` holds the pair.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn multiply_tiles(matrix: &Matrix, activations: &Activations, pair: [usize; 2], token: usize, unpacked: &[Line], output: Output) {
    let (groups, left) = (matrix.groups(), activations.tokens() - token);
    // As above: without a second sixteen tokens the first are multiplied twice.
    let second = if left > TOKENS { token + TOKENS } else { token };
    let mut totals = [[[0.0f32; ROWS]; TOKENS]; 4];
    for group in 0..groups {
        let lines = matrix.lines_of(group);
        let mut sums = [Sums([[0; ROWS]; TOKENS]); 4];
        // SAFETY: the activations' memory reaches to a whole tile of tokens, each has sixteen codes for every line, and each block
        // has four unpacked lines for every line.
        unsafe {
            let codes = activations.padded().as_ptr().add(lines.start * 16);
            let stride = activations.stride();
            let tokens = [codes.add(token * stride), codes.add(second * stride)];
            let weights = unpacked.as_ptr().add(4 * lines.start);
            let weights = [weights, weights.add(4 * matrix.block_lines())];
            multiply_four(tokens, stride, weights, lines.len() / TILE_LINES, &mut sums);
        }
        for (tile, (sums, totals)) in sums.iter().zip(&mut totals).enumerate() {
            let scales = &matrix.scales()[(pair[tile % 2] * groups + group) * ROWS..][..ROWS];
            let first = if tile < 2 { token } else { second };
            for (at, (sums, totals)) in sums.0.iter().zip(totals).enumerate().take(activations.tokens() - first) {
                // The tiles summed (w + 1) x, so the sum of x is taken off.
                let excess = activations.group_sum(first + at, group, groups);
                for ((total, sum), scale) in totals.iter_mut().zip(sums).zip(scales) {
                    *total += (sum - excess) as f32 * scale;
                }
            }
        }
    }
    for (tile, totals) in totals.iter().enumerate() {
        let (first, row) = (if tile < 2 { token } else { second }, pair[tile % 2] * ROWS);
        let count = ROWS.min(matrix.rows() - row);
        for (at, totals) in totals.iter().enumerate().take(activations.tokens() - first) {
            let scale = activations.scales()[first + at];
            // SAFETY: rows below `matrix.rows()` of an existing token lie in the output, and this thread alone writes them.
            let out = unsafe { std::slice::from_raw_parts_mut(output.at((first + at) * output.stride + row), count) };
            for (out, total) in out.iter_mut().zip(totals) {
                *out = total * scale;
            }
        }
    }
}

/// Two tiles of tokens with two blocks over `steps` times 64 inputs: the sums of the first tokens with both blocks, then of the
/// second tokens.
///
/// # Safety
/// The tiles are configured; each of `tokens` points to sixteen rows of `64 * steps` codes that lie `stride` apart, and each of
/// `weights` to `16 * steps` lines.
unsafe fn multiply_four(tokens: [*const i8; 2], stride: usize, weights: [*const Line; 2], steps: usize, sums: &mut [Sums; 4]) {
    // SAFETY: passed on from the caller. Source of the instructions: Intel's instruction set reference, TDPBSUD: signed bytes of the
    // second operand times unsigned bytes of the third, added to the first.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{first_tokens} + {stride}]",
            "tileloadd tmm6, [{first_weights} + {line}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{second_weights} + {line}]",
            "tdpbsud tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{second_tokens} + {stride}]",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            "add {first_tokens}, 64",
            "add {second_tokens}, 64",
            "add {first_weights}, 1024",
            "add {second_weights}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {line}], tmm0",
            "tilestored [{sums} + {line} + 1024], tmm1",
            "tilestored [{sums} + {line} + 2048], tmm2",
            "tilestored [{sums} + {line} + 3072], tmm3",
            first_tokens = inout(reg) tokens[0] => _,
            second_tokens = inout(reg) tokens[1] => _,
            first_weights = inout(reg) weights[0] => _,
            second_weights = inout(reg) weights[1] => _,
            steps = inout(reg) steps => _,
            stride = in(reg) stride,
            line = in(reg) size_of::<Line>(),
            sums = in(reg) sums.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
