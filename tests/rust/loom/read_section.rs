//! A reader inside of a section beside a page that is given back (docs/protocol.md, "Giving back").
//!
//! loom has no `membarrier`: a `fence(SeqCst)` on both sides stands for it. In the code the reader has only a compiler fence;
//! that every running thread passes a barrier is what the kernel promises.

use crate::bounded;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering, Ordering::*, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// A page: what the mapping shows of it, and the page itself. Giving it back is a change that must come after every look: a
/// look before that one, or at the same time, that nothing puts before it is a race, which loom reports.
struct Page {
    shown: AtomicU64,
    itself: UnsafeCell<()>,
}

const CONTENT: u64 = 7;
/// A hole.
const PUNCHED: u64 = 0;

struct World {
    /// Names one of the pages.
    root: AtomicU64,
    pages: [Page; 2],
    /// Reader words: odd inside of a section.
    words: [AtomicU64; 2],
    /// Which words are taken, as each thread takes one of its own.
    taken: AtomicU64,
    /// The interpreter's lock, where all threads use one word; and what that is, as its owner knows.
    interpreter: Mutex<u64>,
}

/// The orders of the reader's two stores.
#[derive(Clone, Copy)]
struct Orders {
    enter: Ordering,
    leave: Ordering,
}

/// What the language asks for where a word is used more than once; on x86-64 and arm64 `enter` may be relaxed.
const SOUND: Orders = Orders { enter: Release, leave: Release };

impl World {
    fn new() -> Arc<Self> {
        let page = || Page { shown: AtomicU64::new(CONTENT), itself: UnsafeCell::new(()) };
        let zero = || AtomicU64::new(0);
        let (pages, words) = ([page(), page()], [zero(), zero()]);
        Arc::new(World { root: zero(), pages, words, taken: zero(), interpreter: Mutex::new(0) })
    }

    /// One section: what a reader does in `enter_section`, between, and when it leaves. `before`: its word, which it loads
    /// where it does not know it. (Not here: of a place's accesses loom remembers the last one, so a load before the store
    /// would hide the trimmer's look from that store.)
    fn read_section(&self, word: usize, before: u64, orders: Orders) {
        let word = &self.words[word];
        // A thread that finds its word odd is inside already, and looks as part of the section around it.
        let inside = before & 1 == 1;
        if !inside {
            word.store(before.wrapping_add(1), orders.enter);
            // The reader's half of the kernel's barrier.
            fence(SeqCst);
        }
        let page = &self.pages[self.root.load(Acquire) as usize];
        page.itself.with(|_| ());
        assert_eq!(page.shown.load(Relaxed), CONTENT, "looked into a hole");
        if !inside {
            word.store(before.wrapping_add(2), orders.leave);
        }
    }

    /// What `trim` does: names the other page, passes the barrier, waits for each word that is odd, and gives the page back.
    fn give_back(&self, words: usize, waits: bool) {
        self.root.store(1, Release);
        // The trimmer's half of the kernel's barrier.
        fence(SeqCst);
        for word in &self.words[..words] {
            let then = word.load(Acquire);
            while waits && then & 1 == 1 && word.load(Acquire) == then {
                thread::yield_now();
            }
        }
        let page = &self.pages[0];
        page.itself.with_mut(|_| ());
        page.shown.store(PUNCHED, Relaxed);
    }

    /// A reader with so many sections beside a trimmer.
    fn run(sections: u64, orders: Orders, waits: bool) {
        let world = World::new();
        let reader = {
            let world = world.clone();
            thread::spawn(move || (0..sections).for_each(|number| world.read_section(0, number * 2, orders)))
        };
        world.give_back(1, waits);
        reader.join().unwrap();
    }
}

#[test]
fn nobody_inside_of_a_section_finds_the_page_given_back() {
    loom::model(|| World::run(1, SOUND, true));
}

/// The word is a sequence number, not a flag: a trimmer that waits for one section does not wait for the next ones.
#[test]
fn a_reader_that_enters_again_and_again_is_waited_for_once() {
    loom::model(|| World::run(3, SOUND, true));
}

#[test]
fn two_readers_with_a_word_each_are_both_waited_for() {
    bounded(3, || {
        let world = World::new();
        let readers = [0, 1].map(|word| {
            let world = world.clone();
            thread::spawn(move || world.read_section(word, 0, SOUND))
        });
        world.give_back(2, true);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// Under an interpreter with a GIL all threads use one word, one after the other.
#[test]
fn two_readers_that_share_a_word_are_both_waited_for() {
    bounded(3, || {
        let world = World::new();
        let readers = [(); 2].map(|()| {
            let world = world.clone();
            thread::spawn(move || {
                let mut word = world.interpreter.lock().unwrap();
                world.read_section(0, *word, SOUND);
                *word += 2;
            })
        });
        world.give_back(1, true);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// A thread that ends leaves its word to another, as `word_of_thread` and its keeper do.
fn hand_on(take: Ordering, give: Ordering) {
    bounded(3, move || {
        let world = World::new();
        let readers = [(); 2].map(|()| {
            let world = world.clone();
            thread::spawn(move || {
                // If the word is taken, this thread reads by system calls, in no section.
                if world.taken.compare_exchange(0, 1, take, Relaxed).is_ok() {
                    world.read_section(0, world.words[0].load(Relaxed), SOUND);
                    world.taken.fetch_and(0, give);
                }
            })
        });
        world.give_back(1, true);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_word_that_one_thread_leaves_to_another_serves_both() {
    hand_on(Acquire, Release);
}

/// A thread that takes the word may still find it odd: it then believes that it is inside of a section, and stores nothing.
#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write accesses")]
fn a_word_that_is_handed_on_without_an_order_does_not() {
    hand_on(Relaxed, Relaxed);
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write accesses")]
fn a_trimmer_that_does_not_wait_gives_back_what_is_looked_into() {
    loom::model(|| World::run(1, SOUND, false));
}

#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write accesses")]
fn a_reader_that_leaves_by_a_relaxed_store_may_still_be_looking() {
    loom::model(|| World::run(1, Orders { leave: Relaxed, ..SOUND }, true));
}

/// The trimmer waits for the first section, and finds the word as the second one has stored it: that must tell of the first
/// one's end, too. (A matter of the language: on x86-64 and arm64 a store to a place is not seen before those that the same
/// thread made there earlier have taken effect, so a relaxed one tells as much.)
#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write accesses")]
fn a_reader_that_enters_again_by_a_relaxed_store_may_still_be_looking() {
    loom::model(|| World::run(2, Orders { enter: Relaxed, ..SOUND }, true));
}
