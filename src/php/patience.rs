//! Looking again where another process may be in the middle of a change. "What is believed" in `docs/php.md`.

use crate::error::{Error, Result};
use std::time::Duration;

/// How often a call looks before what it finds is an error.
pub const LOOKS: u32 = 100;

/// Waits before the look with this number.
pub fn pause(look: u32) {
    match look {
        0..20 => std::hint::spin_loop(),
        20..60 => std::thread::yield_now(),
        _ if cfg!(test) => std::thread::yield_now(),
        _ => std::thread::sleep(Duration::from_micros(20)),
    }
}

/// Repeats a look at the segment that finds damage.
pub fn patiently<R>(mut look: impl FnMut() -> Result<R>) -> Result<R> {
    for number in 1..LOOKS {
        match look() {
            Err(Error::Corrupt(_)) => pause(number),
            other => return other,
        }
    }
    look()
}
