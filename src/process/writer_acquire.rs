//! Acquiring the writer lock: at once, after a wait, or as the heir of a dead process's participant number. How a
//! waiter waits and takes the lock over stands in `writer_wait.rs`. The protocol is "The writer lock" in
//! `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::process::attachment::Attachment;
use crate::process::call_guard::CallGuard;
use crate::process::registry_lock::RegistryLock;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::process::writer::Writer;
use crate::process::writer_wait::{Waiter, WaitingEnded};
use crate::sync::lock_word;

impl Attachment {
    /// Acquires the writer lock, waiting as `policy` says. What a dead owner left half done is repaired first.
    #[inline(always)]
    pub fn write(&self, policy: &dyn WaitPolicy) -> Result<Writer<'_>> {
        Writer::acquire(self, policy)
    }

    /// Acquires the writer lock even if this process has no addresses left to map all zones in use. For a caller that
    /// gives something back, which a lack of addresses must not prevent. Each change then maps what it touches before
    /// it begins.
    pub fn write_unmapped(&self, policy: &dyn WaitPolicy) -> Result<Writer<'_>> {
        match self.write(policy) {
            Err(Error::Full { .. }) => {}
            other => return other,
        }
        let call = self.enter_call();
        let number = self.register(policy)?;
        let mut waiter = Waiter::new(self, number, policy, None, call.epoch);
        match lock_word::acquire(&self.state().lock, number, &mut waiter) {
            Ok(()) => Writer::ready_unmapped(self, number, call),
            Err(WaitingEnded::Forked) => Err(Error::Interrupted),
            Err(WaitingEnded::Error(error)) => Err(error),
        }
    }

    /// Acquires the writer lock if it is free. `None`: it is not free, this process has no participant number, or what
    /// a dead owner left could not be repaired.
    pub fn try_write(&self) -> Option<Writer<'_>> {
        let call = self.enter_call();
        let number = self.number_now()?;
        if !lock_word::try_acquire(&self.state().lock, number) {
            return None;
        }
        Writer::ready(self, number, call).ok()
    }
}

impl<'a> Writer<'a> {
    #[inline(always)]
    fn acquire(att: &'a Attachment, policy: &dyn WaitPolicy) -> Result<Self> {
        let call = att.enter_call();
        let number = match att.number_now() {
            Some(number) => number,
            None => att.register(policy)?,
        };
        if lock_word::try_acquire(&att.state().lock, number) {
            return Self::ready(att, number, call);
        }
        Self::acquire_slowly(att, number, call, policy)
    }

    #[cold]
    fn acquire_slowly(att: &'a Attachment, number: u32, call: CallGuard<'a>, policy: &dyn WaitPolicy) -> Result<Self> {
        let mut waiter = Waiter::new(att, number, policy, None, call.epoch);
        match lock_word::acquire(&att.state().lock, number, &mut waiter) {
            Ok(()) => Self::ready(att, number, call),
            // A signal handler forked, and this is the child: it is another participant, so it begins anew.
            Err(WaitingEnded::Forked) => Self::acquire(att, policy),
            Err(WaitingEnded::Error(error)) => Err(error),
        }
    }

    /// Acquires the writer lock for the heir of a dead process's participant number, with the registry lock held.
    /// `inherited`: the lock word names this number already, because the dead process held the writer lock.
    pub fn acquire_as_heir(att: &'a Attachment, number: u32, inherited: bool, registry: &RegistryLock) -> Result<Self> {
        let call = att.enter_call();
        if inherited {
            // All zones are mapped before anything is done under the lock. If that fails, everything stays as the dead
            // process left it.
            att.map_zones()?;
        } else {
            let mut waiter = Waiter::new(att, number, &Blocking, Some(registry), call.epoch);
            match lock_word::acquire(&att.state().lock, number, &mut waiter) {
                Err(WaitingEnded::Error(error)) => return Err(error),
                Err(WaitingEnded::Forked) => return Err(Error::Interrupted),
                Ok(()) => {}
            }
        }
        let writer = Self::ready(att, number, call)?;
        if inherited {
            writer.recount_retired()?;
        }
        Ok(writer)
    }
}
