//! Named locks in the table of the names.

use crate::coordination::lock_state::{LockState, NO_PARTICIPANT, ParticipantId, number_of};
use crate::coordination::{AsCoordination, Coordination, CoordinationWriter};
use crate::error::{Error, Result};
use crate::format::slot_flags::LET_GO;
use crate::format::{PARTICIPANTS, Slot};
use crate::key::{Index, IndexBuf, Name};
use crate::os;
use crate::os::mem::Scratch;
use crate::process::access::{MappedAccess, PreadAccess, reading};
use crate::process::wait_policy::WaitPolicy;
use crate::sync::slot::{Content, Kind, Seqlock};
use crate::variables::AsVariables;
use crate::variables::found::{ContentSource, Found};
use crate::variables::leaf::TableOf;
use crate::variables::place::{SlotPlace, Spot};
use crate::variables::record::record_at;
use crate::variables::scan::ScanPass;
use crate::variables::store_plan::{Placement, StorePlan};
use crate::variables::stored::Stored;
use std::sync::atomic::{Ordering, fence};

impl Coordination {
    /// This process, or another, in its present life.
    pub fn participant_id(&self, number: u32) -> ParticipantId {
        let generation = self.participant(number).map_or(0, |record| record.generation.load(Ordering::Relaxed));
        // All bits set is nobody.
        ((generation % 0x3f_ffff) as u32 * PARTICIPANTS) | number
    }

    /// Does that participant still live that life? An answer that is late stays true: no other life is the same.
    pub fn is_alive(&self, owner: ParticipantId) -> Result<bool> {
        let number = number_of(owner);
        let Some(record) = self.participant(number) else { return Ok(false) };
        let lives = record.state.load(Ordering::Acquire) == 1 && self.alive(number)?;
        // The life is looked at last: a number that was claimed anew meanwhile is another's.
        Ok(lives && self.participant_id(number) == owner)
    }

    /// What a lock's slot says, read without the writer lock. `None`: it has none, and is free.
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

    /// Does a living process hold this lock?
    pub fn is_locked(&self, name: &Index<'_>, policy: &dyn WaitPolicy) -> Result<bool> {
        name.check()?;
        let Some(LockState { owner, .. }) = self.read_lock(name, policy)? else { return Ok(false) };
        // A reader that may not look at the lock object takes him for alive.
        let lives = |owner| self.is_alive(owner).or_else(|e| if self.mem.writable() { Err(e) } else { Ok(true) });
        Ok(owner != NO_PARTICIPANT && lives(owner)?)
    }

    /// The locks that are held, and their owners' pids: for people.
    pub fn locks(&self, policy: &dyn WaitPolicy) -> Result<Vec<(IndexBuf, u32)>> {
        let locks = |number| self.participant(number).is_some_and(|record| record.locks.load(Ordering::Relaxed) != 0);
        if !(0..PARTICIPANTS).any(locks) {
            return Ok(Vec::new());
        }
        self.scan(TableOf::Names, |pass, found| self.read_lock_owner(pass, &found), policy)
    }

    fn read_lock_owner(&self, pass: &ScanPass<'_>, found: &Found) -> Result<Option<(IndexBuf, u32)>> {
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
        // One of the dead is free, only nobody has come for it. (Who may not even ask takes them for alive.)
        let lives = |lock: &LockState| lock.owner != NO_PARTICIPANT && self.is_alive(lock.owner).unwrap_or(true);
        let owner = lock.filter(lives).and_then(|lock| self.participant(number_of(lock.owner)));
        Ok(owner.map(|record| (name, record.pid.load(Ordering::Relaxed))))
    }

    /// What a lock's slot says. `None`: nothing that a lock's slot can say. The writer lock is held.
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
    /// What a lock's slot says. The writer lock is held.
    pub fn lock_state(&self, content: &Content) -> Result<LockState> {
        self.att
            .coordination()
            .lock_state_of(content)?
            .ok_or_else(|| Error::corrupt(format_args!("a lock: {:x?}", content.rest)))
    }

    /// Makes a free lock ours, in a table that has room. False: there is no block for it yet.
    pub fn insert_lock(&mut self, name: &Index<'_>, place: &SlotPlace, lock: LockState) -> Result<bool> {
        if !self.revive_tombstone(name, place, lock)? && !self.insert_new(name, place, lock)? {
            return Ok(false);
        }
        // CRASH: it is a dead one's: met by who waits, or reaps.
        crash_point!("lock-stored");
        Ok(true)
    }

    /// Where it was let go last: by one store. False: it was not let go here, or left in another state.
    #[inline]
    fn revive_tombstone(&self, name: &Index<'_>, place: &SlotPlace, lock: LockState) -> Result<bool> {
        let (Spot::Tombstone(offset), Index::Int(number)) = (place.spot, name) else { return Ok(false) };
        let slot = self.att.mem.at::<Slot>(offset)?;
        let ([name, tag, rest], [held, unchanged]) = (slot.rest(), lock.slot_words());
        if name != *number as u64 || tag != LET_GO || rest != unchanged {
            return Ok(false);
        }
        self.mark_locks();
        self.retag(slot, held);
        Ok(true)
    }

    /// A change that is one store: it is made or not, whenever we die.
    #[inline]
    fn retag(&self, slot: &Slot, tag: u64) {
        let serial = &self.att.mem.intent().serial;
        serial.store(serial.load(Ordering::Relaxed).wrapping_add(1).max(1), Ordering::Relaxed);
        // CRASH: a serial that no change has; the lock is as it was.
        crash_point!("serial-moved");
        // SYNC: with the acquire fences of a check without the lock: who saw the tag, or what came after it, sees that
        // somebody was at a change.
        fence(Ordering::Release);
        slot.retag(tag);
    }

