//! Releasing the participant number of this process. The protocol is "Releasing a number" in `docs/protocol.md`.

use crate::os::fork;
use crate::process::at_fork;
use crate::process::attachment::Attachment;
use std::sync::atomic::Ordering;

impl Attachment {
    /// Releases the participant number, unless a call is under way or a pin still needs it. The last handle was
    /// detached.
    pub fn deregister(&self) {
        let _process = at_fork::lock();
        self.release_number();
    }

    /// Releases the participant number if nothing needs it and the process's mutex is free. For a caller that may hold
    /// any lock, and so must not wait for the mutex. If the mutex is not free, the number stays.
    pub fn release_number_if_unlocked(&self) {
        if let Some(_process) = at_fork::try_lock() {
            self.release_number();
        }
    }

    /// Releases the participant number if nothing needs it. The caller holds the process's mutex, or has the only
    /// reference to the attachment.
    pub fn release_number(&self) {
        let Some(number) = self.number_now() else { return };
        let registered = self.registration.registered.swap(0, Ordering::SeqCst);
        let active = self.registration.active.load(Ordering::SeqCst);
        let call_under_way = (active >> 32) as u32 == fork::epoch() && active as u32 != 0;
        // The pins are looked at last: a call that was under way may have left one.
        if call_under_way || !self.pins.lock().is_empty() {
            self.registration.registered.store(registered, Ordering::SeqCst);
            return;
        }
        // If deferred frees or named locks are left, `state` stays 1: the process that reaps this number frees them, as
        // those of a dead one.
        if self.deferred.is_empty() && self.locks.held.lock().is_empty() {
            if let Some(record) = self.participant(number) {
                record.state.store(0, Ordering::SeqCst);
            }
        }
        crash_point!("number-released");
        // CRASH: the number is free already. Until the anchor goes, no process can lock its byte.
        *self.registration.anchor.lock() = None;
        self.deferred.clear();
    }
}
