//! Waiting that may take for ever, as for a lock or for a change.

use super::policy::PyWait;
use crate::error::Result;
use crate::process::sleep::Sleep;
use crate::process::wait_policy::WaitPolicy;
use crate::segment::Segment;

/// For a call that may wait without end, perhaps for a greenlet of its own thread: it ends with an error when the handle is
/// detached meanwhile.
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
