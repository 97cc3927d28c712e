//! Another time to live for a variable whose value stays. The protocol is "Expiry" in docs/protocol.md, **expire**.
//!
//! Where the record has an expiry, or is in a span, which has room for one, the expiry alone is stored. Else the value is
//! written anew, with an expiry in front of it or without.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::{Slot, SpanState, granules_of};
use crate::key::{Index, Name};
use crate::os;
use crate::os::mem::Scratch;
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::{Content, Kind, Seqlock};
use crate::variables::change::Condition;
use crate::variables::evict::{Charges, Evictions};
use crate::variables::expiry::{NEVER, expires_after};
use crate::variables::leaf::Leaf;
use crate::variables::place::{SlotPlace, Spot};
use crate::variables::publish::count_round;
use crate::variables::record::record_at;
use crate::variables::stored::{Layout, Stored, ValueSource};
use crate::variables::{Variables, VariablesWriter};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

impl Variables {
    /// Gives a variable `ttl` to live from now on; `None`: it stays for good. Its version stays. Returns `false` if
    /// there is no such variable.
    pub fn expire(&self, index: &Index<'_>, ttl: Option<Duration>, policy: &dyn WaitPolicy) -> Result<bool> {
        let name = Name::from(index);
        let hash = name.hash(self.identity.hash_key);
        let (mut collected, mut without_copy) = (false, false);
        // Those that wait for what was evicted are woken when this is dropped, after the writer lock.
        let (mut evictions, mut held) = (None, None);
        loop {
            policy.interrupted()?;
            let mut writer = match held.take() {
                Some(writer) => writer,
                None => self.write(policy)?,
            };
            let place = writer.find_place_of_hash(&name, hash, &mut Scratch::new())?;
            let Spot::Occupied(offset, old) = place.spot else { return Ok(false) };
            let had = self.expiry_of(&old)?;
            if had.is_some_and(|had| had <= os::boottime_ns()) {
                return Ok(false);
            }
            if had.is_none() && ttl.is_none() {
                return Ok(true); // it stays for good already
            }
            let never = without_copy && old.kind() == Kind::Record;
            let expiry = ttl.map(expires_after).or(never.then_some(NEVER));
            match (old.kind(), had, expiry) {
                (Kind::Span, ..) | (Kind::Record, Some(_), Some(_)) => {
                    match writer.set_expiry(&place, offset, &old, expiry) {
                        Err(full @ Error::Full { .. }) => {
                            if self.eviction.is_some() {
                                let charges =
                                    Charges { new: old.with_expiry(expiry.is_some()).charge(), old: old.charge() };
                                let evictions = evictions.get_or_insert_with(|| Evictions::new(self));
                                let spares = |other| other == hash;
                                let (evicting, fits) =
                                    self.evict_for_limit(writer, charges, &spares, evictions, policy)?;
                                if fits {
                                    held = Some(evicting);
                                    continue;
                                }
                                writer = evicting;
                            }
                            drop(writer);
                            if std::mem::replace(&mut collected, true) || !self.collect_expired(policy)? {
                                return Err(full);
                            }
                            continue;
                        }
                        other => other?,
                    }
                    let late = match had {
                        Some(had) => writer.discard_if_over(&place.leaf, place.spot, had)?,
                        None => false,
                    };
                    drop(writer);
                    self.notify_changed(hash);
                    return Ok(!late);
                }
                _ => {
                    let value = writer.small_value(&old)?;
                    drop(writer);
                    let stored = Stored { parts: &[&value], layout: Layout::Pickle, expiry };
                    let unmoved = Condition::Unmoved { word: old.word, expiry: had };
                    match self.put_from(index, stored, ValueSource::OwnMemory, unmoved, policy) {
                        Ok(Some(version)) => return Ok(version != 0),
                        // The variable has changed since: once more.
                        Ok(None) => continue,
                        // What was to stay for good must not expire because there is no room for a copy of it.
                        Err(Error::Full { .. }) if expiry.is_none() && !without_copy => without_copy = true,
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

/// Returns whether a moment has passed, at an instant after all stores before this call can be seen.
fn is_over(moment: u64) -> bool {
    // SYNC: a reader reads the clock, then compares the slot's word. If its clock says that the moment has passed, and
    // this one says that it has not, the reader sees the word that was stored before.
    fence(Ordering::SeqCst);
    moment <= os::boottime_ns()
}

impl VariablesWriter<'_> {
    /// Removes a variable that was just given another expiry, if its earlier one has passed: others may have found that
    /// it had expired, before the commit. So it is what they found. It happens under the same acquisition of the lock,
    /// so nobody has been told meanwhile that it lives.
    pub fn discard_if_over(&mut self, leaf: &Leaf, spot: Spot, earlier: u64) -> Result<bool> {
        let Spot::Occupied(offset, _) = spot else { return Ok(false) };
        if !is_over(earlier) {
            return Ok(false);
        }
        let Some(now) = self.att.mem.at::<Slot>(offset)?.copy() else {
            return Err(Error::corrupt("the slot of a variable that got another expiry"));
        };
        self.discard(leaf, offset, &now)?;
        Ok(true)
    }

    /// Copies the value of a variable that is in its slot or in a block.
    fn small_value(&self, content: &Content) -> Result<Vec<u8>> {
        const VALUE: &str = "a value";
        match content.kind() {
            Kind::Inline => {
                let (bytes, len) = content.inline_bytes();
                fallible::copied(&bytes[2..2 + len], VALUE)
            }
            Kind::Record => {
                let Some(at) = record_at(self.att, content)? else {
                    return Err(Error::corrupt("the place of a record"));
                };
                let prefix = content.prefix_len();
                let mut value = fallible::zeros((content.record_len() - prefix) as usize, VALUE)?;
                self.att.mem.copy_to(at + prefix, &mut value)?;
                Ok(value)
            }
            _ => Err(Error::corrupt(format_args!("a slot of kind {:?}", content.kind()))),
        }
    }

    /// Commits another expiry, or none, for a record that stays where it is.
    fn set_expiry(&mut self, place: &SlotPlace, offset: u64, old: &Content, expiry: Option<u64>) -> Result<()> {
        let new = old.with_expiry(expiry.is_some());
        let record = match new.kind() {
            Kind::Record => record_at(self.att, &new)?,
            _ => self.span_record_at(&new)?,
        };
        let Some(record) = record else { return Err(Error::corrupt("the place of a record that gets an expiry")) };
        let mut change = self.change();
        self.check_limit(Some(old), new.charge(), &change)?;
        let counters = &mut change.counters;
        counters.used = counters.used.saturating_sub(old.charge()).saturating_add(new.charge());
        let count = |content: &Content| u64::from(content.expires());
        counters.expiring = counters.expiring.saturating_sub(count(old)).saturating_add(count(&new));
        count_round(&new, &mut change);
        change.leaf = Some((place.leaf.base, None));
        change.slot = Some((offset, new));
        change.expiry = expiry.map(|expiry| (record, expiry));
        self.commit(&change)
    }

    /// Returns the file offset of a record in a span. `None`: the span map does not agree with the slot.
    fn span_record_at(&self, content: &Content) -> Result<Option<u64>> {
        let entry = self.arena().entry(content.granule())?;
        let len = content.lead().saturating_add(content.record_len());
        let fits = entry.state() == SpanState::Live
            && granules_of(len) <= entry.len()
            && content.prefix_len() <= content.record_len();
        Ok(fits.then(|| self.att.identity.geometry.granule_at(content.granule()) + content.lead()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_policy::Blocking;
    use crate::variables::AsVariables;

    fn segment(name: &str) -> crate::Segment {
        let key = crate::key::Key::text(&format!("expire-{name}-{}", os::pid())).unwrap();
        crate::Segment::attach(key, &crate::Options::default()).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn what_expired_while_its_expiry_was_replaced_is_removed_before_anybody_is_told_that_it_lives() {
        let segment = segment("late");
        let att = segment.attachment().unwrap();
        let variables = att.variables();
        for (index, len) in
            [(Index::Int(1), 5), (Index::Text("one"), 30), (Index::Int(2), 21_824), (Index::Int(3), 40_000)]
        {
            let pickle = vec![b'x'; len];
            let stored = Stored { parts: &[&pickle], layout: Layout::Pickle, expiry: Some(1 << 62) };
            variables.put(&index, stored, Condition::Always, &Blocking).unwrap();
            let found = variables.find(&index, &mut Scratch::new(), &Blocking).unwrap().unwrap();
            let (word, version) = (found.content.word, found.content.version());
            // Its expiry has passed since the caller looked: here, it was never later.
            for (expiry, result) in [(Some(1 << 62), version), (Some(1), 0)] {
                let word = if result == 0 { word + (1 << 53) } else { word };
                let unmoved = Condition::Unmoved { word, expiry };
                let serial = att.mem.intent().serial.load(Ordering::Relaxed);
                let put = variables.put_from(&index, stored, ValueSource::OwnMemory, unmoved, &Blocking).unwrap();
                assert_eq!(put, Some(result), "{index:?} {expiry:?}");
                assert_eq!(variables.version(&index, &Blocking).unwrap().0, result);
                assert!(att.mem.intent().serial.load(Ordering::Relaxed) > serial);
            }
            assert!(!variables.expire(&index, Some(Duration::from_secs(9)), &Blocking).unwrap());
        }
        segment.check().unwrap();
        segment.destroy().unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn whoever_moves_a_count_of_moves_round_renews_the_root() {
        let segment = segment("round");
        let att = segment.attachment().unwrap();
        let variables = att.variables();
        let root = || att.state().root.load(Ordering::Relaxed);
        let put = |index: i64, len: usize| {
            let pickle = vec![b'x'; len];
            let stored = Stored { parts: &[&pickle], layout: Layout::Pickle, expiry: Some(1 << 62) };
            variables.put(&Index::Int(index), stored, Condition::Always, &Blocking).unwrap();
        };
        let expire = |index: i64, times: u64| {
            for _ in 0..times {
                assert!(variables.expire(&Index::Int(index), Some(Duration::from_secs(3_600)), &Blocking).unwrap());
            }
        };
        // Nothing else changes the root: the table has room for all of them.
        for len in [1_000, 40_000] {
            (0..30).for_each(|index| put(index, len));
            let before = root();
            expire(29, 2_047);
            assert_eq!(root(), before, "not yet");
            // One stays in the first slab, so that this slab stays.
            (1..29).for_each(|index| assert!(segment.remove(index).unwrap()));
            assert_eq!(root(), before);
            match len {
                1_000 => variables.compact(&Blocking).unwrap(),
                _ => variables.defragment(0, &Blocking).unwrap(),
            }
            let after = root();
            assert_eq!(after, before + 1, "the value of {len} bytes was moved, for the 2,048th time");
            expire(29, 2_047);
            assert_eq!(root(), after);
            expire(29, 1);
            assert_eq!(root(), after + 1);
            segment.check().unwrap();
            for index in [0, 29] {
                assert!(segment.remove(index).unwrap());
            }
        }
        segment.destroy().unwrap();
    }
}
