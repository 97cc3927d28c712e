//! Reads of several slots as of one instant, and a batch that another process finishes.

use crate::{area, bounded, counters, slot};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use loom::thread;
use shmvar::format::{IntentArea, Slot};
use shmvar::sync::intent::{BatchProgress, Change};
use shmvar::sync::lock_word as lock;
use shmvar::sync::slot::Seqlock;
use shmvar::sync::slot::{BUSY, Content};
use shmvar::sync::slot_set::{SetSlot, SlotSet};

struct World {
    slots: [Slot; 2],
    many: AtomicU64,
    batch: AtomicU64,
    cursor: AtomicU64,
    lock: AtomicU32,
    area: IntentArea,
}

fn at(version: u64) -> Content {
    Content { word: version << 1, rest: [version, 0, 0] }
}

impl World {
    fn new() -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        let (lock, area) = (AtomicU32::new(0), area());
        let world = World { slots: [slot(), slot()], many: zero(), batch: zero(), cursor: zero(), lock, area };
        world.slots.iter().for_each(|slot| slot.write(&at(1)));
        Arc::new(world)
    }

    /// The versions of both slots, read twice; `None`: the reader must try again.
    fn get_many(&self) -> Option<[u64; 2]> {
        let many = self.many.load(Acquire);
        if many & 1 == 1 {
            return None;
        }
        let found = [self.slots[0].copy()?, self.slots[1].copy()?];
        let still = found.iter().zip(&self.slots).all(|(found, slot)| slot.unchanged(found.word));
        fence(Acquire);
        (still && self.many.load(Relaxed) == many).then(|| found.map(|content| content.version()))
    }

    /// The change's stores, in the order of `Writer::apply`.
    fn apply(&self, change: &Change, life: &mut Life) -> Result<(), Dead> {
        if let Some(progress) = &change.progress {
            self.batch.store(progress.batch, Relaxed);
            life.goes_on()?;
            self.cursor.store(progress.cursor, Relaxed);
            life.goes_on()?;
            self.many.store(progress.many, Release);
            life.goes_on()?;
        }
        if let Some((number, content)) = &change.slot {
            let slot = &self.slots[*number as usize - 1];
            // `Slot::write`, store by store.
            slot.word.store(content.word | BUSY, Relaxed);
            fence(Release);
            life.goes_on()?;
            slot.rest[0].store(content.rest[0], Relaxed);
            life.goes_on()?;
            slot.word.store(content.word, Release);
            life.goes_on()?;
        }
        Ok(())
    }

    /// The stores of a set, in the order of `Writer::apply_set`.
    fn apply_set(&self, set: &SlotSet, life: &mut Life) -> Result<(), Dead> {
        self.many.store(set.many, Relaxed);
        fence(Release);
        life.goes_on()?;
        for slot in set.slots() {
            let mut change = Change::new(counters(2));
            change.slot = Some((slot.offset, slot.content));
            self.apply(&change, life)?;
        }
        self.many.store(set.many + 1, Release);
        life.goes_on()
    }

    /// A small batch: both slots in one change.
    fn begin_set(&self, life: &mut Life) -> Result<(), Dead> {
        let mut set = SlotSet::new(1);
        for offset in [1, 2] {
            set.push(SetSlot::new(offset, at(2), 0, None));
        }
        Change::new(counters(2)).describe_set(&self.area, &set);
        life.goes_on()?;
        self.apply_set(&set, life)?;
        Change::clear(&self.area);
        life.goes_on()
    }

    fn commit(&self, slot: Option<u64>, progress: BatchProgress, life: &mut Life) -> Result<(), Dead> {
        let mut change = Change::new(counters(2));
        change.slot = slot.map(|number| (number, at(2)));
        change.progress = Some(progress);
        change.describe(&self.area);
        life.goes_on()?;
        self.apply(&change, life)?;
        Change::clear(&self.area);
        life.goes_on()
    }

    fn begin(&self, life: &mut Life) -> Result<(), Dead> {
        self.commit(None, BatchProgress { many: 1, batch: 1, cursor: 0 }, life)?;
        self.carry_on(life)
    }

    fn carry_on(&self, life: &mut Life) -> Result<(), Dead> {
        for number in self.cursor.load(Relaxed)..2 {
            self.commit(Some(number + 1), BatchProgress { many: 1, batch: 1, cursor: number + 1 }, life)?;
        }
        self.commit(None, BatchProgress { many: 2, batch: 0, cursor: 0 }, life)
    }

    /// What a process does that has just taken the lock.
    fn ready(&self, life: &mut Life) -> Result<(), Dead> {
        fence(Release);
        if let Some(change) = Change::read(&self.area) {
            match SlotSet::read(&self.area) {
                None => self.apply(&change, life)?,
                Some(set) => self.apply_set(&set, life)?,
            }
            Change::clear(&self.area);
            life.goes_on()?;
        }
        if self.batch.load(Relaxed) != 0 { self.carry_on(life) } else { Ok(()) }
    }
}

