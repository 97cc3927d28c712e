//! Models of the protocols: every interleaving, and every value that the memory model lets a load return.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --no-default-features --release --test loom`
//!
//! What these cannot see: stores by plain instructions (the copies of records stand here as relaxed atomics), the
//! kernel's part (liveness and the registry lock stand here as an atomic and a mutex), and more than three threads.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use loom::thread;
use shmvar::intent::{Change, Counters};
use shmvar::layout::{IntentArea, Root, Slot};
use shmvar::lock::{self, Waiting};
use shmvar::slot::Content;

fn slot() -> Slot {
    Slot { word: AtomicU64::new(0), rest: [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)] }
}

/// Contents in which every word tells the version.
fn content(version: u64) -> Content {
    Content { word: version << 1, rest: [version, version * 10, version * 100] }
}

fn whole(content: Content) -> bool {
    let version = content.word >> 1;
    content.rest == [version, version * 10, version * 100]
}

fn counters(version: u64) -> Counters {
    Counters { root: Root(1), zones: 1, version, used: 1, count: 1, fill: 1 }
}

fn area() -> IntentArea {
    let zero = || AtomicU64::new(0);
    IntentArea {
        valid: zero(),
        serial: zero(),
        slot: zero(),
        content: [zero(), zero(), zero(), zero()],
        root: zero(),
        zones: zero(),
        version: zero(),
        used: zero(),
        count: zero(),
        fill: zero(),
        lengths: zero(),
        blocks: [zero(), zero()],
        spans: std::array::from_fn(|_| shmvar::layout::SpanEditArea { granule: zero(), before: zero(), after: zero() }),
    }
}

#[test]
fn a_reader_of_a_slot_never_sees_half_of_a_change() {
    loom::model(|| {
        let slot = Arc::new(slot());
        slot.write(&content(1));
        let writer = {
            let slot = slot.clone();
            thread::spawn(move || {
                slot.write(&content(2));
                slot.write(&content(3));
            })
        };
        if let Some(seen) = slot.copy() {
            assert!(whole(seen), "{seen:?}");
        }
        writer.join().unwrap();
        assert_eq!(slot.copy(), Some(content(3)));
    });
}

/// The record of a slot's variable, and its block reused by the next put (design review, H21).
#[test]
fn a_reader_never_takes_a_record_whose_block_was_reused() {
    loom::model(|| {
        let slot = Arc::new(slot());
        let blocks = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let word = Arc::new(AtomicU32::new(0));
        // Version 1 is in block 0; the record of version v says v.
        blocks[0].store(1, Relaxed);
        slot.write(&Content { word: 1 << 1, rest: [0, 0, 0] });
        let writers = [2_u64, 3].map(|version| {
            let (slot, blocks, word) = (slot.clone(), blocks.clone(), word.clone());
            move || {
                while !lock::try_acquire(&word, version as u32) {
                    thread::yield_now();
                }
                fence(Release);
                // The block that the slot does not name is free.
                let free = 1 - slot.rest()[0];
                blocks[free as usize].store(slot.begin() / 2 + 1, Relaxed);
                slot.write(&Content { word: (slot.begin() / 2 + 1) << 1, rest: [free, 0, 0] });
                let _ = lock::release(&word);
            }
        });
        let [first, second] = writers;
        let writer = thread::spawn(move || {
            first();
            second();
        });
        let seen = slot.begin();
        let block = slot.rest()[0];
        let record = blocks[block as usize & 1].load(Relaxed);
        if seen & 1 == 0 && slot.unchanged(seen) {
            assert_eq!(record, seen / 2);
        }
        writer.join().unwrap();
    });
}

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
            if let Some((serial, seen)) = Change::pending(area, 64) {
                if Change::still(area, serial) && slot.unchanged(word) {
                    assert!(whole(seen), "{seen:?}");
                }
            }
        } else if let Some(seen) = slot.copy() {
            assert!(whole(seen), "{seen:?}");
        }
        writer.join().unwrap();
    });
}

