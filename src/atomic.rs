//! The atomics that the protocols use: those of the standard library, or those of loom in a model. Also the spin of a
//! short wait, and whether an interpreter's lock serializes all calls of this process.

use std::sync::atomic::AtomicBool;

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// Makes one turn of a short spin.
#[cfg(not(loom))]
#[inline]
pub fn spin() {
    std::hint::spin_loop();
}

/// Makes one turn of a short spin. In a model, it lets another thread run.
#[cfg(loom)]
pub fn spin() {
    loom::thread::yield_now();
}

/// `true` if each call of this process begins and ends while its thread holds the interpreter's lock.
static SERIALIZED_CALLS: AtomicBool = AtomicBool::new(false);

/// Declares that calls are serialized: an extension module calls this if its interpreter has a lock that each call
/// holds. Some calls release the lock for a while, but never while a call begins or ends.
#[cfg_attr(not(feature = "python"), allow(dead_code, reason = "the extension module calls it"))]
pub fn assume_serialized_calls() {
    SERIALIZED_CALLS.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// Returns `true` if calls were declared to be serialized.
#[inline(always)]
pub fn calls_are_serialized() -> bool {
    SERIALIZED_CALLS.load(std::sync::atomic::Ordering::Relaxed)
}
