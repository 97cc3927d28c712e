//! Making room: pages, zones, spans, slabs, larger tables; and giving room back.
//!
//! Everything here that can wait or fail happens with the lock let go; afterwards the caller looks again.

use crate::arena::pages_of;
use crate::error::{Error, Result};
use crate::key::{Index, Name};
use crate::layout::{
    CLASSES, Entry, GRANULE, ORDER_MAX, PAGE, Root, SLOT, SLOTS_MIN_LOG2, Slot, SpanState, at, order_of,
};
use crate::os::{fork, object};
use crate::segment::attachment::{Attachment, Chore, Patience};
use crate::segment::table::Table;
use crate::segment::writer::Writer;
use crate::slot::Content;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// A table is this full at most: 7/8.
pub fn is_full(fill: u64, slots: u64) -> bool {
    fill >= slots / 8 * 7
}

/// Where no memory is left for another table: 15/16, so that looking for what is not there still ends soon.
pub fn is_crowded(fill: u64, slots: u64) -> bool {
    fill >= slots / 16 * 15
}

/// What is said where the memory file system has no page left.
pub fn file_system_full(needed: u64) -> Error {
    let (size, free) = object::file_system().unwrap_or((0, 0));
    Error::Full {
        needed,
        free,
        size,
        remedy: format!(
            "the memory file system {} is full: remove variables and trim(), destroy segments, or enlarge it (mount -o \
             remount,size=…; docker --shm-size; Kubernetes: a memory emptyDir)",
            object::DIR
        ),
    }
}

/// Turns of a call that makes room and finds it taken by others. So many are lost only to somebody who keeps to no protocol.
#[derive(Default)]
pub struct Turns(u32);

impl Turns {
    /// One more.
    #[inline]
    pub fn next(&mut self, att: &Attachment) -> Result<()> {
        self.0 += 1;
        if self.0 <= 10_000 {
            return Ok(());
        }
        Err(Error::Busy(format!("{}: the room that was made was gone each of {} times", att.name, self.0)))
    }
}

/// A span that this process took for itself: given back unless it was published.
pub struct Taken<'a> {
    att: &'a Attachment,
    /// Its first granule.
    pub granule: u64,
    /// Of its pages, those known to be present.
    pub present: u64,
    /// Of the process that took it: a child that was forked meanwhile has no part in it.
    epoch: u32,
}

impl<'a> Taken<'a> {
    fn new(att: &'a Attachment, granule: u64, present: u64) -> Self {
        Taken { att, granule, present, epoch: fork::epoch() }
    }

    /// It was published.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.att.leave_chore(Chore::Unpublished(self.granule));
            // Without the lock now, the next acquisition does it.
            drop(self.att.try_write());
        }
    }
}

