//! Copying bytes that other processes may change at the same time; fetching them before they are needed.
//!
//! A plain `memcpy` of racing bytes is undefined in the language. Here the bytes are copied by instructions that the
//! compiler cannot reason about, so the copy may be inconsistent, but nothing else goes wrong. What makes a copy
//! consistent is the comparison at the end of a read ("Reading, without a lock" in `docs/protocol.md`).

/// Copies by instructions that the optimiser does not see through.
///
/// # Safety
/// Both ranges are valid for `len` bytes and do not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
pub(super) unsafe fn opaque_copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller promises that both ranges are valid. The direction flag is clear by the ABI.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies by instructions that the optimiser does not see through.
///
/// # Safety
/// Both ranges are valid for `len` bytes and do not overlap.
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline(always)]
pub(super) unsafe fn opaque_copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller promises that both ranges are valid.
    unsafe {
        std::arch::asm!(
            "2: cmp {n}, #16", "b.lo 3f",
            "ldp {t}, {u}, [{s}], #16", "stp {t}, {u}, [{d}], #16", "sub {n}, {n}, #16", "b 2b",
            "3: cbz {n}, 4f",
            "ldrb {t:w}, [{s}], #1", "strb {t:w}, [{d}], #1", "sub {n}, {n}, #1", "b 3b",
            "4:",
            n = inout(reg) len => _, d = inout(reg) to => _, s = inout(reg) from => _,
            t = out(reg) _, u = out(reg) _, options(nostack)
        );
    }
}

/// Copies plainly, for Miri, which runs no assembly. Its tests copy on one thread.
///
/// # Safety
/// Both ranges are valid for `len` bytes and do not overlap.
#[cfg(miri)]
pub(super) unsafe fn opaque_copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller promises that both ranges are valid and do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
}

/// Asks the processor to fetch the line of an address, for a load that comes soon. Nothing else happens, whatever the
/// address is.
#[inline(always)]
pub(super) fn prefetch(address: *const u8) {
    // SAFETY: the instruction changes nothing that a program can see, and an address that is not mapped is no fault.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        std::arch::asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: as above.
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(miri)]
    let _ = address;
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("shmvar is written for Linux on x86-64 and aarch64");
