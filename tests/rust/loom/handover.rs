//! A named lock that is released while others wait: a sleeper is woken, and one thread at a time has the lock. The contents of
//! a mutex stand for the slot of the lock; the wake word is the crate's. No thread dies, no reservation lapses, and sleepers
//! have no time slices.

use crate::bounded;
use crate::wake_word::Sleeping;
use loom::sync::atomic::{AtomicU32, Ordering::*};
use loom::sync::{Arc, Mutex};
use loom::thread;
use shmvar::format::SLEEPER;
use shmvar::sync::wake_word::mark;

#[derive(Default)]
struct Slot {
    owner: Option<u32>,
    next: Option<u32>,
}

struct World {
    slot: Mutex<Slot>,
    released: Sleeping,
    inside: AtomicU32,
}

impl World {
    fn held_by(owner: u32) -> Arc<Self> {
        let slot = Mutex::new(Slot { owner: Some(owner), next: None });
        Arc::new(World { slot, released: Sleeping::new(), inside: AtomicU32::new(0) })
    }

    /// `asks`: it has waited for long enough to ask for the next turn.
    fn take(&self, me: u32, asks: bool) {
        loop {
            let rings = mark(&self.released.word, SLEEPER);
            {
                let mut slot = self.slot.lock().unwrap();
                if slot.owner.is_none() && slot.next.is_none_or(|next| next == me) {
                    *slot = Slot { owner: Some(me), next: None };
                    break;
                }
                if asks && slot.owner.is_some() && slot.next.is_none() {
                    slot.next = Some(me);
                }
            }
            self.released.sleep(rings);
        }
        // Others may sleep behind us: our own release wakes one of them.
        mark(&self.released.word, SLEEPER);
        assert_eq!(self.inside.fetch_add(1, Relaxed), 0, "two owners");
    }

    fn let_go(&self) {
        let reserved = {
            let mut slot = self.slot.lock().unwrap();
            slot.owner = None;
            slot.next.is_some()
        };
        self.released.notify(reserved);
    }

    fn run(asks: [bool; 2]) {
        let world = World::held_by(0);
        let waiters = [1, 2].map(|me| {
            let world = world.clone();
            thread::spawn(move || {
                world.take(me, asks[me as usize - 1]);
                world.inside.fetch_sub(1, Relaxed);
                world.let_go();
            })
        });
        world.let_go();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        let slot = world.slot.lock().unwrap();
        assert!(slot.owner.is_none() && slot.next.is_none());
    }
}

#[test]
fn a_lock_that_is_reserved_reaches_who_asked_for_it_and_then_the_other() {
    bounded(2, || World::run([true, true]));
}

#[test]
fn a_lock_that_nobody_asked_for_wakes_one_and_he_the_next() {
    bounded(2, || World::run([false, false]));
}

#[test]
fn who_asked_and_who_did_not_both_get_it() {
    bounded(2, || World::run([true, false]));
}
