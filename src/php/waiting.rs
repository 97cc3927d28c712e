//! How a call waits in the kernel: other threads of the program run meanwhile, and it may be interrupted.

use crate::error::Result;
use std::io;
use std::time::{Duration, Instant};

/// What a caller does while a call waits for it.
pub trait Waits {
    /// Runs a call that blocks the thread.
    fn block(&self, call: &mut (dyn FnMut() + Send));

    /// Called between two attempts. An error ends the wait.
    fn interrupted(&self) -> Result<()>;

    /// Sleeps this long by other means than blocking the thread, and returns `true`; or returns `false` at once if
    /// the thread may be blocked.
    fn pause(&self, pause: Duration) -> Result<bool>;
}

/// Waits without anything else to do.
pub struct Plainly;

impl Waits for Plainly {
    fn block(&self, call: &mut (dyn FnMut() + Send)) {
        call();
    }
    fn interrupted(&self) -> Result<()> {
        Ok(())
    }
    fn pause(&self, _pause: Duration) -> Result<bool> {
        Ok(false)
    }
}

/// The thread looks up this often. A signal that comes between a look and the system call is seen after this time.
const SLICE: Duration = Duration::from_secs(5);
/// A thread that must not block asks for the first time after this pause; the later ones are a quarter of the time
/// waited so far.
const PAUSE: Duration = Duration::from_micros(500);
/// No such pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// When a wait ends. `None`: never.
pub type Deadline = Option<Instant>;

/// Returns the deadline of a wait that begins now. A time that no clock can count is without end.
pub fn deadline(timeout: Option<Duration>) -> Deadline {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

/// Repeats `attempt`, which may block for the time that it is given, until it returns something else than `EAGAIN` or
/// `EINTR`. Returns `None` if the deadline comes first. There is always one attempt that does not block.
pub fn wait_for<T: Send>(
    deadline: Deadline,
    waits: &dyn Waits,
    attempt: &(dyn Fn(Duration) -> io::Result<T> + Sync),
) -> Result<io::Result<Option<T>>> {
    let mut began = None;
    let mut outcome = attempt(Duration::ZERO);
    loop {
        match outcome {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
            other => return Ok(other.map(Some)),
        }
        waits.interrupted()?;
        let now = Instant::now();
        let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(now));
        if left.is_zero() {
            return Ok(Ok(None));
        }
        let waited = now - *began.get_or_insert(now);
        if waits.pause((waited / 4).clamp(PAUSE, LONGEST_PAUSE).min(left))? {
            outcome = attempt(Duration::ZERO);
        } else {
            // `EAGAIN` stands for an attempt that did not run.
            let mut result = Err(io::Error::from_raw_os_error(libc::EAGAIN));
            waits.block(&mut || result = attempt(left.min(SLICE)));
            outcome = result;
        }
    }
}

/// While a call polls, it asks for the first time after this pause; the later ones are an eighth of the time waited so
/// far.
const POLL: Duration = Duration::from_micros(20);
/// No such pause is longer. It is what a poll costs: 200 system calls in a second, at most, and half of this on average
/// until a message is noticed.
const LONGEST_POLL: Duration = Duration::from_millis(5);

/// Repeats `attempt` until it returns something else than `EAGAIN`, `ENOMSG` or `EINTR`, for calls that the kernel gives
/// no timeout. Without a timeout, `attempt` is told to block; with one, it is repeated after pauses. Returns `None` if
/// the time is over. There is always one attempt that does not block.
pub fn wait_or_poll<T: Send>(
    timeout: Option<Duration>,
    waits: &dyn Waits,
    attempt: &mut (dyn FnMut(bool) -> io::Result<T> + Send),
) -> Result<io::Result<Option<T>>> {
    let mut began = None;
    let mut outcome = attempt(false);
    loop {
        match outcome {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMSG | libc::EINTR)) => {}
            other => return Ok(other.map(Some)),
        }
        waits.interrupted()?;
        let now = Instant::now();
        let waited = now - *began.get_or_insert(now);
        let left = timeout.map(|timeout| timeout.saturating_sub(waited));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Ok(None));
        }
        if waits.pause((waited / 4).clamp(PAUSE, LONGEST_PAUSE).min(left.unwrap_or(LONGEST_PAUSE)))? {
            outcome = attempt(false);
        } else {
            let mut result = Err(io::Error::from_raw_os_error(libc::EAGAIN));
            let pause = left.map(|left| (waited / 8).clamp(POLL, LONGEST_POLL).min(left));
            waits.block(&mut || match pause {
                None => result = attempt(true),
                Some(pause) => {
                    std::thread::sleep(pause);
                    result = attempt(false);
                }
            });
            outcome = result;
        }
    }
}
