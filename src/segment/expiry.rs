//! Variables with a time to live: missing once it has passed, collected by those who write.

use crate::error::Result;
use crate::key::Index;
use crate::layout::Slot;
use crate::mem::Scratch;
use crate::os;
use crate::segment::attachment::{Attachment, Patience};
use crate::segment::scan::Stuck;
use crate::segment::table::{Found, record_at};
use crate::segment::writer::Writer;
use crate::slot::{Content, Kind};
use std::sync::atomic::Ordering;

/// Slots that a put of a variable with an expiry looks at.
const A_FEW: u64 = 8;
/// Slots looked at in one go under the lock.
const AT_ONCE: u64 = 256;

/// The expiry that a record begins with.
pub fn expiry_in(record: &[u8]) -> Option<u64> {
    record.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Attachment {
    /// Of a record that expires, just copied to `scratch`: has it?
    #[cold]
    pub fn has_expired(&self, scratch: &Scratch) -> bool {
        expiry_in(scratch.bytes()).is_none_or(|expiry| expiry <= os::boottime_ns())
    }

    /// When a variable that was found expires; `None`: never. Whether it is still that variable the caller asks afterwards.
    pub fn expiry_of(&self, content: &Content) -> Result<Option<u64>> {
        if !content.expires() {
            return Ok(None);
        }
        let mut bytes = [0; 8];
        match content.kind() {
            Kind::Record => match record_at(self, content)? {
                Some(at) => self.mem.copy_to(at, &mut bytes)?,
                None => return Ok(Some(0)),
            },
            _ => self.read_span(content, 0, &mut bytes)?,
        }
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    /// Of a variable found by `scan`: the same one, or what stands in its slot now, if it is there for a reader.
    pub fn live(&self, found: &Found, patience: &dyn Patience) -> Result<Option<Found>> {
        let (mut found, mut stuck) = (*found, Stuck::default());
        loop {
            if !found.content.is_variable() {
                return Ok(None);
            }
            if !found.content.expires() {
                return Ok(Some(found));
            }
            let expiry = self.expiry_of(&found.content);
            // Believed only of a variable that stood still; where it did not, its span may have been given back.
            if self.still(&found)? {
                return Ok(expiry?.is_none_or(|expiry| expiry > os::boottime_ns()).then_some(found));
            }
            let Some(now) = self.seen_again(&found, &mut stuck, patience)? else { return Ok(None) };
            found = now;
        }
    }

    /// A variable's version, 0 where it is missing, and when it expires.
    pub fn version(&self, index: &Index<'_>, patience: &dyn Patience) -> Result<(u64, Option<u64>)> {
        let mut scratch = Scratch::new();
        let Some(found) = self.find(index, &mut scratch, patience)? else { return Ok((0, None)) };
        let expiry = if found.content.expires() { expiry_in(scratch.bytes()) } else { None };
        Ok((found.content.version(), expiry))
    }

    /// Variables that have not expired.
    pub fn live_count(&self, patience: &dyn Patience) -> Result<u64> {
        if self.state().expiring.load(Ordering::Relaxed) == 0 {
            return Ok(self.state().count.load(Ordering::Relaxed));
        }
        self.scan(
            |count, found| {
                *count += u64::from(self.live(&found, patience)?.is_some());
                Ok(())
            },
            patience,
        )
    }

    /// Removes every variable that expired. False: there was none.
    pub fn collect_expired(&self, patience: &dyn Patience) -> Result<bool> {
        if self.state().expiring.load(Ordering::Relaxed) == 0 {
            return Ok(false);
        }
        let (table, mut number, mut any) = (self.table()?, 0, false);
        while number <= table.mask {
            let mut writer = self.write(patience)?;
            if self.state().root.load(Ordering::Relaxed) != table.root.0 {
                break;
            }
            any |= writer.collect(number, AT_ONCE)?;
            drop(writer);
            patience.interrupted()?;
            number += AT_ONCE;
        }
        Ok(any)
    }
}

impl Writer<'_> {
    /// The version of what stands at a place, as conditions see it: 0 of what is missing or has expired.
    #[inline]
    pub fn version_of(&self, old: Option<&Content>) -> Result<u64> {
        match old {
            None => Ok(0),
            Some(old) if old.expires() && self.att.expiry_of(old)?.is_some_and(|at| at <= os::boottime_ns()) => Ok(0),
            Some(old) => Ok(old.version()),
        }
    }

    /// Looks at a few slots: what is gone for good is about a table's round behind.
    pub fn collect_a_few(&mut self) {
        // Anywhere, and elsewhere the next time, whoever comes: the version grows with each change.
        let version = self.att.state().version.load(Ordering::Relaxed);
        let from = crate::hash::of_int(self.att.identity.hash_key, version as i64) / A_FEW * A_FEW;
        // Damage there is not the caller's, who stores elsewhere.
        let _ = self.collect(from, A_FEW);
    }

    /// Removes the variables that expired among so many slots.
    fn collect(&mut self, from: u64, slots: u64) -> Result<bool> {
        let (table, now) = (self.att.table()?, os::boottime_ns());
        let mut any = false;
        for offset in (from..from.saturating_add(slots)).map(|number| table.slot_at(number)) {
            let slot = self.att.mem.at::<Slot>(offset)?;
            let Some(content) = slot.copy().filter(|content| content.is_variable() && content.expires()) else {
                continue;
            };
            if self.att.expiry_of(&content)?.is_some_and(|expiry| expiry <= now) {
                self.discard(offset, &content, None)?;
                crash_point!("expired-collected");
                any = true;
            }
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::attachment::Plain;
    use crate::segment::change::{Condition, Stored};
    use crate::slot::BUSY;

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn who_counts_what_lives_ends_where_a_slot_became_busy_meanwhile_for_ever() {
        let key = crate::key::Key::text(&format!("expiry-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let att = segment.shared();
        let stored = Stored { parts: &[b"\x80\x05K\x01."], buffers: false, expiry: Some(1 << 62) };
        att.put(&Index::Int(1), stored, Condition::Always, &Plain).unwrap();
        let found = att
            .scan(
                |all: &mut Vec<Found>, found| {
                    all.push(found);
                    Ok(())
                },
                &Plain,
            )
            .unwrap();
        let word = &att.mem.at::<crate::layout::Slot>(found[0].offset).unwrap().word;
        word.fetch_or(BUSY, Ordering::SeqCst);
        let outcome = att.live(&found[0], &Plain);
        word.fetch_and(!BUSY, Ordering::SeqCst);
        assert!(matches!(outcome, Err(crate::error::Error::Corrupt(_))), "{outcome:?}");
        assert!(att.live(&found[0], &Plain).unwrap().is_some());
        segment.destroy().unwrap();
    }
}
