//! Another expiry for a record that stays where it is: docs/protocol.md, "Expiry", **expire**.

use crate::{area, bounded, content, counters, slot, whole};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::*, fence};
use loom::thread;
use shmvar::sync::intent::Change;
use shmvar::sync::slot::Seqlock;

/// An expiry that is not aligned is copied in parts. A reader takes it from the record, or beside a busy slot from the
/// intent; it gets the expiry that belongs to the slot that it saw, never half of one and half of another.
#[test]
fn a_reader_never_sees_half_of_an_expiry() {
    bounded(3, || {
        let halves = [AtomicU64::new(1), AtomicU64::new(1)];
        let shared = Arc::new((slot(), area(), halves));
        shared.0.write(&content(1));
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (slot, area, halves) = &*shared;
                for number in [2, 3] {
                    fence(Release);
                    let mut change = Change::new(counters(number));
                    change.slot = Some((64, content(number)));
                    change.expiry = Some((128, number));
                    change.describe(area);
                    slot.write_with(&content(number), || halves.iter().for_each(|half| half.store(number, Relaxed)));
                    Change::clear(area);
                }
            })
        };
        let (slot, area, halves) = &*shared;
        let word = slot.begin();
        if word & 1 == 1 {
            if let Some((serial, seen)) = Change::pending_slot(area, 64) {
                let expiry = Change::pending_expiry(area);
                if Change::is_current(area, serial) && slot.unchanged(word) {
                    assert!(whole(seen) && expiry == Some(seen.word >> 1), "{seen:?}, {expiry:?}");
                }
            }
        } else {
            let copied = [0, 1].map(|half: usize| halves[half].load(Relaxed));
            if slot.unchanged(word) {
                assert_eq!(copied, [word >> 1; 2]);
            }
        }
        writer.join().unwrap();
    });
}

/// The moves in a slot's word are counted round by `expire`, and so a word comes back. The commit that moves the count
/// round stores another root first, and a reader looks at the root once more after the word.
#[test]
fn a_count_of_moves_that_goes_round_is_seen_in_the_root() {
    bounded(3, || {
        let shared = Arc::new((slot(), [AtomicU64::new(1), AtomicU64::new(1)], AtomicU64::new(7)));
        shared.0.write(&content(1));
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (slot, halves, root) = &*shared;
                for (word, number) in [(2, 2), (1, 3)] {
                    if word == 1 {
                        root.store(8, Release);
                    }
                    fence(Release);
                    slot.write_with(&content(word), || halves.iter().for_each(|half| half.store(number, Relaxed)));
                }
            })
        };
        let (slot, halves, root) = &*shared;
        let (seen, word) = (root.load(Acquire), slot.begin());
        let copied = [0, 1].map(|half: usize| halves[half].load(Relaxed));
        fence(Acquire);
        if word & 1 == 0 && root.load(Acquire) == seen && slot.unchanged(word) {
            fence(Acquire);
            if root.load(Relaxed) == seen {
                assert_eq!(copied[0], copied[1]);
            }
        }
        writer.join().unwrap();
    });
}
