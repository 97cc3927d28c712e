//! Finding a variable's slot: by readers without a lock, by writers with it.

use crate::atomic::spin;
use crate::error::{Error, Result};
use crate::format::slot_flags::{LOCK, RELEASED_LOCK, TEXT};
use crate::format::{
    CLASSES, GRANULE, LeafWord, RECORD_MAX, Root, SLAB_HEAD, Slot, SpanState, blocks_of, slab_has_all_pages,
};
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::attachment::Attachment;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::Change;
use crate::sync::slot::Seqlock;
use crate::sync::slot::{BUSY, Content, Kind};
use crate::variables::AsVariables;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::pass_over::PassOver;
use crate::variables::{Variables, VariablesWriter};
use std::num::NonZeroU64;
use std::sync::atomic::{Ordering, fence};

/// Looks at a busy slot before the intent is asked.
const SPINS: u32 = 100;

/// By what a copied value is known to be whole.
#[derive(Clone, Copy, Debug)]
pub enum Token {
    /// The slot's word, the directory's word and the root did not change.
    Stable,
    /// The change of this serial is still under way, its slot still busy.
    Pending(NonZeroU64),
}

/// A variable that a reader found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// File offset of its slot.
    pub offset: u64,
    /// Its slot. A record's bytes are in the reader's scratch buffer.
    pub content: Content,
    /// What named its leaf: root, file offset of the directory's word, and that word.
    pub root: Root,
    pub leaf_at: u64,
    pub leaf: LeafWord,
    /// How to check it again.
    pub token: Token,
}

/// Where a writer finds an index, or may put it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// In this leaf.
    pub leaf: Leaf,
    /// There.
    pub spot: Spot,
}

/// A slot of a leaf, for an index.
#[derive(Clone, Copy, Debug)]
pub enum Spot {
    /// It is here.
    ReservedSpan(u64, Content),
    /// It is nowhere; a tombstone here can be taken.
    Tombstone(u64),
    /// It is nowhere; this slot was never used.
    Fresh(u64),
    /// It is nowhere, and every slot was used.
    None,
}

impl Place {
    /// What stands there.
    #[inline(always)]
    pub fn content(&self) -> Option<Content> {
        self.held().copied()
    }

    /// The same, where it is.
    #[inline(always)]
    pub fn held(&self) -> Option<&Content> {
        match &self.spot {
            Spot::ReservedSpan(_, content) => Some(content),
            _ => None,
        }
    }
}

/// How a probe of one slot ended.
enum Probe {
    Found(Found),
    NotHere,
    Again,
    /// It is busy, with this word, and no change says why.
    Busy(u64),
}

/// How one look for a name ended.
enum Search {
    Found(Found),
    Missing,
    Again,
    /// At a slot that is busy: its offset and word, and its leaf.
    Busy(u64, u64, Leaf),
}

/// File offset of a record's first byte, if the slab's entry agrees with it. The writer lock is held.
#[inline(always)]
pub fn record_at(att: &Attachment, content: &Content) -> Result<Option<u64>> {
    Ok(place_of_record(att, content, MappedAccess)?.map(|(at, _)| at))
}

/// The same, and the slab's class.
#[inline(always)]
pub fn place_of_record(att: &Attachment, content: &Content, look: impl Access) -> Result<Option<(u64, usize)>> {
    let (granule, block) = (content.granule(), content.block());
    if granule >= att.identity.geometry.granules {
        return Ok(None);
    }
    let Ok(entry) = look.entry(att, granule) else { return Ok(None) };
    let class = entry.class();
    if entry.state() != SpanState::Slab || class >= CLASSES.len() {
        return Ok(None);
    }
    let size = u64::from(CLASSES[class]);
    let fits = block < blocks_of(class) && content.record_len() <= size && content.prefix_len() <= content.record_len();
    Ok(fits.then(|| (att.identity.geometry.granule_at(granule) + SLAB_HEAD + block * size, class)))
}

impl Variables {
    /// Finds a variable without a lock; an expired one is missing. A record's bytes are copied to `scratch`; a span's are
    /// not.
    #[inline]
    pub fn find(&self, index: &Index<'_>, scratch: &mut Scratch, policy: &dyn WaitPolicy) -> Result<Option<Found>> {
        let found = self.find_entry(&index.into(), scratch, policy)?;
        if found.as_ref().is_some_and(|found| found.content.expires()) && self.has_expired(scratch) {
            return Ok(None);
        }
        Ok(found)
    }

