//! Variables with a time to live: when they are missing, and how writers remove them.
//!
//! The protocol is "Expiry" in docs/protocol.md. Times are nanoseconds of the clock of `os::boottime_ns`.

use crate::error::Result;
use crate::format::Slot;
use crate::key::Index;
use crate::os;
use crate::os::mem::Scratch;
use crate::process::access::{MappedAccess, PreadAccess, reading};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::Change;
use crate::sync::slot::Seqlock;
use crate::sync::slot::{Content, Kind};
use crate::variables::AsVariables;
use crate::variables::found::{ContentSource, Found};
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::record::record_at;
use crate::variables::scan::{ATTEMPTS_PER_SLOT, ScanPass};
use crate::variables::{Variables, VariablesWriter};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many slots each put of a variable with an expiry looks at for others that have expired.
const SLOTS_PER_PUT: u64 = 8;

/// The expiry of what never expires: of a variable that was to stay for good, and that could not be stored without an
/// expiry because there was no memory for a copy of it.
pub const NEVER: u64 = i64::MAX as u64;

/// Returns the expiry that a record begins with. `None`: the bytes are too few.
pub fn expiry_in(record: &[u8]) -> Option<u64> {
    record.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Returns when a variable expires that is to live for `ttl` from now on.
pub fn expires_after(ttl: Duration) -> u64 {
    let nanos = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
    os::boottime_ns().saturating_add(nanos).min(NEVER)
}

impl Variables {
    /// Returns whether a record that begins with an expiry, and was just copied to `scratch`, has expired.
    #[cold]
    pub fn has_expired(&self, scratch: &Scratch) -> bool {
        expiry_in(scratch.bytes()).is_none_or(|expiry| expiry <= os::boottime_ns())
    }

    /// Reads when a variable expires. `None`: never. The caller holds the writer lock, or the record is in a span.
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

    /// Returns a variable that `scan` found, or what is in its slot now, if it has not expired. `None`: there is no
    /// such variable, or the pass is given up.
    pub fn live_now(&self, pass: &ScanPass<'_>, found: &Found) -> Result<Option<Found>> {
        let mut found = *found;
        for _ in 0..ATTEMPTS_PER_SLOT {
            if !found.content.is_variable() {
                return Ok(None);
            }
            if !found.content.expires() {
                return Ok(Some(found));
            }
            let (expiry, now) = (self.read_expiry(&found), os::boottime_ns());
            // The expiry counts only if the slot is unchanged. Where it has changed, its span may have been given back.
            if self.is_unchanged(&found)? {
                return Ok(expiry?.is_none_or(|expiry| expiry > now).then_some(found));
            }
            let Some(now) = pass.reload(&found)? else { return Ok(None) };
            found = now;
        }
        pass.give_up();
        Ok(None)
    }

    /// Reads when a variable expires that a reader found. `None`: never, or the slot changed meanwhile.
    pub(super) fn read_expiry(&self, found: &Found) -> Result<Option<u64>> {
        let content = &found.content;
        let mut scratch = Scratch::new();
        if matches!(found.source, ContentSource::Intent(_)) {
            if let Some(expiry) = Change::pending_expiry(self.mem.intent()) {
                return Ok(Some(expiry));
            }
        }
        if content.kind() != Kind::Record {
            return self.expiry_of(content);
        }
        let read = reading!(self, |access| self.read_record(found, 8, &mut scratch, access))?;
        Ok(if read { expiry_in(scratch.bytes()) } else { None })
    }

    /// Returns a variable's version, 0 where it is missing, and when it expires.
    pub fn version(&self, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<(u64, Option<u64>)> {
        let mut scratch = Scratch::new();
        let Some(found) = self.find(index, &mut scratch, policy)? else { return Ok((0, None)) };
        let expiry = if found.content.expires() { expiry_in(scratch.bytes()) } else { None };
        Ok((found.content.version(), expiry))
    }

    /// Returns how many variables have not expired.
    pub fn live_count(&self, policy: &dyn WaitPolicy) -> Result<u64> {
        if self.state().expiring.load(Ordering::Relaxed) == 0 {
            return Ok(self.state().count.load(Ordering::Relaxed));
        }
        let live = |pass: &ScanPass<'_>, found| Ok(self.live_now(pass, &found)?.map(drop));
        Ok(self.scan(TableOf::Variables, live, policy)?.len() as u64)
    }

    /// Removes every variable that has expired. Returns `false` if there was none.
    pub fn collect_expired(&self, policy: &dyn WaitPolicy) -> Result<bool> {
        if self.state().expiring.load(Ordering::Relaxed) == 0 {
            return Ok(false);
        }
        let (mut hash, mut any) = (Some(0), false);
        while let Some(from) = hash {
            let mut writer = self.write(policy)?;
            let leaf = self.leaf_of(from, TableOf::Variables)?;
            any |= writer.collect_leaf(&leaf)?;
            drop(writer);
            policy.interrupted()?;
            hash = leaf.end(from);
        }
        Ok(any)
    }
}

impl VariablesWriter<'_> {
    /// Returns the version that a condition is compared with: 0 if nothing is there, or if it has expired.
    #[inline]
    pub fn visible_version(&self, old: Option<&Content>) -> Result<u64> {
        match old {
            None => Ok(0),
            Some(old)
                if old.expires() && self.att.variables().expiry_of(old)?.is_some_and(|at| at <= os::boottime_ns()) =>
            {
                Ok(0)
            }
            Some(old) => Ok(old.version()),
        }
    }

    /// Removes the expired variables among a few slots, anywhere in the table. So an expired variable goes, at the
    /// latest, after about as many puts as would go over the whole table.
    pub fn collect_a_few(&mut self) {
        // The place follows from the version, which grows with each change: so it is another one for each put, of
        // whatever process.
        let version = self.att.state().version.load(Ordering::Relaxed);
        let hash = crate::hash::of_int(self.att.identity.hash_key, version as i64);
        // Damage there is not damage where the caller stores its value.
        let _ = self
            .att
            .variables()
            .leaf_of(hash, TableOf::Variables)
            .and_then(|leaf| self.collect(&leaf, leaf.home(hash), SLOTS_PER_PUT));
    }

    /// Removes the expired variables of a leaf. Returns whether there were any.
    pub fn collect_leaf(&mut self, leaf: &Leaf) -> Result<bool> {
        self.collect(leaf, 1, leaf.slots)
    }

    /// Removes the expired variables among `slots` slots, from number `from` on. Returns whether there were any.
    fn collect(&mut self, leaf: &Leaf, from: u64, slots: u64) -> Result<bool> {
        let (now, mut any, mut number) = (os::boottime_ns(), false, from);
        for _ in 0..slots {
            let offset = leaf.slot_at(number);
            number = leaf.after(number);
            let slot = self.att.mem.at::<Slot>(offset)?;
            let Some(content) = slot.copy().filter(|content| content.is_variable() && content.expires()) else {
                continue;
            };
            if self.att.variables().expiry_of(&content)?.is_some_and(|expiry| expiry <= now) {
                self.discard(leaf, offset, &content)?;
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
    use crate::process::wait_policy::Blocking;
    use crate::sync::slot::BUSY;
    use crate::variables::AsVariables;
    use crate::variables::change::Condition;
    use crate::variables::stored::{Layout, Stored};

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn a_count_of_what_has_not_expired_ends_where_a_slot_stays_busy_for_ever() {
        let key = crate::key::Key::text(&format!("expiry-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let att = segment.attachment().unwrap();
        let stored = Stored { parts: &[b"\x80\x05K\x01."], layout: Layout::Pickle, expiry: Some(1 << 62) };
        att.variables().put(&Index::Int(1), stored, Condition::Always, &Blocking).unwrap();
        let found = att.variables().scan(TableOf::Variables, |_, found| Ok(Some(found)), &Blocking).unwrap();
        let word = &att.mem.at::<crate::format::Slot>(found[0].offset).unwrap().word;
        word.fetch_or(BUSY, Ordering::SeqCst);
        let outcome = att.variables().live_count(&Blocking);
        word.fetch_and(!BUSY, Ordering::SeqCst);
        assert!(matches!(outcome, Err(crate::error::Error::Corrupt(_))), "{outcome:?}");
        assert_eq!(att.variables().live_count(&Blocking).unwrap(), 1);
        segment.destroy().unwrap();
    }
}