impl Attachment {
    /// Makes pages present, or says what to do.
    pub fn obtain_pages(&self, offset: u64, len: u64) -> Result<()> {
        match self.obtain(offset, len)? {
            Ok(()) => {
                crash_point!("pages-obtained");
                // CRASH: present, and not yet in use: whoever needs them next finds them there.
                Ok(())
            }
            Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) => Err(file_system_full(len)),
            Err(error) => Err(Error::system("obtaining pages", error)),
        }
    }

    /// The same; what is free but still present is given back before it is called full.
    pub fn obtain_or_trim(&self, offset: u64, len: u64, patience: &dyn Patience) -> Result<()> {
        match self.obtain_pages(offset, len) {
            Err(Error::Full { .. }) => {
                self.make_room(patience)?;
                self.obtain_pages(offset, len)
            }
            other => other,
        }
    }

    /// Gives back what is free but present. That it could not is no reason: the caller's own error tells more.
    pub fn make_room(&self, patience: &dyn Patience) -> Result<()> {
        let collected = self.collect_expired(patience);
        match collected.and_then(|_| self.trim(patience)) {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    /// Takes a span for this process to fill. The caller is inside (`enter`) until it is published or given back.
    pub fn take_span(&self, order: u32, patience: &dyn Patience) -> Result<Taken<'_>> {
        let (mut ready, mut swept, mut turns) = (0, false, Turns::default());
        loop {
            turns.next(self)?;
            let mut writer = self.write(patience)?;
            let arena = writer.arena();
            let mut change = writer.change();
            let filling = Entry::new(SpanState::Filling, order).with_owner(writer.me);
            if let Some((granule, entry)) = arena.plan_take(order, filling, &mut change)? {
                writer.mark_spans();
                writer.commit(&change)?;
                return Ok(Taken::new(self, granule, entry.present()));
            }
            let Some(end) = arena.zones_for(order) else {
                if !swept {
                    swept = true;
                    writer.sweep()?;
                    continue;
                }
                return Err(self.no_addresses(order));
            };
            if end <= ready {
                while arena.zones() < end {
                    turns.next(self)?;
                    let mut change = writer.change();
                    arena.plan_zones(end, &mut change)?;
                    writer.commit(&change)?;
                }
                continue;
            }
            let zones = arena.zones();
            drop(writer);
            let geometry = &self.identity.geometry;
            self.obtain_or_trim(geometry.zone_at(zones), (end - zones) * GRANULE, patience)?;
            let (first, last) = (zones / 64 * 512, (end - 1) / 64 * 512);
            let page = |offset: u64| (at::SUMMARY + offset) / PAGE * PAGE;
            self.obtain_or_trim(page(first), page(last) + PAGE - page(first), patience)?;
            ready = end;
        }
    }

    fn no_addresses(&self, order: u32) -> Error {
        let geometry = &self.identity.geometry;
        Error::Full {
            needed: GRANULE << order,
            free: 0,
            size: geometry.granules * GRANULE,
            remedy: "the segment's reserve of addresses, fixed when it was created, is used up or in pieces: create it anew \
                     with a larger size"
                .into(),
        }
    }

    /// Makes a slab of this class whose pages have to be obtained first.
    pub fn refill(&self, class: usize, patience: &dyn Patience) -> Result<()> {
        // In batches, as the segment grows: few calls of the system, little taken by a small one.
        let used = self.state().used.load(Ordering::Relaxed);
        let batch = if used < 1 << 20 {
            0
        } else if used < 16 << 20 {
            2
        } else {
            4
        };
        let mut outcome = self.refill_batch(class, batch, patience);
        if batch > 0 && matches!(outcome, Err(Error::Full { .. })) {
            outcome = self.refill_batch(class, 0, patience);
        }
        outcome
    }

    fn refill_batch(&self, class: usize, order: u32, patience: &dyn Patience) -> Result<()> {
        let span = self.take_span(order, patience)?;
        let granule = span.granule;
        if span.present < pages_of(order) {
            self.obtain_or_trim(self.identity.geometry.granule_at(granule), GRANULE << order, patience)?;
        }
        let mut writer = self.write(patience)?;
        if !writer.owns(granule)? {
            // A signal handler forked, and this is the child: the span is the parent's.
            return Ok(());
        }
        let entry = writer.arena().entry(granule)?;
        let mut change = writer.change();
        writer.plan_slab(granule, entry, class, &mut change)?;
        for half in 0..order {
            let right = granule + (1 << half);
            writer.arena().plan_free(right, Entry(0), half, pages_of(half), &mut change)?;
        }
        writer.commit(&change)?;
        span.keep();
        Ok(())
    }

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

    /// Gives free memory back to the system.
    pub fn trim(&self, patience: &dyn Patience) -> Result<()> {
        let _inside = self.enter();
        self.bury_the_dead(patience)?;
        let mut writer = self.write(patience)?;
        writer.sweep()?;
        let spans: Vec<(u64, Entry)> = writer.arena().spans().collect::<Result<_>>()?;
        drop(writer);
        for (granule, _) in spans.into_iter().filter(|(_, entry)| entry.state() == SpanState::Free) {
            if let Some((span, runs)) = self.take_to_punch(granule, self.write(patience)?)? {
                self.punch(&runs, patience)?;
                drop(span);
            }
        }
        Ok(())
    }

    /// Gives free spans back until at most `bound` bytes of them are present, the last ones first.
    pub fn cool(&self, bound: u64, patience: &dyn Patience) -> Result<()> {
        let _inside = self.enter();
        let mut warm = self.warm();
        let spans: Vec<(u64, Entry)> = self.arena().spans().map_while(Result::ok).collect();
        let free = |(_, entry): &&(u64, Entry)| entry.state() == SpanState::Free && entry.present() > 0;
        for (granule, entry) in spans.iter().rev().filter(free) {
            if warm <= bound {
                break;
            }
            // Whoever writes now goes on; the next large change looks again.
            let Some(writer) = self.try_write() else { return Ok(()) };
            if let Some((span, runs)) = self.take_to_punch(*granule, writer)? {
                self.punch(&runs, patience)?;
                warm = warm.saturating_sub(entry.present() * PAGE);
                drop(span);
            }
        }
        Ok(())
    }

    fn punch(&self, runs: &Runs, patience: &dyn Patience) -> Result<()> {
        for (start, granules) in runs {
            let offset = self.identity.geometry.granule_at(*start);
            let mut punched = Ok(Ok(()));
            patience.outside(&mut || {
                punched = self.with_file(|fd| object::punch(fd, offset, granules * GRANULE));
            });
            punched?.map_err(|e| Error::system("giving memory back", e))?;
            // CRASH: a span that is freeing, present 0.
            crash_point!("punched");
        }
        Ok(())
    }

    /// Takes a span that is free, with the runs of granules in it that may be punched.
    fn take_to_punch(&self, granule: u64, mut writer: Writer<'_>) -> Result<Option<(Taken<'_>, Runs)>> {
        let entry = writer.arena().entry(granule)?;
        if entry.state() != SpanState::Free || !writer.arena().fits(granule, entry.order(), writer.arena().zones()) {
            return Ok(None);
        }
        let runs = writer.runs_to_punch(granule, entry.order())?;
        if runs.is_empty() {
            return Ok(None);
        }
        writer.mark_spans();
        let mut change = writer.change();
        // Present 0 from this commit on: who buries us must not take holes for pages.
        change.span(granule, entry, Entry::new(SpanState::Freeing, entry.order()).with_owner(writer.me));
        writer.commit(&change)?;
        crash_point!("taken-to-punch");
        Ok(Some((Taken::new(self, granule, 0), runs)))
    }
}

