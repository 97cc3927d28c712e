//! Finding a variable without a lock: the probe of one leaf, and the retries.
//!
//! The protocol is "Reading, without a lock" in docs/protocol.md; R1 to R4 are its steps. A writer finds its slot in
//! `place.rs`.

use crate::atomic::spin;
use crate::error::{Error, Result};
use crate::format::{Slot, slab_has_all_pages};
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::Change;
use crate::sync::slot::{BUSY, Content, Kind, Seqlock};
use crate::variables::Variables;
use crate::variables::found::{ContentSource, Found, pending};
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::pass_over::PassOver;
use crate::variables::record::place_of_record;

/// How often a reader looks at a busy slot before it asks the intent.
const SPINS: u32 = 100;

/// How the probe of one slot ended.
pub(super) enum Probe {
    /// The slot holds the name.
    Found(Found),
    /// The slot holds another name, or nothing.
    Other,
    /// The slot changed during the probe: the caller searches again.
    Changed,
    /// The slot is busy with this word, and no change under way explains it.
    Busy(u64),
}

/// How one search for a name ended.
enum SearchOutcome {
    /// The name's slot.
    Found(Found),
    /// There was an instant during the search at which the name was in no slot.
    Missing,
    /// Something changed during the search: the caller searches again.
    Changed,
    /// The search met a busy slot that no change under way explains: the slot's file offset, its word, and its leaf.
    Busy(u64, u64, Leaf),
}

impl Variables {
    /// Finds a variable without a lock. `None`: it is missing, or it has expired. The bytes of a record are copied to
    /// `scratch`; those of a span are not.
    #[inline]
    pub fn find(&self, index: &Index<'_>, scratch: &mut Scratch, policy: &dyn WaitPolicy) -> Result<Option<Found>> {
        loop {
            let found = self.find_entry(&index.into(), scratch, policy)?;
            match found {
                Some(found) if found.content.expires() && self.has_expired(scratch) => {
                    // `expire` may have given it another expiry before the clock was read.
                    if self.is_unchanged(&found)? {
                        return Ok(None);
                    }
                    policy.interrupted()?;
                }
                found => return Ok(found),
            }
        }
    }

    /// Finds the slot of a variable or of a named lock without a lock, and does not ask whether it has expired. The
    /// bytes of a record are copied to `scratch`; those of a span are not.
    #[inline(always)]
    pub fn find_entry(&self, name: &Name<'_>, scratch: &mut Scratch, policy: &dyn WaitPolicy) -> Result<Option<Found>> {
        let hash = name.hash(self.identity.hash_key);
        if let Some(read_section) = self.read_section() {
            let outcome = self.search(name, hash, scratch, MappedAccess);
            drop(read_section);
            match outcome? {
                SearchOutcome::Found(found) => return Ok(Some(found)),
                SearchOutcome::Missing => return Ok(None),
                SearchOutcome::Changed | SearchOutcome::Busy(..) => {}
            }
        }
        self.find_with_retries(name, hash, scratch, policy)
    }

