//! When variables were last used: the stamps of a segment that evicts by last use.
//!
//! The protocol is "Eviction" in docs/protocol.md; the bytes are "Stamps" in docs/format.md. A stamp is a hint: nothing
//! but the choice of a victim rests on it, so a use that is lost, or noted for another variable as well, costs a hit at
//! most.

use crate::atomic::{AtomicU8, spin};
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{Eviction, STAMPS_MIN_BITS, StampLine};
use crate::key::{Index, Name};
use crate::os::object;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::registry_lock::RegistryLock;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::variables::snapshot::SnapshotValue;
use crate::variables::{AsVariables, Variables, VariablesWriter};
use std::sync::atomic::Ordering;

/// Ticks of the clock while as many variables are made as there are.
const TICKS: u64 = 64;
/// Parts of the table: with each tick one of them is looked at for stamps that are about to look new again.
const PARTS: u64 = 64;
/// The greatest age that a stamp has after it was looked at: in [`PARTS`] ticks it is 255.
const OLDEST: u8 = (u8::MAX as u64 - PARTS) as u8;
/// The greatest age that a stamp has when it is copied to a larger table: in two times [`PARTS`] ticks it is 255.
const OLDEST_COPIED: u8 = (u8::MAX as u64 - 2 * PARTS) as u8;
/// A table that is so many times too large is made smaller at once, and is not believed.
const TOO_MANY: u64 = 64;
/// Bytes of a larger table that one put prepares.
const STEP: u64 = 1 << 16;
/// Variables whose use is noted within one read section.
const AT_A_TIME: usize = 1_024;
/// How often the writer lock is tried for when a larger table is ready.
const TRIES: u32 = 10_000;

/// Where the two stamps of a hash are.
struct Stamps<'a>([&'a AtomicU8; 2]);

impl Stamps<'_> {
    /// Notes a use. A stamp that says so already is not stored.
    #[inline(always)]
    fn set(&self, now: u8) {
        for stamp in self.0 {
            if stamp.load(Ordering::Relaxed) != now {
                stamp.store(now, Ordering::Relaxed);
            }
        }
    }

    /// Returns the age in ticks.
    fn age(&self, now: u8) -> u8 {
        let [one, other] = self.0.map(|stamp| now.wrapping_sub(stamp.load(Ordering::Relaxed)));
        one.max(other)
    }
}

impl Variables {
    /// Returns the binary logarithm of the number of stamps. `None`: there are none, or the word is damaged. The caller
    /// is inside a read section or holds the writer lock.
    #[inline(always)]
    fn stamps_bits(&self) -> Option<u32> {
        // SYNC: acquire, with the release stores of whoever grows or shrinks the table: the pages of so many stamps are
        // present, and stay as long as the caller's section or lock.
        let bits = self.state().stamps.load(Ordering::Acquire);
        if bits == self.stamps_hints.seen_bits.load(Ordering::Relaxed) && bits != 0 {
            return Some(bits);
        }
        self.believe_stamps(bits)
    }

    /// Decides whether a number of stamps is believed that this process did not see before. A damaged number would lead
    /// to pages that are absent, so they are made certain of: that waits for nobody who waits for this read section.
    #[cold]
    fn believe_stamps(&self, bits: u32) -> Option<u32> {
        let geometry = &self.identity.geometry;
        let count = self.state().count.load(Ordering::Relaxed);
        let warranted = count.max(TOO_MANY).saturating_mul(TOO_MANY);
        let size = (STAMPS_MIN_BITS..=geometry.stamps_max_bits()).contains(&bits).then(|| 1 << bits)?;
        if size > warranted.max(1 << STAMPS_MIN_BITS) {
            return None;
        }
        let seen = self.stamps_hints.seen_bits.load(Ordering::Relaxed);
        let known = if seen < bits && seen != 0 { 1 << seen } else { 0 };
        if !self.mem.writable() || self.obtain_pages(geometry.stamps + known, size - known).is_err() {
            return None;
        }
        self.stamps_hints.seen_bits.store(bits, Ordering::Relaxed);
        Some(bits)
    }