    /// Finds what is there under a name, as `find` does.
    #[inline(always)]
    pub fn find_entry(&self, name: &Name<'_>, scratch: &mut Scratch, policy: &dyn WaitPolicy) -> Result<Option<Found>> {
        let hash = name.hash(self.identity.hash_key);
        if let Some(read_section) = self.read_section() {
            let looked = self.search(name, hash, scratch, MappedAccess);
            drop(read_section);
            match looked? {
                Search::Found(found) => return Ok(Some(found)),
                Search::Missing => return Ok(None),
                Search::Again | Search::Busy(..) => {}
            }
        }
        self.find_patiently(name, hash, scratch, policy)
    }

    /// Looks until what is there stands still; by calls of the system where there can be no section.
    #[cold]
    fn find_patiently(
        &self,
        name: &Name<'_>,
        hash: u64,
        scratch: &mut Scratch,
        policy: &dyn WaitPolicy,
    ) -> Result<Option<Found>> {
        let mut backoff = Backoff::default();
        loop {
            match reading!(self, policy, |look| self.search(name, hash, scratch, look))? {
                Search::Found(found) => return Ok(Some(found)),
                Search::Missing => return Ok(None),
                Search::Again => {}
                Search::Busy(offset, word, leaf) => self.settle(offset, word, &leaf, &mut backoff, policy)?,
            }
            backoff.again(Obstacle::Changed, self, policy)?;
        }
    }

    /// One look for a name, within one section.
    #[inline(always)]
    fn search(&self, name: &Name<'_>, hash: u64, scratch: &mut Scratch, look: impl PassOver) -> Result<Search> {
        let of = TableOf::of(name.lock);
        let leaf = self.leaf_by(hash, of, look)?;
        let (first, flags) = (name.index_word(hash), name.flags());
        let (mut number, mut left) = (leaf.home(hash), leaf.slots);
        loop {
            (number, left) = look.pass_over(self, &leaf, (number, left), first, flags)?;
            if left == 0 {
                break;
            }
            let offset = leaf.slot_at(number);
            let word = look.word(self, offset)?;
            if word == 0 {
                break;
            }
            let probed = if word & BUSY == 0 {
                let content = Content { word, rest: look.rest(self, offset)? };
                self.probe(name, hash, leaf.found(offset, content, Token::Stable), scratch, look)?
            } else {
                self.probe_busy(name, hash, &leaf, offset, scratch, look)?
            };
            match probed {
                Probe::Found(found) => return Ok(Search::Found(found)),
                Probe::NotHere => {}
                Probe::Again => return Ok(Search::Again),
                Probe::Busy(word) => return Ok(Search::Busy(offset, word, leaf)),
            }
            (number, left) = (leaf.after(number), left - 1);
        }
        Ok(if self.in_force_by(&leaf, of, look)? { Search::Missing } else { Search::Again })
    }

    /// Is what was found still so? Asked after whatever was copied meanwhile.
    pub fn still(&self, found: &Found) -> Result<bool> {
        reading!(self, |look| self.still_by(found, look))
    }

    #[inline(always)]
    pub fn still_by(&self, found: &Found, look: impl Access) -> Result<bool> {
        // In this order: what is looked at next is what it was only while the one before it is.
        // SYNC: as in `Slot::unchanged`, which is the last look.
        fence(Ordering::Acquire);
        if !self.names_still(found.root, found.leaf_at, found.leaf, TableOf::of(found.content.is_lock()), look)? {
            return Ok(false);
        }
        let pending = match found.token {
            Token::Stable => true,
            Token::Pending(serial) => Change::is_current(self.mem.intent(), serial.get()),
        };
        Ok(look.word(self, found.offset)? == found.word() && pending)
    }

    #[inline(always)]
    fn probe(
        &self,
        name: &Name<'_>,
        hash: u64,
        found: Found,
        scratch: &mut Scratch,
        look: impl Access,
    ) -> Result<Probe> {
        let content = &found.content;
        let is_text = name.is_text();
        if content.rest[0] != name.index_word(hash)
            || content.rest[1] & (TEXT | LOCK) != name.flags()
            || !content.is_entry()
        {
            return Ok(Probe::NotHere);
        }
        match content.kind() {
            Kind::Inline => {
                return Ok(if self.still_by(&found, look)? { Probe::Found(found) } else { Probe::Again });
            }
            Kind::Record => match place_of_record(self, content, look)? {
                // Not all pages of a large slab are there: only where the slot still names it now is it one of those that are.
                Some((_, class)) if !slab_has_all_pages(class) && !self.still_by(&found, look)? => {
                    return Ok(Probe::Again);
                }
                Some((at, _)) => look.record(self, at, content.record_len() as usize, scratch)?,
                None => return self.damaged(&found, "a record's place", look),
            },
            Kind::Span => {
                if !self.span_fits(content, look) {
                    return self.damaged(&found, "a span's place", look);
                }
                if is_text || content.expires() {
                    // The prefix alone, by `pread`: a span may be given back under an unpinned reader.
                    self.read_span(content, 0, scratch.resize(content.prefix_len() as usize)?)?;
                }
            }
            _ => return self.damaged(&found, "a slot's kind", look),
        }
        // Not only what is taken: what is passed over because of its record must have been whole, too.
        if !self.still_by(&found, look)? {
            return Ok(Probe::Again);
        }
        // Of an integer the slot said all. (Comparing nothing with nothing is a call, and not a cheap one.)
        if is_text {
            let prefix = content.prefix_len() as usize;
            let key = &scratch.bytes()[prefix - content.key_len() as usize..prefix];
            return Ok(if key == name.index.record_key() { Probe::Found(found) } else { Probe::NotHere });
        }
        Ok(Probe::Found(found))
    }

