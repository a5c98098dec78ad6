//! Intel's matrix tiles (AMX): one instruction multiplies up to sixteen rows of codes with sixteen matrix rows over up to 64 inputs.
//!
//! The planes of a layout, each of which has four bytes for each of sixteen matrix rows, are exactly the second operand. Written in assembly
//! because Rust's intrinsics for tiles are not stable. No compiler uses the tiles' registers by itself, so that what one block of assembly
//! leaves in them the next finds there.
//!
//! There are eight tiles, of which the kernels use four: 0 and 1 for sums, 4 for codes, 5 for weights. Where two threads share a core, a
//! tile that is overwritten while it is still needed waits, the longer the more of them are in use. Measured on Emerald Rapids, four
//! products with their loads: 28 ns and with a busy neighbour 56; with four sums 28 and 72; of two times two tiles, which need all eight,
//! 28 and 107.

mod integers;
mod ternary;

use std::{
    arch::{asm, x86_64::__cpuid_count},
    sync::OnceLock,
};

pub(super) use integers::{fits_integers, multiply_integer_blocks};
pub(super) use ternary::{fits, multiply_blocks};

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

/// What `ldtilecfg` reads: palette 1, and of every tile the rows and their bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Run `task`, in which this thread has tiles of so many rows of codes and so many inputs.
///
/// # Safety
/// [`is_permitted`] holds, and `task` does not come here again.
unsafe fn with_tiles(rows: usize, inputs: usize, task: impl FnOnce()) {
    let (mut all_rows, mut row_bytes) = ([0; 16], [0; 16]);
    all_rows[..5].fill(rows as u8);
    all_rows[5] = (inputs / 4) as u8;
    row_bytes[..6].copy_from_slice(&[64, 64, 64, 64, inputs as u16, 64]);
    let configuration = Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows: all_rows };
    // SAFETY: passed on from the caller.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) };
    task();
    // SAFETY: as above.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}
