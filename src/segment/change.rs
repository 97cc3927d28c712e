//! Changing variables: put and remove. Whole or not at all.

use crate::codec::buffers;
use crate::error::{Error, Result};
use crate::key::Index;
use crate::layout::{Entry, GRANULE, INLINE_MAX, PAGE, RECORD_MAX, SLOT, SpanState, class_of, order_of};
use crate::mem::Scratch;
use crate::os::{fork, object};
use crate::segment::attachment::{Attachment, Inside, Patience};
use crate::segment::read::OUTSIDE;
use crate::segment::room::{Taken, Turns, file_system_full, is_crowded, is_full};
use crate::segment::table::{Place, Stuck, Table, hash_of, record_at};
use crate::segment::writer::Writer;
use crate::slot::{BUFFERS, Content, Kind, TEXT, lead};
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// What a put stores: the parts of a value's bytes, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Together they are the value.
    pub parts: &'a [&'a [u8]],
    /// It is a record with out-of-band buffers (docs/format.md): a span, however short.
    pub buffers: bool,
}

/// When a change is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// Only while the variable has this version; 0: only while it is missing.
    Version(u64),
}

/// Free memory that stays present at least.
const WARM_MIN: u64 = 64 << 20;
/// Smaller values leave too little to look.
const WARM_FROM: u64 = 1 << 20;
/// A large value is stored in pieces of this many bytes.
const PIECE: usize = 64 << 20;
/// Versions stay below this, so that a slot's word never overflows.
const VERSION_MAX: u64 = 1 << 62;

/// A span that was filled and waits to be published.
struct Filled<'a> {
    span: Taken<'a>,
    pages: u64,
}

impl Attachment {
    /// Stores a value, given as parts of a pickle. `None`: the condition does not hold. Else the new version.
    pub fn put(
        &self,
        index: &Index<'_>,
        stored: Stored<'_>,
        condition: Condition,
        patience: &dyn Patience,
    ) -> Result<Option<u64>> {
        let value = stored.parts;
        let value_len = value.iter().map(|part| part.len() as u64).sum::<u64>();
        let key = index.record_key();
        if key.len() > crate::key::INDEX_MAX {
            return Err(Index::text(std::str::from_utf8(key).unwrap_or_default()).expect_err("too long"));
        }
        let record_len = key.len() as u64 + value_len;
        let inline = matches!(index, Index::Int(_)) && value_len <= INLINE_MAX as u64 && !stored.buffers;
        let charge = if inline { SLOT } else { SLOT + record_len };
        let (mut filled, mut inside) = (None::<Filled<'_>>, None);
        let (mut crowded, mut turns) = (false, Turns::default());
        loop {
            turns.next(self)?;
            let mut writer = self.write(patience)?;
            // The record may just have been given another one's block: the place is looked for anew after each wait.
            let place = writer.place(index, &mut Scratch::new())?;
            let old = match place {
                Place::Taken(_, content) => Some(content),
                _ => None,
            };
            if let Condition::Version(version) = condition {
                if old.map_or(0, |content| content.version()) != version {
                    return Ok(None);
                }
            }
            let mut change = writer.change();
            writer.charge(old.as_ref(), charge, &mut change)?;
            let offset = match place {
                Place::Taken(offset, _) | Place::Tombstone(offset) => offset,
                Place::Fresh(offset) => {
                    let table = self.table()?;
                    let (fill, slots) = (change.counters.fill, table.mask + 1);
                    let last = is_crowded(fill, slots);
                    // There was no memory for a larger table: not tried at every turn.
                    crowded |= self.crowded_root.load(Ordering::Relaxed) == table.root.0 && fill % 64 != 0;
                    if last || (!crowded && is_full(fill, slots)) {
                        self.step_out(writer, &mut inside);
                        match self.grow(&table, patience) {
                            // No room for a larger one: a crowded table serves to its last free slot.
                            Err(Error::Full { .. }) if !last => {
                                crowded = true;
                                self.crowded_root.store(table.root.0, Ordering::Relaxed);
                            }
                            other => other?,
                        }
                        continue;
                    }
                    change.counters.fill = change.counters.fill.saturating_add(1);
                    offset
                }
                Place::None => {
                    self.step_out(writer, &mut inside);
                    self.grow(&self.table()?, patience)?;
                    continue;
                }
            };
            let flags = if key.is_empty() && matches!(index, Index::Int(_)) { 0 } else { TEXT };
            let first = match index {
                Index::Int(number) => *number as u64,
                Index::Text(_) => hash_of(self.identity.hash_key, index),
            };
            let content = if inline {
                let mut pickle = [0; INLINE_MAX];
                let mut at = 0;
                for part in value {
                    pickle[at..at + part.len()].copy_from_slice(part);
                    at += part.len();
                }
                Content::inline(first as i64, &pickle[..at])
            } else if record_len <= RECORD_MAX && !stored.buffers {
                let class = class_of(record_len);
                let Some((granule, block)) = writer.find_block(class)? else {
                    if !writer.slab_from_free(class)? {
                        self.step_out(writer, &mut inside);
                        self.refill(class, patience)?;
                    }
                    continue;
                };
                let content = Content::record(first, flags, key.len(), record_len, granule, Some(block));
                let Some(at) = record_at(self, &content)? else { return Err(Error::corrupt("a free block's place")) };
                writer.write_record(at, key, value)?;
                change.block(granule, block, true);
                content
            } else {
                let granule = match &filled {
                    // Not ours: a signal handler forked while we waited, and this is the child.
                    Some(filled) if writer.owns(filled.span.granule)? => filled.span.granule,
                    _ => {
                        self.step_out(writer, &mut inside);
                        let lead = if stored.buffers { lead(key.len() as u64) } else { 0 };
                        filled = Some(self.fill(lead, key, value, record_len, patience)?);
                        continue;
                    }
                };
                let (before, pages) =
                    (writer.arena().entry(granule)?, filled.as_ref().map_or(0, |filled| filled.pages));
                let live = Entry::new(SpanState::Live, before.order()).with_present(pages);
                change.span(granule, before, live);
                let flags = if stored.buffers { flags | BUFFERS } else { flags };
                Content::record(first, flags, key.len(), record_len, granule, None)
            };
            let version = writer.replace(offset, content, old.as_ref(), &mut change)?;
            if let Some(filled) = filled {
                filled.span.keep();
            }
            drop(writer);
            self.bound_warm(old.as_ref(), patience);
            return Ok(Some(version));
        }
    }

    /// Lets the lock go, but not this process's number: between taking a span and publishing it we stay inside.
    fn step_out<'a>(&'a self, writer: Writer<'a>, inside: &mut Option<Inside<'a>>) {
        if inside.as_ref().is_none_or(|inside| inside.epoch != fork::epoch()) {
            *inside = Some(self.enter());
        }
        drop(writer);
    }

