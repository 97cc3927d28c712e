//! Finding a variable's slot: by readers without a lock, by writers with it.

use crate::error::{Error, Result};
use crate::intent::Change;
use crate::key::{Index, Name};
use crate::layout::{
    CLASSES, GRANULE, ORDER_MAX, RECORD_MAX, Root, SLAB_HEAD, SLOT, SLOTS_MIN_LOG2, Slot, SpanState, blocks_of,
    order_of,
};
use crate::mem::Scratch;
use crate::os::object;
use crate::segment::attachment::{Attachment, Patience};
use crate::segment::read::ASK_THE_KERNEL;
use crate::segment::scan::Stuck;
use crate::segment::writer::Writer;
use crate::slot::{BUSY, Content, Kind, LET_GO, LOCK, TEXT};
use crate::sync::spin;
use std::sync::atomic::{Ordering, fence};

/// Looks at a busy slot before the intent is asked.
const SPINS: u32 = 100;

/// A table, its root checked.
#[derive(Clone, Copy)]
pub struct Table {
    /// As loaded.
    pub root: Root,
    /// File offset of slot 0.
    pub base: u64,
    /// Slots - 1.
    pub mask: u64,
}

/// By what a copied value is known to be whole.
#[derive(Clone, Copy, Debug)]
pub enum Token {
    /// The slot's word and the root did not change.
    Stable,
    /// The change of this serial is still under way, its slot still busy.
    Pending(u64),
}

/// A variable that a reader found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// File offset of its slot.
    pub offset: u64,
    /// Its slot. A record's bytes are in the reader's scratch buffer.
    pub content: Content,
    pub(super) root: Root,
    /// The slot's word as it was seen (busy, for a pending one).
    pub(super) word: u64,
    /// How to check it again.
    pub token: Token,
}

/// Where a writer finds an index, or may put it.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// It is here.
    Taken(u64, Content),
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
        match self {
            Place::Taken(_, content) => Some(*content),
            _ => None,
        }
    }
}

/// How a probe of one slot ended.
enum Probe {
    Found(Found),
    NotHere,
    Again,
}

impl Table {
    /// File offset of a slot.
    #[inline(always)]
    pub fn slot_at(&self, number: u64) -> u64 {
        self.base + (number & self.mask) * SLOT
    }
}

/// File offset of a record's first byte, if the slab's entry agrees with it.
#[inline(always)]
pub fn record_at(att: &Attachment, content: &Content) -> Result<Option<u64>> {
    let (granule, block) = (content.granule(), content.block());
    if granule >= att.identity.geometry.granules {
        return Ok(None);
    }
    let Ok(entry) = att.arena().entry(granule) else { return Ok(None) };
    let class = entry.class();
    if entry.state() != SpanState::Slab || class >= CLASSES.len() {
        return Ok(None);
    }
    let size = u64::from(CLASSES[class]);
    let fits = block < blocks_of(class) && content.record_len() <= size && content.prefix_len() <= content.record_len();
    Ok(fits.then(|| att.identity.geometry.granule_at(granule) + SLAB_HEAD + block * size))
}

impl Attachment {
    /// The table in force.
    #[inline(always)]
    pub fn table(&self) -> Result<Table> {
        let root = Root(self.state().root.load(Ordering::Acquire));
        if root.0 != self.sound_root.load(Ordering::Relaxed) {
            self.check_root(root)?;
        }
        let base = self.identity.geometry.granule_at(root.granule());
        Ok(Table { root, base, mask: (1 << root.log2()) - 1 })
    }

    #[cold]
    fn check_root(&self, root: Root) -> Result<()> {
        let zones = self.arena().zones();
        let order = order_of(SLOT << root.log2().min(39));
        if !(SLOTS_MIN_LOG2..40).contains(&root.log2()) || !self.arena().fits(root.granule(), order, zones) {
            return Err(Error::corrupt(format_args!("root {:#x}", root.0)));
        }
        let entry = self.arena().entry(root.granule())?;
        if entry.state() != SpanState::Table || entry.order() != order {
            // A table that is being replaced looks so too, until the root is stored: for ever, if its writer died. It stands
            // unchanged until he, or whoever repairs, lets the lock go.
            let area = self.mem.intent();
            let replaced = area.valid.load(Ordering::Acquire) != 0 && area.root.load(Ordering::Relaxed) != root.0;
            if replaced || self.state().root.load(Ordering::Acquire) != root.0 {
                return Ok(());
            }
            return Err(Error::corrupt(format_args!("the table's span: {entry:?}")));
        }
        // All pages of a table were obtained before it was one: whoever may write may claim any length, but memory that is not
        // there is none. So what a pass over it costs is bounded by what the segment takes.
        let len = SLOT << root.log2();
        if len >= ASK_THE_KERNEL {
            let status = self.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
            if status.resident < len {
                let resident = status.resident;
                return Err(Error::corrupt(format_args!("a table of {len} bytes in an object that takes {resident}")));
            }
        }
        self.sound_root.store(root.0, Ordering::Relaxed);
        Ok(())
    }

