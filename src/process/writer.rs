//! Holding the writer lock: taking it, over the dead if need be; repairing; committing.
//!
//! A [`Writer`] never leaves one call of this crate. No user code, no interpreter, nothing that can fail between a valid
//! intent and its clearing.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::format::{
    CLASSES, DEPTH_MAX, Entry, GRANULE, LEAF_MAX, LeafHead, Root, SLOT, SpanState, blocks_of, granules_of,
};
use crate::os::futex;
use crate::process::attachment::ASK_THE_KERNEL;
use crate::process::attachment::{Attachment, Inside};
use crate::process::deferred_free::DeferredFree;
use crate::process::registry_lock::Registry;
use crate::process::wait_policy::{Blocking, WaitPolicy};
use crate::process::writer_wait::{Stop, Waiter};
use crate::sync::intent::{Change, Counters};
use crate::sync::lock_word;
use crate::sync::slot::{BUSY, Content};
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The writer lock, held until dropped.
pub struct Writer<'a> {
    /// Of what.
    pub att: &'a Attachment,
    /// Our participant number.
    pub me: u32,
    /// All zones in use are mapped: a change finds everything. Else each change is looked at before.
    mapped: bool,
    _inside: Inside<'a>,
}

impl Attachment {
    /// Takes the writer lock. What a dead owner left is repaired first.
    #[inline(always)]
    pub fn write(&self, patience: &dyn WaitPolicy) -> Result<Writer<'_>> {
        Writer::acquire(self, patience)
    }

    /// The same for who gives something back, and shall not be kept from it by a lack of addresses.
    pub fn write_unmapped(&self, patience: &dyn WaitPolicy) -> Result<Writer<'_>> {
        match self.write(patience) {
            Err(Error::Full { .. }) => {}
            other => return other,
        }
        let inside = self.enter();
        let me = self.member(patience)?;
        let mut waiter = Waiter::new(self, me, patience, None, inside.epoch);
        match lock_word::acquire(&self.state().lock, me, &mut waiter) {
            Ok(()) => Writer::ready_unmapped(self, me, inside),
            Err(Stop::Forked) => Err(Error::Interrupted),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// The writer lock if it is free.
    pub fn try_write(&self) -> Option<Writer<'_>> {
        let inside = self.enter();
        let me = self.member_now()?;
        if !lock_word::try_acquire(&self.state().lock, me) {
            return None;
        }
        Writer::ready(self, me, inside).ok()
    }
}

impl<'a> Writer<'a> {
    #[inline(always)]
    fn acquire(att: &'a Attachment, patience: &dyn WaitPolicy) -> Result<Self> {
        let inside = att.enter();
        let me = match att.member_now() {
            Some(me) => me,
            None => att.member(patience)?,
        };
        if lock_word::try_acquire(&att.state().lock, me) {
            return Self::ready(att, me, inside);
        }
        Self::wait(att, me, inside, patience)
    }