    /// Copies a large record into a span of this process's own. No lock is held, no user code runs.
    fn fill(&self, lead: u64, key: &[u8], value: &[&[u8]], len: u64, patience: &dyn Patience) -> Result<Filled<'_>> {
        let len = lead + len;
        let span = self.take_span(order_of(len), patience)?;
        let filled = Filled { pages: span.present.max(len.div_ceil(PAGE)), span };
        crash_point!("span-taken");
        let mut trimmed = false;
        loop {
            match self.write_span(&filled.span, lead, key, value, patience)? {
                Ok(()) => break,
                Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) if !trimmed => {
                    trimmed = true;
                    self.make_room(patience)?;
                }
                Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) => {
                    self.punch_unpublished(&filled, patience)?;
                    return Err(file_system_full(len));
                }
                Err(error) => return Err(Error::system("storing a value", error)),
            }
        }
        crash_point!("span-filled");
        Ok(filled)
    }

    fn write_span(
        &self,
        span: &Taken<'_>,
        lead: u64,
        key: &[u8],
        value: &[&[u8]],
        patience: &dyn Patience,
    ) -> Result<rustix::io::Result<()>> {
        let start = self.identity.geometry.granule_at(span.granule) + lead;
        let len: u64 = std::iter::once(&key).chain(value).map(|part| part.len() as u64).sum();
        // What this process has mapped it copies to: the quickest way. What is present and was never mapped here costs a
        // fault a page, once, if it is met a second time. Anything else the kernel writes: no faults, and an error in time.
        if span.present >= (lead + len).div_ceil(PAGE) && self.met_before(span.granule) {
            let mut at = start;
            let mut copied = Ok(());
            patience.outside(&mut || {
                copied = std::iter::once(&key).chain(value).try_for_each(|part| {
                    self.mem.fill(at, part)?;
                    at += part.len() as u64;
                    Ok(())
                });
            });
            return copied.map(Ok);
        }
        let mut at = start;
        for part in std::iter::once(&key).chain(value) {
            // The descriptor is looked at before each piece: its number may become another file's at any time.
            for piece in part.chunks(PIECE) {
                let mut wrote = Ok(Ok(()));
                let mut write = || wrote = self.with_file(|fd| object::write_at(fd, piece, at));
                if piece.len() < OUTSIDE {
                    write()
                } else {
                    patience.outside(&mut write)
                }
                if let Err(errno) = wrote? {
                    return Ok(Err(errno));
                }
                at += piece.len() as u64;
            }
        }
        Ok(Ok(()))
    }

    /// Has this process filled a span that begins here before? (A guess at which pages it has mapped: a wrong one costs time.)
    fn met_before(&self, granule: u64) -> bool {
        let mut met = self.met.lock();
        if met.contains(&granule) {
            return true;
        }
        if met.len() > 4096 {
            met.clear();
        }
        met.insert(granule);
        false
    }

    /// A value that the memory file system had no room for leaves it as full as it was.
    fn punch_unpublished(&self, filled: &Filled<'_>, patience: &dyn Patience) -> Result<()> {
        let granule = filled.span.granule;
        let mut writer = self.write(patience)?;
        if !writer.owns(granule)? {
            return Ok(());
        }
        let entry = writer.arena().entry(granule)?;
        let mut change = writer.change();
        change.span(granule, entry, entry.with_present(0));
        let runs = writer.runs_to_punch(granule, entry.order())?;
        writer.commit(&change)?;
        drop(writer);
        for (granule, granules) in runs {
            let offset = self.identity.geometry.granule_at(granule);
            let _ = self.with_file(|fd| object::punch(fd, offset, granules * GRANULE))?;
            crash_point!("unpublished-punched");
        }
        Ok(())
    }

    /// Removes a variable. False: it was not there, or the condition does not hold.
    pub fn remove(&self, index: &Index<'_>, condition: Condition, patience: &dyn Patience) -> Result<bool> {
        let mut writer = self.write(patience)?;
        let Place::Taken(offset, old) = writer.place(index, &mut Scratch::new())? else { return Ok(false) };
        if matches!(condition, Condition::Version(version) if version != old.version()) {
            return Ok(false);
        }
        writer.discard(offset, &old)?;
        drop(writer);
        self.bound_warm(Some(&old), patience);
        Ok(true)
    }

    /// What large values leave is kept for the next ones, within bounds: as much as is in use, and 64 MiB. Without a
    /// wait: what cannot be had now is left to the next.
    fn bound_warm(&self, old: Option<&Content>, patience: &dyn Patience) {
        let Some(len) = old.filter(|old| old.kind() == Kind::Span).map(Content::record_len) else { return };
        if len < WARM_FROM {
            return;
        }
        let bound = self.state().used.load(Ordering::Relaxed).saturating_add(WARM_MIN);
        if self.warm() > bound {
            let _ = self.cool(bound, patience);
        }
    }

    /// Removes every variable that is there now.
    pub fn clear(&self, patience: &dyn Patience) -> Result<()> {
        let mut stuck = Stuck::default();
        loop {
            let table = self.table()?;
            if self.clear_table(&table, patience)? {
                return self.clean(&table, patience);
            }
            stuck.again(self, patience)?;
        }
    }

    /// False: another table took its place meanwhile.
    fn clear_table(&self, table: &Table, patience: &dyn Patience) -> Result<bool> {
        let mut number = 0;
        while number <= table.mask {
            let mut writer = self.write(patience)?;
            if self.state().root.load(Ordering::Relaxed) != table.root.0 {
                return Ok(false);
            }
            // A handful at a time: others get their turn.
            for offset in (number..=table.mask).take(256).map(|n| table.slot_at(n)) {
                let slot = self.mem.at::<crate::layout::Slot>(offset)?;
                if let Some(content) = slot.copy().filter(Content::is_variable) {
                    writer.discard(offset, &content)?;
                }
            }
            drop(writer);
            patience.interrupted()?;
            number += 256;
        }
        Ok(true)
    }

    /// Where a table is mostly tombstones, a clean one costs less than passing over them. Without memory for one, they stay.
    fn clean(&self, table: &Table, patience: &dyn Patience) -> Result<()> {
        let (state, slots) = (self.state(), table.mask + 1);
        let (fill, count) = (state.fill.load(Ordering::Relaxed), state.count.load(Ordering::Relaxed));
        if is_full(fill, slots / 2) && count < slots / 16 {
            let _inside = self.enter();
            match self.grow(table, patience) {
                Err(Error::Full { .. }) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Writer<'_> {
    /// Charges a variable, or says that it does not fit.
    #[inline]
    fn charge(&self, old: Option<&Content>, charge: u64, change: &mut crate::intent::Change) -> Result<()> {
        let counters = &mut change.counters;
        let others = counters.used.saturating_sub(old.map_or(0, Content::charge));
        let size = self.att.state().limit.load(Ordering::Relaxed);
        if charge > size.saturating_sub(others) {
            return Err(Error::Full {
                needed: charge,
                free: size.saturating_sub(others),
                size,
                remedy: "remove variables, or raise the limit: resize(), or attach with a larger size".into(),
            });
        }
        counters.used = others + charge;
        if old.is_none() {
            counters.count = counters.count.checked_add(1).ok_or_else(|| Error::corrupt("the count of variables"))?;
        }
        Ok(())
    }

    fn write_record(&self, at: u64, key: &[u8], value: &[&[u8]]) -> Result<()> {
        match value {
            [whole] if key.is_empty() => self.att.mem.copy_in(at, &[whole])?,
            [head, middle, tail] => self.att.mem.copy_in(at, &[key, head, middle, tail])?,
            _ => self.att.mem.copy_in(at, &[&[key], value].concat())?,
        }
        crash_point!("record-written");
        // CRASH: a free block with something in it.
        Ok(())
    }

    /// Commits a slot's new contents and lets go of what the old ones named.
    #[inline]
    fn replace(
        &mut self,
        offset: u64,
        content: Content,
        old: Option<&Content>,
        change: &mut crate::intent::Change,
    ) -> Result<u64> {
        let version = change.counters.version.saturating_add(1);
        if version >= VERSION_MAX {
            return Err(Error::corrupt("the version counter"));
        }
        change.counters.version = version;
        change.slot = Some((offset, content.with_version(version)));
        match old.map(Content::kind) {
            Some(Kind::Record) => {
                let old = old.expect("just matched");
                if record_at(self.att, old)?.is_none() {
                    return Err(Error::corrupt("the place of the record that is replaced"));
                }
                change.block(old.granule(), old.block(), false);
            }
            Some(Kind::Span) => {
                let granule = old.expect("just matched").granule();
                let before = self.arena().entry(granule)?;
                if before.state() != SpanState::Live {
                    return Err(Error::corrupt(format_args!("a variable's span: {before:?}")));
                }
                let retired = Entry::new(SpanState::Retired, before.order()).with_present(before.present());
                change.span(granule, before, retired);
            }
            _ => {}
        }
        self.commit(change)?;
        // The change is made. What goes wrong now is damage elsewhere, which the next call meets.
        let _ = match old.map(|old| (old.kind(), old.granule())) {
            // The new record keeps its own slab in use.
            Some((Kind::Record, granule)) if content.kind() != Kind::Record || content.granule() != granule => {
                self.release_slab(granule)
            }
            Some((Kind::Span, granule)) => self.free_retired(granule),
            _ => Ok(()),
        };
        Ok(version)
    }

    /// Makes a variable's slot a tombstone.
    pub fn discard(&mut self, offset: u64, old: &Content) -> Result<()> {
        let mut change = self.change();
        change.counters.used = change.counters.used.saturating_sub(old.charge());
        change.counters.count = change.counters.count.saturating_sub(1);
        self.replace(offset, Content::tombstone(), Some(old), &mut change).map(drop)
    }
}

/// Most bytes that a `bytes` value of a new integer index may have, where `room` bytes may be charged: its slot is 32; 9 and
/// less fit that; in a record the pickle adds 5 or 8; in a span, as the one buffer beside its pickle, it begins at a fixed place.
pub fn largest_bytes(room: u64) -> u64 {
    // More than any value has, so that nothing below overflows: the room may be what somebody else wrote.
    let Some(record) = room.min(1 << 48).checked_sub(SLOT) else { return 0 };
    let head = (16 + 16 + buffers::BYTES.len() as u64).next_multiple_of(buffers::ALIGN);
    let record_len = |n: u64| match n {
        n if n + 5 <= INLINE_MAX as u64 => 0,
        0..256 => n + 5,
        n if n < buffers::LARGE_BYTES as u64 => n + 8,
        n => head + n,
    };
    let mut most = record.saturating_sub(5).max(INLINE_MAX as u64 - 5);
    while record_len(most) > record {
        most -= 1;
    }
    most
}
