//! Who takes part: claiming a number, for a child too, and letting it go.

use crate::error::{Error, Result};
use crate::format::PARTICIPANTS;
use crate::os::bytelock::{self, Anchor, byte_of};
use crate::os::fork;
use crate::os::map::is_descriptor_of;
use crate::process::at_fork;
use crate::process::attachment::Attachment;
use crate::process::registration::PreparedChild;
use crate::process::registry_lock::{RegistryLock, try_registry};
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::process::writer::Writer;
use crate::sync::lock_word;
use rustix::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a fork waits for the registry lock on behalf of a child that inherits views.
const FORK_WAITS: Duration = Duration::from_secs(1);

impl Attachment {
    /// Opens the descriptions that a child about to be forked will need. Called with the process's mutex held.
    pub fn prepare_child(&self) {
        if self.number_now().is_none() {
            return;
        }
        let fds = self.fresh_description().zip(self.fresh_description());
        let mut prepared = PreparedChild { fds, ..PreparedChild::default() };
        // Objects over pinned memory live on in the child: its pins must stand before it does.
        let pins = self.pins.lock();
        let inherited = pins.inherited();
        if let (false, Some((anchor, _))) = (inherited.is_empty(), &prepared.fds) {
            prepared.number = self.claim_for_child(anchor, &inherited).unwrap_or(None);
        }
        // Let go after the fork, on both sides: no pin comes between.
        prepared.holds_pins = true;
        std::mem::forget(pins);
        *self.registration.child.lock() = prepared;
    }

