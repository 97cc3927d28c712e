//! The allocator of the extension: the system's memory and, when the system has none, a few blocks that are kept for
//! that.
//!
//! Allocations that grow with a segment, a value or an argument are made so that they can fail (`crate::fallible`,
//! `create`). The remaining ones are short and made where a failure cannot be reported: an error's text, a name, an
//! `Arc`. Without memory for them, Rust ends the process, or hangs while it prints where that happened. An error needs
//! a few such allocations at a time, until it is raised; therefore a few blocks are kept.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a block: more than the longest index with the text around it.
const BLOCK: usize = 2_048;
/// Number of blocks: one for each bit of [`TAKEN`].
const BLOCKS: usize = 64;

/// Allocates from the system, and from [`ROOM`] when that fails.
struct SystemThenEmergency;

#[global_allocator]
static ALLOCATOR: SystemThenEmergency = SystemThenEmergency;

/// The memory of the blocks. These are pages of zeros, which take no memory until they are used.
#[repr(align(4096))]
struct EmergencyBlocks(UnsafeCell<[u8; BLOCK * BLOCKS]>);

// SAFETY: only the caller that took a block uses it.
unsafe impl Sync for EmergencyBlocks {}

static ROOM: EmergencyBlocks = EmergencyBlocks(UnsafeCell::new([0; BLOCK * BLOCKS]));
/// The bit of each block that is taken is set.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Takes a block, if the layout fits into one and one is free; else returns null.
#[cold]
fn take(layout: Layout) -> *mut u8 {
    if layout.size() > BLOCK || layout.align() > BLOCK {
        return null_mut();
    }
    let mut taken = TAKEN.load(Ordering::Relaxed);
    while taken != u64::MAX {
        let free = taken.trailing_ones();
        // SYNC: pairs with the `Release` in `give_back`. The new owner's stores come after those of the previous owner.
        match TAKEN.compare_exchange_weak(taken, taken | 1 << free, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return ROOM.0.get().cast::<u8>().wrapping_add(free as usize * BLOCK),
            Err(now) => taken = now,
        }
    }
    null_mut()
}

/// The number of the block that begins at this address. `None` if the address is not one of a block.
#[inline(always)]
fn block(at: *mut u8) -> Option<usize> {
    let offset = at.addr().wrapping_sub(ROOM.0.get().addr());
    (offset < BLOCK * BLOCKS).then_some(offset / BLOCK)
}

#[cold]
fn give_back(block: usize) {
    TAKEN.fetch_and(!(1 << block), Ordering::Release);
}

// SAFETY: the memory is the system allocator's, or a block of static memory that nobody else has until it is given
// back.
unsafe impl GlobalAlloc for SystemThenEmergency {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { take(layout) } else { memory }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        let mut memory = unsafe { System.alloc_zeroed(layout) };
        if memory.is_null() {
            memory = take(layout);
            if !memory.is_null() {
                // SAFETY: the block is at least as long as the layout.
                unsafe { memory.write_bytes(0, layout.size()) };
            }
        }
        memory
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match block(at) {
            Some(block) => give_back(block),
            // SAFETY: it is not a block, so it came from the system with this layout.
            None => unsafe { System.dealloc(at, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if block(at).is_none() {
            // SAFETY: it came from the system; the caller keeps the contract of `realloc`.
            let memory = unsafe { System.realloc(at, layout, size) };
            if !memory.is_null() {
                return memory;
            }
        } else if size <= BLOCK {
            return at;
        }
        // SAFETY: the caller keeps the contract of size and alignment. The copy is between two different pieces of
        // memory and has the shorter of the two lengths.
        unsafe {
            let memory = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !memory.is_null() {
                memory.copy_from_nonoverlapping(at, layout.size().min(size));
                self.dealloc(at, layout);
            }
            memory
        }
    }
}