    /// Copies the first bytes of a record in a slab. False: the slot does not name it any more.
    pub fn read_record(&self, found: &Found, len: u64, scratch: &mut Scratch, look: impl Access) -> Result<bool> {
        let place = place_of_record(self, &found.content, look)?;
        // In this order: where the slot still names it, its pages are there, and stay until this section ends.
        if !self.still_by(found, look)? {
            return Ok(false);
        }
        let Some((at, _)) = place else { return Err(Error::corrupt("a record's place")) };
        look.record(self, at, len.min(found.content.record_len()) as usize, scratch)?;
        Ok(true)
    }

    /// Damaged, or only changed while we looked?
    #[cold]
    fn damaged(&self, found: &Found, what: &str, look: impl Access) -> Result<Probe> {
        if self.still_by(found, look)? {
            return Err(Error::corrupt(format_args!("{what}, slot at {}: {:x?}", found.offset, found.content.rest)));
        }
        Ok(Probe::Again)
    }

    #[cold]
    fn probe_busy(
        &self,
        name: &Name<'_>,
        hash: u64,
        leaf: &Leaf,
        offset: u64,
        scratch: &mut Scratch,
        look: impl Access,
    ) -> Result<Probe> {
        let word = look.word(self, offset)?;
        for _ in 0..SPINS {
            if look.word(self, offset)? != word {
                return Ok(Probe::Again);
            }
            spin();
        }
        if word & BUSY == 0 {
            return Ok(Probe::Again);
        }
        if let Some((serial, content)) = pending(self, offset, word) {
            // The change is decided: what it makes of the slot is the answer. A slot that becomes another index's, or
            // nobody's, does not hold ours.
            let found = leaf.found(offset, content, Token::Pending(serial));
            return match self.probe(name, hash, found, scratch, look)? {
                Probe::NotHere if !self.still_by(&found, look)? => Ok(Probe::Again),
                probe => Ok(probe),
            };
        }
        Ok(Probe::Busy(word))
    }

    /// A slot is busy and no change says why: its writer is between two stores, or a hostile one. Returns when it is worth
    /// looking again.
    pub fn settle(
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
        // Whoever has the lock has repaired what could be.
        let _writer = self.write(policy)?;
        // In this order: what a leaf's memory is now may be anything, unless it is still one.
        let named = |of| self.names_still(leaf.root, leaf.at, leaf.word, of, MappedAccess);
        if (named(TableOf::Variables)? || named(TableOf::Names)?) && self.mem.at::<Slot>(offset)?.begin() == word {
            return Err(Error::corrupt(format_args!("slot at {offset} is busy and no change is under way")));
        }
        Ok(())
    }

    /// Does the span map say that a record of this length can be there?
    fn span_fits(&self, content: &Content, look: impl Access) -> bool {
        let Ok(entry) = look.entry(self, content.granule()) else { return false };
        // Filling: of a change that is decided and not made yet. Retired: the slot changed, and the reader will see it.
        let holds = matches!(entry.state(), SpanState::Live | SpanState::Filling | SpanState::Retired);
        holds
            && content.lead() + content.record_len() <= GRANULE * entry.len()
            && content.prefix_len() <= content.record_len().min(RECORD_MAX)
    }

    /// Reads from a span through the kernel: never a signal, whatever happens to it meanwhile.
    pub fn read_span(&self, content: &Content, at: u64, to: &mut [u8]) -> Result<()> {
        self.read_arena(content.granule(), content.lead() + at, to)
    }

    /// The same, from so many bytes behind the start of a granule.
    pub fn read_arena(&self, granule: u64, at: u64, to: &mut [u8]) -> Result<()> {
        let offset = self.identity.geometry.granule_at(granule) + at;
        let done = self
            .with_file(|fd| crate::os::object::read_at(fd, to, offset))?
            .map_err(|e| Error::system("reading the segment", e))?;
        if done < to.len() {
            return Err(Error::corrupt("the object was truncated"));
        }
        Ok(())
    }
}

