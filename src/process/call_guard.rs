//! [`CallGuard`]: a call that uses the participant number of its process. While such a call is under way, the number is
//! not released. The protocol is "Releasing a number" in `docs/protocol.md`.

use crate::os::fork;
use crate::process::attachment::Attachment;
use std::sync::atomic::Ordering;

/// Private to the process: a call that may use the participant number.
pub struct CallGuard<'a> {
    att: &'a Attachment,
    /// The epoch of the process that began the call. A child that was forked meanwhile never began it.
    pub epoch: u32,
}

impl Attachment {
    /// Begins a call that uses this process's participant number. The number is not released until the guard is
    /// dropped.
    #[inline]
    pub fn enter_call(&self) -> CallGuard<'_> {
        let now = fork::epoch();
        let epoch = u64::from(now) << 32;
        let mut seen = self.registration.active.load(Ordering::Relaxed);
        loop {
            // Calls of another epoch are those of threads of the parent, which do not exist in this process.
            let active = if seen >> 32 << 32 == epoch { seen + 1 } else { epoch + 1 };
            match self.registration.active.compare_exchange_weak(seen, active, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return CallGuard { att: self, epoch: now },
                Err(now) => seen = now,
            }
        }
    }

    /// Returns this process's participant number. `None`: it has none now.
    #[inline]
    pub fn number_now(&self) -> Option<u32> {
        let registered = self.registration.registered.load(Ordering::SeqCst);
        (registered != 0 && (registered >> 32) as u32 == fork::epoch()).then(|| (registered as u32).wrapping_sub(1))
    }
}

impl Drop for CallGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch != fork::epoch() {
            return;
        }
        let before = self.att.registration.active.fetch_sub(1, Ordering::SeqCst);
        if before as u32 == 1 && self.att.registration.handles.load(Ordering::SeqCst) == 0 {
            // The last handle was detached while this call was under way, so the release was left to it.
            self.att.release_number_if_unlocked();
        }
    }
}