    fn insert_new(&mut self, name: &Index<'_>, place: &SlotPlace, lock: LockState) -> Result<bool> {
        let mut change = self.change();
        if !matches!(place.spot, Spot::Tombstone(_) | Spot::Unused(_)) {
            return Ok(false);
        }
        self.mark_locks();
        let bytes = lock.to_bytes();
        let stored = Stored { parts: &[&bytes], buffers: false, expiry: None };
        let plan = StorePlan::new(Name::of_lock(name), stored, self.att.identity.hash_key)?;
        let Some(content) = self.lock_contents(&plan, &mut change)? else { return Ok(false) };
        self.replace(place, content, &mut change)?;
        Ok(true)
    }

    /// Changes a lock that has a slot. False: there is no block for it yet.
    pub fn update_lock(&mut self, name: &Index<'_>, place: &SlotPlace, lock: LockState) -> Result<bool> {
        self.mark_locks();
        let mut change = self.change();
        let bytes = lock.to_bytes();
        let stored = Stored { parts: &[&bytes], buffers: false, expiry: None };
        let plan = StorePlan::new(Name::of_lock(name), stored, self.att.identity.hash_key)?;
        let Some(content) = self.lock_contents(&plan, &mut change)? else { return Ok(false) };
        self.replace(place, content, &mut change)?;
        // CRASH: it is a dead one's, or reserved for one, or as he left it: all of that is met by who waits or reaps.
        crash_point!("lock-changed");
        Ok(true)
    }

    fn lock_contents(
        &mut self,
        plan: &StorePlan<'_>,
        change: &mut crate::sync::intent::Change,
    ) -> Result<Option<Content>> {
        match plan.placement {
            Placement::Block(class) => self.put_in_block(plan, class, change),
            _ => Ok(Some(plan.inline())),
        }
    }

    /// Frees a lock of ours. True: it is reserved now.
    pub fn release_slot(&mut self, name: &Index<'_>) -> Result<bool> {
        let place = self.find_place(&Name::of_lock(name), &mut Scratch::new())?;
        let Spot::Occupied(_, content) = place.spot else { return Ok(false) };
        let lock = self.lock_state(&content)?;
        if lock.owner != self.att.coordination().participant_id(self.me) {
            return Ok(false);
        }
        self.hand_over(name, &place, lock)
    }

    /// Reserves a lock for who is next, or frees it. True: reserved.
    pub fn hand_over(&mut self, name: &Index<'_>, place: &SlotPlace, lock: LockState) -> Result<bool> {
        let Spot::Occupied(offset, old) = place.spot else { return Ok(false) };
        if lock.next != NO_PARTICIPANT {
            let reserved = LockState { owner: NO_PARTICIPANT, since: os::monotonic_ms() as u16, ..lock };
            if self.update_lock(name, place, reserved)? {
                crash_point!("lock-reserved");
                return Ok(true);
            }
            // Without a block for the reservation it is free for all.
        }
        if [old.rest[1], old.rest[2]] == LockState::of(lock.owner).slot_words() {
            // By one store: nobody asked for the next turn, and nothing else of it is worth keeping.
            self.retag(self.att.mem.at::<Slot>(offset)?, LET_GO);
        } else {
            self.discard(&place.leaf, offset, &old)?;
        }
        // CRASH: free, and nobody was woken: the sleepers look again after their slice.
        crash_point!("lock-freed");
        Ok(false)
    }

    /// Locks that could not be let go when they should have been.
    pub fn release_abandoned(&mut self) -> Result<()> {
        loop {
            let Some(name) = self.att.locks.held.lock().abandoned() else { return Ok(()) };
            let freed = self.release_slot(&name.as_index());
            if matches!(freed, Ok(_) | Err(Error::Corrupt(_))) {
                // A damaged one is for once: it must not keep us from everything else.
                self.att.locks.held.lock().forget(&name.as_index());
            }
            self.att.after_release.due.store(true, Ordering::Relaxed);
            freed?;
        }
    }

    /// Before the first lock in our name: reaping looks for them only then.
    fn mark_locks(&self) {
        if let Some(record) = self.att.participant(self.me) {
            if record.locks.load(Ordering::Relaxed) == 0 {
                record.locks.store(1, Ordering::SeqCst);
                // CRASH: whoever reaps us looks through the table and finds nothing.
                crash_point!("locks-marked");
            }
        }
    }

    /// Releases the locks of a participant that died, in any of its lives, that stand in the leaf of a hash. The next hash.
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

    fn reap_lock(&mut self, number: u32, place: &SlotPlace) -> Result<()> {
        let Spot::Occupied(offset, content) = place.spot else { return Ok(()) };
        let mut lock = self.lock_state(&content)?;
        let (owns, next) =
            (lock.owner != NO_PARTICIPANT && number_of(lock.owner) == number, number_of(lock.next) == number);
        let next = next && lock.next != NO_PARTICIPANT;
        if !owns && !next {
            return Ok(());
        }
        let found = place.leaf.found(offset, content, ContentSource::Slot);
        let Some(name) = self.att.variables().index_with(&found, MappedAccess)? else { return Ok(()) };
        if next {
            lock = lock.without_next();
            if lock.owner != NO_PARTICIPANT && !owns {
                // Without a block for it he stays, and is found dead by who waits.
                return self.update_lock(&name.as_index(), place, lock).map(drop);
            }
        }
        self.hand_over(&name.as_index(), place, lock).map(drop)
    }
}
