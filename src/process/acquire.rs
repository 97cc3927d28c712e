//! Acquiring the writer lock: at once, after a wait, or as the heir of a dead participant. The protocol is "The writer lock" in
//! `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::process::attachment::{Attachment, CallGuard};
use crate::process::registry_lock::RegistryLock;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::process::writer::Writer;
use crate::process::writer_wait::{Stop, Waiter};
use crate::sync::lock_word;

impl Attachment {
    /// Takes the writer lock. What a dead owner left is repaired first.
    #[inline(always)]
    pub fn write(&self, policy: &dyn WaitPolicy) -> Result<Writer<'_>> {
        Writer::acquire(self, policy)
    }

    /// The same for who gives something back, and shall not be kept from it by a lack of addresses.
    pub fn write_unmapped(&self, policy: &dyn WaitPolicy) -> Result<Writer<'_>> {
        match self.write(policy) {
            Err(Error::Full { .. }) => {}
            other => return other,
        }
        let inside = self.enter_call();
        let me = self.member(policy)?;
        let mut waiter = Waiter::new(self, me, policy, None, inside.epoch);
        match lock_word::acquire(&self.state().lock, me, &mut waiter) {
            Ok(()) => Writer::ready_unmapped(self, me, inside),
            Err(Stop::Forked) => Err(Error::Interrupted),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// The writer lock if it is free.
    pub fn try_write(&self) -> Option<Writer<'_>> {
        let inside = self.enter_call();
        let me = self.number_now()?;
        if !lock_word::try_acquire(&self.state().lock, me) {
            return None;
        }
        Writer::ready(self, me, inside).ok()
    }
}

impl<'a> Writer<'a> {
    #[inline(always)]
    fn acquire(att: &'a Attachment, policy: &dyn WaitPolicy) -> Result<Self> {
        let inside = att.enter_call();
        let me = match att.number_now() {
            Some(me) => me,
            None => att.member(policy)?,
        };
        if lock_word::try_acquire(&att.state().lock, me) {
            return Self::ready(att, me, inside);
        }
        Self::wait(att, me, inside, policy)
    }

    #[cold]
    fn wait(att: &'a Attachment, me: u32, inside: CallGuard<'a>, policy: &dyn WaitPolicy) -> Result<Self> {
        let mut waiter = Waiter::new(att, me, policy, None, inside.epoch);
        match lock_word::acquire(&att.state().lock, me, &mut waiter) {
            Ok(()) => Self::ready(att, me, inside),
            // A signal handler forked, and this is the child: it is another participant.
            Err(Stop::Forked) => Self::acquire(att, policy),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// For the heir of a dead participant's number, under the registry lock: `inherited`, the lock is his already.
    pub fn heir(att: &'a Attachment, number: u32, inherited: bool, registry: &RegistryLock) -> Result<Self> {
        let inside = att.enter_call();
        if inherited {
            // Before anything is done under it: what cannot be mapped is left as the dead one left it.
            att.map_zones()?;
        } else {
            let mut waiter = Waiter::new(att, number, &Blocking, Some(registry), inside.epoch);
            match lock_word::acquire(&att.state().lock, number, &mut waiter) {
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Forked) => return Err(Error::Interrupted),
                Ok(()) => {}
            }
        }
        let writer = Self::ready(att, number, inside)?;
        if inherited {
            writer.recount_retired()?;
        }
        Ok(writer)
    }
}
