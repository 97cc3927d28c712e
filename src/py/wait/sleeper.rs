//! How a call sleeps: detached from the interpreter or, among greenlets, with looks between the pauses.
//!
//! The policies in this folder say which way it is.

use crate::process::sleep::Sleep;
use crate::py::greenlets;
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Among greenlets, the first look comes after so long.
const PAUSE: Duration = Duration::from_micros(500);
/// And later ones so often, in proportion to the time waited so far.
const PER_WAITED: u32 = 4;
/// But at least so often.
const LONGEST: Duration = Duration::from_millis(10);
/// Where so many wait that this comes to more, each of them waits longer.
const PER_SLEEPER: Duration = Duration::from_micros(100);
/// A lock is reserved for longer than this.
const LONGEST_OF_MANY: Duration = Duration::from_millis(80);
/// Who stands in line behind another one looks so often whether his handle was detached.
const BEHIND: Duration = Duration::from_secs(5);
/// What is mostly over at once is waited for so long in the thread itself.
const AT_ONCE: Duration = Duration::from_millis(1);

/// How a call waits among greenlets, and what was raised in it meanwhile.
pub struct Sleeper {
    /// What a signal handler raised, or who killed the greenlet.
    raised: RefCell<Option<PyErr>>,
    began: Cell<Option<Instant>>,
}

impl Sleeper {
    /// One that has not slept.
    #[inline(always)]
    pub fn new() -> Self {
        Sleeper { raised: RefCell::new(None), began: Cell::new(None) }
    }

    /// What was raised, which it forgets.
    pub fn take_raised(&self) -> Option<PyErr> {
        self.raised.take()
    }

    /// Was anything raised?
    pub fn has_raised(&self) -> bool {
        self.raised.borrow().is_some()
    }

    pub fn raise(&self, py: Python<'_>, error: PyErr) {
        if let Some(earlier) = self.raised.take() {
            // As if the one had come while the other was being handled.
            let _ = error.value(py).setattr("__context__", earlier.value(py));
        }
        *self.raised.borrow_mut() = Some(error);
    }

    /// `strictly`: the call waits for what a greenlet of its own thread may have to do.
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

    /// In line with the greenlets of its thread that wait for the same lock.
    pub fn wait_in_line(&self, py: Python<'_>, sleep: &Sleep<'_>, place: &Bound<'_, PyAny>) {
        let wait = |pause: Duration, left: Duration| {
            place.call_method1("wait", (pause.as_secs_f64(), left.as_secs_f64()))?.extract()
        };
        match place.call_method0("first").and_then(|first| first.extract()) {
            Ok(true) => self.poll(py, sleep, wait),
            Ok(false) => {
                if let Err(error) = wait(Duration::ZERO, sleep.limit_beyond(BEHIND)) {
                    self.raise(py, error);
                }
                // As the first one it begins anew.
                self.began.set(None);
            }
            Err(error) => self.raise(py, error),
        }
    }

    /// How long this call has slept and looked.
    fn waited(&self) -> Duration {
        let began = self.began.get().unwrap_or_else(Instant::now);
        self.began.set(Some(began));
        began.elapsed()
    }

    /// Looks whether a nap is over, with pauses between; `wait` makes one, told how long it may be at most: was it woken?
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