    #[cold]
    fn wait(att: &'a Attachment, me: u32, inside: Inside<'a>, patience: &dyn WaitPolicy) -> Result<Self> {
        let mut waiter = Waiter::new(att, me, patience, None, inside.epoch);
        match lock_word::acquire(&att.state().lock, me, &mut waiter) {
            Ok(()) => Self::ready(att, me, inside),
            // A signal handler forked, and this is the child: it is another participant.
            Err(Stop::Forked) => Self::acquire(att, patience),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// For the heir of a dead participant's number, under the registry lock: `inherited`, the lock is his already.
    pub fn heir(att: &'a Attachment, number: u32, inherited: bool, registry: &Registry) -> Result<Self> {
        let inside = att.enter();
        if inherited {
            // Before anything is done under it: what cannot be mapped is left as the dead one left it.
            att.map_zones()?;
        } else {
            let mut waiter = Waiter::new(att, number, &Blocking, Some(registry), inside.epoch);
            match lock_word::acquire(&att.state().lock, number, &mut waiter) {
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Forked) => return Err(Error::Interrupted),
                Ok(()) => {}
            }
        }
        let writer = Self::ready(att, number, inside)?;
        if inherited {
            writer.recount_retired()?;
        }
        Ok(writer)
    }

    /// The lock word is ours: make sure that nothing is half done.
    #[inline(always)]
    pub fn ready(att: &'a Attachment, me: u32, inside: Inside<'a>) -> Result<Self> {
        let mut writer = Writer { att, me, mapped: true, _inside: inside };
        crash_point!("lock-taken");
        // CRASH: the lock is a dead owner's, with or without a change to repair.
        // SYNC: with the readers' acquire fences: who sees a byte that we write from here on sees what came before it.
        fence(Ordering::Release);
        att.map_zones()?;
        if att.mem.intent().valid.load(Ordering::Relaxed) != 0 {
            writer.repair()?;
        }
        if att.state().batch.load(Ordering::Relaxed) != 0 {
            writer.finish_batch()?;
        }
        if att.has_chores.load(Ordering::Relaxed) {
            writer.do_chores()?;
        }
        Ok(writer)
    }

    /// The same where not all can be mapped: nothing may be half done then.
    #[cold]
    fn ready_unmapped(att: &'a Attachment, me: u32, inside: Inside<'a>) -> Result<Self> {
        let writer = Writer { att, me, mapped: false, _inside: inside };
        // SYNC: as in `ready`.
        fence(Ordering::Release);
        let nothing =
            att.mem.intent().valid.load(Ordering::Relaxed) == 0 && att.state().batch.load(Ordering::Relaxed) == 0;
        let again =
            || Error::Busy(format!("{}: a change that was interrupted is put right first: try again", att.name));
        if nothing { Ok(writer) } else { Err(att.map_zones().err().unwrap_or_else(again)) }
    }

    /// Maps what a change touches, before it is begun.
    #[cold]
    fn map_for(&self, change: &Change) -> Result<()> {
        let geometry = &self.att.identity.geometry;
        let blocks = change.blocks[..change.block_count].iter().map(|edit| geometry.granule_at(edit.granule) + GRANULE);
        let slot = change.slot.iter().map(|(offset, _)| offset + SLOT);
        let leaf = change.leaf.iter().map(|(offset, _)| offset + SLOT);
        let words = change.words.iter().map(|words| words.at + words.count * 8);
        blocks.chain(slot).chain(leaf).chain(words).try_for_each(|end| self.att.mem.map_up_to(end))
    }

    /// The arena.
    #[inline(always)]
    pub fn arena(&self) -> Arena<'a> {
        self.att.arena()
    }

    /// A change that changes nothing yet.
    #[inline]
    pub fn change(&self) -> Change {
        Change::new(Counters::read(self.att.state()))
    }

    /// Makes a change.
    #[inline]
    pub fn commit(&mut self, change: &Change) -> Result<()> {
        let zones = change.counters.zones.max(self.arena().zones());
        let sound = |edit| self.arena().edit_is_sound(edit, zones);
        if !change.is_describable() || !change.spans.iter().all(sound) {
            return Err(Error::corrupt(format_args!("the span map: {:?}", change.spans)));
        }
        if !self.mapped {
            self.map_for(change)?;
        }
        let area = self.att.mem.intent();
        change.describe(area);
        let applied = self.apply(change);
        Change::clear(area);
        if !change.spans.is_empty() {
            self.count_retired(change);
        }
        applied
    }

    /// Keeps the count of what is retired. CRASH: whoever takes the lock over counts anew.
    fn count_retired(&self, change: &Change) {
        let retired = &self.att.state().retired;
        let len = |entry: Entry| if entry.state() == SpanState::Retired { entry.len() } else { 0 };
        for edit in &change.spans {
            let now = retired.load(Ordering::Relaxed).saturating_add(len(edit.after)).saturating_sub(len(edit.before));
            retired.store(now, Ordering::Relaxed);
        }
    }

    /// Counts what is retired: a dead owner may have changed it and not said so.
    pub fn recount_retired(&self) -> Result<()> {
        let mut retired = 0_u64;
        for span in self.arena().spans() {
            let (_, entry) = span?;
            retired += if entry.state() == SpanState::Retired { entry.len() } else { 0 };
        }
        self.att.state().retired.store(retired, Ordering::Relaxed);
        Ok(())
    }