/// The writer dies after so many stores that matter.
struct Life(usize);
struct Dead;

impl Life {
    fn goes_on(&mut self) -> Result<(), Dead> {
        self.0 = self.0.checked_sub(1).ok_or(Dead)?;
        Ok(())
    }
}

/// More stores than there are: the writer does not die.
const EVER: usize = 1_000;

#[test]
fn f54_who_reads_two_slots_while_a_batch_stores_both_sees_both_old_or_both_new() {
    bounded(3, || {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                world.many.store(1, Release);
                world.slots.iter().for_each(|slot| slot.write(&at(2)));
                world.many.store(2, Release);
            })
        };
        if let Some(seen) = world.get_many() {
            assert!(seen == [1, 1] || seen == [2, 2], "{seen:?}");
        }
        writer.join().unwrap();
        assert_eq!(world.get_many(), Some([2, 2]));
    });
}

/// Single changes are also seen as of one instant: never the second without the first.
#[test]
fn f54_who_reads_two_slots_that_change_one_after_the_other_never_sees_the_second_change_alone() {
    bounded(3, || {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || world.slots.iter().for_each(|slot| slot.write(&at(2))))
        };
        if let Some(seen) = world.get_many() {
            assert_ne!(seen, [1, 2]);
        }
        writer.join().unwrap();
    });
}

type Begin = fn(&World, &mut Life) -> Result<(), Dead>;

/// The writer dies after any of its stores, the process that takes over dies after any of its own, and a third goes on. A
/// reader looks meanwhile.
fn dies(begin: Begin, first: usize, second: usize, preemptions: usize) -> usize {
    let (passed, ended) = (std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)), usize::MAX);
    let told = passed.clone();
    bounded(preemptions, move || {
        let world = World::new();
        let told = told.clone();
        let writers = {
            let world = world.clone();
            thread::spawn(move || {
                assert!(lock::try_acquire(&world.lock, 2));
                fence(Release);
                if begin(&world, &mut Life(first)).is_ok() {
                    told.store(ended, std::sync::atomic::Ordering::Relaxed);
                    return;
                }
                // Another process from here on, and then a third: each found the owner dead, under the registry lock.
                assert!(lock::take_from(&world.lock, 2, 1));
                let finished = world.ready(&mut Life(second)).is_ok();
                if !finished {
                    assert!(lock::take_from(&world.lock, 1, 0));
                    assert!(world.ready(&mut Life(EVER)).is_ok());
                }
                let _ = lock::release(&world.lock);
            })
        };
        if let Some(seen) = world.get_many() {
            assert!(seen == [1, 1] || seen == [2, 2], "{seen:?}");
        }
        writers.join().unwrap();
        assert_eq!(world.get_many(), Some([2, 2]), "the intent was valid");
        let left = [&world.batch, &world.cursor, &world.area.valid].map(|word| word.load(Relaxed));
        assert_eq!(left, [0; 3]);
    });
    passed.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn f1_a_batch_whose_writer_died_anywhere_is_brought_to_its_end() {
    let mut first = 0;
    while dies(World::begin, first, EVER, 1) != usize::MAX {
        first += 1;
    }
    assert!(first > 20, "{first} deaths");
}

