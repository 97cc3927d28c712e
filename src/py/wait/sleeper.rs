//! How a call sleeps: detached from the interpreter or, among greenlets, by polling, because a greenlet that blocks the
//! thread would stop the others.
//!
//! Which of the ways is taken, and what interrupts the call, is said by the policies beside this file.

use crate::process::sleep::Sleep;
use crate::py::greenlets;
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Among greenlets, the first poll comes after this pause.
const PAUSE: Duration = Duration::from_micros(500);
/// Later pauses are the time waited so far divided by this.
const PER_WAITED: u32 = 4;
/// No pause is longer than this.
const LONGEST: Duration = Duration::from_millis(10);
/// With many calls that poll, the longest pause is this much for each of them, if that is more than [`LONGEST`].
const PER_SLEEPER: Duration = Duration::from_micros(100);
/// But no pause is longer than this. A lock that is handed over stays reserved for longer than this.
const LONGEST_OF_MANY: Duration = Duration::from_millis(80);
/// A greenlet that is not the first in the queue checks this often whether its handle was detached.
const BEHIND: Duration = Duration::from_secs(5);
/// A wait that is usually short blocks the thread for this long, before polling begins.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The state of one call that waits: since when, and what was raised meanwhile.
pub struct Sleeper {
    /// What a signal handler raised, or what killed the greenlet.
    raised: RefCell<Option<PyErr>>,
    /// When the call began to wait.
    began: Cell<Option<Instant>>,
}

impl Sleeper {
    /// The state of a call that has not waited yet.
    #[inline(always)]
    pub fn new() -> Self {
        Sleeper { raised: RefCell::new(None), began: Cell::new(None) }
    }

    /// Takes out what was raised.
    pub fn take_raised(&self) -> Option<PyErr> {
        self.raised.take()
    }

    /// Whether anything was raised.
    pub fn has_raised(&self) -> bool {
        self.raised.borrow().is_some()
    }

    /// Keeps an exception until the call ends.
    pub fn raise(&self, py: Python<'_>, error: PyErr) {
        if let Some(earlier) = self.raised.take() {
            // As if the new exception had come while the earlier one was being handled.
            let _ = error.value(py).setattr("__context__", earlier.value(py));
        }
        *self.raised.borrow_mut() = Some(error);
    }

    /// Sleeps. `strictly` says that the call may wait for something that a greenlet of its own thread has to do, so it
    /// must not block the thread.
    pub fn sleep(&self, py: Python<'_>, sleep: &Sleep<'_>, strictly: bool) {
        match greenlets::sleeper(py, strictly) {
            Ok(Some(_)) if sleep.is_short() && self.waited() < AT_ONCE => py.detach(|| sleep.sleep_within(AT_ONCE)),
            Ok(Some(sleeper)) => {
                self.poll(py, sleep, |pause, _| sleeper.call1((pause.as_secs_f64(),)).map(|_| false));
            }
            Ok(None) => py.detach(|| sleep.sleep()),
            Err(error) => self.raise(py, error),
        }
    }

    /// Sleeps in the queue of the thread's greenlets that wait for the same lock. Only the first in the queue polls.
    pub fn sleep_in_queue(&self, py: Python<'_>, sleep: &Sleep<'_>, place: &Bound<'_, PyAny>) {
        let wait = |pause: Duration, left: Duration| {
            place.call_method1("wait", (pause.as_secs_f64(), left.as_secs_f64()))?.extract()
        };
        match place.call_method0("first").and_then(|first| first.extract()) {
            Ok(true) => self.poll(py, sleep, wait),
            Ok(false) => {
                if let Err(error) = wait(Duration::ZERO, sleep.limit_beyond(BEHIND)) {
                    self.raise(py, error);
                }
                // When it becomes the first, it begins with short pauses.
                self.began.set(None);
            }
            Err(error) => self.raise(py, error),
        }
    }

    /// How long this call has waited so far.
    fn waited(&self) -> Duration {
        let began = self.began.get().unwrap_or_else(Instant::now);
        self.began.set(Some(began));
        began.elapsed()
    }

    /// Polls whether a sleep is over. Between polls it calls `wait` with the length of the pause and the time that is
    /// left; `wait` returns whether it was woken.
    fn poll(&self, py: Python<'_>, sleep: &Sleep<'_>, mut wait: impl FnMut(Duration, Duration) -> PyResult<bool>) {
        static POLLS: AtomicU32 = AtomicU32::new(0);
        let (many, now) = (PER_SLEEPER * (POLLS.fetch_add(1, Ordering::Relaxed) + 1), Instant::now());
        let longest = LONGEST.max(many.min(LONGEST_OF_MANY));
        let mut woken = Ok(false);
        while matches!(woken, Ok(false)) && !sleep.is_over() {
            let pause = (self.waited() / PER_WAITED).clamp(PAUSE, longest);
            let left = sleep.limit_beyond(pause).saturating_sub(now.elapsed());
            if left.is_zero() {
                break;
            }
            woken = wait(pause.min(left), left);
        }
        POLLS.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = woken {
            self.raise(py, error);
        }
    }
}
