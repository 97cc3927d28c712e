//! Changes of a whole segment: the bound leaves out nothing that is not made, and a removal up to it is in the ring.

use crate::wake_word::Sleeping;
use crate::{area, bounded, counters, slot};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use loom::thread;
use shmvar::format::{IntentArea, REMOVALS, RemovalRing, Slot, State, WATCHER};
use shmvar::sync::bound;
use shmvar::sync::intent::Change;
use shmvar::sync::lock_word as lock;
use shmvar::sync::removals::{self, HELD, Noted};
use shmvar::sync::slot::{Content, Seqlock};
use shmvar::sync::wake_word::{mark, notify};

struct World {
    state: State,
    area: IntentArea,
    ring: RemovalRing,
    slots: [Slot; 2],
}

impl World {
    fn new() -> Arc<Self> {
        let world =
            World { state: State::zeroed(), area: area(), ring: RemovalRing::zeroed(), slots: [slot(), slot()] };
        Arc::new(world)
    }

    /// What a commit stores, as far as it matters here.
    fn commit(&self, number: usize, content: Content, version: u64) {
        self.describe(number, content, version);
        self.apply(number, content, version);
    }

    fn describe(&self, number: usize, content: Content, version: u64) {
        let mut change = Change::new(counters(version));
        change.slot = Some((number as u64 * 32 + 32, content));
        change.describe(&self.area);
    }

    fn apply(&self, number: usize, content: Content, version: u64) {
        self.state.version.store(version, Relaxed);
        loom::sync::atomic::fence(Release);
        self.slots[number].write(&content);
        Change::clear(&self.area);
    }
}

fn variable(version: u64) -> Content {
    Content { word: version << 1, rest: [7, 2, 0] }
}

/// A writer removes one variable and stores another. Whatever the bound is, all up to it is found.
#[test]
fn what_a_bound_says_is_made_is_found_in_the_slots_and_in_the_ring() {
    bounded(2, || {
        let world = World::new();
        world.commit(0, variable(1), 1);
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                removals::note(&world.ring, Noted::of_variable(2, 7, false));
                world.commit(0, Content::tombstone().with_version(2), 2);
                world.commit(1, variable(3), 3);
            })
        };
        if let Some(bound) = bound::settled(&world.state, &world.area) {
            let noted = (0..removals::count(&world.ring)).filter_map(|number| removals::read(&world.ring, number));
            let noted: Vec<u64> = noted.map(|noted| noted.version).collect();
            assert!(bound < 2 || noted == [2], "bound {bound}, noted {noted:?}");
            let versions = [0, 1].map(|number: usize| world.slots[number].begin() >> 1);
            assert!(versions[0] >= bound.min(2), "bound {bound}, versions {versions:?}");
            assert!(bound < 3 || versions[1] == 3, "bound {bound}, versions {versions:?}");
        }
        writer.join().unwrap();
        assert_eq!(bound::settled(&world.state, &world.area), Some(3));
    });
}

/// A bound from the description of the change under way leaves that change out, and has all before it. The reader begins
/// before the first change, and anywhere in one that it sees begun.
#[test]
fn a_bound_before_the_change_under_way_is_made_too() {
    bounded(1, || {
        let world = World::new();
        check_bound_before(&world, |world| (1..=2).for_each(|version| world.commit(0, variable(version), version)));
    });
}

/// The same where the reader finds the first change described, and the writer goes on meanwhile to its end and
/// describes the next one: what is read of both is thrown away.
#[test]
fn a_bound_from_a_description_that_is_replaced_meanwhile_is_none() {
    bounded(1, || {
        let world = World::new();
        world.describe(0, variable(1), 1);
        check_bound_before(&world, |world| {
            world.apply(0, variable(1), 1);
            world.describe(0, variable(2), 2);
        });
    });
}

fn check_bound_before(world: &Arc<World>, write: impl Fn(&World) + Send + 'static) {
    let writer = {
        let world = world.clone();
        thread::spawn(move || write(&world))
    };
    if let Some(bound) = bound::before_change_under_way(&world.state, &world.area) {
        assert!(bound < 2 && world.slots[0].begin() >> 1 >= bound, "bound {bound}");
    }
    writer.join().unwrap();
}

/// While nobody has the lock and the serial number is the same, nothing has changed.
#[test]
fn quiet_means_that_the_last_change_is_seen() {
    loom::model(|| {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                assert!(lock::try_acquire(&world.state.lock, 0));
                // The serial number and the slot of a change; the fence of `describe`.
                loom::sync::atomic::fence(Release);
                world.area.serial.store(1, Relaxed);
                world.slots[0].word.store(2, Release);
                let _ = lock::release(&world.state.lock);
            })
        };
        if bound::quiet(&world.state, &world.area) == Some(1) {
            assert_eq!(world.slots[0].begin(), 2);
        }
        writer.join().unwrap();
    });
}

/// An entry that is overwritten while it is read is never taken for the one that was there.
#[test]
fn an_entry_of_the_ring_is_read_whole_or_not_at_all() {
    bounded(3, || {
        let ring = Arc::new(RemovalRing::zeroed());
        let noted = |version| Noted::of_variable(version, version * 10, false);
        (0..HELD).for_each(|number| removals::note(&ring, noted(number + 1)));
        let writer = {
            let ring = ring.clone();
            thread::spawn(move || {
                (HELD..REMOVALS as u64 + 1).for_each(|number| removals::note(&ring, noted(number + 1)))
            })
        };
        if let Some(read) = removals::read(&ring, 0) {
            assert_eq!(read, noted(1));
        }
        writer.join().unwrap();
        assert_eq!(removals::read(&ring, REMOVALS as u64), Some(noted(REMOVALS as u64 + 1)));
    });
}

/// A thread that waits for any of two variables sleeps on the watch count alone, and marks both wake words. Without time slices a
/// lost wake is a deadlock. The first variable is stored before the second: whoever is told of the second alone was told wrong.
#[test]
fn f61_who_waits_for_any_of_two_is_woken_and_told_of_the_first() {
    bounded(3, || {
        let words = || (AtomicU64::new(0), Sleeping::new());
        let world = Arc::new(([words(), words()], AtomicU32::new(0), Sleeping::new()));
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                let (variables, lock_word, watch) = &*world;
                for (version, changed) in variables {
                    assert!(lock::try_acquire(lock_word, 0));
                    version.store(1, Release);
                    let _ = lock::release(lock_word);
                    if notify(&changed.word, WATCHER) != 0 {
                        watch.word.count.fetch_add(1, SeqCst);
                        watch.wake();
                    }
                }
            })
        };
        let (variables, _, watch) = &*world;
        let first = loop {
            let count = watch.word.count.load(SeqCst);
            let (mut changed, mut end) = (None, 2);
            // Those before one that has changed are looked at once more.
            loop {
                let found = (0..end).find(|number| {
                    mark(&variables[*number].1.word, WATCHER);
                    variables[*number].0.load(Acquire) == 1
                });
                let Some(number) = found else { break };
                (changed, end) = (found, number);
            }
            if changed.is_some() {
                break changed;
            }
            watch.sleep(count);
        };
        assert_eq!(first, Some(0));
        writer.join().unwrap();
    });
}