    /// Returns the stamps of a hash. The caller is inside a read section or holds the writer lock.
    #[inline(always)]
    fn stamps_of(&self, hash: u64) -> Option<Stamps<'_>> {
        let line = hash >> 6 & ((1 << (self.stamps_bits()? - 6)) - 1);
        let line = self.mem.at::<StampLine>(self.identity.geometry.stamps + line * 64).ok()?;
        Some(Stamps([&line.stamps[(hash % 64) as usize], &line.stamps[(hash >> 32) as usize % 64]]))
    }

    /// Returns what a use stores into stamps now.
    #[inline(always)]
    fn stamp_now(&self) -> u8 {
        self.state().clock.load(Ordering::Relaxed) as u8
    }

    /// Notes that the variable with this hash was used. The caller is inside a read section or holds the writer lock.
    #[inline(never)]
    pub(super) fn note_use(&self, hash: u64) {
        if let Some(stamps) = self.stamps_of(hash) {
            stamps.set(self.stamp_now());
        }
    }

    /// Notes that a variable was used, if this thread can have a read section.
    #[cold]
    pub(super) fn note_use_of(&self, index: &Index<'_>) {
        if let Some(_section) = self.read_section() {
            self.note_use(Name::from(index).hash(self.identity.hash_key));
        }
    }

    /// Notes that those of several variables that were found were used.
    #[cold]
    pub(super) fn note_uses_of(&self, indexes: &[Index<'_>], values: &[SnapshotValue]) {
        for (indexes, values) in indexes.chunks(AT_A_TIME).zip(values.chunks(AT_A_TIME)) {
            let Some(_section) = self.read_section() else { return };
            for (index, _) in indexes.iter().zip(values).filter(|(_, value)| !matches!(value, SnapshotValue::Missing)) {
                self.note_use(Name::from(index).hash(self.identity.hash_key));
            }
        }
    }

    /// Notes that the variables of a batch were stored. The writer lock is not held any more.
    #[cold]
    pub(super) fn note_batch(&self, hashes: impl Iterator<Item = u64>) {
        let mut hashes = hashes.peekable();
        while hashes.peek().is_some() {
            let Some(_section) = self.read_section() else { return };
            hashes.by_ref().take(AT_A_TIME).for_each(|hash| self.note_use(hash));
        }
    }

    /// Returns for how many ticks the variable with this hash has not been used, 255 at most. The caller holds the
    /// writer lock.
    pub(super) fn age_of(&self, hash: u64) -> u8 {
        self.stamps_of(hash).map_or(0, |stamps| stamps.age(self.stamp_now()))
    }

    /// Does a step towards a larger table of stamps where there are fewer than two for each variable. If it cannot be
    /// made larger, more variables share each stamp.
    #[inline]
    pub(super) fn grow_stamps_if_due(&self) {
        let count = self.state().count.load(Ordering::Relaxed);
        if count > 1 << (STAMPS_MIN_BITS - 1) {
            self.grow_stamps(count);
        }
    }

    #[inline(never)]
    fn grow_stamps(&self, count: u64) {
        let (state, hints) = (self.state(), &self.stamps_hints);
        let bits = state.stamps.load(Ordering::Relaxed);
        let clock = state.clock.load(Ordering::Relaxed);
        if bits < STAMPS_MIN_BITS
            || bits >= self.identity.geometry.stamps_max_bits()
            || count <= 1 << (bits - 1)
            || (clock.wrapping_sub(hints.again_at.load(Ordering::Relaxed)) as i32) < 0
        {
            return;
        }
        // The change is made, so nothing is waited for: what cannot be had now is asked for with another tick.
        let pause = match self.prepare_stamps(bits) {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(_) => TICKS as u32,
        };
        hints.again_at.store(clock.wrapping_add(pause), Ordering::Relaxed);
    }

    /// Prepares a part of a table that is twice as large, and brings it into use once it is whole. Returns `false` if
    /// a lock was not free.
    fn prepare_stamps(&self, bits: u32) -> Result<bool> {
        // SYNC: the registry lock keeps others from giving pages back (`shrink_stamps`): those of the larger table, and
        // those below the number of stamps as it is now. The number that the caller loaded may be an old one.
        let Some(_registry) = RegistryLock::try_take(self) else { return Ok(false) };
        if self.stamps_bits() != Some(bits) {
            return Ok(true);
        }
        let (half, at) = (1_u64 << bits, self.identity.geometry.stamps);
        let prepared = self.stamps_hints.prepared.load(Ordering::Relaxed);
        let done = if prepared >> 40 == u64::from(bits) { prepared & ((1 << 40) - 1) } else { 0 };
        let end = (done + STEP).min(half);
        // Nothing is left to copy where the last part was ready before, and a lock was not free.
        if end > done {
            self.mem.map_up_to(at + 2 * half)?;
            self.copy_stamps(at + done, at + half + done, end - done)?;
            self.stamps_hints.prepared.store(u64::from(bits) << 40 | end, Ordering::Relaxed);
        }
        if end < half {
            return Ok(true);
        }
        // The lock was let go between the parts, so a `trim` may have given the first of them back.
        if let Some(hole) = self.with_file(|fd| object::first_hole(fd, at + half, half))? {
            self.stamps_hints.prepared.store(u64::from(bits) << 40 | (hole - at - half), Ordering::Relaxed);
            return Ok(true);
        }
        for _ in 0..TRIES {
            // A wait for the writer lock would have to end before the registry lock is taken.
            if let Some(_writer) = self.try_write() {
                self.stamps_hints.prepared.store(0, Ordering::Relaxed);
                if self.state().stamps.load(Ordering::Relaxed) == bits {
                    // SYNC: release, with the acquire load of whoever looks for a stamp: the pages are there.
                    self.state().stamps.store(bits + 1, Ordering::Release);
                    crash_point!("stamps-grown");
                }
                return Ok(true);
            }
            spin();
        }
        Ok(false)
    }

    /// Copies stamps to a larger table, at these offsets. They are written by the kernel: for pages that cannot be had
    /// that is an error, and the pages that it obtained are told from holes afterwards.
    fn copy_stamps(&self, from: u64, to: u64, len: u64) -> Result<()> {
        let (now, mut copy) = (self.stamp_now(), fallible::zeros(len as usize, "a part of the stamps")?);
        for (copy, from) in copy.iter_mut().zip(self.mem.bytes(from, len)?) {
            *copy = from.load(Ordering::Relaxed);
            // The parts of the larger table are others, so that it takes up to 128 ticks until a stamp is looked at.
            if now.wrapping_sub(*copy) > OLDEST_COPIED {
                *copy = now.wrapping_sub(OLDEST_COPIED);
                from.store(*copy, Ordering::Relaxed);
            }
        }
        let written = self.with_file(|fd| object::write_at(fd, &copy, to))?;
        // CRASH: pages that no number speaks of. Whoever makes the table larger next finds them there.
        crash_point!("stamps-obtained");
        written.map_err(|e| Error::system("making a larger table of stamps", e))
    }

    /// Gives the pages behind the stamps back, and makes the table smaller where there are few variables. It is a part
    /// of `trim`.
    pub(super) fn shrink_stamps(&self, policy: &dyn WaitPolicy) -> Result<()> {
        if self.eviction != Some(Eviction::Lru) {
            return Ok(());
        }
        let mut backoff = Backoff::default();
        loop {
            backoff.again(Obstacle::MemoryTaken, self, policy)?;
            // A wait for the writer lock happens before the registry lock is taken, never under it.
            drop(self.write(policy)?);
            let _registry = self.registry(policy)?;
            let Some(mut writer) = self.try_write() else { continue };
            writer.shrink_stamps_to(8);
            let Some(bits) = self.stamps_bits() else { return Ok(()) };
            drop(writer);
            let geometry = &self.identity.geometry;
            let (offset, end) = (geometry.stamps + (1 << bits), geometry.stamps + (1 << geometry.stamps_max_bits()));
            // Where no page is, nobody is waited for.
            let any = offset < end && self.with_file(|fd| object::has_data(fd, offset, end - offset))?;
            if any && self.readers_have_left(&Blocking) {
                let punched = self.with_file(|fd| object::punch(fd, offset, end - offset))?;
                punched.map_err(|e| Error::system("giving memory back", e))?;
            }
            return Ok(());
        }
    }
}

