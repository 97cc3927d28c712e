//! How a call waits, and lets the other threads of its process go on meanwhile.

use crate::error::Result;
use crate::process::sleep::Sleep;
use std::time::Duration;

/// How a call waits, and lets others of its process go on meanwhile.
pub trait WaitPolicy {
    /// Runs something slow (a sleep, a large copy) without keeping the caller's interpreter from its other threads.
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send));
    /// Sleeps, with none of our mutexes held: where a program's threads are greenlets of one thread, the others run meanwhile,
    /// and call whatever they like. [`WaitPolicy::interrupted`] is asked afterwards.
    fn sleep(&self, sleep: &Sleep<'_>) {
        self.allow_threads(&mut || sleep.sleep());
    }
    /// [`Error::Interrupted`] if the caller shall give up (Ctrl-C). Never called with one of our mutexes held.
    fn interrupted(&self) -> Result<()>;
}

/// Waits without further ado: the Rust interface.
pub struct Blocking;

impl WaitPolicy for Blocking {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        slow();
    }
    fn interrupted(&self) -> Result<()> {
        Ok(())
    }
}

/// Copies from here on let the interpreter's other threads go on.
pub const ALLOW_THREADS_FROM: usize = 64 << 10;

/// A living process that holds a segment up is waited for this long.
pub const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// Lets others go on as the caller does, and is not interrupted. It sleeps without letting greenlets of its own thread run:
/// what they raise in it would have nobody to take it.
pub struct Uninterrupted<'a>(pub &'a dyn WaitPolicy);

impl WaitPolicy for Uninterrupted<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.0.allow_threads(slow);
    }
    fn interrupted(&self) -> Result<()> {
        Ok(())
    }
}
