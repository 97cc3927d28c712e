//! Passes of a dump over the table of the variables, without a lock: what was not written yet is written, and what was
//! written and is no more is told.
//!
//! The protocol is "Dumps" in docs/protocol.md, steps 1 and 2. The last pass, under the writer lock, is
//! `dump_locked.rs`.

use crate::codec::dump_line::ValueOf;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::SLOT;
use crate::os;
use crate::os::mem::Scratch;
use crate::process::access::{Access, MappedAccess, PreadAccess, reading};
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::{BUSY, Content, Kind};
use crate::variables::Variables;
use crate::variables::dump_log::{DumpLog, NO_LINE, index_in};
use crate::variables::dump_notes::{LeafNotes, Loose, NOTES, expires, is_noted, may_have_gone_round, version_of};
use crate::variables::expiry::{NEVER, expiry_in};
use crate::variables::found::Found;
use crate::variables::leaf::{Leaf, TableOf};
use crate::variables::scan::{ATTEMPTS_PER_SLOT, ScanPass};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// After so long a pass lets the interpreter's other threads go on.
const TURN: Duration = Duration::from_millis(1);

/// Private to the process: what a dump remembers of the table of the variables, leaf by leaf, in the order of the
/// hashes.
#[derive(Default)]
pub struct DumpNotes(pub(super) Vec<LeafNotes>);

/// What a look at a slot found.
enum Looked {
    /// A variable in its slot, or one whose record is in the scratch buffer, or one in a span.
    Variable(Found),
    /// No variable. The word of the slot.
    Nothing(u64),
    /// It did not stand still, or the leaf was replaced.
    Restless,
}

/// Private to the process: slots of a leaf that have to be looked at.
#[derive(Default)]
struct Differing {
    /// What is in them was not written.
    fresh: Vec<u32>,
    /// Of their variables only the expiry, or the place, may have changed.
    moved: Vec<u32>,
    /// They have the word that was noted, but their count of moves may have gone round: the expiry may have changed.
    again: Vec<u32>,
}

impl Variables {
    /// Passes over the table once: writes every variable that was not written, and which of those that were written are
    /// there no more. Returns how many slots were not as they were noted.
    pub fn dump_pass(&self, notes: &mut DumpNotes, log: &mut DumpLog<'_>, policy: &dyn WaitPolicy) -> Result<u64> {
        let mut old = std::mem::take(&mut notes.0).into_iter().peekable();
        let (mut loose, mut changed, mut scratch) = (Loose::default(), 0, Scratch::new());
        let (mut backoff, mut hash, mut since) = (Backoff::default(), Some(0), Instant::now());
        while let Some(from) = hash {
            // SYNC: acquire, so the slots are loaded after it.
            let serial = self.mem.intent().serial.load(Ordering::Acquire);
            let copied =
                reading!(self, policy, |access| self.copy_leaf(from, TableOf::Variables, &mut scratch, access));
            let Some(leaf) = copied? else {
                backoff.again(Obstacle::Changed, self, policy)?;
                policy.interrupted()?;
                continue;
            };
            let (begin, end) = (leaf.begin(from), leaf.end(from));
            // It was joined with one that was looked at already.
            while notes.0.last().is_some_and(|noted| noted.begin >= begin) {
                loose.add(&notes.0.pop().expect("just looked at"))?;
            }
            let mut same = None;
            while let Some(noted) = old.next_if(|noted| end.is_none_or(|end| noted.begin < end)) {
                match same.is_none() && loose.is_empty() && noted.is_of(begin, end, leaf.slots) {
                    true => same = Some(noted),
                    false => loose.add(&noted)?,
                }
            }
            let slots = scratch.bytes().chunks_exact(SLOT as usize).skip(1).map(|slot| {
                let word = |at: usize| u64::from_ne_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
                Content { word: word(0), rest: [word(8), word(16), word(24)] }
            });
            // A leaf that replaces another one may have had, and lost, what neither look has found.
            changed += u64::from(same.as_ref().is_none_or(|noted| noted.word != leaf.word));
            let (mut noted, differing) = match same {
                Some(noted) => compare(noted, serial, slots, log)?,
                None => find(LeafNotes::new(&leaf, from, serial)?, slots, &mut loose)?,
            };
            noted.word = leaf.word;
            for line in loose.end_at(end).into_iter().flatten() {
                log.variable_gone(line);
                changed += 1;
            }
            changed += (differing.fresh.len() + differing.moved.len()) as u64;
            let (moved, settled) = self.dump_slots(&leaf, &mut noted, &differing, (log, &mut scratch), policy)?;
            changed += moved;
            if settled {
                noted.serial = serial;
            }
            fallible::push(&mut notes.0, noted, NOTES)?;
            log.hand_over_much()?;
            if since.elapsed() >= TURN {
                policy.allow_threads(&mut || {});
                since = Instant::now();
            }
            policy.interrupted()?;
            hash = end;
        }
        Ok(changed)
    }