    /// Every store is of a stated result: twice is once.
    #[inline]
    fn apply(&self, change: &Change) -> Result<()> {
        let (state, counters) = (self.att.state(), &change.counters);
        // First: the entries of new zones are reached through it.
        state.zones.store(counters.zones, Ordering::Release);
        crash_point!("zones-stored");
        for edit in &change.spans {
            self.arena().apply_span(edit)?;
        }
        let blocks = &change.blocks[..change.block_count];
        for (number, edit) in blocks.iter().enumerate() {
            // Of two in one slab the last decides whether it has room.
            let last = blocks.get(number + 1).is_none_or(|next| next.granule != edit.granule);
            self.arena().apply_block(edit.granule, edit.block, edit.set, last)?;
        }
        if let Some((leaf, Some(counts))) = &change.leaf {
            self.att.mem.at::<LeafHead>(*leaf)?.counts.store(counts.pack(), Ordering::Relaxed);
            crash_point!("counts-stored");
        }
        state.version.store(counters.version, Ordering::Relaxed);
        crash_point!("version-stored");
        state.used.store(counters.used, Ordering::Relaxed);
        crash_point!("used-stored");
        state.count.store(counters.count, Ordering::Relaxed);
        crash_point!("count-stored");
        state.expiring.store(counters.expiring, Ordering::Relaxed);
        crash_point!("expiring-stored");
        if let Some(progress) = &change.progress {
            state.batch.store(progress.batch, Ordering::Relaxed);
            crash_point!("batch-stored");
            state.cursor.store(progress.cursor, Ordering::Relaxed);
            crash_point!("cursor-stored");
            // SYNC: before the slot below, whose word is stored with release: with the last look of `get_many`.
            state.many.store(progress.many, Ordering::Release);
            crash_point!("many-stored");
        }
        if let Some(doomed) = &change.doomed {
            state.doomed.store(doomed.root, Ordering::Relaxed);
            crash_point!("doomed-stored");
            state.doomed_at.store(doomed.at, Ordering::Relaxed);
            crash_point!("doomed-at-stored");
        }
        if let Some(words) = &change.words {
            for number in 0..words.count {
                // SYNC: release, with the readers' acquire: who sees a new leaf sees what is in it.
                let word = words.word[usize::from(number >= words.count / 2)];
                self.att.mem.at::<AtomicU64>(words.at + number * 8)?.store(word.0, Ordering::Release);
                // CRASH: a valid intent; some of the hashes are looked for in the new leaf, the others in the old one, which is
                // the same until then.
                crash_point!("word-stored");
            }
        }
        // SYNC: release, with the readers' acquire: who sees a new table sees what is in it.
        state.root.store(counters.root.0, Ordering::Release);
        crash_point!("root-stored");
        state.names.store(counters.names.0, Ordering::Release);
        crash_point!("names-stored");
        if let Some((offset, content)) = &change.slot {
            self.att.mem.at::<crate::format::Slot>(*offset)?.write(content);
        }
        Ok(())
    }

    /// Makes the change that a dead owner had decided.
    #[cold]
    fn repair(&mut self) -> Result<()> {
        let area = self.att.mem.intent();
        let Some(change) = Change::read(area) else { return Ok(()) };
        let sound = self.is_sound(&change);
        let applied =
            if sound { self.apply(&change) } else { Err(Error::corrupt("the change under way is none of ours")) };
        // An intent that nobody could have written is dropped, so that the next call goes on.
        Change::clear(area);
        applied
    }

    /// Could this process have written that intent? Every number, before any of it is applied.
    fn is_sound(&self, change: &Change) -> bool {
        let geometry = &self.att.identity.geometry;
        let zones = change.counters.zones;
        let now = self.arena().zones();
        let fits = |granule, len| self.arena().fits(granule, len, zones);
        let root_fits = |root: Root| root.depth() <= DEPTH_MAX && fits(root.granule(), granules_of(8 << root.depth()));
        // The granules of a range of the arena.
        let within = |offset: u64, len: u64| {
            let granule = offset.checked_sub(geometry.arena).map(|at| at / GRANULE);
            granule.is_some_and(|granule| fits(granule, len.div_ceil(GRANULE).max(1)))
        };
        let leaf = |offset: u64| {
            let granule = offset.checked_sub(geometry.arena)? / GRANULE;
            let entry = self.arena().entry(granule).ok()?;
            let sound = offset.is_multiple_of(GRANULE)
                && entry.state() == SpanState::Leaf
                && (1..=LEAF_MAX).contains(&entry.len())
                && fits(granule, entry.len());
            sound.then_some(offset + entry.len() * GRANULE)
        };
        let slot_fits = |offset: u64, content: &Content| {
            let (base, _) = change.leaf.unwrap_or_default();
            let end = leaf(base);
            let inside = end.is_some_and(|end| offset > base && offset < end);
            offset.is_multiple_of(SLOT) && content.word & BUSY == 0 && inside
        };
        let block_fits = |granule: u64, block: u64| {
            let entry = self.arena().entry(granule).unwrap_or_default();
            entry.state() == SpanState::Slab && entry.class() < CLASSES.len() && block < blocks_of(entry.class())
        };
        let words_fit = |words: &crate::sync::intent::Words| {
            let directory = |root: Root| {
                let base = geometry.granule_at(root.granule());
                words.at >= base && words.at + words.count * 8 <= base + (8 << root.depth())
            };
            let named = words.word.iter().all(|word| {
                (1..=LEAF_MAX).contains(&word.size()) && fits(word.granule(), word.size()) && word.depth() <= DEPTH_MAX
            });
            let bounded =
                words.at.is_multiple_of(8) && words.count <= 1 << DEPTH_MAX && within(words.at, words.count * 8);
            // As of a directory: memory that is not there is none.
            let there =
                |bytes: u64| bytes < ASK_THE_KERNEL || self.att.resident().is_ok_and(|resident| resident >= bytes);
            bounded
                && there(words.count * 8)
                && named
                && (directory(change.counters.root) || directory(change.counters.names))
        };
        let doomed_fits = |doomed: &crate::sync::intent::Doomed| doomed.root == 0 || root_fits(Root(doomed.root));
        (1..=geometry.zones_max).contains(&zones)
            // Fewer only by a change of nothing else.
            && (zones >= now || (change.spans.is_empty() && change.slot.is_none()))
            && root_fits(change.counters.root)
            && root_fits(change.counters.names)
            && change.slot.as_ref().is_none_or(|(offset, content)| slot_fits(*offset, content))
            && (change.slot.is_some() || change.leaf.is_none())
            && change.words.as_ref().is_none_or(words_fit)
            && change.doomed.as_ref().is_none_or(doomed_fits)
            && change.spans.iter().all(|edit| self.arena().edit_is_sound(edit, zones))
            && change.blocks[..change.block_count].iter().all(|edit| block_fits(edit.granule, edit.block))
    }