#[test]
fn f1_a_batch_whose_finisher_died_too_is_brought_to_its_end_by_a_third() {
    for first in [4, 9, 12, 17] {
        for second in [0, 3, 6, 10] {
            dies(World::begin, first, second, 1);
        }
    }
}

#[test]
fn f1_a_small_batch_whose_writer_and_then_whose_mender_died_anywhere_is_made() {
    let mut first = 0;
    while dies(World::begin_set, first, EVER, 2) != usize::MAX {
        for second in [0, 2, 5, 8] {
            dies(World::begin_set, first, second, 1);
        }
        first += 1;
    }
    assert!(first > 8, "{first} deaths");
}

/// Who meets a busy slot of a set reads its new contents in the intent, whichever of the slots it is.
#[test]
fn a_reader_through_the_intent_finds_each_slot_of_a_set() {
    bounded(3, || {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || assert!(world.begin_set(&mut Life(EVER)).is_ok()))
        };
        for (number, slot) in (1..).zip(&world.slots) {
            let word = slot.begin();
            if word & BUSY == 1 {
                if let Some((serial, seen)) = Change::pending_slot(&world.area, number) {
                    if Change::is_current(&world.area, serial) && slot.unchanged(word) {
                        assert_eq!(seen, at(2));
                    }
                }
            }
        }
        writer.join().unwrap();
    });
}

impl World {
    /// Looks at a slot as `get_many` does: one that is busy is read in the intent. Returns the contents, and the serial
    /// number of the intent that they come from.
    fn look(&self, number: u64) -> Option<(Content, Option<u64>)> {
        let slot = &self.slots[number as usize - 1];
        let word = slot.begin();
        if word & BUSY == 0 {
            let found = Content { word, rest: slot.rest() };
            return slot.unchanged(word).then_some((found, None));
        }
        let (serial, content) = Change::pending_slot(&self.area, number)?;
        let current = content.word | BUSY == word && Change::is_current(&self.area, serial) && slot.unchanged(word);
        current.then_some((content, Some(serial)))
    }

    /// The second pass over a slot that [`World::look`] has seen.
    fn is_as_seen(&self, number: u64, (content, serial): &(Content, Option<u64>)) -> bool {
        let slot = &self.slots[number as usize - 1];
        fence(Acquire);
        match serial {
            None => slot.word.load(Acquire) == content.word,
            Some(serial) => Change::is_current(&self.area, *serial) && slot.word.load(Acquire) == content.word | BUSY,
        }
    }

    /// `get_many` of both slots, which may read them in the intent.
    fn get_many_through_the_intent(&self) -> Option<[u64; 2]> {
        let many = self.many.load(Acquire);
        if many & 1 == 1 {
            return None;
        }
        let (first, second) = (self.look(1)?, self.look(2)?);
        let as_seen = self.is_as_seen(1, &first) && self.is_as_seen(2, &second);
        fence(Acquire);
        (as_seen && self.many.load(Relaxed) == many).then(|| [first.0.version(), second.0.version()])
    }
}

fn read_through_the_intent(begin: Begin) {
    bounded(3, move || {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || assert!(begin(&world, &mut Life(EVER)).is_ok()))
        };
        if let Some(seen) = world.get_many_through_the_intent() {
            assert!(seen == [1, 1] || seen == [2, 2], "torn: {seen:?}");
        }
        writer.join().unwrap();
    });
}

#[test]
fn get_many_through_the_intent_sees_all_of_a_set_or_nothing() {
    read_through_the_intent(World::begin_set);
}

#[test]
fn get_many_through_the_intent_sees_all_of_a_list_or_nothing() {
    read_through_the_intent(World::begin);
}
