//! Preparing a child before the fork, so that it can become a participant: descriptions of the lock object and, if it
//! inherits objects over pinned memory, a participant number with the same pins. `at_fork.rs` calls this for each
//! attachment.
//!
//! The protocol is "Fork" and "Fork and pins" in `docs/protocol.md`.

use crate::error::Result;
use crate::format::PARTICIPANTS;
use crate::os::bytelock::{self, Anchor, byte_of};
use crate::os::description::MarkedFd;
use crate::os::fork;
use crate::process::attachment::Attachment;
use crate::process::registration::PreparedChild;
use crate::process::registry_lock::try_registry;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a fork waits in all, for the registry lock and then for the writer lock, to claim a number for a child that
/// inherits views. After it the child gets no number, and the parent keeps the pins.
const CLAIM_LIMIT: Duration = Duration::from_secs(1);

impl Attachment {
    /// Opens the descriptions that a child will need, and pins for the child what it will inherit. Runs before the
    /// fork, with the process's mutex held.
    pub fn prepare_child(&self) {
        if self.number_now().is_none() {
            return;
        }
        let fresh = || Some(MarkedFd::new(self.fresh_description()?, &self.object.lock_status));
        let fds = fresh().zip(fresh());
        let mut prepared = PreparedChild { fds, ..PreparedChild::default() };
        // Objects over pinned memory live on in the child, so the child's pins must stand before the child exists.
        let pins = self.pins.lock();
        let inherited = pins.pinned_by_objects();
        if let (false, Some((anchor, _))) = (inherited.is_empty(), &prepared.fds) {
            prepared.number = self.claim_for_child(anchor, &inherited).unwrap_or(None);
        }
        // The mutex of the pins is released after the fork, on both sides: no pin comes or goes in between.
        prepared.holds_pins = true;
        std::mem::forget(pins);
        *self.registration.child.lock() = prepared;
    }

    /// Claims a participant number for a child that is about to be forked, and pins these spans for it. `None`: no
    /// number could be claimed in time, or there is no memory for the pin bits.
    fn claim_for_child(&self, anchor: &MarkedFd, granules: &[u64]) -> Result<Option<u32>> {
        let began = Instant::now();
        let registry = loop {
            let none = || Err(self.no_description());
            if let Some(held) = try_registry(self.fresh_description(), none, &self.object.lock_status)? {
                break held;
            }
            if began.elapsed() > CLAIM_LIMIT {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        // Children that were killed are reaped here: perhaps no other process ever attaches.
        let own = self.number_now().unwrap_or(PARTICIPANTS);
        self.reap_a_few(own);
        let (mut number, mut dead) = self.claim(anchor)?;
        if dead {
            // Only a dead process's number is left, and this process cannot be its heir on behalf of the child. All
            // dead participants are reaped instead, so that a number becomes free.
            let _ = bytelock::unlock(anchor, byte_of(number));
            self.reap_up_to(own, PARTICIPANTS);
            (number, dead) = self.claim(anchor)?;
        }
        let pinned =
            !dead && self.set_pin_bits(number, granules).unwrap_or(false) && self.wait_for_looks_at_pins(began);
        drop(registry);
        if !pinned {
            if !dead {
                self.clear_pin_bits(number, granules);
                if let Some(record) = self.participant(number) {
                    record.state.store(0, Ordering::SeqCst);
                    crash_point!("child-given-up");
                }
            }
            let _ = bytelock::unlock(anchor, byte_of(number));
        }
        Ok(pinned.then_some(number))
    }

    /// Waits until each look at the pins that was under way when the child's bits were set has ended: it may have
    /// passed the child's number before, and would miss the parent's bits if the parent dropped its objects afterwards.
    /// Pins are looked at under the writer lock only. Returns `false` if the time is up.
    fn wait_for_looks_at_pins(&self, began: Instant) -> bool {
        while self.try_write().is_none() {
            if began.elapsed() > CLAIM_LIMIT {
                return false;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        true
    }

    /// Makes a forked child the participant that was claimed for it before the fork. Runs in the child.
    pub fn become_prepared(&self, prepared: &mut PreparedChild) {
        let Some(number) = prepared.number.take() else { return };
        let Some((anchor, query)) = prepared.fds.take() else { return };
        let anchor = match Anchor::new(&anchor) {
            Ok(anchor) => anchor,
            Err(_) => {
                // The descriptor keeps the number alive, and so the pins that were set for this child, until it registers
                // under another number.
                prepared.fds = Some((anchor, query));
                return;
            }
        };
        if let Some(record) = self.participant(number) {
            record.pid.store(crate::os::pid(), Ordering::Relaxed);
            crash_point!("child-adopted");
        }
        *self.registration.anchor.lock() = Some(anchor);
        self.object.query.replace(Some(query));
        self.registration.registered.store(u64::from(fork::epoch()) << 32 | u64::from(number + 1), Ordering::SeqCst);
        self.pins.with_forgotten_guard(|pins| pins.adopt(number));
    }
}