    /// Before any span is taken in our name: burying looks for them only then.
    pub fn mark_spans(&self) {
        if let Some(record) = self.att.participant(self.me) {
            if record.spans.load(Ordering::Relaxed) == 0 {
                record.spans.store(1, Ordering::SeqCst);
                // CRASH: whoever buries us looks through the span map and finds nothing.
                crash_point!("spans-marked");
            }
        }
    }

    /// Frees a span, whatever its state.
    pub fn free_span(&mut self, granule: u64) -> Result<()> {
        let entry = self.arena().entry(granule)?;
        if matches!(entry.state(), SpanState::None | SpanState::Bad)
            || !self.arena().fits(granule, entry.len(), self.arena().zones())
        {
            return Err(Error::corrupt(format_args!("span map, granule {granule}: {entry:?} is not to be freed")));
        }
        let mut change = self.change();
        self.arena().plan_free(granule, entry, &mut change);
        self.commit(&change)
    }

    /// Frees a retired span unless somebody has it pinned.
    pub fn free_retired(&mut self, granule: u64) -> Result<()> {
        // SYNC: with the fence of `pin` and of `unpin`: the slot was changed (or the span retired) before this line; they set
        // (or clear) their bit before theirs and look afterwards. One of us sees the other.
        fence(Ordering::SeqCst);
        let entry = self.arena().entry(granule)?;
        if entry.state() == SpanState::Retired && !self.att.pinned(granule)? {
            crash_point!("retired-unpinned");
            self.free_span(granule)?;
        }
        Ok(())
    }

    #[cold]
    fn do_chores(&mut self) -> Result<()> {
        self.att.has_chores.store(false, Ordering::Relaxed);
        self.free_abandoned().inspect_err(|_| self.att.has_chores.store(true, Ordering::Relaxed))?;
        // One after the other, so that the list keeps its room: who leaves one has none to ask for.
        loop {
            let Some(chore) = self.att.chores.lock().pop() else { return Ok(()) };
            self.do_chore(chore).inspect_err(|_| self.att.has_chores.store(true, Ordering::Relaxed))?;
        }
    }

    fn do_chore(&mut self, chore: DeferredFree) -> Result<()> {
        match chore {
            DeferredFree::Retired(granule) => self.free_retired(granule),
            DeferredFree::Unpublished(granule) if self.owns(granule)? => self.free_span(granule),
            DeferredFree::Unpublished(_) => Ok(()),
        }
    }

    /// Is this a span that we are filling or freeing? (In a forked child, a span of the parent's is not.)
    pub fn owns(&self, granule: u64) -> Result<bool> {
        let entry = self.arena().entry(granule)?;
        Ok(matches!(entry.state(), SpanState::Filling | SpanState::Freeing) && entry.owner() == self.me)
    }
}

/// Lets the writer lock go and wakes one who waits for it.
fn release(att: &Attachment) {
    let word = &att.state().lock;
    let waited_for = lock_word::release(word);
    crash_point!("lock-released");
    // CRASH: the sleepers look again after a slice.
    if waited_for {
        futex::wake(word, 1);
    }
}

impl Drop for Writer<'_> {
    #[inline]
    fn drop(&mut self) {
        release(self.att);
        if self.att.ring_later.load(Ordering::Relaxed) {
            self.att.ring_later.store(false, Ordering::Relaxed);
            self.att.ring_all();
            self.att.bury_on();
        }
    }
}

impl Writer<'_> {
    /// The lock stays ours: the caller goes on with it.
    pub fn leave_locked(self) {
        // He is counted in himself.
        self.att.active.fetch_sub(1, Ordering::SeqCst);
        std::mem::forget(self);
    }
}
