//! The last reserve: where the system has no memory any more, the extension's small allocations come from here.
//!
//! What grows with a segment, a value or an argument is allocated so that it can fail (`spare`, `create`). What is left is short,
//! and allocated where nothing can be told of a failure: an error's text, a name, an `Arc`. Rust ends the process there, or hangs
//! in printing where it happened. An error needs a few of them at a time, until it is raised; so a few are kept.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a block: more than the longest index and what is said around it.
const BLOCK: usize = 2_048;
/// So many as a word has bits.
const BLOCKS: usize = 64;

/// The system's memory, and the reserve behind it.
struct SystemThenEmergency;

#[global_allocator]
static ALLOCATOR: SystemThenEmergency = SystemThenEmergency;

/// Takes no memory before it is used: pages of zeros.
#[repr(align(4096))]
struct EmergencyBlocks(UnsafeCell<[u8; BLOCK * BLOCKS]>);

// SAFETY: a block is used by whoever took it.
unsafe impl Sync for EmergencyBlocks {}

static ROOM: EmergencyBlocks = EmergencyBlocks(UnsafeCell::new([0; BLOCK * BLOCKS]));
/// A bit for each block that is taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// A block, if one is long enough and free.
#[cold]
fn take(layout: Layout) -> *mut u8 {
    if layout.size() > BLOCK || layout.align() > BLOCK {
        return null_mut();
    }
    let mut taken = TAKEN.load(Ordering::Relaxed);
    while taken != u64::MAX {
        let free = taken.trailing_ones();
        // SYNC: with `give_back`: who has it next stores behind what the last one did.
        match TAKEN.compare_exchange_weak(taken, taken | 1 << free, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return ROOM.0.get().cast::<u8>().wrapping_add(free as usize * BLOCK),
            Err(now) => taken = now,
        }
    }
    null_mut()
}

/// Which block begins there.
#[inline(always)]
fn block(at: *mut u8) -> Option<usize> {
    let offset = at.addr().wrapping_sub(ROOM.0.get().addr());
    (offset < BLOCK * BLOCKS).then_some(offset / BLOCK)
}

#[cold]
fn give_back(block: usize) {
    TAKEN.fetch_and(!(1 << block), Ordering::Release);
}

// SAFETY: the system's allocator, or a block of static memory that nobody else has until it is given back.
unsafe impl GlobalAlloc for SystemThenEmergency {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let made = unsafe { System.alloc(layout) };
        if made.is_null() { take(layout) } else { made }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let mut made = unsafe { System.alloc_zeroed(layout) };
        if made.is_null() {
            made = take(layout);
            if !made.is_null() {
                // SAFETY: a block is no shorter.
                unsafe { made.write_bytes(0, layout.size()) };
            }
        }
        made
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match block(at) {
            Some(block) => give_back(block),
            // SAFETY: the system's.
            None => unsafe { System.dealloc(at, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if block(at).is_none() {
            // SAFETY: the system's; the caller's promise.
            let made = unsafe { System.realloc(at, layout, size) };
            if !made.is_null() {
                return made;
            }
        } else if size <= BLOCK {
            return at;
        }
        // SAFETY: the caller's promise of size and alignment; two different pieces of memory, the shorter of the two lengths.
        unsafe {
            let made = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !made.is_null() {
                made.copy_from_nonoverlapping(at, layout.size().min(size));
                self.dealloc(at, layout);
            }
            made
        }
    }
}
