//! How a call waits for something that may never come, such as a lock or a change of a variable.

use super::policy::PyWait;
use crate::error::Result;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::segment::Segment;

/// Waits like [`PyWait`], but ends with an error when the handle is detached meanwhile. What the call waits for may
/// have to be done by a greenlet of its own thread, so among greenlets it does not block the thread for long.
pub struct StopWhenDetached<'a, 'py>(pub &'a PyWait<'py>, pub &'a Segment);

impl WaitPolicy for StopWhenDetached<'_, '_> {
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
