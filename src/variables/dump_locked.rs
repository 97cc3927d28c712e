//! The last pass of a dump over the table of the variables, under the writer lock: which instant the dump is of.
//!
//! What was written and still has its version is not looked at. Of what has changed since, small records are copied and
//! large ones pinned; they are written when the lock is released. The protocol is "Dumps" in docs/protocol.md, step 3.

use crate::codec::dump_line::ValueOf;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::Slot;
use crate::process::access::MappedAccess;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::sync::slot::{BUSY, Content, Kind, Seqlock};
use crate::variables::Variables;
use crate::variables::dump_log::{DumpLog, NO_LINE, forked, index_in};
use crate::variables::dump_notes::{Loose, NOTES, expires, is_noted, may_have_gone_round, version_of};
use crate::variables::dump_pass::DumpNotes;
use crate::variables::expiry::NEVER;
use crate::variables::found::ContentSource;
use crate::variables::large::LargeValue;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::record::record_at;
use std::sync::atomic::Ordering;

/// So much may have changed since the pass before, in variables and items and in bytes, that it is copied under the
/// lock.
pub const CHANGES_MOST: usize = 32 << 10;
pub const BYTES_MOST: usize = 16 << 20;

/// How a comparison under the lock has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// All that has changed was found.
    Whole,
    /// More has changed than is copied while others wait.
    TooMuch,
    /// There is no memory for the pin of a large value that has changed.
    Unpinned,
}

/// Private to the process: what has changed between the last pass without the lock and the instant of the dump.
#[derive(Default)]
pub struct DumpFinds<'a> {
    /// The lines of variables that are there no more.
    gone: Vec<u32>,
    /// Lines, and when their variables expire.
    moved: Vec<(u32, Option<u64>)>,
    /// What was not written yet.
    fresh: Vec<Fresh<'a>>,
    /// The records of those that are small, one after the other.
    bytes: Vec<u8>,
    /// Why the comparison does not go on.
    ended: Option<Compared>,
}

/// Private to the process: a variable that was not written yet.
struct Fresh<'a> {
    content: Content,
    expiry: Option<u64>,
    /// Where its record begins in the bytes, if it is copied there.
    at: usize,
    large: Option<LargeValue<'a>>,
}

impl DumpFinds<'_> {
    /// Returns how the comparison has ended already, if it has.
    fn end(&self, loose: &Loose) -> Option<Compared> {
        let (changes, _) = self.sizes();
        self.ended.or_else(|| (changes + loose.len() > CHANGES_MOST).then_some(Compared::TooMuch))
    }

    /// Returns how much was found: changes, and bytes that were copied.
    pub fn sizes(&self) -> (usize, usize) {
        (self.fresh.len() + self.moved.len() + self.gone.len(), self.bytes.len())
    }
}

impl Variables {
    /// Compares the table with what was noted of it. The caller holds the writer lock.
    pub fn dump_locked<'a>(
        &'a self,
        (notes, log): (&DumpNotes, &DumpLog<'_>),
        now: u64,
        finds: &mut DumpFinds<'a>,
    ) -> Result<Compared> {
        let (mut loose, mut next, mut hash) = (Loose::default(), 0, Some(0));
        let serial = self.mem.intent().serial.load(Ordering::Relaxed);
        while let Some(from) = hash {
            let leaf = self.leaf_of(from, TableOf::Variables)?;
            if !self.leaf_is_sound(&leaf, MappedAccess)? {
                return Err(Error::corrupt(format_args!("the leaf {:#x} that a directory names", leaf.word.0)));
            }
            let (begin, end) = (leaf.begin(from), leaf.end(from));
            let mut same = None;
            while let Some(noted) = notes.0.get(next).filter(|noted| end.is_none_or(|end| noted.begin < end)) {
                match same.is_none() && loose.is_empty() && noted.is_of(begin, end, leaf.slots) {
                    true => same = Some(noted),
                    false => loose.add(noted)?,
                }
                next += 1;
                if let Some(end) = finds.end(&loose) {
                    return Ok(end);
                }
            }
            let slots = self.mem.slots(leaf.base, leaf.slots + 1)?.iter().skip(1);
            match same {
                Some(noted) => {
                    for ((number, slot), before) in slots.enumerate().zip(&noted.words) {
                        let word = slot.word.load(Ordering::Relaxed);
                        let line = noted.lines[number];
                        if is_noted(word, *before) {
                            if line != NO_LINE && may_have_gone_round(serial, noted.serial) {
                                self.find_expiry(slot, (line, *before), log, finds)?;
                            }
                            continue;
                        }
                        if line != NO_LINE && version_of(word) == version_of(*before) {
                            self.find_moved(slot, line, finds)?;
                            continue;
                        }
                        if line != NO_LINE {
                            fallible::push(&mut finds.gone, line, NOTES)?;
                        }
                        self.find_fresh((&leaf, number), slot, now, finds)?;
                    }
                }
                None => {
                    let round_from = loose.serial;
                    for (number, slot) in slots.enumerate() {
                        let word = slot.word.load(Ordering::Relaxed);
                        match loose.take(word) {
                            _ if word == 0 => {}
                            Some((line, before)) if is_noted(word, before) => {
                                if may_have_gone_round(serial, round_from) {
                                    self.find_expiry(slot, (line, before), log, finds)?;
                                }
                            }
                            Some((line, _)) => self.find_moved(slot, line, finds)?,
                            None => self.find_fresh((&leaf, number), slot, now, finds)?,
                        }
                    }
                    for line in loose.end_at(end).into_iter().flatten() {
                        fallible::push(&mut finds.gone, line, NOTES)?;
                    }
                }
            }
            if let Some(end) = finds.end(&loose) {
                return Ok(end);
            }
            hash = end;
        }
        Ok(Compared::Whole)
    }

