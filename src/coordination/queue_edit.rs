//! One change of a queue and of its items: which slots get which contents, planned under the writer lock and committed
//! as a set.
//!
//! The protocol is "Queues" in docs/protocol.md, the table of its commits. What is changed is decided in
//! `queue_put.rs`, `queue_take.rs` and `queue_finish.rs`.

use crate::coordination::queue_keys::ItemKey;
use crate::coordination::queue_record::Parts;
use crate::coordination::queue_state::QueueState;
use crate::coordination::{Coordination, CoordinationWriter};
use crate::error::{Error, Result};
use crate::format::slot_flags::RELEASED_LOCK;
use crate::format::{CLASSES, Slot, VERSION_MAX, blocks_of, slab_has_all_pages};
use crate::key::{Index, Name};
use crate::os::mem::Scratch;
use crate::process::wait_policy::{Uninterrupted, WaitPolicy};
use crate::sync::intent::{Change, LeafCounts};
use crate::sync::slot::{Content, Kind};
use crate::sync::slot_set::{SetSlot, SlotSet};
use crate::variables::AsVariables;
use crate::variables::leaf::{Leaf, TableOf, is_crowded};
use crate::variables::place::{SlotPlace, Spot};
use crate::variables::record::record_at;
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::stored::{Layout, Stored};
use std::sync::atomic::{Ordering, fence};

/// Private to the process: what lacked for a change of a queue. It is obtained without the writer lock, and then the
/// whole change is planned anew.
#[derive(Clone, Copy, Debug)]
pub enum Lacking {
    /// The leaf has no slot left, or a larger one should be made: it must be (true), or need not where there is no
    /// memory. The hash is one of the leaf's.
    Slot(Leaf, u64, bool),
    /// No block of this class is free.
    Block(usize),
}

/// Private to the process: what a call that changes a queue has found that it has to do without.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkArounds {
    /// No block of the right class can be had for the queue's record: a larger one will do.
    any_class: bool,
    /// No larger leaf can be had: the leaf is filled to its last slot.
    no_larger_leaf: bool,
}

/// Private to the process: a queue as it was found under the writer lock.
pub struct FoundQueue {
    /// The hash of its name.
    pub hash: u64,
    /// The place of its slot.
    pub place: SlotPlace,
    /// What its record says. `None`: it has no slot, and so no items.
    pub state: Option<QueueState>,
}

/// Private to the process: one change of a queue.
pub struct QueueEdit {
    /// Counters, and edits of the span map.
    pub change: Change,
    set: SlotSet,
    /// Spans that nothing names afterwards.
    retired: [u64; CLEARED_AT_ONCE],
    retired_count: usize,
    /// The charges of what is removed.
    pub freed: u64,
}

/// The most items that one change removes: each may need an edit of the span map.
pub const CLEARED_AT_ONCE: usize = 8;

impl Coordination {
    /// Returns the hash of a queue's name, which is that of the wake word of those who wait for an item.
    #[inline]
    pub fn queue_hash(&self, name: &Index<'_>) -> u64 {
        Name::of_queue(name).hash(self.identity.hash_key)
    }

    /// Obtains what lacked for a change of a queue, or notes that the call has to do without it. The writer lock is not
    /// held.
    #[cold]
    pub fn obtain_for_queue(&self, lacking: Lacking, around: &mut WorkArounds, policy: &dyn WaitPolicy) -> Result<()> {
        let _call_guard = self.enter_call();
        match lacking {
            Lacking::Slot(leaf, hash, required) => match self.grow(&leaf, hash, TableOf::Names, 1, policy) {
                Err(Error::Full { .. }) if !required => {
                    around.no_larger_leaf = true;
                    Ok(())
                }
                other => other,
            },
            Lacking::Block(class) => match self.add_blocks(class, false, policy) {
                Err(Error::Full { .. }) if !around.any_class => {
                    around.any_class = true;
                    Ok(())
                }
                other => other,
            },
        }
    }

