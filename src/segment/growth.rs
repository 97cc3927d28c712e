//! Larger tables, and tables without tombstones.

use crate::arena::pages_of;
use crate::error::{Error, Result};
use crate::key::{Index, Name};
use crate::layout::{Entry, GRANULE, ORDER_MAX, Root, SLOT, SLOTS_MIN_LOG2, Slot, SpanState, order_of};
use crate::segment::attachment::{Attachment, Patience};
use crate::segment::table::Table;
use crate::segment::writer::Writer;
use crate::slot::Content;
use std::sync::atomic::Ordering;

/// A table is this full at most: 7/8.
pub fn is_full(fill: u64, slots: u64) -> bool {
    fill >= slots / 8 * 7
}

/// Where no memory is left for another table: 15/16, so that looking for what is not there still ends soon.
pub fn is_crowded(fill: u64, slots: u64) -> bool {
    fill >= slots / 16 * 15
}

impl Attachment {
    /// Replaces the table by a larger one, or by one without tombstones (smaller, where little is left), with room for so many
    /// `more`, unless somebody did since `old` was looked at.
    pub fn grow(&self, old: &Table, more: u64, patience: &dyn Patience) -> Result<()> {
        // No more than there are slots, whatever a damaged counter says.
        let count = self.state().count.load(Ordering::Relaxed).min(old.mask + 1);
        let mut log2 = match old.root.log2() {
            large if count < (1 << large) / 16 => (count * 4).next_power_of_two().ilog2().max(SLOTS_MIN_LOG2),
            same if count < (1 << same) / 2 => same,
            small @ ..=15 => small + 2,
            large => large + 1,
        };
        while is_full(count.saturating_add(more), 1 << log2) && log2 < 40 {
            log2 += 1;
        }
        // Locks are not counted: where they leave too little room, it is twice as large.
        let (mut least, most) = (0, log2.max(old.root.log2()) + 1);
        loop {
            let smaller = log2 > old.root.log2() + 1 && !is_full(count.saturating_add(more), 1 << (log2 - 1));
            match self.grow_to(old, log2, more, patience) {
                // No memory for four times as many: then for twice.
                Err(Error::Full { .. }) if smaller && log2 > least => log2 -= 1,
                Ok(false) if log2 < most => {
                    log2 += 1;
                    least = log2;
                }
                Ok(false) => return Err(Error::corrupt("more in the table than it has slots")),
                other => return other.map(drop),
            }
        }
    }

    /// False: what is there does not fit, with so many more.
    fn grow_to(&self, old: &Table, log2: u32, more: u64, patience: &dyn Patience) -> Result<bool> {
        let order = order_of(SLOT << log2);
        let span = self.take_span(order, patience)?;
        let granule = span.granule;
        let offset = self.identity.geometry.granule_at(granule);
        let len = GRANULE << order;
        if span.present < pages_of(order) {
            self.obtain_or_trim(offset, len, patience)?;
        }
        self.arena().make_sticky(granule, order)?;
        let mut cleared = Ok(());
        patience.outside(&mut || cleared = self.mem.zero(offset, len as usize));
        cleared?;
        crash_point!("table-cleared");

        let mut writer = self.write(patience)?;
        if self.state().root.load(Ordering::Relaxed) != old.root.0 || !writer.owns(granule)? {
            return Ok(true);
        }
        let root = Root::new(granule as u32, log2, old.root.generation().wrapping_add(1));
        let new = Table { root, base: offset, mask: (1 << log2) - 1 };
        let Some(moved) = writer.copy_table(old, &new)? else { return Ok(false) };
        if is_full(moved.saturating_add(more), new.mask + 1) {
            return Ok(false);
        }
        let mut change = writer.change();
        change.counters.root = root;
        change.counters.fill = moved;
        let table = Entry::new(SpanState::Table, order).with_present(pages_of(order)).with_sticky();
        change.span(granule, writer.arena().entry(granule)?, table);
        let before = writer.arena().entry(old.root.granule())?;
        if before.state() != SpanState::Table || before.order() > ORDER_MAX {
            return Err(Error::corrupt(format_args!("the table's span: {before:?}")));
        }
        writer.arena().plan_free(old.root.granule(), before, before.order(), pages_of(before.order()), &mut change)?;
        writer.commit(&change)?;
        span.keep();
        Ok(true)
    }
}

impl Writer<'_> {
    /// Copies every slot in use from one table to a new, empty one that nobody reads yet. `None`: they do not fit.
    fn copy_table(&self, old: &Table, new: &Table) -> Result<Option<u64>> {
        let key = self.att.identity.hash_key;
        let (mut moved, mut steps) = (0, 0);
        for number in 0..=old.mask {
            let slot = self.att.mem.at::<Slot>(old.slot_at(number))?;
            let content = Content { word: slot.word.load(Ordering::Relaxed), rest: slot.rest() };
            if !content.is_entry() {
                continue;
            }
            let first = content.rest[0];
            let hash = match content.is_text() {
                true => first,
                false => Name { index: Index::Int(first as i64), lock: content.is_lock() }.hash(key),
            };
            let mut step = 0;
            let to = loop {
                let to = self.att.mem.at::<Slot>(new.slot_at(hash.wrapping_add(step)))?;
                if to.word.load(Ordering::Relaxed) == 0 {
                    break to;
                }
                step += 1;
                steps += 1;
                // Two steps a slot is much in a table this empty.
                if step > new.mask || steps > 64 * (new.mask + 1) {
                    return Err(Error::corrupt("too many of one hash in the table"));
                }
            };
            for (to, from) in to.rest.iter().zip(content.rest) {
                to.store(from, Ordering::Relaxed);
            }
            to.word.store(content.word, Ordering::Relaxed);
            crash_point!("slot-copied");
            // CRASH: until the commit the new table is a span that we fill.
            moved += 1;
            if is_full(moved, new.mask + 1) {
                return Ok(None);
            }
        }
        Ok(Some(moved))
    }
}
