//! Registering this process as a participant: claiming a number that is free or inheriting that of a dead process. The
//! protocol is "Claiming a number" in `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::format::PARTICIPANTS;
use crate::os::bytelock::{self, Anchor, byte_of};
use crate::os::description::MarkedFd;
use crate::os::fork;
use crate::process::attachment::Attachment;
use crate::process::registry_lock::RegistryLock;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::process::writer::Writer;
use crate::sync::lock_word;
use std::sync::atomic::Ordering;

impl Attachment {
    /// Registers this process as a participant if it is not one yet, and returns its number.
    pub fn register(&self, policy: &dyn WaitPolicy) -> Result<u32> {
        match self.number_now() {
            Some(number) => Ok(number),
            None => self.register_anew(policy),
        }
    }

    #[cold]
    fn register_anew(&self, policy: &dyn WaitPolicy) -> Result<u32> {
        let registry = self.registry(policy)?;
        if let Some(number) = self.number_now() {
            return Ok(number);
        }
        let prepared = std::mem::take(&mut *self.registration.child.lock());
        let usable = |fd: &MarkedFd| prepared.pid == crate::os::pid() && fd.is_intact();
        let fresh = || Some(MarkedFd::new(self.fresh_description()?, &self.object.lock_status));
        let (anchor_fd, query) = match prepared.fds {
            Some((anchor, query)) if usable(&anchor) && usable(&query) => (anchor, query),
            _ => match (fresh(), fresh()) {
                (Some(anchor), Some(query)) => (anchor, query),
                // The error is made while the first description is still open: the second may have been one descriptor
                // too many for this process, and the error looks whether it was.
                _ => return Err(self.no_description()),
            },
        };
        // The anchor is mapped before a byte is locked. A lock without an anchor would go when the descriptor is
        // closed.
        let anchor = Anchor::new(&anchor_fd).map_err(|e| Error::system("an anchor page", e))?;
        let (number, dead) = self.claim(&anchor_fd)?;
        drop(anchor_fd);
        *self.registration.anchor.lock() = Some(anchor);
        self.object.query.replace(Some(query));
        crash_point!("claimed");
        if dead {
            // The number was that of a dead process that no process has reaped. Its heir, this process, reaps it now,
            // before any thread of this process can use the number. If that fails, this process gives the number up
            // again, and the number is reaped as it would have been.
            let inherited = lock_word::owner(self.state().lock.load(Ordering::Relaxed)) == Some(number);
            if let Err(error) = self.reap_as_heir(number, inherited, &registry) {
                *self.registration.anchor.lock() = None;
                return Err(error);
            }
        }
        self.registration.registered.store(u64::from(fork::epoch()) << 32 | u64::from(number + 1), Ordering::SeqCst);
        // If there is no memory for the pin bits, the process that this one was forked from keeps the spans pinned, and
        // the next pin tries again.
        let _ = self.adopt_inherited(number, &mut self.pins.lock())?;
        if !dead {
            self.reap_a_few(number);
        }
        Ok(number)
    }

    /// Undoes what the dead process left in the name of this number, which is this process's from now on.
    fn reap_as_heir(&self, number: u32, mut inherited: bool, registry: &RegistryLock) -> Result<()> {
        let mut reaping = self.reaping_of(number);
        loop {
            let mut writer = Writer::acquire_as_heir(self, number, inherited, registry)?;
            let reaped = writer.reap_remains(&mut reaping)?;
            self.yield_lock(writer, &Blocking);
            if reaped {
                return Ok(());
            }
            inherited = false;
        }
    }

    /// Claims a number: locks its byte through `fd` and writes its record. A number that is free comes first, then that
    /// of a dead process. Returns the number, and whether its last process died without being reaped. The registry lock
    /// is held.
    pub fn claim(&self, fd: &MarkedFd) -> Result<(u32, bool)> {
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        for dead in [false, true] {
            for number in 0..if dead { top } else { PARTICIPANTS } {
                let free = self.participant(number).is_none_or(|p| p.state.load(Ordering::Acquire) == 0);
                if free == dead || !self.try_lock_byte(fd, number)? {
                    continue;
                }
                crash_point!("byte-locked");
                if let Err(error) = self.write_record(number, dead) {
                    let _ = bytelock::unlock(fd, byte_of(number));
                    return Err(error);
                }
                return Ok((number, dead));
            }
        }
        Err(Error::Busy(format!(
            "{}: {PARTICIPANTS} living processes are attached, and there is no number for one more: let some of them \
             detach",
            self.object.name
        )))
    }

    /// Locks the byte of a number. Returns `false` if another process has it locked.
    fn try_lock_byte(&self, fd: &MarkedFd, number: u32) -> Result<bool> {
        bytelock::try_lock(fd, byte_of(number)).map_err(|e| Error::io("a participant's lock", e))
    }

    /// Writes the record of a number whose byte this process has locked. `dead`: the last process of the number is
    /// still to be reaped, so what is in its name stays.
    fn write_record(&self, number: u32, dead: bool) -> Result<()> {
        let state = self.state();
        if number >= state.participants_top.load(Ordering::Relaxed) {
            // A record above the top may lie on a page that is not present.
            self.obtain_pages(self.identity.geometry.participant_at(number), 64)?;
            state.participants_top.store(number + 1, Ordering::Release);
            crash_point!("top-raised");
        }
        // The last process of this number may have died inside a read section.
        self.reset_readers(number)?;
        crash_point!("readers-reset");
        let Some(record) = self.participant(number) else {
            return Err(Error::corrupt("participants_top was lowered while a number was claimed"));
        };
        record.pid.store(crate::os::pid(), Ordering::Relaxed);
        record.generation.fetch_add(1, Ordering::Relaxed);
        record.attached_at.store(crate::os::unix_ns(), Ordering::Relaxed);
        if !dead {
            record.spans.store(0, Ordering::Relaxed);
            record.locks.store(0, Ordering::Relaxed);
            record.pin_units.iter().for_each(|unit| unit.store(0, Ordering::Relaxed));
            crash_point!("registering");
            // CRASH: before this store the number is free, and its byte goes with this process.
            record.state.store(1, Ordering::Release);
            crash_point!("registered");
        }
        Ok(())
    }
}