    /// Finds a variable without a lock; an expired one is missing. A record's bytes are copied to `scratch`; a span's are
    /// not.
    #[inline]
    pub fn find(&self, index: &Index<'_>, scratch: &mut Scratch, patience: &dyn Patience) -> Result<Option<Found>> {
        let found = self.find_entry(&index.into(), scratch, patience)?;
        if found.as_ref().is_some_and(|found| found.content.expires()) && self.has_expired(scratch) {
            return Ok(None);
        }
        Ok(found)
    }

    /// Finds what is there under a name, as `find` does.
    #[inline(always)]
    pub fn find_entry(&self, name: &Name<'_>, scratch: &mut Scratch, patience: &dyn Patience) -> Result<Option<Found>> {
        let hash = name.hash(self.identity.hash_key);
        let mut stuck = Stuck::default();
        'again: loop {
            let table = self.table()?;
            for step in 0..=table.mask {
                let offset = table.slot_at(hash.wrapping_add(step));
                let slot = self.mem.at::<Slot>(offset)?;
                let word = slot.begin();
                if word == 0 {
                    break;
                }
                let probed = if word & BUSY == 0 {
                    let found = Found {
                        offset,
                        content: Content { word, rest: slot.rest() },
                        root: table.root,
                        word,
                        token: Token::Stable,
                    };
                    self.probe(name, hash, found, scratch)?
                } else {
                    self.probe_busy(name, hash, table.root, offset, scratch, &mut stuck, patience)?
                };
                match probed {
                    Probe::Found(found) => return Ok(Some(found)),
                    Probe::NotHere => {}
                    Probe::Again => {
                        stuck.again(self, patience)?;
                        continue 'again;
                    }
                }
            }
            // SYNC: as in `Slot::unchanged`: nothing above is of a later table than the root said.
            fence(Ordering::Acquire);
            if self.state().root.load(Ordering::Relaxed) == table.root.0 {
                return Ok(None);
            }
            stuck.again(self, patience)?;
        }
    }

    /// Is what was found still so? Asked after whatever was copied meanwhile.
    #[inline(always)]
    pub fn still(&self, found: &Found) -> Result<bool> {
        let slot = self.mem.at::<Slot>(found.offset)?;
        let pending = match found.token {
            Token::Stable => true,
            Token::Pending(serial) => Change::still(self.mem.intent(), serial),
        };
        Ok(slot.unchanged(found.word) && self.state().root.load(Ordering::Relaxed) == found.root.0 && pending)
    }

    #[inline(always)]
    fn probe(&self, name: &Name<'_>, hash: u64, found: Found, scratch: &mut Scratch) -> Result<Probe> {
        let content = &found.content;
        let is_text = name.is_text();
        if content.rest[0] != name.first(hash) || content.rest[1] & (TEXT | LOCK) != name.flags() || !content.is_entry()
        {
            return Ok(Probe::NotHere);
        }
        match content.kind() {
            Kind::Inline => return Ok(if self.still(&found)? { Probe::Found(found) } else { Probe::Again }),
            Kind::Record => match record_at(self, content)? {
                Some(at) => self.mem.read_scratch(at, content.record_len() as usize, scratch)?,
                None => return self.damaged(&found, "a record's place"),
            },
            Kind::Span => {
                if !self.span_fits(content) {
                    return self.damaged(&found, "a span's place");
                }
                if is_text || content.expires() {
                    // The prefix alone, by `pread`: a span may be given back under an unpinned reader.
                    let mut prefix = vec![0; content.prefix_len() as usize];
                    self.read_span(content, 0, &mut prefix)?;
                    scratch.set(prefix);
                }
            }
            _ => return self.damaged(&found, "a slot's kind"),
        }
        // Not only what is taken: what is passed over because of its record must have been whole, too.
        if !self.still(&found)? {
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

    /// Damaged, or only changed while we looked?
    #[cold]
    fn damaged(&self, found: &Found, what: &str) -> Result<Probe> {
        if self.still(found)? {
            return Err(Error::corrupt(format_args!("{what}, slot at {}: {:x?}", found.offset, found.content.rest)));
        }
        Ok(Probe::Again)
    }

    #[cold]
    #[allow(clippy::too_many_arguments, reason = "one call, split off for being cold")]
    fn probe_busy(
        &self,
        name: &Name<'_>,
        hash: u64,
        root: Root,
        offset: u64,
        scratch: &mut Scratch,
        stuck: &mut Stuck,
        patience: &dyn Patience,
    ) -> Result<Probe> {
        let slot = self.mem.at::<Slot>(offset)?;
        let word = slot.begin();
        for _ in 0..SPINS {
            if slot.begin() != word {
                return Ok(Probe::Again);
            }
            spin();
        }
        if word & BUSY == 0 {
            return Ok(Probe::Again);
        }
        if let Some((serial, content)) = Change::pending(self.mem.intent(), offset) {
            // The change is decided: what it makes of the slot is the answer. A slot that becomes another index's, or
            // nobody's, does not hold ours.
            let found = Found { offset, content, root, word, token: Token::Pending(serial) };
            return match self.probe(name, hash, found, scratch)? {
                Probe::NotHere if !self.still(&found)? => Ok(Probe::Again),
                probe => Ok(probe),
            };
        }
        self.settle(offset, word, root, stuck, patience)?;
        Ok(Probe::Again)
    }

    /// A slot is busy and no change says why: its writer is between two stores, or a hostile one. Returns when it is worth
    /// looking again.
    pub(super) fn settle(
        &self,
        offset: u64,
        word: u64,
        root: Root,
        stuck: &mut Stuck,
        patience: &dyn Patience,
    ) -> Result<()> {
        let slot = self.mem.at::<Slot>(offset)?;
        if slot.begin() != word {
            return Ok(());
        }
        if !self.mem.writable() {
            return stuck.pause(self, patience);
        }
        // Whoever has the lock has repaired what could be.
        let _writer = self.write(patience)?;
        if self.state().root.load(Ordering::Relaxed) == root.0 && slot.begin() == word {
            return Err(Error::corrupt(format_args!("slot at {offset} is busy and no change is under way")));
        }
        Ok(())
    }

    /// Does the span map say that a record of this length can be there?
    fn span_fits(&self, content: &Content) -> bool {
        let Ok(entry) = self.arena().entry(content.granule()) else { return false };
        // Filling: of a change that is decided and not made yet. Retired: the slot changed, and the reader will see it.
        let holds = matches!(entry.state(), SpanState::Live | SpanState::Filling | SpanState::Retired);
        holds
            && content.lead() + content.record_len() <= GRANULE << entry.order().min(ORDER_MAX)
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

    /// A slot that was read otherwise.
    pub fn found_at(&self, offset: u64, content: Content) -> Result<Found> {
        Ok(Found { offset, content, root: self.table()?.root, word: content.word, token: Token::Stable })
    }
}

impl Writer<'_> {
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
        let table = att.table()?;
        let mut tombstone = None;
        for step in 0..=table.mask {
            let offset = table.slot_at(hash.wrapping_add(step));
            let slot = att.mem.at::<Slot>(offset)?;
            let word = slot.begin();
            *left = left.checked_sub(1).ok_or_else(|| Error::corrupt("the table: hardly a slot was never used"))?;
            if word == 0 {
                return Ok(tombstone.map_or(Place::Fresh(offset), Place::Tombstone));
            }
            if word & BUSY == 1 {
                return Err(Error::corrupt(format_args!("slot at {offset} is busy and no change is under way")));
            }
            let content = Content { word, rest: slot.rest() };
            if !content.is_entry() {
                // A lock that was let go here is taken here again: then it has one slot, and one tombstone at the most.
                if name.lock && content.rest[1] == LET_GO && name.index == Index::Int(content.rest[0] as i64) {
                    return Ok(Place::Tombstone(offset));
                }
                // What no writer left is one, too: readers pass over it.
                tombstone = tombstone.or(Some(offset));
                continue;
            }
            if let Index::Int(number) = name.index {
                if content.rest[0] == number as u64 && content.rest[1] & (TEXT | LOCK) == name.flags() {
                    return Ok(Place::Taken(offset, content));
                }
                continue;
            }
            let found = Found { offset, content, root: table.root, word, token: Token::Stable };
            match att.probe(name, hash, found, scratch)? {
                Probe::Found(_) => return Ok(Place::Taken(offset, content)),
                Probe::NotHere => {}
                Probe::Again => return Err(Error::corrupt("a slot changed although its writer lock is held")),
            }
        }
        Ok(tombstone.map_or(Place::None, Place::Tombstone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::attachment::Plain;

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn a_search_ends_with_the_looks_that_are_left() {
        let key = crate::key::Key::text(&format!("table-{}", crate::os::pid())).unwrap();
        let segment = crate::Segment::attach(key, &crate::Options::default()).unwrap();
        let writer = segment.shared().write(&Plain).unwrap();
        let name = Name::from(&Index::Int(1));
        let place = |left: &mut u64| writer.place_within(&name, 5, &mut Scratch::new(), left);
        let mut left = 1;
        assert!(matches!(place(&mut left), Ok(Place::Fresh(_))) && left == 0);
        assert!(matches!(place(&mut left), Err(Error::Corrupt(_))));
        drop(writer);
        segment.destroy().unwrap();
    }
}
