//! The table of stamps, made larger and smaller beside who notes a use (docs/protocol.md, "Eviction").
//!
//! As in `read_section.rs`, a `fence(SeqCst)` on both sides stands for the kernel's barrier.

use crate::bounded;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering, Ordering::*, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// A part of the table: whether its pages are present, and they themselves. To obtain them and to give them back are changes
/// that loom must find ordered before or after every look.
struct Part {
    present: AtomicU64,
    itself: UnsafeCell<()>,
}

struct World {
    /// `stamps`: how many parts are in use, but for one.
    stamps: AtomicU64,
    parts: [Part; 2],
    /// The reader's word: odd inside of a section.
    word: AtomicU64,
    registry: Mutex<()>,
    writer: Mutex<()>,
}

impl World {
    fn new(stamps: u64) -> Arc<Self> {
        let part = |present| Part { present: AtomicU64::new(present), itself: UnsafeCell::new(()) };
        let (registry, writer) = (Mutex::new(()), Mutex::new(()));
        let parts = [part(1), part(stamps)];
        Arc::new(World { stamps: AtomicU64::new(stamps), parts, word: AtomicU64::new(0), registry, writer })
    }

    /// Looks at the last part that is in use, as whoever notes a use or an age.
    fn look(&self, stamps: u64) {
        let part = &self.parts[stamps as usize];
        part.itself.with(|_| ());
        assert_eq!(part.present.load(Relaxed), 1, "stored into a hole");
    }

    /// A reader notes a use, in a section of its own.
    fn read(&self) {
        self.word.store(1, Release);
        fence(SeqCst);
        self.look(self.stamps.load(Acquire));
        self.word.store(2, Release);
    }

    /// A put notes a use.
    fn put(&self) {
        let _writer = self.writer.lock().unwrap();
        self.look(self.stamps.load(Acquire));
    }

    /// A put makes the table larger.
    fn grow(&self, order: Ordering) {
        let Ok(_registry) = self.registry.try_lock() else { return };
        if self.stamps.load(Acquire) == 0 {
            self.parts[1].itself.with_mut(|_| ());
            self.parts[1].present.store(1, Relaxed);
            if let Ok(_writer) = self.writer.try_lock() {
                self.stamps.store(1, order);
            }
        }
    }

    /// A put copies the stamps of a table that it found to be so large before: the first half of making it larger still.
    fn copy(&self, found: u64, looks_anew: bool) {
        let Ok(_registry) = self.registry.try_lock() else { return };
        if !looks_anew || self.stamps.load(Acquire) == found {
            self.look(found);
        }
    }

    /// `trim` makes the table smaller, and gives back what is behind it.
    fn shrink(&self, waits: bool) {
        let _registry = self.registry.lock().unwrap();
        {
            let _writer = self.writer.lock().unwrap();
            self.stamps.store(0, Release);
        }
        fence(SeqCst);
        let then = self.word.load(Acquire);
        while waits && then & 1 == 1 && self.word.load(Acquire) == then {
            thread::yield_now();
        }
        self.parts[1].itself.with_mut(|_| ());
        self.parts[1].present.store(0, Relaxed);
    }
}

/// Runs this beside that.
fn beside(stamps: u64, this: fn(&World), that: &[fn(&World)]) {
    let world = World::new(stamps);
    let others: Vec<_> = that
        .iter()
        .map(|that| {
            let (world, that) = (world.clone(), *that);
            thread::spawn(move || that(&world))
        })
        .collect();
    this(&world);
    others.into_iter().for_each(|other| other.join().unwrap());
}

#[test]
fn no_use_is_noted_in_a_part_that_is_given_back() {
    loom::model(|| beside(1, |world| world.shrink(true), &[World::read]));
    loom::model(|| beside(1, |world| world.shrink(true), &[World::put]));
}

#[test]
fn no_use_is_noted_in_a_part_that_is_not_there_yet() {
    loom::model(|| beside(0, |world| world.grow(Release), &[World::read]));
    loom::model(|| beside(0, |world| world.grow(Release), &[World::put]));
}

#[test]
fn one_makes_it_larger_while_another_makes_it_smaller() {
    bounded(3, || beside(1, |world| world.shrink(true), &[|world| world.grow(Release), World::read]));
    bounded(3, || beside(0, |world| world.shrink(true), &[|world| world.grow(Release), World::read]));
}

#[test]
fn who_copies_it_looks_only_at_what_is_there() {
    loom::model(|| beside(1, |world| world.shrink(true), &[|world| world.copy(1, true)]));
}

#[test]
#[should_panic(expected = "stored into a hole")]
fn who_copies_what_was_there_before_the_registry_lock_may_not() {
    loom::model(|| beside(1, |world| world.shrink(true), &[|world| world.copy(1, false)]));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_part_that_is_given_back_without_a_wait_may_be_stored_into() {
    loom::model(|| beside(1, |world| world.shrink(false), &[World::read]));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_part_that_is_announced_by_a_relaxed_store_may_not_be_there() {
    loom::model(|| beside(0, |world| world.grow(Relaxed), &[World::read]));
}
