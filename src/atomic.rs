//! The atomics that the protocols are written in: the standard ones, or loom's where a model runs them.

use std::sync::atomic::AtomicBool;

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// One turn of a short spin.
#[cfg(not(loom))]
#[inline]
pub fn spin() {
    std::hint::spin_loop();
}

/// One turn of a short spin: in a model, let another thread go on.
#[cfg(loom)]
pub fn spin() {
    loom::thread::yield_now();
}

/// Every call of this process is made by whoever holds the interpreter's lock.
static SERIALIZED_CALLS: AtomicBool = AtomicBool::new(false);

#[cfg_attr(not(feature = "python"), allow(dead_code, reason = "the extension module's"))]
/// For an extension module whose interpreter has a lock that is held in every call. It is let go of within some calls,
/// never while a call begins or ends.
pub fn assume_serialized_calls() {
    SERIALIZED_CALLS.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// Was that said?
#[inline(always)]
pub fn calls_are_serialized() -> bool {
    SERIALIZED_CALLS.load(std::sync::atomic::Ordering::Relaxed)
}
