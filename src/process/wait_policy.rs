//! [`WaitPolicy`]: how a call waits, and how it lets the other threads of its process go on meanwhile. The Rust
//! interface blocks; the Python extension has policies of its own, which release the interpreter's lock and look for
//! Ctrl-C.

use crate::error::Result;
use crate::process::sleep::Sleep;
use std::time::Duration;

/// How a call waits, and how it lets the other threads of its process go on meanwhile.
pub trait WaitPolicy {
    /// Runs something slow (a sleep, a large copy) without the interpreter's lock, so that the interpreter's other
    /// threads go on.
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send));
    /// Sleeps. The caller holds no mutex of this crate: if a program's threads are greenlets of one thread, the others
    /// run meanwhile, and may call this crate. [`WaitPolicy::interrupted`] is asked afterwards.
    fn sleep(&self, sleep: &Sleep<'_>) {
        self.allow_threads(&mut || sleep.sleep());
    }
    /// Returns [`Error::Interrupted`](crate::Error::Interrupted) if the caller is to give up (Ctrl-C). The caller holds
    /// no mutex of this crate.
    fn interrupted(&self) -> Result<()>;
}

/// Blocks the thread and is never interrupted: the policy of the Rust interface.
pub struct Blocking;

impl WaitPolicy for Blocking {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        slow();
    }
    fn interrupted(&self) -> Result<()> {
        Ok(())
    }
}

/// Copies of at least this many bytes let the interpreter's other threads go on. A shorter one takes some ten
/// microseconds at most. A thread that gives the interpreter's lock away for that may wait for five milliseconds until
/// it has it again.
pub const ALLOW_THREADS_FROM: usize = 256 << 10;

/// How long a call waits for a living process that holds the segment up.
pub const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// Lets other threads go on as the caller's policy does, and is never interrupted. Its sleeps do not let other
/// greenlets of its thread run: an exception that one of them raises into the sleep could not be passed on.
pub struct Uninterrupted<'a>(pub &'a dyn WaitPolicy);

impl WaitPolicy for Uninterrupted<'_> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        self.0.allow_threads(slow);
    }
    fn interrupted(&self) -> Result<()> {
        Ok(())
    }
}