    /// Looks at the expiry of a variable whose slot has the word that was noted, but may have got it anew.
    fn find_expiry(
        &self,
        slot: &Slot,
        (line, noted): (u32, u64),
        log: &DumpLog<'_>,
        finds: &mut DumpFinds<'_>,
    ) -> Result<()> {
        let content = content_of(slot)?;
        if !expires(&content, noted) {
            return Ok(());
        }
        let expiry = self.expiry_of(&content)?.filter(|expiry| *expiry != NEVER);
        if expiry != log.expiry_of(line) {
            fallible::push(&mut finds.moved, (line, expiry), NOTES)?;
        }
        Ok(())
    }

    fn find_moved(&self, slot: &Slot, line: u32, finds: &mut DumpFinds<'_>) -> Result<()> {
        let content = content_of(slot)?;
        let expiry = self.expiry_of(&content)?.filter(|expiry| *expiry != NEVER);
        fallible::push(&mut finds.moved, (line, expiry), NOTES)
    }

    fn find_fresh<'a>(
        &'a self,
        (leaf, number): (&Leaf, usize),
        slot: &Slot,
        now: u64,
        finds: &mut DumpFinds<'a>,
    ) -> Result<()> {
        let content = content_of(slot)?;
        if !content.is_variable() || finds.ended.is_some() {
            return Ok(());
        }
        let (expiry, at, mut large) = (self.expiry_of(&content)?, finds.bytes.len(), None);
        if expiry.is_some_and(|expiry| expiry <= now) {
            return Ok(());
        }
        match content.kind() {
            Kind::Inline => {}
            Kind::Record => {
                if at + content.record_len() as usize > BYTES_MOST {
                    finds.ended = Some(Compared::TooMuch);
                    return Ok(());
                }
                let place = record_at(self, &content)?.ok_or_else(|| Error::corrupt("a record's place"))?;
                self.mem.append(place, content.record_len() as usize, &mut finds.bytes)?;
            }
            Kind::Span => {
                let found = leaf.found(leaf.slot_at(number as u64 + 1), content, ContentSource::Slot);
                // With the writer lock held nothing changes, and this process is registered: nothing waits here.
                let pinned = self.pin_large(found, &Blocking)?;
                if !pinned.pinned() {
                    finds.ended = Some(Compared::Unpinned);
                    return Ok(());
                }
                large = Some(pinned);
            }
            _ => return Err(Error::corrupt(format_args!("slot {number} of a leaf"))),
        }
        let fresh = Fresh { content, expiry: expiry.filter(|expiry| *expiry != NEVER), at, large };
        fallible::push(&mut finds.fresh, fresh, NOTES)
    }

    /// Writes what was found under the lock, which is released by now.
    pub fn dump_finds(&self, finds: DumpFinds<'_>, log: &mut DumpLog<'_>, policy: &dyn WaitPolicy) -> Result<()> {
        for line in finds.gone {
            log.variable_gone(line);
            log.hand_over_much()?;
        }
        for (line, expiry) in finds.moved {
            log.note_expiry(line, expiry)?;
        }
        for Fresh { content, expiry, at, large } in finds.fresh {
            let (word, prefix_len) = (content.rest[0], content.prefix_len() as usize);
            let key_len = content.is_text().then_some(content.key_len() as usize);
            let line = match (large, content.kind()) {
                (Some(large), _) => {
                    // What stands before the key may be another expiry by now. The key is where it was.
                    let mut prefix = fallible::zeros(prefix_len, NOTES)?;
                    self.read_span(&content, 0, &mut prefix)?;
                    let of = ValueOf::Variable(index_in(&prefix, word, key_len)?);
                    log.write_large(of, &large, policy)?.ok_or_else(|| forked(&self.identity.key))?
                }
                (None, Kind::Inline) => {
                    let (bytes, len) = content.inline_bytes();
                    log.write_value(ValueOf::Variable(index_in(&[], word, key_len)?), &bytes[2..2 + len])?
                }
                (None, _) => {
                    let record = &finds.bytes[at..at + content.record_len() as usize];
                    let (prefix, value) = record.split_at(prefix_len);
                    log.write_value(ValueOf::Variable(index_in(prefix, word, key_len)?), value)?
                }
            };
            log.note_expiry(line, expiry)?;
            log.hand_over_much()?;
        }
        Ok(())
    }
}

fn content_of(slot: &Slot) -> Result<Content> {
    let content = Content { word: slot.begin(), rest: slot.rest() };
    match content.word & BUSY {
        0 => Ok(content),
        _ => Err(Error::corrupt("a slot that is half changed while nobody changes anything")),
    }
}
