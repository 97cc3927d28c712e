//! The slot of a named lock: reading it, and changing it under the writer lock.
//!
//! The protocol is "Named locks" in docs/protocol.md. When to change it is decided in `lock_acquire.rs` and
//! `lock_release.rs`.

use crate::coordination::lock_state::{LockState, NO_PARTICIPANT, ParticipantId, number_of};
use crate::coordination::{AsCoordination, Coordination, CoordinationWriter};
use crate::error::{Error, Result};
use crate::format::slot_flags::RELEASED_LOCK;
use crate::format::{PARTICIPANTS, Slot};
use crate::key::{Index, IndexBuf, Name};
use crate::os;
use crate::os::mem::Scratch;
use crate::process::access::{MappedAccess, PreadAccess, reading};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::intent::Change;
use crate::sync::slot::{Content, Kind, Seqlock};
use crate::variables::AsVariables;
use crate::variables::found::{ContentSource, Found};
use crate::variables::leaf::TableOf;
use crate::variables::place::{SlotPlace, Spot};
use crate::variables::record::record_at;
use crate::variables::scan::ScanPass;
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::stored::{Layout, Stored};
use std::sync::atomic::{Ordering, fence};

impl Coordination {
    /// Returns the id of a participant, with its present generation.
    pub fn participant_id(&self, number: u32) -> ParticipantId {
        let generation = self.participant(number).map_or(0, |record| record.generation.load(Ordering::Relaxed));
        // The remainder keeps the id apart from `NO_PARTICIPANT`, which has all bits set.
        ((generation % 0x3f_ffff) as u32 * PARTICIPANTS) | number
    }

    /// Returns whether a participant is alive and still the same one. An answer that is late cannot become wrong,
    /// because no other participant gets the same id.
    pub fn is_alive(&self, owner: ParticipantId) -> Result<bool> {
        let number = number_of(owner);
        let Some(record) = self.participant(number) else { return Ok(false) };
        let lives = record.state.load(Ordering::Acquire) == 1 && self.alive(number)?;
        // The generation is compared last: a number that was claimed anew meanwhile is another participant's.
        Ok(lives && self.participant_id(number) == owner)
    }

    /// Reads the slot of a lock without the writer lock. `None`: the lock has no slot, so it is free.
    pub fn read_lock(&self, name: &Index<'_>, policy: &dyn WaitPolicy) -> Result<Option<LockState>> {
        let mut scratch = Scratch::new();
        let Some(found) = self.find_entry(&Name::of_lock(name), &mut scratch, policy)? else { return Ok(None) };
        let lock = match found.content.kind() {
            Kind::Inline => LockState::from_slot_words([found.content.rest[1], found.content.rest[2]]),
            Kind::Record => scratch.bytes().get(found.content.prefix_len() as usize..).and_then(LockState::from_bytes),
            _ => None,
        };
        lock.map(Some).ok_or_else(|| Error::corrupt("a lock"))
    }

    /// Returns whether a living process holds a lock.
    pub fn is_locked(&self, name: &Index<'_>, policy: &dyn WaitPolicy) -> Result<bool> {
        name.check_length()?;
        let Some(LockState { owner, .. }) = self.read_lock(name, policy)? else { return Ok(false) };
        // A handle that may not look at the lock object takes the owner for alive.
        let lives = |owner| self.is_alive(owner).or_else(|e| if self.mem.writable() { Err(e) } else { Ok(true) });
        Ok(owner != NO_PARTICIPANT && lives(owner)?)
    }

    /// Returns the locks that are held, and the pids of their owners. The list is for people.
    pub fn locks(&self, policy: &dyn WaitPolicy) -> Result<Vec<(IndexBuf, u32)>> {
        let locks = |number| self.participant(number).is_some_and(|record| record.locks.load(Ordering::Relaxed) != 0);
        if !(0..PARTICIPANTS).any(locks) {
            return Ok(Vec::new());
        }
        self.scan(TableOf::Names, |pass, found| self.read_lock_owner(pass, &found), policy)
    }

    /// Reads the name and the owner's pid of a lock that a pass found. `None`: it is not held, or changed meanwhile.
    fn read_lock_owner(&self, pass: &ScanPass<'_>, found: &Found) -> Result<Option<(IndexBuf, u32)>> {
        if !found.content.is_lock() {
            return Ok(None);
        }
        let Some(name) = self.index_of(pass, found)? else { return Ok(None) };
        let mut scratch = Scratch::new();
        let lock = match found.content.kind() {
            Kind::Record => {
                let len = found.content.record_len();
                if !reading!(self, |access| self.read_record(found, len, &mut scratch, access))? {
                    return Ok(None);
                }
                scratch.bytes().get(found.content.prefix_len() as usize..).and_then(LockState::from_bytes)
            }
            _ => LockState::from_slot_words([found.content.rest[1], found.content.rest[2]]),
        };
        if !self.is_unchanged(found)? {
            return Ok(None);
        }
        // The lock of a dead owner is free, only that no waiter has come for it yet. (A handle that may not ask takes
        // the owner for alive.)
        let lives = |lock: &LockState| lock.owner != NO_PARTICIPANT && self.is_alive(lock.owner).unwrap_or(true);
        let owner = lock.filter(lives).and_then(|lock| self.participant(number_of(lock.owner)));
        Ok(owner.map(|record| (name, record.pid.load(Ordering::Relaxed))))
    }