/// The world of the take-over models: participants 0 and 1 live, participant 2 died holding the lock.
struct World {
    word: AtomicU32,
    registry: loom::sync::Mutex<()>,
    /// Participant 2 is in use, and dead.
    dead: AtomicU32,
    inside: AtomicU32,
    repaired: AtomicU32,
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
        // Buried: the number is free.
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

fn bounded(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn two_waiters_take_a_dead_owners_lock_over_once() {
    bounded(3, || {
        let world = Arc::new(World {
            word: AtomicU32::new(3),
            registry: loom::sync::Mutex::new(()),
            dead: AtomicU32::new(1),
            inside: AtomicU32::new(0),
            repaired: AtomicU32::new(0),
        });
        let other = {
            let world = world.clone();
            thread::spawn(move || hold(&world, 1))
        };
        hold(&world, 0);
        other.join().unwrap();
        assert_eq!((world.repaired.load(SeqCst), world.word.load(SeqCst) & !(1 << 31)), (1, 0));
    });
}

/// Design review, C1: the dead owner's number is buried and claimed by a living process while a take-over is under way.
#[test]
fn a_number_claimed_anew_is_not_taken_for_the_dead_one() {
    bounded(3, || {
        let world = Arc::new(World {
            word: AtomicU32::new(3),
            registry: loom::sync::Mutex::new(()),
            dead: AtomicU32::new(1),
            inside: AtomicU32::new(0),
            repaired: AtomicU32::new(0),
        });
        // Participant 1 takes over and buries; then a new process claims number 2 and takes the lock under it.
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

/// Two waiters behind an owner who lives, and a futex without slices: a wake that is lost is a deadlock here.
struct Sleepers {
    word: AtomicU32,
    /// The kernel's: looking at the word and falling asleep are one step.
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

/// Dead between any two stores; the one who takes over repairs, while a reader looks, twice.
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
                let (serial, seen) = Change::pending(area, 64)?;
                (Change::still(area, serial) && slot.unchanged(word)).then_some(seen)
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
    loom::model(|| {
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

/// The order that pins rest on: set my bit, then look at the slot; change the slot, then look at the bits.
#[test]
fn a_pinned_span_is_not_freed_and_an_unpinned_one_is_freed_once() {
    loom::model(|| {
        // slot: 1 names the span; bit: pinned; state: 0 live, 1 retired, 2 free. All changes of `state` are under the lock.
        let world = Arc::new((AtomicU64::new(1), AtomicU64::new(0), loom::sync::Mutex::new(0_u32), AtomicU32::new(0)));
        let reader = {
            let world = world.clone();
            thread::spawn(move || {
                let (slot, bit, state, retired) = &*world;
                bit.fetch_or(1, SeqCst);
                fence(SeqCst);
                if slot.load(Relaxed) == 1 {
                    // A view: the span must not be free while the bit is set.
                    assert_ne!(*state.lock().unwrap(), 2, "freed under a pin");
                }
                bit.fetch_and(0, SeqCst);
                fence(SeqCst);
                if retired.load(Relaxed) == 1 {
                    let mut state = state.lock().unwrap();
                    if *state == 1 && bit.load(Relaxed) == 0 {
                        *state = 2;
                    }
                }
            })
        };
        let (slot, bit, state, retired) = &*world;
        {
            let mut state = state.lock().unwrap();
            slot.store(0, Relaxed);
            *state = 1;
            retired.store(1, Relaxed);
            fence(SeqCst);
            if bit.load(Relaxed) == 0 {
                *state = 2;
            }
        }
        reader.join().unwrap();
        assert_eq!(*state.lock().unwrap(), 2, "leaked");
    });
}

/// A span that is freed and filled again at once: the reader's second look, at the whole slot, finds it out.
#[test]
fn a_pin_holds_the_value_that_was_found_and_not_a_later_one_in_the_same_span() {
    bounded(3, || {
        // Slot; the two spans' bytes; the reader's bits; state of span 0 under the lock (0 live, 1 retired, 2 free).
        struct World {
            slot: Slot,
            bytes: [AtomicU64; 2],
            bits: [AtomicU64; 2],
            state: loom::sync::Mutex<u32>,
        }
        let at = |version: u64, span: u64| Content { word: version << 1, rest: [span, 0, 0] };
        let words = || [AtomicU64::new(0), AtomicU64::new(0)];
        let world = Arc::new(World { slot: slot(), bytes: words(), bits: words(), state: loom::sync::Mutex::new(0) });
        world.bytes[0].store(1, Relaxed);
        world.slot.write(&at(1, 0));
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                world.bytes[1].store(2, Relaxed);
                let free = {
                    let mut state = world.state.lock().unwrap();
                    fence(Release);
                    world.slot.write(&at(2, 1));
                    *state = 1;
                    fence(SeqCst);
                    if world.bits[0].load(SeqCst) == 0 {
                        *state = 2;
                    }
                    *state == 2
                };
                if free {
                    // Filled with no lock, then published.
                    world.bytes[0].store(3, Relaxed);
                    let _state = world.state.lock().unwrap();
                    fence(Release);
                    world.slot.write(&at(3, 0));
                }
            })
        };
        if let Some(found) = world.slot.copy() {
            let span = found.rest[0] as usize;
            world.bits[span].fetch_or(1, SeqCst);
            fence(SeqCst);
            if world.slot.unchanged(found.word) {
                for _ in 0..2 {
                    assert_eq!(world.bytes[span].load(Relaxed), found.word >> 1, "overwritten under a pin");
                    thread::yield_now();
                }
            }
            world.bits[span].fetch_and(0, SeqCst);
            fence(SeqCst);
            let mut state = world.state.lock().unwrap();
            if *state == 1 && world.bits[0].load(SeqCst) == 0 {
                *state = 2;
            }
        }
        writer.join().unwrap();
        assert_ne!(*world.state.lock().unwrap(), 1, "leaked");
    });
}