    /// Copies the leaf of a hash to `scratch`, within one read section. `None`: the leaf has to be looked at anew.
    pub fn copy_leaf(
        &self,
        from: u64,
        table: TableOf,
        scratch: &mut Scratch,
        access: impl Access,
    ) -> Result<Option<Leaf>> {
        let leaf = self.leaf_with(from, table, access)?;
        if !self.leaf_is_sound(&leaf, access)? && !self.is_being_replaced(&leaf) {
            if !self.is_in_force_with(&leaf, table, access)? {
                return Ok(None);
            }
            return Err(Error::corrupt(format_args!("the leaf {:#x} that a directory names", leaf.word.0)));
        }
        // SYNC: the copy is not that of an instant. But a slot that stands still is copied right.
        access.record(self, leaf.base, ((leaf.slots + 1) * SLOT) as usize, scratch)?;
        Ok(self.is_in_force_with(&leaf, table, access)?.then_some(leaf))
    }

    /// Writes what is in these slots of a leaf, and notes it. What does not stand still is left to the next pass.
    /// Returns how many have another expiry although their words are the same, and whether each slot that was written
    /// before was looked at.
    fn dump_slots(
        &self,
        leaf: &Leaf,
        noted: &mut LeafNotes,
        differing: &Differing,
        (log, scratch): (&mut DumpLog<'_>, &mut Scratch),
        policy: &dyn WaitPolicy,
    ) -> Result<(u64, bool)> {
        let (mut changed, mut settled) = (0, true);
        for slot in &differing.fresh {
            if let Some((word, line)) = self.dump_slot(leaf, *slot, (&mut *log, &mut *scratch), policy)? {
                (noted.words[*slot as usize], noted.lines[*slot as usize]) = (word, line);
            }
            log.hand_over_much()?;
        }
        let moved = differing.moved.iter().map(|slot| (*slot, true));
        for (slot, is_counted) in moved.chain(differing.again.iter().map(|slot| (*slot, false))) {
            let at = slot as usize;
            let found = match reading!(self, |access| self.look_at_slot(leaf, slot, scratch, access))? {
                Looked::Variable(found) if found.content.version() == version_of(noted.words[at]) => found,
                _ => {
                    settled = false;
                    continue;
                }
            };
            let expiry = self.read_expiry(&found)?.filter(|expiry| *expiry != NEVER);
            if !self.is_unchanged(&found)? {
                settled = false;
                continue;
            }
            if expiry != log.expiry_of(noted.lines[at]) {
                log.note_expiry(noted.lines[at], expiry)?;
                changed += u64::from(!is_counted);
            }
            noted.words[at] = found.content.word | u64::from(found.content.expires());
        }
        Ok((changed, settled))
    }

    /// Writes what is in a slot. Returns what is to be noted; `None`: it did not stand still.
    fn dump_slot(
        &self,
        leaf: &Leaf,
        slot: u32,
        (log, scratch): (&mut DumpLog<'_>, &mut Scratch),
        policy: &dyn WaitPolicy,
    ) -> Result<Option<(u64, u32)>> {
        let found = match reading!(self, |access| self.look_at_slot(leaf, slot, scratch, access))? {
            Looked::Variable(found) => found,
            Looked::Nothing(word) => return Ok(Some((word, NO_LINE))),
            Looked::Restless => return Ok(None),
        };
        let content = &found.content;
        let (word, key_len) = (content.word, content.is_text().then_some(content.key_len() as usize));
        if content.kind() == Kind::Inline {
            let (bytes, len) = content.inline_bytes();
            let of = ValueOf::Variable(index_in(&[], content.rest[0], key_len)?);
            return Ok(Some((word, log.write_value(of, &bytes[2..2 + len])?)));
        }
        let is_large = content.kind() == Kind::Span;
        let expiry = match (content.expires(), is_large) {
            (false, _) => None,
            (true, false) => expiry_in(scratch.bytes()),
            (true, true) => {
                let expiry = self.read_expiry(&found)?;
                if !self.is_unchanged(&found)? {
                    return Ok(None);
                }
                expiry
            }
        };
        let noted = word | u64::from(content.expires());
        // Nobody finds it any more, whatever becomes of it.
        if expiry.is_some_and(|expiry| expiry <= os::boottime_ns()) {
            return Ok(Some((noted, NO_LINE)));
        }
        let line = if is_large {
            let Some(index) = self.index_if_unchanged(&found)? else { return Ok(None) };
            let large = self.pin_large(found, policy)?;
            let Some(line) = log.write_large(ValueOf::Variable(index.as_index()), &large, policy)? else {
                return Ok(None);
            };
            line
        } else {
            let (prefix, value) = scratch.bytes().split_at(content.prefix_len() as usize);
            log.write_value(ValueOf::Variable(index_in(prefix, content.rest[0], key_len)?), value)?
        };
        log.note_expiry(line, expiry.filter(|expiry| *expiry != NEVER))?;
        Ok(Some((noted, line)))
    }

    /// Looks at a slot, and copies the record that it names, if that is in a slab.
    fn look_at_slot(&self, leaf: &Leaf, slot: u32, scratch: &mut Scratch, access: impl Access) -> Result<Looked> {
        let pass = ScanPass::new(self, *leaf, TableOf::Variables);
        for _ in 0..ATTEMPTS_PER_SLOT {
            let Some(found) = pass.slot(leaf.slot_at(u64::from(slot) + 1), access)? else { break };
            let content = &found.content;
            if !content.is_variable() {
                return Ok(Looked::Nothing(content.word));
            }
            match content.kind() {
                Kind::Inline | Kind::Span => return Ok(Looked::Variable(found)),
                Kind::Record => {
                    let copied = self.read_record(&found, content.record_len(), scratch, access)?;
                    if copied && self.is_unchanged_with(&found, access)? {
                        return Ok(Looked::Variable(found));
                    }
                }
                _ => return Err(Error::corrupt(format_args!("the slot at {}", found.offset))),
            }
        }
        Ok(Looked::Restless)
    }
}

/// Compares the slots of a leaf with what was noted of the same leaf.
fn compare(
    mut noted: LeafNotes,
    serial: u64,
    slots: impl Iterator<Item = Content>,
    log: &mut DumpLog<'_>,
) -> Result<(LeafNotes, Differing)> {
    let mut differing = Differing::default();
    for (slot, content) in slots.enumerate() {
        let (word, before, line) = (content.word, noted.words[slot], noted.lines[slot]);
        if is_noted(word, before) {
            if line != NO_LINE && expires(&content, before) && may_have_gone_round(serial, noted.serial) {
                fallible::push(&mut differing.again, slot as u32, NOTES)?;
            }
            continue;
        }
        if line != NO_LINE && version_of(word) == version_of(before) {
            fallible::push(&mut differing.moved, slot as u32, NOTES)?;
            continue;
        }
        if line != NO_LINE {
            log.variable_gone(line);
        }
        (noted.words[slot], noted.lines[slot]) = (0, NO_LINE);
        fallible::push(&mut differing.fresh, slot as u32, NOTES)?;
    }
    Ok((noted, differing))
}

/// Finds the variables of a leaf among those of leaves that are there no more.
fn find(
    mut noted: LeafNotes,
    slots: impl Iterator<Item = Content>,
    loose: &mut Loose,
) -> Result<(LeafNotes, Differing)> {
    let (mut differing, serial) = (Differing::default(), noted.serial);
    if !loose.is_empty() {
        noted.serial = loose.serial;
    }
    for (slot, content) in slots.enumerate().filter(|(_, content)| content.word != 0) {
        let word = content.word;
        let Some((line, before)) = loose.take(word) else {
            fallible::push(&mut differing.fresh, slot as u32, NOTES)?;
            continue;
        };
        (noted.words[slot], noted.lines[slot]) = (before, line);
        if !is_noted(word, before) {
            fallible::push(&mut differing.moved, slot as u32, NOTES)?;
        } else if expires(&content, before) && may_have_gone_round(serial, noted.serial) {
            fallible::push(&mut differing.again, slot as u32, NOTES)?;
        }
    }
    Ok((noted, differing))
}

/// The lowest bit of a noted word is not the busy bit.
const _: () = assert!(BUSY == 1);
