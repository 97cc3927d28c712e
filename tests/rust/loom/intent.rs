//! A change that readers read through the intent, that another process finishes, and that is made twice.

use crate::{area, bounded, content, counters, slot, whole};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering::*, fence};
use loom::thread;
use shmvar::format::{IntentArea, Slot};
use shmvar::sync::intent::Change;
use shmvar::sync::lock_word as lock;
use shmvar::sync::slot::Seqlock;

/// Two writers that each make two commits; a reader that meets a busy slot reads through the intent.
#[test]
fn a_reader_through_the_intent_never_sees_half_of_a_change() {
    bounded(3, || {
        let shared = Arc::new((slot(), area(), AtomicU32::new(0)));
        shared.0.write(&content(1));
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (slot, area, word) = &*shared;
                for version in [2, 3] {
                    assert!(lock::try_acquire(word, 0));
                    fence(Release);
                    let mut change = Change::new(counters(version));
                    change.slot = Some((64, content(version)));
                    change.describe(area);
                    slot.write(&content(version));
                    Change::clear(area);
                    let _ = lock::release(word);
                }
            })
        };
        let (slot, area, _) = &*shared;
        let word = slot.begin();
        if word & 1 == 1 {
            if let Some((serial, seen)) = Change::pending_slot(area, 64) {
                if Change::is_current(area, serial) && slot.unchanged(word) {
                    assert!(whole(seen), "{seen:?}");
                }
            }
        } else if let Some(seen) = slot.copy() {
            assert!(whole(seen), "{seen:?}");
        }
        writer.join().unwrap();
    });
}

/// The stores of a commit of version 2, as far as number `until`; what comes after died with the writer.
fn commit_and_die(slot: &Slot, area: &IntentArea, until: usize) {
    let mut change = Change::new(counters(2));
    change.slot = Some((64, content(2)));
    if until == 0 {
        return;
    }
    change.describe(area);
    if until == 1 {
        return;
    }
    // `Slot::write`, store by store.
    slot.word.store(content(2).word | 1, Relaxed);
    fence(Release);
    for (to, from) in slot.rest.iter().zip(content(2).rest).take(until - 2) {
        to.store(from, Relaxed);
    }
    if until == 6 {
        slot.word.store(content(2).word, Release);
    }
}

/// The writer dies between any two stores; another process takes over and repairs, while a reader looks twice.
#[test]
fn a_reader_beside_a_death_and_its_repair_sees_old_or_new_and_never_goes_back() {
    for until in 0..=6 {
        bounded(2, move || {
            let shared = Arc::new((slot(), area(), AtomicU32::new(0)));
            shared.0.write(&content(1));
            let writers = {
                let shared = shared.clone();
                thread::spawn(move || {
                    let (slot, area, word) = &*shared;
                    assert!(lock::try_acquire(word, 2));
                    fence(Release);
                    commit_and_die(slot, area, until);
                    // Another process from here on: it found the owner dead, under the registry lock.
                    assert!(lock::take_from(word, 2, 0));
                    fence(Release);
                    if let Some(change) = Change::read(area) {
                        slot.write(&change.slot.unwrap().1);
                        Change::clear(area);
                    }
                    let _ = lock::release(word);
                })
            };
            let (slot, area, _) = &*shared;
            let look = || {
                let word = slot.begin();
                if word & 1 == 0 {
                    return slot.copy();
                }
                let (serial, seen) = Change::pending_slot(area, 64)?;
                (Change::is_current(area, serial) && slot.unchanged(word)).then_some(seen)
            };
            let (first, second) = (look(), look());
            for seen in [first, second].into_iter().flatten() {
                assert!(whole(seen) && seen.word >> 1 <= 2, "{seen:?}");
            }
            if let (Some(first), Some(second)) = (first, second) {
                assert!(first.word <= second.word, "{first:?}, then {second:?}");
            }
            writers.join().unwrap();
            assert_eq!(slot.copy(), Some(content(if until == 0 { 1 } else { 2 })));
        });
    }
}

/// Applied, killed anywhere, applied again: the slot is whole, once the intent was valid.
#[test]
fn a_change_applied_twice_is_applied_once() {
    bounded(3, || {
        let shared = Arc::new((slot(), area()));
        shared.0.write(&content(1));
        let mut change = Change::new(counters(2));
        change.slot = Some((64, content(2)));
        change.describe(&shared.1);
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || {
                if let Some(seen) = shared.0.copy() {
                    assert!(whole(seen));
                }
            })
        };
        for _ in 0..2 {
            let again = Change::read(&shared.1).unwrap();
            assert_eq!(again, change);
            shared.0.write(&again.slot.unwrap().1);
        }
        Change::clear(&shared.1);
        assert!(Change::read(&shared.1).is_none());
        reader.join().unwrap();
        assert_eq!(shared.0.copy(), Some(content(2)));
    });
}