    /// A participant number for a child about to be forked, with these spans pinned. `None`: none was to be had in time, or
    /// there is no memory for the marks.
    fn claim_for_child(&self, anchor: &OwnedFd, granules: &[u64]) -> Result<Option<u32>> {
        let began = Instant::now();
        let registry = loop {
            let none = || Err(self.no_description());
            if let Some(held) = try_registry(self.fresh_description(), none, &self.object.lock_status)? {
                break held;
            }
            if began.elapsed() > FORK_WAITS {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        // Children that ended without a word are reaped here: nobody else may come by.
        let me = self.number_now().unwrap_or(PARTICIPANTS);
        self.reap_a_few(me);
        let (mut number, mut dead) = self.claim(anchor)?;
        if dead {
            // Of a dead one we could not be the heir for somebody else: make room.
            let _ = bytelock::unlock(anchor, byte_of(number));
            self.reap_those(me, PARTICIPANTS);
            (number, dead) = self.claim(anchor)?;
        }
        let pinned = !dead && self.pin_for_child(number, granules).unwrap_or(false) && self.scans_ended(began);
        drop(registry);
        if !pinned {
            if !dead {
                self.unpin_for_child(number, granules);
                if let Some(record) = self.participant(number) {
                    record.state.store(0, Ordering::SeqCst);
                    crash_point!("child-given-up");
                }
            }
            let _ = bytelock::unlock(anchor, byte_of(number));
        }
        Ok(pinned.then_some(number))
    }

    /// Waits until whoever was looking at pins when the child's were set has ended: he may have passed its number before, and
    /// will pass ours after we let go. Pins are looked at under the writer lock only.
    fn scans_ended(&self, began: Instant) -> bool {
        while self.try_write().is_none() {
            if began.elapsed() > FORK_WAITS {
                return false;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        true
    }

    /// In the child: becomes the participant that was claimed for it before the fork.
    pub fn adopt(&self, prepared: &mut PreparedChild) {
        let Some(number) = prepared.number.take() else { return };
        let Some((anchor, query)) = prepared.fds.take() else { return };
        let Ok(anchor) = Anchor::new(&anchor) else { return };
        if let Some(record) = self.participant(number) {
            record.pid.store(crate::os::pid(), Ordering::Relaxed);
            crash_point!("child-adopted");
        }
        *self.registration.anchor.lock() = Some(anchor);
        self.object.query.replace(Some(query), &self.object.lock_status);
        self.registration.member.store(u64::from(fork::epoch()) << 32 | u64::from(number + 1), Ordering::SeqCst);
        self.pins.with_forgotten_guard(|pins| pins.adopt(number));
    }

    /// Does this participant live? Its own process's number does, by definition.
    pub fn alive(&self, number: u32) -> Result<bool> {
        if self.number_now() == Some(number) {
            return Ok(true);
        }
        self.with_locks(self.mem.writable(), |fd| bytelock::is_locked(fd, byte_of(number)))?
            .map_err(|e| Error::io("asking who is alive", e))
    }

    /// Is whoever has this number dead, while that is `still` so? Not who lets go of it just now: he, and whoever has it
    /// next, changes its record.
    pub fn died(&self, number: u32, still: impl FnOnce() -> bool) -> Result<bool> {
        // SYNC: with the kernel's lock of the byte, between the two looks: who lets go stores `state` before he unlocks it,
        // who claims moves `generation` after he locked it, and before he can have anything `still` asks for.
        let life = || {
            let record = self.participant(number)?;
            Some((record.state.load(Ordering::Acquire), record.generation.load(Ordering::Acquire)))
        };
        let before = life();
        Ok(!self.alive(number)? && still() && life() == before)
    }

    /// This process's number, claimed now if it has none.
    pub fn member(&self, policy: &dyn WaitPolicy) -> Result<u32> {
        match self.number_now() {
            Some(number) => Ok(number),
            None => self.register(policy),
        }
    }

    #[cold]
    fn register(&self, policy: &dyn WaitPolicy) -> Result<u32> {
        let registry = self.registry(policy)?;
        if let Some(number) = self.number_now() {
            return Ok(number);
        }
        let prepared = std::mem::take(&mut *self.registration.child.lock());
        let usable = |fd: &OwnedFd| prepared.pid == crate::os::pid() && is_descriptor_of(fd, &self.object.lock_status);
        let (anchor_fd, query) = match prepared.fds {
            Some((anchor, query)) if usable(&anchor) && usable(&query) => (anchor, query),
            _ => match (self.fresh_description(), self.fresh_description()) {
                (Some(anchor), Some(query)) => (anchor, query),
                // With the one still open: the other may be one descriptor too many.
                _ => return Err(self.no_description()),
            },
        };
        // The anchor first: until it is there a lock would hang on a descriptor.
        let anchor = Anchor::new(&anchor_fd).map_err(|e| Error::system("an anchor page", e))?;
        let (number, dead) = self.claim(&anchor_fd)?;
        drop(anchor_fd);
        *self.registration.anchor.lock() = Some(anchor);
        self.object.query.replace(Some(query), &self.object.lock_status);
        crash_point!("claimed");
        if dead {
            // The number of a dead process whom nobody reaped: as its heir, do it, before a thread of ours can use it. Where
            // that fails we give it up, and are reaped as he would have been.
            let inherited = lock_word::owner(self.state().lock.load(Ordering::Relaxed)) == Some(number);
            if let Err(error) = self.reap_as_heir(number, inherited, &registry) {
                *self.registration.anchor.lock() = None;
                return Err(error);
            }
        }
        self.registration.member.store(u64::from(fork::epoch()) << 32 | u64::from(number + 1), Ordering::SeqCst);
        // Where there is no memory for the marks, the process that we were forked from keeps them; the next pin tries again.
        let _ = self.adopt_inherited(number, &mut self.pins.lock())?;
        if !dead {
            self.reap_a_few(number);
        }
        Ok(number)
    }

    /// Undoes what the last owner of our number left.
    fn reap_as_heir(&self, number: u32, mut inherited: bool, registry: &RegistryLock) -> Result<()> {
        let mut reaping = self.reaping_of(number);
        loop {
            let mut writer = Writer::heir(self, number, inherited, registry)?;
            let reaped = writer.reap_remains(&mut reaping)?;
            self.yield_lock(writer, &Blocking);
            if reaped {
                return Ok(());
            }
            inherited = false;
        }
    }

    /// Locks a byte that is free. True: its last owner died and was not reaped.
    fn claim(&self, fd: &OwnedFd) -> Result<(u32, bool)> {
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        for dead in [false, true] {
            for number in 0..if dead { top } else { PARTICIPANTS } {
                let free = self.participant(number).is_none_or(|p| p.state.load(Ordering::Acquire) == 0);
                if free == dead || !self.try_byte(fd, number)? {
                    continue;
                }
                crash_point!("byte-locked");
                if let Err(error) = self.fill_record(number, dead) {
                    let _ = bytelock::unlock(fd, byte_of(number));
                    return Err(error);
                }
                return Ok((number, dead));
            }
        }
        Err(Error::Busy(format!(
            "{}: {PARTICIPANTS} living processes are attached, there is no room for one more: let some detach",
            self.object.name
        )))
    }

    fn try_byte(&self, fd: &OwnedFd, number: u32) -> Result<bool> {
        bytelock::try_lock(fd, byte_of(number)).map_err(|e| Error::io("a participant's lock", e))
    }

    fn fill_record(&self, number: u32, dead: bool) -> Result<()> {
        let state = self.state();
        if number >= state.participants_top.load(Ordering::Relaxed) {
            // A record above the top may lie on a page that is not there.
            self.obtain_pages(self.identity.geometry.participant_at(number), 64)?;
            state.participants_top.store(number + 1, Ordering::Release);
            crash_point!("top-raised");
        }
        // Whoever had the number last may have died inside of a section.
        self.reset_readers(number)?;
        crash_point!("readers-reset");
        let Some(record) = self.participant(number) else { return Err(Error::corrupt("participants_top")) };
        record.pid.store(crate::os::pid(), Ordering::Relaxed);
        record.generation.fetch_add(1, Ordering::Relaxed);
        record.attached_at.store(crate::os::unix_ns(), Ordering::Relaxed);
        if !dead {
            record.spans.store(0, Ordering::Relaxed);
            record.locks.store(0, Ordering::Relaxed);
            record.pin_units.iter().for_each(|unit| unit.store(0, Ordering::Relaxed));
            crash_point!("registering");
            // CRASH: before this store the number is free and its byte goes with us.
            record.state.store(1, Ordering::Release);
            crash_point!("registered");
        }
        Ok(())
    }

    /// Living participants.
    pub fn attached(&self) -> Result<u32> {
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        let mut living = 0;
        for number in 0..top {
            let used = self.participant(number).is_some_and(|p| p.state.load(Ordering::Acquire) == 1);
            // A reader who may not even look at the lock object counts those who signed in.
            let lives = used && self.alive(number).or_else(|e| if self.mem.writable() { Err(e) } else { Ok(true) })?;
            living += u32::from(lives);
        }
        Ok(living)
    }

    /// Lets the participant number go, unless a call is inside or something still needs it. The last handle is gone.
    pub fn deregister(&self) {
        let _process = at_fork::lock();
        self.release_number();
    }

    /// The same, for a caller who may hold anything: if the process's mutex is not free, not now.
    pub fn deregister_if_free(&self) {
        if let Some(_process) = at_fork::try_lock() {
            self.release_number();
        }
    }

    /// The same, with the process's mutex held or nobody else around.
    pub fn release_number(&self) {
        let Some(number) = self.number_now() else { return };
        let member = self.registration.member.swap(0, Ordering::SeqCst);
        let active = self.registration.active.load(Ordering::SeqCst);
        let inside = (active >> 32) as u32 == fork::epoch() && active as u32 != 0;
        // The pins last: whoever was inside may have left one.
        if inside || !self.pins.lock().is_empty() {
            self.registration.member.store(member, Ordering::SeqCst);
            return;
        }
        // With deferred frees left it goes as the dead go: whoever reaps it frees them.
        if self.deferred.is_empty() && self.locks.held.lock().is_empty() {
            if let Some(record) = self.participant(number) {
                record.state.store(0, Ordering::SeqCst);
            }
        }
        crash_point!("number-released");
        // CRASH: the number is free already; until the anchor goes nobody can lock its byte.
        *self.registration.anchor.lock() = None;
        self.deferred.clear();
    }
}
