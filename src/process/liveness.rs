//! Asking the kernel which participants are alive. The protocol is "Who is alive" in `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::format::PARTICIPANTS;
use crate::os::bytelock::{self, byte_of};
use crate::process::attachment::Attachment;
use std::sync::atomic::Ordering;

impl Attachment {
    /// Tells whether the process that has this participant number is alive. This process is, by definition.
    ///
    /// Without the registry lock the answer may be out of date: the number may be claimed by another process meanwhile.
    pub fn alive(&self, number: u32) -> Result<bool> {
        if self.number_now() == Some(number) {
            return Ok(true);
        }
        self.with_lock_object(self.mem.writable(), |fd| bytelock::is_locked(fd, byte_of(number)))?
            .map_err(|e| Error::io("asking whether a participant is alive", e))
    }

    /// Tells whether the process that has this participant number died while `still` is true. A process that is just
    /// releasing the number does not count as dead: it changes the participant's record, and so does the process that
    /// claims it next.
    pub fn died(&self, number: u32, still: impl FnOnce() -> bool) -> Result<bool> {
        // SYNC: with the kernel's lock of the byte, which is asked for between the two looks. A process that releases
        // the number stores `state` before it unlocks the byte. A process that claims it moves `generation` after it
        // has locked the byte, and before it can have anything that `still` asks for.
        let life = || {
            let record = self.participant(number)?;
            Some((record.state.load(Ordering::Acquire), record.generation.load(Ordering::Acquire)))
        };
        let before = life();
        Ok(!self.alive(number)? && still() && life() == before)
    }

    /// Counts the participants that are alive.
    pub fn living_participants(&self) -> Result<u32> {
        let top = self.state().participants_top.load(Ordering::Acquire).min(PARTICIPANTS);
        let mut living = 0;
        for number in 0..top {
            let used = self.participant(number).is_some_and(|p| p.state.load(Ordering::Acquire) == 1);
            // A process that may only read, and may not even open the lock object, counts all that are registered.
            let lives = used && self.alive(number).or_else(|e| if self.mem.writable() { Err(e) } else { Ok(true) })?;
            living += u32::from(lives);
        }
        Ok(living)
    }
}