/// First granule and number of granules of each.
type Runs = Vec<(u64, u64)>;

impl Writer<'_> {
    /// Plans that a granule whose pages are present becomes an empty slab.
    pub fn plan_slab(
        &self,
        granule: u64,
        before: Entry,
        class: usize,
        change: &mut crate::intent::Change,
    ) -> Result<()> {
        debug_assert!(class < CLASSES.len());
        // CRASH: still free, or ours to fill: nobody reads a bitmap there.
        self.att.mem.zero(self.att.identity.geometry.granule_at(granule), crate::layout::SLAB_HEAD as usize)?;
        crash_point!("slab-cleared");
        let slab = Entry::new(SpanState::Slab, 0).with_class(class).with_present(pages_of(0)).with_sticky();
        change.span(granule, before, slab);
        Ok(())
    }

    /// A free block of this class, where the last one was or where the bitmaps say.
    #[inline]
    pub fn find_block(&self, class: usize) -> Result<Option<(u64, u64)>> {
        let hint = &self.att.slab_hints[class];
        let granule = u64::from(hint.load(Ordering::Relaxed));
        let entry = self.arena().entry(granule).unwrap_or_default();
        if entry.state() == SpanState::Slab && entry.class() == class {
            if let Some(block) = self.arena().free_block(granule, class)? {
                return Ok(Some((granule, block)));
            }
        }
        let found = self.arena().find_slab(class)?;
        if let Some((granule, _)) = found {
            hint.store(granule as u32, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Makes a slab of a free granule whose pages are known to be present. False: there is none such at hand.
    pub fn slab_from_free(&mut self, class: usize) -> Result<bool> {
        let mut change = self.change();
        let slab = Entry::new(SpanState::Slab, 0);
        let Some((granule, taken)) = self.arena().plan_take(0, slab, &mut change)? else { return Ok(false) };
        if taken.present() < pages_of(0) {
            return Ok(false);
        }
        // `plan_take` put the granule's own edit last.
        let Some(edit) = change.spans.pop() else { return Ok(false) };
        self.plan_slab(granule, edit.before, class, &mut change)?;
        self.commit(&change)?;
        Ok(true)
    }

    /// A slab without a used block goes back to the arena, if its class has room elsewhere.
    pub fn release_slab(&mut self, granule: u64) -> Result<()> {
        let entry = self.arena().entry(granule)?;
        if entry.state() != SpanState::Slab || entry.class() >= CLASSES.len() || !self.arena().slab_is_empty(granule)? {
            return Ok(());
        }
        let mut change = self.change();
        self.arena().plan_free(granule, entry, 0, pages_of(0), &mut change)?;
        // One with room stays, so that a class does not take and give a granule at every turn.
        if self.arena().find_slab(entry.class())?.is_some_and(|(other, _)| other != granule) {
            self.commit(&change)?;
        }
        Ok(())
    }

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

    /// Runs of granules of a free span that may be punched.
    pub fn runs_to_punch(&self, granule: u64, order: u32) -> Result<Vec<(u64, u64)>> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for g in granule..granule + (1 << order) {
            if self.arena().entry(g)?.sticky() {
                continue;
            }
            match runs.last_mut() {
                Some((start, len)) if *start + *len == g => *len += 1,
                _ => runs.push((g, 1)),
            }
        }
        Ok(runs)
    }
}