impl VariablesWriter<'_> {
    /// Notes that the variable with this hash was stored; `new`: it was not there before.
    #[inline(never)]
    pub(super) fn note_stored(&mut self, hash: u64, new: bool) {
        if new {
            self.count_inserted(1);
        }
        self.att.variables().note_use(hash);
    }

    /// Counts variables that were made, and advances the clock where they are a 64th of all.
    pub(super) fn count_inserted(&mut self, new: u64) {
        let state = self.att.state();
        let inserted = state.inserted.load(Ordering::Relaxed).saturating_add(new);
        let each = (state.count.load(Ordering::Relaxed) / TICKS).max(1);
        if inserted < each {
            state.inserted.store(inserted, Ordering::Relaxed);
            return;
        }
        state.inserted.store(inserted % each, Ordering::Relaxed);
        for _ in 0..(inserted / each).min(PARTS) {
            self.tick();
        }
    }

    /// Advances the clock, and looks at a part of the table for stamps that would look new again after 256 ticks.
    fn tick(&mut self) {
        let att = self.att.variables();
        let clock = att.state().clock.load(Ordering::Relaxed).wrapping_add(1);
        att.state().clock.store(clock, Ordering::Relaxed);
        // A table that is far too large, after many variables were removed, is not worth looking at.
        self.shrink_stamps_to(TOO_MANY);
        let Some(bits) = att.stamps_bits() else { return };
        let part = (1 << bits) / PARTS;
        let at = att.identity.geometry.stamps + u64::from(clock) % PARTS * part;
        let now = clock as u8;
        for stamp in att.mem.bytes(at, part).unwrap_or_default() {
            if now.wrapping_sub(stamp.load(Ordering::Relaxed)) > OLDEST {
                stamp.store(now.wrapping_sub(OLDEST), Ordering::Relaxed);
            }
        }
    }

    /// Lowers the number of stamps to what is wanted for the variables that there are, where it is `times` as many. The
    /// pages stay until the next `trim`.
    fn shrink_stamps_to(&mut self, times: u64) {
        let state = self.att.state();
        let bits = state.stamps.load(Ordering::Relaxed);
        let wanted = (2 * state.count.load(Ordering::Relaxed).clamp(1, 1 << 40)).next_power_of_two();
        let wanted = wanted.max(1 << STAMPS_MIN_BITS);
        if bits <= self.att.identity.geometry.stamps_max_bits() && 1 << bits >= wanted * times {
            // SYNC: release, as in `prepare_stamps`. A reader that begins its section after the barrier of
            // `readers_have_left` finds this number.
            state.stamps.store(wanted.ilog2(), Ordering::Release);
            // CRASH: pages that no number speaks of, until the next `trim`.
            crash_point!("stamps-shrunk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Options, Segment};

    fn segment(name: &str) -> Segment {
        let key = Key::text(&format!("stamps-{name}-{}", crate::os::pid())).unwrap();
        Segment::attach(key, &Options { evict: Some(Eviction::Lru), ..Options::default() }).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn a_number_of_stamps_that_is_gone_is_not_believed() {
        let segment = segment("gone");
        segment.put(1, &1_u64).unwrap();
        let attachment = segment.attachment().unwrap();
        let (att, before) = (attachment.variables(), attachment.resident().unwrap());
        // As if a `trim` of another process had come between the caller's load and the registry lock.
        assert!(att.prepare_stamps(STAMPS_MIN_BITS + 1).unwrap());
        assert_eq!(att.resident().unwrap(), before);
        segment.destroy().unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn a_larger_table_comes_into_use_although_the_writer_lock_was_not_free_at_first() {
        let segment = segment("late");
        let attachment = segment.attachment().unwrap();
        let att = attachment.variables();
        let writer = att.write(&Blocking).unwrap();
        assert!(!att.prepare_stamps(STAMPS_MIN_BITS).unwrap());
        drop(writer);
        assert!(att.prepare_stamps(STAMPS_MIN_BITS).unwrap());
        assert_eq!(att.state().stamps.load(Ordering::Relaxed), STAMPS_MIN_BITS + 1);
        segment.destroy().unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "files and futexes")]
    fn a_part_that_was_given_back_is_prepared_again() {
        let segment = segment("again");
        let attachment = segment.attachment().unwrap();
        let att = attachment.variables();
        let writer = att.write(&Blocking).unwrap();
        assert!(!att.prepare_stamps(STAMPS_MIN_BITS).unwrap());
        drop(writer);
        let before = att.resident().unwrap();
        att.shrink_stamps(&Blocking).unwrap();
        assert_eq!(att.resident().unwrap(), before - (1 << STAMPS_MIN_BITS));
        // The first call finds the hole, and the second fills it.
        assert!(att.prepare_stamps(STAMPS_MIN_BITS).unwrap() && att.prepare_stamps(STAMPS_MIN_BITS).unwrap());
        assert_eq!(att.state().stamps.load(Ordering::Relaxed), STAMPS_MIN_BITS + 1);
        assert_eq!(att.resident().unwrap(), before);
        segment.destroy().unwrap();
    }
}