impl Leaf {
    /// What was found in one of its slots.
    #[inline(always)]
    pub fn found(&self, offset: u64, content: Content, token: Token) -> Found {
        Found { offset, content, root: self.root, leaf_at: self.at, leaf: self.word, token }
    }
}

impl Found {
    /// The slot's word as it was seen: busy, where the change under way makes it what it is.
    #[inline(always)]
    fn word(&self) -> u64 {
        match self.token {
            Token::Stable => self.content.word,
            Token::Pending(_) => self.content.word | BUSY,
        }
    }
}

/// What the change under way makes of a slot that was seen with this word: its serial, and the contents.
pub fn pending(att: &Variables, offset: u64, word: u64) -> Option<(NonZeroU64, Content)> {
    let (serial, content) = Change::pending_slot(att.mem.intent(), offset)?;
    (content.word | BUSY == word).then_some((NonZeroU64::new(serial)?, content))
}

impl VariablesWriter<'_> {
    /// Finds a name's place. The lock is held: slots stand still.
    #[inline]
    pub fn place(&self, name: &Name<'_>, scratch: &mut Scratch) -> Result<Place> {
        self.place_of(name, name.hash(self.att.identity.hash_key), scratch)
    }

    /// The same, of a name whose hash is known.
    #[inline(always)]
    pub fn place_of(&self, name: &Name<'_>, hash: u64, scratch: &mut Scratch) -> Result<Place> {
        self.place_within(name, hash, scratch, &mut { u64::MAX })
    }

    /// The same, looking at no more slots than are left to look at.
    #[inline(always)]
    pub fn place_within(&self, name: &Name<'_>, hash: u64, scratch: &mut Scratch, left: &mut u64) -> Result<Place> {
        let att = self.att;
        let leaf = att.variables().leaf_of(hash, TableOf::of(name.lock))?;
        let place = |spot| Ok(Place { leaf, spot });
        let (first, flags) = (name.index_word(hash), name.flags());
        let slots = att.mem.slots(leaf.base, leaf.slots + 1)?;
        let mut tombstone = None;
        let mut number = leaf.home(hash);
        for _ in 0..leaf.slots {
            let offset = leaf.slot_at(number);
            let Some(slot) = slots.get(number as usize) else { break };
            number = leaf.after(number);
            let word = slot.begin();
            *left = left.checked_sub(1).ok_or_else(|| Error::corrupt("the table: hardly a slot was never used"))?;
            if word == 0 {
                return place(tombstone.map_or(Spot::Fresh(offset), Spot::Tombstone));
            }
            if word & BUSY == 1 {
                return Err(Error::corrupt(format_args!("slot at {offset} is busy and no change is under way")));
            }
            let tag = slot.rest[1].load(Ordering::Relaxed);
            if tag & 7 >= 2 && (slot.rest[0].load(Ordering::Relaxed) != first || tag & (TEXT | LOCK) != flags) {
                continue;
            }
            let content = Content { word, rest: slot.rest() };
            if !content.is_entry() {
                // A lock that was let go here is taken here again: then it has one slot, and one tombstone at the most.
                if name.lock && content.rest[1] == RELEASED_LOCK && name.index == Index::Int(content.rest[0] as i64) {
                    return place(Spot::Tombstone(offset));
                }
                // What no writer left is one, too: readers pass over it.
                tombstone = tombstone.or(Some(offset));
                continue;
            }
            if !name.is_text() {
                return place(Spot::ReservedSpan(offset, content));
            }
            match att.variables().probe(
                name,
                hash,
                leaf.found(offset, content, Token::Stable),
                scratch,
                MappedAccess,
            )? {
                Probe::Found(_) => return place(Spot::ReservedSpan(offset, content)),
                Probe::NotHere => {}
                Probe::Again | Probe::Busy(_) => {
                    return Err(Error::corrupt("a slot changed although its writer lock is held"));
                }
            }
        }
        place(tombstone.map_or(Spot::None, Spot::Tombstone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_policy::Blocking;
    use crate::variables::AsVariables;

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn a_search_ends_with_the_looks_that_are_left() {
        let key = crate::key::Key::text(&format!("table-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let att = segment.attachment().unwrap();
        let writer = att.variables().write(&Blocking).unwrap();
        let name = Name::from(&Index::Int(1));
        let place = |left: &mut u64| writer.place_within(&name, 5, &mut Scratch::new(), left);
        let mut left = 1;
        assert!(matches!(place(&mut left), Ok(Place { spot: Spot::Fresh(_), .. })) && left == 0);
        assert!(matches!(place(&mut left), Err(Error::Corrupt(_))));
        drop(writer);
        segment.destroy().unwrap();
    }
}
