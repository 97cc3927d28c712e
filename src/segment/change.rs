//! Changing variables: put and remove. Whole or not at all.

use crate::codec::buffers;
use crate::error::{Error, Result};
use crate::key::{Index, Name};
use crate::layout::{INLINE_MAX, SLOT};
use crate::mem::Scratch;
use crate::os::fork;
use crate::segment::attachment::{Attachment, Inside, Patience};
use crate::segment::fill::Filled;
use crate::segment::growth::{is_crowded, is_full};
use crate::segment::publish::{Form, Plan};
use crate::segment::room::Turns;
use crate::segment::table::{Place, Table};
use crate::segment::writer::Writer;
use crate::slot::{Content, Kind};
use std::sync::atomic::Ordering;

/// What a put stores: the parts of a value's bytes, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Together they are the value.
    pub parts: &'a [&'a [u8]],
    /// It is a record with out-of-band buffers (docs/format.md): a span, however short.
    pub buffers: bool,
    /// When it expires, on the clock of `os::boottime_ns`.
    pub expiry: Option<u64>,
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

impl Attachment {
    /// Stores a value, given as parts of a pickle. `None`: the condition does not hold. Else the new version.
    pub fn put(
        &self,
        index: &Index<'_>,
        stored: Stored<'_>,
        condition: Condition,
        patience: &dyn Patience,
    ) -> Result<Option<u64>> {
        index.check()?;
        let plan = Plan::new(index.into(), stored, self.identity.hash_key);
        let (mut filled, mut inside, mut collected, mut in_vain) = (None::<Filled<'_>>, None, false, false);
        let mut turns = Turns::default();
        loop {
            turns.next(self)?;
            let mut writer = self.write(patience)?;
            if stored.expiry.is_some() {
                writer.collect_a_few();
            }
            // The record may just have been given another one's block: the place is looked for anew after each wait.
            let place = writer.place_of(&plan.name, plan.hash, &mut Scratch::new())?;
            let old = place.content();
            if let Condition::Version(version) = condition {
                if writer.version_of(old.as_ref())? != version {
                    return Ok(None);
                }
            }
            let mut change = writer.change();
            if let Err(full) = writer.charge(old.as_ref(), plan.charge(), &change) {
                self.step_out(writer, &mut inside);
                if std::mem::replace(&mut collected, true) || !self.collect_expired(patience)? {
                    return Err(full);
                }
                continue;
            }
            let offset = match place {
                Place::Taken(offset, _) | Place::Tombstone(offset) => offset,
                Place::Fresh(_) | Place::None => {
                    let table = self.table()?;
                    if let Some(room) = self.wants_room(&table, &place, change.counters.fill, in_vain) {
                        self.step_out(writer, &mut inside);
                        in_vain = !self.make_room_in_table(&table, room, &mut collected, patience)?;
                        continue;
                    }
                    let Place::Fresh(offset) = place else { return Err(Error::corrupt("the table")) };
                    change.counters.fill = change.counters.fill.saturating_add(1);
                    offset
                }
            };
            let content = match plan.form {
                Form::Inline => plan.inline(),
                Form::Block(class) => match writer.put_in_block(&plan, class, &mut change)? {
                    Some(content) => content,
                    None => {
                        if !writer.slab_from_free(class)? {
                            self.step_out(writer, &mut inside);
                            self.refill(class, patience)?;
                        }
                        continue;
                    }
                },
                Form::Span => match &filled {
                    // Not ours: a signal handler forked while we waited, and this is the child.
                    Some(filled) if writer.owns(filled.span.granule)? => {
                        writer.put_in_span(&plan, filled, &mut change)?
                    }
                    _ => {
                        self.step_out(writer, &mut inside);
                        let (lead, parts) = (plan.lead(), plan.stored.parts);
                        filled = Some(self.fill(lead, &plan.prefix, parts, plan.record_len, patience)?);
                        continue;
                    }
                },
            };
            let version = writer.replace(offset, content, old.as_ref(), &mut change)?;
            if let Some(filled) = filled {
                filled.span.keep();
            }
            drop(writer);
            self.ring_changed(plan.hash);
            self.bound_warm(old.as_ref(), patience);
            return Ok(Some(version));
        }
    }

    /// Before a slot never used is taken: must there be a larger table first? True: at any cost.
    #[inline]
    pub(super) fn wants_room(&self, table: &Table, place: &Place, fill: u64, in_vain: bool) -> Option<bool> {
        if matches!(place, Place::Taken(..) | Place::Tombstone(_)) {
            return None;
        }
        let slots = table.mask + 1;
        if matches!(place, Place::None) || is_crowded(fill, slots) {
            return Some(true);
        }
        if !is_full(fill, slots) {
            return None;
        }
        // There was no memory for a larger table: not tried at every turn.
        let crowded = self.crowded_root.load(Ordering::Relaxed) == table.root.0 && !fill.is_multiple_of(64);
        (!in_vain && !crowded).then_some(false)
    }

    /// Removes what expired, or builds a larger table. False: there is no memory for one, and it need not be.
    pub(super) fn make_room_in_table(
        &self,
        table: &Table,
        must: bool,
        collected: &mut bool,
        patience: &dyn Patience,
    ) -> Result<bool> {
        if !std::mem::replace(collected, true) && self.collect_expired(patience)? {
            return Ok(true);
        }
        match self.grow(table, 1, patience) {
            // No room for a larger one: a crowded table serves to its last free slot.
            Err(Error::Full { .. }) if !must => {
                self.crowded_root.store(table.root.0, Ordering::Relaxed);
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    /// Lets the lock go, but not this process's number: between taking a span and publishing it we stay inside.
    pub fn step_out<'a>(&'a self, writer: Writer<'a>, inside: &mut Option<Inside<'a>>) {
        if inside.as_ref().is_none_or(|inside| inside.epoch != fork::epoch()) {
            *inside = Some(self.enter());
        }
        drop(writer);
    }

    /// Removes a variable. False: it was not there, or the condition does not hold.
    pub fn remove(&self, index: &Index<'_>, condition: Condition, patience: &dyn Patience) -> Result<bool> {
        let name = Name::from(index);
        let mut writer = self.write(patience)?;
        let Place::Taken(offset, old) = writer.place(&name, &mut Scratch::new())? else { return Ok(false) };
        let version = writer.version_of(Some(&old))?;
        let there = version != 0;
        if matches!(condition, Condition::Version(wanted) if wanted != version) {
            return Ok(false);
        }
        // One that expired is gone either way.
        writer.discard(offset, &old, None)?;
        drop(writer);
        self.ring_changed(name.hash(self.identity.hash_key));
        self.bound_warm(Some(&old), patience);
        Ok(there)
    }

    /// What large values leave is kept for the next ones, within bounds: as much as is in use, and 64 MiB. Without a
    /// wait: what cannot be had now is left to the next.
    pub fn bound_warm(&self, old: Option<&Content>, patience: &dyn Patience) {
        let Some(len) = old.filter(|old| old.kind() == Kind::Span).map(Content::record_len) else { return };
        if len < WARM_FROM {
            return;
        }
        let bound = self.state().used.load(Ordering::Relaxed).saturating_add(WARM_MIN);
        if self.warm() > bound {
            let _ = self.cool(bound, patience);
        }
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
