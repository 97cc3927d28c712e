//! The writer lock: a dead owner's lock is taken over once, and no wake is lost.

use crate::bounded;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering::*};
use loom::thread;
use shmvar::sync::lock_word::{self as lock, Waiting};

/// The world of the take-over models: participants 0 and 1 live, participant 2 died holding the lock.
struct World {
    word: AtomicU32,
    registry: loom::sync::Mutex<()>,
    /// Participant 2 is in use, and dead.
    dead: AtomicU32,
    inside: AtomicU32,
    repaired: AtomicU32,
}

impl World {
    fn left_by_the_dead() -> Arc<Self> {
        Arc::new(World {
            word: AtomicU32::new(3),
            registry: loom::sync::Mutex::new(()),
            dead: AtomicU32::new(1),
            inside: AtomicU32::new(0),
            repaired: AtomicU32::new(0),
        })
    }
}

struct Waiter<'a>(&'a World, u32);

impl Waiting for Waiter<'_> {
    type Stop = ();

    fn sleep(&mut self, _word: &AtomicU32, _value: u32) -> Result<(), ()> {
        thread::yield_now();
        Ok(())
    }

    fn take_over(&mut self, owner: u32) -> Result<bool, ()> {
        if owner != 2 || self.0.dead.load(SeqCst) == 0 {
            return Ok(false);
        }
        let _registry = self.0.registry.lock().unwrap();
        if self.0.dead.load(SeqCst) == 0 || !lock::take_from(&self.0.word, owner, self.1) {
            return Ok(false);
        }
        self.0.repaired.fetch_add(1, SeqCst);
        // Reaped: the number is free.
        self.0.dead.store(0, SeqCst);
        Ok(true)
    }
}

fn hold(world: &World, me: u32) {
    lock::acquire(&world.word, me, &mut Waiter(world, me)).unwrap();
    assert_eq!(world.inside.fetch_add(1, Relaxed), 0, "two owners");
    world.inside.fetch_sub(1, Relaxed);
    let _ = lock::release(&world.word);
}

#[test]
fn two_waiters_take_a_dead_owners_lock_over_once() {
    bounded(3, || {
        let world = World::left_by_the_dead();
        let other = {
            let world = world.clone();
            thread::spawn(move || hold(&world, 1))
        };
        hold(&world, 0);
        other.join().unwrap();
        assert_eq!((world.repaired.load(SeqCst), world.word.load(SeqCst) & !(1 << 31)), (1, 0));
    });
}

/// The number of the dead owner is reaped and claimed by a living process while a take-over is under way.
#[test]
fn a_number_claimed_anew_is_not_taken_for_the_dead_one() {
    bounded(3, || {
        let world = World::left_by_the_dead();
        // Participant 1 takes over and reaps; then a new process claims number 2 and takes the lock with it.
        let other = {
            let world = world.clone();
            thread::spawn(move || {
                hold(&world, 1);
                let claimed = {
                    let _registry = world.registry.lock().unwrap();
                    world.dead.load(SeqCst) == 0
                };
                if claimed {
                    hold(&world, 2);
                }
            })
        };
        hold(&world, 0);
        other.join().unwrap();
        assert_eq!(world.repaired.load(SeqCst), 1);
    });
}

/// Two waiters behind a living owner, and a futex without time slices: a lost wake is a deadlock here.
struct Sleepers {
    word: AtomicU32,
    /// The part of the kernel: comparing the word and falling asleep are one step.
    queue: loom::sync::Mutex<()>,
    asleep: loom::sync::Condvar,
    inside: AtomicU32,
}

struct Sleeper<'a>(&'a Sleepers);

impl Waiting for Sleeper<'_> {
    type Stop = ();

    fn sleep(&mut self, word: &AtomicU32, value: u32) -> Result<(), ()> {
        let queue = self.0.queue.lock().unwrap();
        if word.load(SeqCst) == value {
            drop(self.0.asleep.wait(queue).unwrap());
        }
        Ok(())
    }

    fn take_over(&mut self, _owner: u32) -> Result<bool, ()> {
        Ok(false)
    }
}

fn hold_and_wake(world: &Sleepers, me: u32) {
    lock::acquire(&world.word, me, &mut Sleeper(world)).unwrap();
    assert_eq!(world.inside.fetch_add(1, Relaxed), 0, "two owners");
    world.inside.fetch_sub(1, Relaxed);
    let_go(world);
}

fn let_go(world: &Sleepers) {
    if lock::release(&world.word) {
        let _queue = world.queue.lock().unwrap();
        world.asleep.notify_one();
    }
}

#[test]
fn a_release_wakes_somebody_where_somebody_sleeps() {
    bounded(2, || {
        let world = Arc::new(Sleepers {
            word: AtomicU32::new(1),
            queue: loom::sync::Mutex::new(()),
            asleep: loom::sync::Condvar::new(),
            inside: AtomicU32::new(0),
        });
        let waiters = [1, 2].map(|me| {
            let world = world.clone();
            thread::spawn(move || hold_and_wake(&world, me))
        });
        let_go(&world);
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(world.word.load(SeqCst) & !(1 << 31), 0);
    });
}