    /// Returns what the slot of a lock says. `None`: no lock's slot says that. The caller holds the writer lock.
    pub fn lock_state_of(&self, content: &Content) -> Result<Option<LockState>> {
        match content.kind() {
            Kind::Inline => return Ok(LockState::from_slot_words([content.rest[1], content.rest[2]])),
            Kind::Record => {}
            _ => return Ok(None),
        }
        let Some(at) = record_at(self, content)? else { return Ok(None) };
        let mut bytes = Vec::new();
        self.mem.read_into(at, content.record_len() as usize, &mut bytes)?;
        Ok(bytes.get(content.prefix_len() as usize..).and_then(LockState::from_bytes))
    }
}

impl CoordinationWriter<'_> {
    /// Returns what the slot of a lock says, or an error if no lock's slot says that.
    pub fn lock_state(&self, content: &Content) -> Result<LockState> {
        self.att
            .coordination()
            .lock_state_of(content)?
            .ok_or_else(|| Error::corrupt(format_args!("a lock: {:x?}", content.rest)))
    }

    /// Stores a lock that has no slot. Returns `false` if there is no free block for it yet. The leaf has room.
    pub fn insert_lock(&mut self, name: &Index<'_>, place: &SlotPlace, lock: LockState) -> Result<bool> {
        if !self.revive_tombstone(name, place, lock)? && !self.insert_new(name, place, lock)? {
            return Ok(false);
        }
        // CRASH: the lock is a dead owner's. A process that waits for it acquires it, or reaping releases it.
        crash_point!("lock-stored");
        Ok(true)
    }

    /// Stores a lock in the tombstone that it left, by one store. Returns `false` if the lock left none here, or
    /// another state.
    #[inline]
    fn revive_tombstone(&self, name: &Index<'_>, place: &SlotPlace, lock: LockState) -> Result<bool> {
        let (Spot::Tombstone(offset), Index::Int(number)) = (place.spot, name) else { return Ok(false) };
        let slot = self.att.mem.at::<Slot>(offset)?;
        let ([name, tag, rest], [held_tag, held_rest]) = (slot.rest(), lock.slot_words());
        if name != *number as u64 || tag != RELEASED_LOCK || rest != held_rest {
            return Ok(false);
        }
        self.mark_locks();
        self.retag(slot, held_tag);
        Ok(true)
    }

    /// Makes a change that is one store. It is made or not, whenever the process dies, so no intent describes it.
    #[inline]
    fn retag(&self, slot: &Slot, tag: u64) {
        let serial = &self.att.mem.intent().serial;
        serial.store(serial.load(Ordering::Relaxed).wrapping_add(1).max(1), Ordering::Relaxed);
        // CRASH: a serial that no change has; the lock is as it was.
        crash_point!("serial-moved");
        // SYNC: pairs with the acquire fences of a check without the lock: a process that sees the tag, or anything
        // after it, sees that a change was made.
        fence(Ordering::Release);
        slot.retag(tag);
    }

    /// Stores a lock in a slot that is free, by a commit. Returns `false` if there is no free block for its record yet.
    fn insert_new(&mut self, name: &Index<'_>, place: &SlotPlace, lock: LockState) -> Result<bool> {
        let mut change = self.change();
        if !matches!(place.spot, Spot::Tombstone(_) | Spot::Unused(_)) {
            return Ok(false);
        }
        self.mark_locks();
        let bytes = lock.to_bytes();
        let stored = Stored { parts: &[&bytes], layout: Layout::Pickle, expiry: None };
        let plan = StorePlan::new(Name::of_lock(name), stored, self.att.identity.hash_key)?;
        let Some(content) = self.lock_contents(&plan, &mut change)? else { return Ok(false) };
        self.replace(place, content, &mut change)?;
        Ok(true)
    }

    /// Changes a lock that has a slot. Returns `false` if there is no free block for its record yet.
    pub fn update_lock(&mut self, name: &Index<'_>, place: &SlotPlace, lock: LockState) -> Result<bool> {
        self.mark_locks();
        let mut change = self.change();
        let bytes = lock.to_bytes();
        let stored = Stored { parts: &[&bytes], layout: Layout::Pickle, expiry: None };
        let plan = StorePlan::new(Name::of_lock(name), stored, self.att.identity.hash_key)?;
        let Some(content) = self.lock_contents(&plan, &mut change)? else { return Ok(false) };
        self.replace(place, content, &mut change)?;
        // CRASH: the lock is a dead owner's, or reserved for a dead participant, or has lost its next owner. Processes
        // that wait, and reaping, deal with each of these.
        crash_point!("lock-changed");
        Ok(true)
    }

    /// Plans the record of a lock, if it needs one. Returns the new contents of the slot. `None`: there is no free
    /// block.
    fn lock_contents(&mut self, plan: &StorePlan<'_>, change: &mut Change) -> Result<Option<Content>> {
        match plan.placement {
            Placement::Block(class) => self.put_in_block(plan, class, change),
            _ => Ok(Some(plan.inline())),
        }
    }

    /// Releases a lock of this process. Returns whether it is reserved now.
    pub fn release_slot(&mut self, name: &Index<'_>) -> Result<bool> {
        let place = self.find_place(&Name::of_lock(name), &mut Scratch::new())?;
        let Spot::Occupied(_, content) = place.spot else { return Ok(false) };
        let lock = self.lock_state(&content)?;
        if lock.owner != self.att.coordination().participant_id(self.number) {
            return Ok(false);
        }
        self.hand_over(name, &place, lock)
    }

    /// Reserves a lock for its next owner, or frees it if there is none. Returns whether it is reserved.
    pub fn hand_over(&mut self, name: &Index<'_>, place: &SlotPlace, lock: LockState) -> Result<bool> {
        let Spot::Occupied(offset, old) = place.spot else { return Ok(false) };
        if lock.next != NO_PARTICIPANT {
            let reserved = LockState { owner: NO_PARTICIPANT, since: os::monotonic_ms() as u16, ..lock };
            if self.update_lock(name, place, reserved)? {
                crash_point!("lock-reserved");
                return Ok(true);
            }
            // Without a block for the reservation the lock becomes free for every waiter.
        }
        if [old.rest[1], old.rest[2]] == LockState::of(lock.owner).slot_words() {
            // One store is enough: no process asked to be the next owner, so nothing of the lock is worth keeping.
            self.retag(self.att.mem.at::<Slot>(offset)?, RELEASED_LOCK);
        } else {
            self.discard(&place.leaf, offset, &old)?;
        }
        // CRASH: the lock is free and no process was woken: the sleepers look again after their slice.
        crash_point!("lock-freed");
        Ok(false)
    }

    /// Releases the locks that could not be released when they should have been.
    pub fn release_abandoned(&mut self) -> Result<()> {
        loop {
            let Some(name) = self.att.locks.held.lock().next_abandoned() else { return Ok(()) };
            let freed = self.release_slot(&name.as_index());
            if matches!(freed, Ok(_) | Err(Error::Corrupt(_))) {
                // A damaged lock is reported once. It must not keep this process from everything else.
                self.att.locks.held.lock().forget_abandoned(&name.as_index());
            }
            self.att.after_release.due.store(true, Ordering::Relaxed);
            freed?;
        }
    }

    /// Marks this participant before its first lock: reaping looks for locks only then.
    fn mark_locks(&self) {
        if let Some(record) = self.att.participant(self.number) {
            if record.locks.load(Ordering::Relaxed) == 0 {
                record.locks.store(1, Ordering::SeqCst);
                // CRASH: reaping looks through the table of the names and finds nothing.
                crash_point!("locks-marked");
            }
        }
    }

    /// Releases the locks of a dead participant in the leaf of a hash, whatever its generation. Returns the first hash
    /// behind that leaf. `None`: it was the last.
    pub fn reap_locks(&mut self, number: u32, from: u64) -> Result<Option<u64>> {
        self.att.after_release.due.store(true, Ordering::Relaxed);
        let leaf = self.att.variables().leaf_of(from, TableOf::Names)?;
        if !self.att.variables().leaf_is_sound(&leaf, MappedAccess)? {
            return Err(Error::corrupt(format_args!("the leaf {:#x} of the names", leaf.word.0)));
        }
        for slot in 1..=leaf.slots {
            let offset = leaf.slot_at(slot);
            let content = self.att.mem.at::<Slot>(offset)?.copy().filter(|c| c.is_entry() && c.is_lock());
            if let Some(content) = content {
                self.reap_lock(number, &SlotPlace { leaf, spot: Spot::Occupied(offset, content) })?;
            }
        }
        Ok(leaf.end(from))
    }

    /// Takes a dead participant out of a lock: as the next owner, and as the owner.
    fn reap_lock(&mut self, number: u32, place: &SlotPlace) -> Result<()> {
        let Spot::Occupied(offset, content) = place.spot else { return Ok(()) };
        let mut lock = self.lock_state(&content)?;
        let is_dead = |id| id != NO_PARTICIPANT && number_of(id) == number;
        let (is_owner, is_next) = (is_dead(lock.owner), is_dead(lock.next));
        if !is_owner && !is_next {
            return Ok(());
        }
        let found = place.leaf.found(offset, content, ContentSource::Slot);
        let Some(name) = self.att.variables().index_with(&found, MappedAccess)? else { return Ok(()) };
        if is_next {
            lock = lock.without_next();
            if lock.owner != NO_PARTICIPANT && !is_owner {
                // If there is no block for the change, the dead participant stays the next owner; waiters find it dead.
                return self.update_lock(&name.as_index(), place, lock).map(drop);
            }
        }
        self.hand_over(&name.as_index(), place, lock).map(drop)
    }
}
