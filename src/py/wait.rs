//! Waiting as a Python program wants it: other threads and greenlets go on, Ctrl-C gets through.

use crate::error::{Error, Result};
use crate::key::{Index, Key};
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::py::errors;
use crate::py::green;
use crate::segment::Segment;
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
#[derive(Default)]
pub struct Sleeper {
    /// What a signal handler raised, or who killed the greenlet.
    raised: RefCell<Option<PyErr>>,
    began: Cell<Option<Instant>>,
}

impl Sleeper {
    fn raise(&self, py: Python<'_>, error: PyErr) {
        if let Some(earlier) = self.raised.take() {
            // As if the one had come while the other was being handled.
            let _ = error.value(py).setattr("__context__", earlier.value(py));
        }
        *self.raised.borrow_mut() = Some(error);
    }

    /// `strictly`: the call waits for what a greenlet of its own thread may have to do.
    fn sleep(&self, py: Python<'_>, sleep: &Sleep<'_>, strictly: bool) {
        match green::sleeper(py, strictly) {
            Ok(Some(_)) if sleep.is_short() && self.waited() < AT_ONCE => py.detach(|| sleep.sleep_within(AT_ONCE)),
            Ok(Some(sleeper)) => {
                self.poll(py, sleep, |pause, _| sleeper.call1((pause.as_secs_f64(),)).map(|_| false));
            }
            Ok(None) => py.detach(|| sleep.sleep()),
            Err(error) => self.raise(py, error),
        }
    }

    /// In line with the greenlets of its thread that wait for the same lock.
    fn wait_in_line(&self, py: Python<'_>, sleep: &Sleep<'_>, place: &Bound<'_, PyAny>) {
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

/// For one call on a segment.
pub struct PyWait<'py> {
    py: Python<'py>,
    /// The segment's, for messages.
    key: &'py Key,
    sleeper: Sleeper,
}

impl<'py> PyWait<'py> {
    /// Costs nothing until something waits.
    #[inline(always)]
    pub fn new(py: Python<'py>, key: &'py Key) -> Self {
        PyWait { py, key, sleeper: Sleeper { raised: RefCell::new(None), began: Cell::new(None) } }
    }

    /// What was raised meanwhile, for a call that asks for it when it is over.
    pub fn raised(&self) -> PyResult<()> {
        self.sleeper.raised.take().map_or(Ok(()), Err)
    }

    /// The exception for an error of a call that waited with this.
    #[cold]
    pub fn error(&self, error: Error) -> PyErr {
        match (error, self.sleeper.raised.take()) {
            (Error::Interrupted, Some(raised)) => raised,
            (error, _) => errors::of(self.py, self.key, error),
        }
    }

    /// The same, for a call on one variable.
    #[cold]
    pub fn error_at(&self, index: &Index<'_>, error: Error) -> PyErr {
        match error {
            Error::Full { .. } | Error::Corrupt(_) => errors::of_variable(self.py, self.key, index, error),
            error => self.error(error),
        }
    }
}

impl WaitPolicy for PyWait<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.py.detach(slow);
    }

    fn sleep(&self, sleep: &Sleep<'_>) {
        self.sleeper.sleep(self.py, sleep, false);
    }

    fn interrupted(&self) -> Result<()> {
        if let Err(raised) = self.py.check_signals() {
            self.sleeper.raise(self.py, raised);
        }
        if self.sleeper.raised.borrow().is_some() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// The same for what must come to its end: Ctrl-C is for afterwards, and so is what kills a greenlet.
pub struct Determined<'py> {
    py: Python<'py>,
    sleeper: Sleeper,
}

impl<'py> Determined<'py> {
    /// For one call.
    pub fn new(py: Python<'py>) -> Self {
        Determined { py, sleeper: Sleeper::default() }
    }

    /// It has come to its end: now what was raised meanwhile, or what became of it.
    pub fn end<T>(self, outcome: PyResult<T>) -> PyResult<T> {
        let Some(raised) = self.sleeper.raised.take() else { return outcome };
        if let Err(error) = outcome {
            self.sleeper.raise(self.py, raised);
            self.sleeper.raise(self.py, error);
            return Err(self.sleeper.raised.take().expect("just raised"));
        }
        Err(raised)
    }
}

impl WaitPolicy for Determined<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.py.detach(slow);
    }

    fn sleep(&self, sleep: &Sleep<'_>) {
        self.sleeper.sleep(self.py, sleep, false);
    }

    fn interrupted(&self) -> Result<()> {
        Ok(())
    }
}

/// For a call that may wait without end, perhaps for a greenlet of its own thread: it ends with an error when the handle is
/// detached meanwhile.
pub struct Attached<'a, 'py>(pub &'a PyWait<'py>, pub &'a Segment);

impl WaitPolicy for Attached<'_, '_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.0.allow_threads(slow);
    }

    fn sleep(&self, sleep: &Sleep<'_>) {
        self.0.sleeper.sleep(self.0.py, sleep, true);
    }

    fn interrupted(&self) -> Result<()> {
        self.0.interrupted()?;
        self.1.attachment().map(drop)
    }
}

/// The same for a named lock: those of one thread's greenlets that wait for it stand in line, and only the first one looks.
pub struct InLine<'a, 'py> {
    attached: Attached<'a, 'py>,
    name: Index<'a>,
    place: RefCell<Option<Py<PyAny>>>,
}

impl<'a, 'py> InLine<'a, 'py> {
    /// For one call.
    pub fn new(attached: Attached<'a, 'py>, name: Index<'a>) -> Self {
        InLine { attached, name, place: RefCell::new(None) }
    }

    fn place(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.attached.0.py;
        if let Some(place) = &*self.place.borrow() {
            return Ok(Some(place.bind(py).clone()));
        }
        let place = green::place(py, self.attached.1, &self.name)?;
        *self.place.borrow_mut() = place.clone().map(Bound::unbind);
        Ok(place)
    }

    /// Leaves the line. An error: what a signal handler raised; it has left all the same.
    #[inline]
    pub fn leave(&self) -> PyResult<()> {
        match self.place.take() {
            Some(place) => {
                let (place, py) = (place, self.attached.0.py);
                place
                    .call_method0(py, "leave")
                    .or_else(|error| place.call_method0(py, "leave").and(Err(error)))
                    .map(drop)
            }
            None => Ok(()),
        }
    }
}

impl WaitPolicy for InLine<'_, '_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.attached.allow_threads(slow);
    }

    fn sleep(&self, sleep: &Sleep<'_>) {
        if sleep.is_short() {
            return self.attached.sleep(sleep);
        }
        let policy = self.attached.0;
        match self.place() {
            Ok(Some(place)) => policy.sleeper.wait_in_line(policy.py, sleep, &place),
            Ok(None) => self.attached.sleep(sleep),
            Err(error) => policy.sleeper.raise(policy.py, error),
        }
    }

    fn interrupted(&self) -> Result<()> {
        self.attached.interrupted()
    }
}
