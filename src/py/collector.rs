//! Pauses the interpreter's garbage collector.

use pyo3::ffi;
use pyo3::prelude::*;

/// Keeps the garbage collector from running until this is dropped. The interpreter's lock must be held for as long:
/// then no other code sees that the collector was off.
pub struct CollectorPaused {
    was_on: bool,
}

impl CollectorPaused {
    #[inline]
    pub fn new(_py: Python<'_>) -> Self {
        // SAFETY: the interpreter is attached.
        CollectorPaused { was_on: unsafe { ffi::PyGC_Disable() } != 0 }
    }
}

impl Drop for CollectorPaused {
    #[inline]
    fn drop(&mut self) {
        if self.was_on {
            // SAFETY: as in `new`.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}
