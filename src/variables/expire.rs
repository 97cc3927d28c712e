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
use crate::variables::expiry::expires_after;
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
        let mut collected = false;
        loop {
            policy.interrupted()?;
            let mut writer = self.write(policy)?;
            let place = writer.find_place_of_hash(&name, hash, &mut Scratch::new())?;
            let Spot::Occupied(offset, old) = place.spot else { return Ok(false) };
            let had = self.expiry_of(&old)?;
            if had.is_some_and(|had| had <= os::boottime_ns()) {
                return Ok(false);
            }
            let expiry = ttl.map(expires_after);
            match (old.kind(), had, expiry) {
                // It stays for good already.
                (_, None, None) => return Ok(true),
                (Kind::Span, ..) | (Kind::Record, Some(_), Some(_)) => {
                    match writer.set_expiry(&place, offset, &old, expiry) {
                        Err(full @ Error::Full { .. }) => {
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
                    match self.put_from(index, stored, ValueSource::OwnMemory, unmoved, policy)? {
                        Some(version) => return Ok(version != 0),
                        // The variable has changed since: once more.
                        None => continue,
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
