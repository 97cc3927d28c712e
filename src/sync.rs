//! The atomics that the protocols are written in: the standard ones, or loom's where a model runs them.

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

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