    /// Does what follows a change that has removed items: replaces a leaf that is nearly empty, and gives memory back.
    pub fn after_removal(&self, sparse: Option<(Leaf, u64)>, freed: u64, policy: &dyn WaitPolicy) {
        // Where there was no memory for a smaller leaf, it is asked for again only when another leaf is sparse.
        let hint = &self.table_hints.sparse_leaf;
        if let Some((leaf, hash)) = sparse.filter(|(leaf, _)| hint.load(Ordering::Relaxed) != leaf.word.0) {
            let _call_guard = self.enter_call();
            // A smaller leaf costs less than passing over the tombstones. If it cannot be made, the leaf stays.
            if self.grow(&leaf, hash, TableOf::Names, 0, &Uninterrupted(policy)).is_err() {
                hint.store(leaf.word.0, Ordering::Relaxed);
            }
        }
        self.note_freed(freed);
        self.limit_warm_memory(policy);
    }
}

impl CoordinationWriter<'_> {
    /// Finds a queue. Whatever its record says is checked.
    pub fn find_queue(&self, name: &Index<'_>, parts: Parts, scratch: &mut Scratch) -> Result<FoundQueue> {
        let (place, hash) = self.find_queue_slot(name, scratch)?;
        let state = match place.occupant() {
            None => None,
            Some(content) => {
                if !name_is_text(name) {
                    self.copy_record(content, scratch)?;
                }
                let size = self.att.identity.geometry.length;
                let bytes = scratch.bytes().get(content.prefix_len() as usize..);
                Some(QueueState::parse(bytes.unwrap_or_default(), content.has_second_head(), parts, size)?)
            }
        };
        Ok(FoundQueue { hash, place, state })
    }

    /// Finds the slot of a queue. Returns the hash, too.
    pub fn find_queue_slot(&self, name: &Index<'_>, scratch: &mut Scratch) -> Result<(SlotPlace, u64)> {
        let name = Name::of_queue(name);
        let hash = name.hash(self.att.identity.hash_key);
        Ok((self.find_place_of_hash(&name, hash, scratch)?, hash))
    }

    /// Copies the record that a slot names to `scratch`.
    fn copy_record(&self, content: &Content, scratch: &mut Scratch) -> Result<()> {
        let at = match content.kind() {
            Kind::Record => record_at(self.att, content)?,
            _ => None,
        };
        let at = at.ok_or_else(|| Error::corrupt(format_args!("a queue: {:x?}", content.rest)))?;
        self.att.mem.read_scratch(at, content.record_len() as usize, scratch)
    }

    /// Finds an item that a queue states. A small one is then in `scratch`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no such item.
    pub fn find_item(&self, queue: u64, ticket: u64, scratch: &mut Scratch) -> Result<(SlotPlace, u64, Content)> {
        let key = ItemKey::new(queue, ticket);
        let hash = key.name().hash(self.att.identity.hash_key);
        let place = self.find_place_of_hash(&key.name(), hash, scratch)?;
        match place.spot {
            Spot::Occupied(_, content) if matches!(content.kind(), Kind::Record | Kind::Span) => {
                Ok((place, hash, content))
            }
            _ => Err(Error::corrupt(format_args!("item {ticket} of queue {queue} is missing or damaged"))),
        }
    }

    /// Begins a change.
    pub fn queue_edit(&self) -> QueueEdit {
        let queued = self.att.state().queued.load(Ordering::Relaxed);
        QueueEdit {
            change: self.change(),
            set: SlotSet::of_names(queued),
            retired: [0; CLEARED_AT_ONCE],
            retired_count: 0,
            freed: 0,
        }
    }

    /// Plans new contents of a slot that `place` was found to be. Returns what lacks, if anything does.
    pub fn edit_store(
        &self,
        edit: &mut QueueEdit,
        place: &SlotPlace,
        hash: u64,
        content: Content,
        around: WorkArounds,
    ) -> Result<Option<Lacking>> {
        let old = place.occupant();
        if let Some(required) = self.att.variables().needs_larger_leaf(place, around.no_larger_leaf)? {
            return Ok(Some(Lacking::Slot(place.leaf, hash, required)));
        }
        let lacking = Lacking::Slot(place.leaf, hash, true);
        let (offset, counts) = match place.spot {
            Spot::Occupied(offset, _) => (offset, None),
            spot => {
                let taken = |offset| edit.set.slots().iter().any(|slot| slot.offset == offset);
                let spot = match spot {
                    Spot::Tombstone(offset) | Spot::Unused(offset) if taken(offset) => {
                        self.find_free_beside(&place.leaf, hash, taken)?
                    }
                    spot => spot,
                };
                let (Spot::Tombstone(offset) | Spot::Unused(offset)) = spot else { return Ok(Some(lacking)) };
                let LeafCounts { fill, entries } = self.counts_in_edit(edit, &place.leaf)?;
                let unused = matches!(spot, Spot::Unused(_));
                if unused && is_crowded(fill, place.leaf.slots) {
                    return Ok(Some(lacking));
                }
                // What a named lock left behind is counted as an entry already.
                let counted = self.att.mem.at::<Slot>(offset)?.rest[1].load(Ordering::Relaxed) == RELEASED_LOCK;
                let entries = entries.saturating_add(u64::from(!counted));
                (offset, Some(LeafCounts { fill: fill + u64::from(unused), entries }))
            }
        };
        edit.charge(old.map_or(0, Content::charge), content.charge());
        // A queue's record may stay where it is.
        let moved = old.filter(|old| (old.granule(), old.block()) != (content.granule(), content.block()));
        self.free_old(edit, moved)?;
        edit.push(offset, content, &place.leaf, counts)?;
        Ok(None)
    }

    /// Plans that a slot becomes a tombstone, and that what it names is free.
    pub fn edit_remove(&self, edit: &mut QueueEdit, place: &SlotPlace) -> Result<()> {
        let Spot::Occupied(offset, old) = place.spot else { return Ok(()) };
        let LeafCounts { fill, entries } = self.counts_in_edit(edit, &place.leaf)?;
        edit.charge(old.charge(), 0);
        self.free_old(edit, Some(&old))?;
        let counts = LeafCounts { fill, entries: entries.saturating_sub(1) };
        edit.push(offset, Content::tombstone(), &place.leaf, Some(counts))
    }

    /// Plans the new state of a queue, or that the queue goes where it has no items left.
    ///
    /// What the record states is written where nothing is in force, so it needs no block of its own, unless it has to
    /// grow: whatever takes an item out works in a segment without any room.
    pub fn edit_queue(
        &self,
        edit: &mut QueueEdit,
        name: &Index<'_>,
        found: &FoundQueue,
        state: &mut QueueState,
        around: WorkArounds,
    ) -> Result<Option<Lacking>> {
        if state.is_over() {
            return self.edit_remove(edit, &found.place).map(|()| None);
        }
        if let Some(content) = found.place.occupant() {
            if let Some(edits) = state.edits(content.has_second_head())? {
                let at =
                    record_at(self.att, content)?.ok_or_else(|| Error::corrupt("the place of a queue's record"))?;
                let at = at + content.prefix_len();
                // SYNC: as in `write_record`: readers of what was in force two changes ago find that the slot has
                // changed.
                fence(Ordering::Release);
                if let Some((place, list)) = &edits.list {
                    self.att.mem.copy_in(at + place, &[list])?;
                }
                self.att.mem.copy_in(at + edits.head.0, &[&edits.head.1])?;
                // CRASH: bytes that are not in force.
                crash_point!("queue-written");
                return self.edit_store(edit, &found.place, found.hash, content.with_other_head(), around);
            }
        }
        let record = state.record()?;
        let stored = Stored { parts: &[&record], layout: Layout::Pickle, expiry: None };
        let plan = StorePlan::new(Name::of_queue(name), stored, self.att.identity.hash_key)?;
        let Placement::Block(class) = plan.placement else { return Err(Error::corrupt("the length of a queue")) };
        let Some(content) = self.edit_record(edit, &plan, class, around)? else {
            return Ok(Some(Lacking::Block(class)));
        };
        self.edit_store(edit, &found.place, found.hash, content, around)
    }

    /// Writes a record into a free block and plans that the block is used. `None`: no block is free.
    pub fn edit_record(
        &self,
        edit: &mut QueueEdit,
        plan: &StorePlan<'_>,
        class: usize,
        around: WorkArounds,
    ) -> Result<Option<Content>> {
        let last = if around.any_class { CLASSES.len() - 1 } else { class };
        for class in class..=last {
            let Some((granule, block)) = self.block_for(edit, class)? else { continue };
            let content = plan.content(granule, Some(block));
            let at = record_at(self.att, &content)?.ok_or_else(|| Error::corrupt("the place of a free block"))?;
            self.write_record(at, &plan.prefix, plan.stored.parts)?;
            edit.set.edit_block(granule, block, true);
            return Ok(Some(content));
        }
        Ok(None)
    }

    /// Returns a free block of a class, whose pages are present, that the change does not take already.
    fn block_for(&self, edit: &QueueEdit, class: usize) -> Result<Option<(u64, u64)>> {
        let Some(found) = self.find_block(class)? else { return Ok(None) };
        let taken = |block| edit.set.blocks().any(|edit| edit.used && (edit.granule, edit.block) == block);
        if !taken(found) {
            return Ok(Some(found));
        }
        if slab_has_all_pages(class) {
            return self.block_beside_set(class, &edit.set);
        }
        let (arena, mut other) = (self.arena(), None);
        arena.each_nonfull_slab(class, |granule| {
            let used = arena.used_words(granule)?;
            for block in 0..blocks_of(class) {
                let free = used[(block / 64) as usize] >> (block % 64) & 1 == 0 && !taken((granule, block));
                if free && arena.block_is_present(granule, class, block)? {
                    other = Some((granule, block));
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        Ok(other)
    }

    /// Plans that the memory is free that a slot's old contents name.
    fn free_old(&self, edit: &mut QueueEdit, old: Option<&Content>) -> Result<()> {
        match old.map(Content::kind) {
            Some(Kind::Record) => {
                let old = old.expect("just matched");
                if record_at(self.att, old)?.is_none() {
                    return Err(Error::corrupt("the place of a record of a queue or of an item"));
                }
                edit.set.edit_block(old.granule(), old.block(), false);
            }
            Some(Kind::Span) => {
                let old = old.expect("just matched");
                self.plan_retire(old, &mut edit.change)?;
                edit.retired[edit.retired_count] = old.granule();
                edit.retired_count += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns what a leaf counts after the slots that the change has already.
    fn counts_in_edit(&self, edit: &QueueEdit, leaf: &Leaf) -> Result<LeafCounts> {
        let of_leaf = |slot: &&SetSlot| slot.leaf == leaf.base && slot.counts().is_some();
        match edit.set.slots().iter().rev().find(of_leaf).and_then(SetSlot::counts) {
            Some(counts) => Ok(counts),
            None => self.att.variables().counts_of(leaf),
        }
    }

    /// Makes the change.
    pub fn commit_queue(&mut self, edit: &QueueEdit) -> Result<()> {
        self.commit_set(&edit.change, &edit.set)?;
        self.free_emptied_slabs(&edit.set);
        for granule in &edit.retired[..edit.retired_count] {
            // The change is made. An error from here on would be about damage elsewhere, which the next call meets.
            let _ = self.free_retired(*granule);
        }
        Ok(())
    }
}

impl QueueEdit {
    /// Adds a slot with the next version.
    fn push(&mut self, offset: u64, content: Content, leaf: &Leaf, counts: Option<LeafCounts>) -> Result<()> {
        let version = self.change.counters.version.saturating_add(1);
        if version >= VERSION_MAX {
            return Err(Error::corrupt("the version counter"));
        }
        self.change.counters.version = version;
        self.set.push(SetSlot::new(offset, content.with_version(version), leaf.base, counts));
        Ok(())
    }

    /// Replaces a charge by another one.
    fn charge(&mut self, before: u64, after: u64) {
        for sum in [&mut self.change.counters.used, &mut self.set.queued] {
            *sum = sum.saturating_sub(before).saturating_add(after);
        }
        self.freed += before.saturating_sub(after);
    }
}

/// Returns whether a name is text: then the search for it has copied its record.
fn name_is_text(name: &Index<'_>) -> bool {
    matches!(name, Index::Text(_))
}