    /// Searches until what is found stands still. Where this process can have no read section, each search goes through
    /// the kernel.
    #[cold]
    fn find_with_retries(
        &self,
        name: &Name<'_>,
        hash: u64,
        scratch: &mut Scratch,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<Found>> {
        let mut backoff = Backoff::default();
        loop {
            match reading!(self, policy, |access| self.search(name, hash, scratch, access))? {
                SearchOutcome::Found(found) => return Ok(Some(found)),
                SearchOutcome::Missing => return Ok(None),
                SearchOutcome::Changed => {}
                SearchOutcome::Busy(offset, word, leaf) => {
                    self.wait_for_busy_slot(offset, word, &leaf, &mut backoff, policy)?
                }
            }
            backoff.again(Obstacle::Changed, self, policy)?;
        }
    }

    /// Searches once for a name, within one read section.
    #[inline(always)]
    fn search(
        &self,
        name: &Name<'_>,
        hash: u64,
        scratch: &mut Scratch,
        access: impl PassOver,
    ) -> Result<SearchOutcome> {
        let table = TableOf::of(name.is_name());
        let leaf = self.leaf_with(hash, table, access)?;
        let (first, flags) = (name.index_word(hash), name.flags());
        let (mut number, mut left) = (leaf.home(hash), leaf.slots);
        loop {
            (number, left) = access.pass_over(self, &leaf, (number, left), first, (name.mask(), flags))?;
            if left == 0 {
                break;
            }
            let offset = leaf.slot_at(number);
            let word = access.word(self, offset)?;
            if word == 0 {
                break;
            }
            let probed = if word & BUSY == 0 {
                let content = Content { word, rest: access.rest(self, offset)? };
                self.probe(name, hash, leaf.found(offset, content, ContentSource::Slot), scratch, access)?
            } else {
                self.probe_busy(name, hash, &leaf, offset, scratch, access)?
            };
            match probed {
                Probe::Found(found) => return Ok(SearchOutcome::Found(found)),
                Probe::Other => {}
                Probe::Changed => return Ok(SearchOutcome::Changed),
                Probe::Busy(word) => return Ok(SearchOutcome::Busy(offset, word, leaf)),
            }
            (number, left) = (leaf.after(number), left - 1);
        }
        Ok(if self.is_in_force_with(&leaf, table, access)? { SearchOutcome::Missing } else { SearchOutcome::Changed })
    }

    /// Decides whether a slot that is not busy, or what the intent makes of a busy one, holds a name. A record is
    /// copied to `scratch` for that.
    #[inline(always)]
    pub(super) fn probe(
        &self,
        name: &Name<'_>,
        hash: u64,
        found: Found,
        scratch: &mut Scratch,
        access: impl Access,
    ) -> Result<Probe> {
        let content = &found.content;
        let is_text = name.is_text();
        if content.rest[0] != name.index_word(hash)
            || content.rest[1] & name.mask() != name.flags()
            || !content.is_entry()
        {
            return Ok(Probe::Other);
        }
        match content.kind() {
            Kind::Inline => {
                return Ok(if self.is_unchanged_with(&found, access)? { Probe::Found(found) } else { Probe::Changed });
            }
            Kind::Record => match place_of_record(self, content, access)? {
                // Not all pages of a slab of large blocks are present. Only a block that is still named is certain to
                // be, so R4 comes before the copy.
                Some((_, class)) if !slab_has_all_pages(class) && !self.is_unchanged_with(&found, access)? => {
                    return Ok(Probe::Changed);
                }
                Some((at, _)) => access.record(self, at, content.record_len() as usize, scratch)?,
                None => return self.damaged(&found, "a record's place", access),
            },
            Kind::Span => {
                if !self.span_fits(content, access) {
                    return self.damaged(&found, "a span's place", access);
                }
                if is_text || content.expires() {
                    // Only the prefix is read, and by `pread`: without a pin the span may be given back under this
                    // reader.
                    self.read_span(content, 0, scratch.resize(content.prefix_len() as usize)?)?;
                }
            }
            _ => return self.damaged(&found, "a slot's kind", access),
        }
        if content.expires() && matches!(found.source, ContentSource::Intent(_)) {
            self.take_pending_expiry(scratch);
        }
        // A slot that is passed over because of its record must have been whole, too, so every record is compared, not
        // only the one that is returned.
        if !self.is_unchanged_with(&found, access)? {
            return Ok(Probe::Changed);
        }
        // For an integer index the slot has said everything. (Comparing two empty slices is a call of `memcmp`, which
        // costs time.)
        if is_text {
            let prefix = content.prefix_len() as usize;
            let key = &scratch.bytes()[prefix - content.key_len() as usize..prefix];
            return Ok(if key == name.index.record_key() { Probe::Found(found) } else { Probe::Other });
        }
        Ok(Probe::Found(found))
    }

    /// Replaces the expiry in a copy of a record by the one that the change under way stores there.
    #[cold]
    fn take_pending_expiry(&self, scratch: &mut Scratch) {
        if let Some(expiry) = Change::pending_expiry(self.mem.intent()) {
            scratch.replace_start(expiry.to_ne_bytes());
        }
    }

    /// Tells damage from a change: returns an error if the slot is unchanged although it cannot be right, else
    /// `Probe::Changed`.
    #[cold]
    fn damaged(&self, found: &Found, what: &str, access: impl Access) -> Result<Probe> {
        if self.is_unchanged_with(found, access)? {
            return Err(Error::corrupt(format_args!("{what}, slot at {}: {:x?}", found.offset, found.content.rest)));
        }
        Ok(Probe::Changed)
    }

    /// Probes a slot that was seen busy: spins for a moment, then reads what the slot becomes from the intent.
    #[cold]
    fn probe_busy(
        &self,
        name: &Name<'_>,
        hash: u64,
        leaf: &Leaf,
        offset: u64,
        scratch: &mut Scratch,
        access: impl Access,
    ) -> Result<Probe> {
        let word = access.word(self, offset)?;
        for _ in 0..SPINS {
            if access.word(self, offset)? != word {
                return Ok(Probe::Changed);
            }
            spin();
        }
        if word & BUSY == 0 {
            return Ok(Probe::Changed);
        }
        if let Some((serial, content)) = pending(self, offset, word) {
            // The change is decided, so what it makes of the slot is the answer. If the slot becomes another index's,
            // or a tombstone, it does not hold the index that is wanted.
            let found = leaf.found(offset, content, ContentSource::Intent(serial));
            return match self.probe(name, hash, found, scratch, access)? {
                Probe::Other if !self.is_unchanged_with(&found, access)? => Ok(Probe::Changed),
                probe => Ok(probe),
            };
        }
        Ok(Probe::Busy(word))
    }

    /// Waits until it is worth looking again at a busy slot that no change under way explains: its writer is between
    /// two stores, or dead, or hostile. A handle that may write takes the writer lock once, which repairs; another one
    /// pauses.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the slot is still busy although the writer lock was acquired; [`Error::Busy`] after the
    /// deadline.
    pub fn wait_for_busy_slot(
        &self,
        offset: u64,
        word: u64,
        leaf: &Leaf,
        backoff: &mut Backoff,
        policy: &dyn WaitPolicy,
    ) -> Result<()> {
        if !self.mem.writable() {
            return backoff.again(Obstacle::HalfChanged, self, policy);
        }
        // Acquiring the lock repaired whatever the intent describes.
        let _writer = self.write(policy)?;
        // The leaf is looked at first: unless it is still a leaf in force, its memory may be anything by now.
        let named = |table| self.still_names(leaf.root, leaf.word_at, leaf.word, table, MappedAccess);
        if (named(TableOf::Variables)? || named(TableOf::Names)?) && self.mem.at::<Slot>(offset)?.begin() == word {
            return Err(Error::corrupt(format_args!("slot at {offset} is busy and no change is under way")));
        }
        Ok(())
    }
}
