//! A record is moved to another place and back beside a reader (docs/protocol.md, "Moving records"): the word of its slot
//! counts the moves.
//!
//! The writers do not load what readers load; they know the values. loom remembers only the last access to a place, so a load
//! before a store of the same thread would hide the reader's load from that store, and some interleavings with it.

use crate::{area, bounded, counters, slot};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use loom::thread;
use shmvar::format::{IntentArea, Slot};
use shmvar::sync::intent::Change;
use shmvar::sync::lock_word as lock;
use shmvar::sync::slot::Seqlock;
use shmvar::sync::slot::{BUSY, Content};

/// File offset of our slot, as the intent has it.
const AT: u64 = 64;
const OURS: [u64; 2] = [1, 10];
const ANOTHERS: [u64; 2] = [2, 20];
/// The two places, by granule.
const A: u64 = 0;
const B: u64 = 1;

struct World {
    slot: Slot,
    /// Two blocks of two words each.
    places: [[AtomicU64; 2]; 2],
    /// The bitmap of blocks: place A is free.
    gone: AtomicU32,
    lock: AtomicU32,
    area: IntentArea,
}

/// Our slot after so many moves.
fn content(moves: u64) -> Content {
    let first = Content::record(5, 0, 0, 16, A, Some(0)).with_version(3);
    (1..=moves).fold(first, |content, number| content.moved_to(if number & 1 == 1 { B } else { A }, 0))
}

/// Proof that a copied value is consistent: what must still hold after the copy.
#[derive(Clone, Copy)]
enum By {
    /// The slot's word, with its count of moves.
    Word,
    /// The place that the slot names, and the version.
    Place,
}

impl World {
    /// Our record is in place A.
    fn new() -> Arc<Self> {
        let place = |bytes: [u64; 2]| bytes.map(AtomicU64::new);
        let (places, gone, lock) = ([place(OURS), place([0; 2])], AtomicU32::new(0), AtomicU32::new(0));
        let world = World { slot: slot(), places, gone, lock, area: area() };
        world.slot.write(&content(0));
        Arc::new(world)
    }

    /// Takes the lock if it is free; with or without the fence that follows an acquisition.
    fn acquire(&self, me: u32, fences: bool) -> bool {
        let taken = lock::try_acquire(&self.lock, me);
        if taken && fences {
            fence(Release);
        }
        taken
    }

    fn release(&self) {
        let _ = lock::release(&self.lock);
    }

    fn store(&self, place: u64, bytes: [u64; 2]) {
        for (to, from) in self.places[place as usize].iter().zip(bytes) {
            to.store(from, Relaxed);
        }
    }

    fn bytes(&self, content: &Content) -> [u64; 2] {
        let [first, second] = &self.places[content.granule() as usize & 1];
        [first.load(Relaxed), second.load(Relaxed)]
    }

    /// `Writer::move_record`, with the number of moves so far. The lock is held.
    fn make_move(&self, number: u64) {
        let moved = content(number);
        fence(Release);
        self.store(moved.granule(), OURS);
        let mut change = Change::new(counters(3));
        change.slot = Some((AT, moved));
        change.describe(&self.area);
        self.slot.write(&moved);
        Change::clear(&self.area);
    }

    /// The bytes of the variable by one look, through the intent if its slot is busy. `None`: the look failed.
    fn look(&self, by: By) -> Option<[u64; 2]> {
        let word = self.slot.begin();
        if word & BUSY == 1 {
            let (serial, content) = Change::pending_slot(&self.area, AT)?;
            let bytes = self.bytes(&content);
            return (Change::is_current(&self.area, serial) && self.slot.unchanged(word)).then_some(bytes);
        }
        let content = Content { word, rest: self.slot.rest() };
        let bytes = self.bytes(&content);
        let still = match by {
            By::Word => self.slot.unchanged(word),
            By::Place => {
                self.slot.copy().is_some_and(|now| now.rest == content.rest && now.version() == content.version())
            }
        };
        still.then_some(bytes)
    }
}

/// Our record moves to B, another variable's record comes to A and leaves again, ours moves back. A reader looks meanwhile.
fn there_and_back(by: By) {
    bounded(3, move || {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                assert!(world.acquire(0, true));
                world.make_move(1);
                world.release();
                assert!(world.acquire(0, true));
                world.store(A, ANOTHERS);
                world.release();
                assert!(world.acquire(0, true));
                world.make_move(2);
                world.release();
            })
        };
        if let Some(bytes) = world.look(by) {
            assert_eq!(bytes, OURS, "another's bytes");
        }
        writer.join().unwrap();
        assert_eq!(world.look(by), Some(OURS));
        assert_eq!(world.slot.copy().unwrap().version(), 3, "nobody changed it");
    });
}

#[test]
fn a_record_that_was_moved_there_and_back_is_read_whole_or_again() {
    there_and_back(By::Word);
}

#[test]
#[should_panic(expected = "another's bytes")]
fn the_place_alone_does_not_tell_that_it_was_moved_there_and_back() {
    there_and_back(By::Place);
}

/// One process moves the record, another one uses the place that it left.
fn by_two(fences: bool) {
    bounded(3, move || {
        let world = World::new();
        let mover = {
            let world = world.clone();
            thread::spawn(move || {
                if world.acquire(0, true) {
                    world.make_move(1);
                    world.gone.store(1, Relaxed);
                    world.release();
                }
            })
        };
        let other = {
            let world = world.clone();
            thread::spawn(move || {
                if world.acquire(1, fences) {
                    if world.gone.load(Relaxed) == 1 {
                        world.store(A, ANOTHERS);
                    }
                    world.release();
                }
            })
        };
        if let Some(bytes) = world.look(By::Word) {
            assert_eq!(bytes, OURS, "another's bytes");
        }
        mover.join().unwrap();
        other.join().unwrap();
        assert_eq!(world.look(By::Word), Some(OURS));
    });
}

#[test]
fn a_place_that_a_record_has_left_may_be_taken_by_another_process() {
    by_two(true);
}

#[test]
#[should_panic(expected = "another's bytes")]
fn not_without_a_fence_behind_the_lock() {
    by_two(false);
}
