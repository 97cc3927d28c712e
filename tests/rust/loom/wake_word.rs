//! Wake words: no notification is lost. Sleepers have no time slices here, so a lost wake is a deadlock.

use crate::bounded;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use shmvar::format::{SLEEPER, WATCHER, WakeWord};
use shmvar::sync::lock_word as lock;
use shmvar::sync::wake_word::{mark, notify};

/// A wake word and the kernel's queue behind it: comparing the count and falling asleep are one step.
pub struct Sleeping {
    pub word: WakeWord,
    queue: Mutex<()>,
    asleep: Condvar,
}

impl Sleeping {
    pub fn new() -> Self {
        let word = WakeWord { count: AtomicU32::new(0), waits: AtomicU32::new(0) };
        Sleeping { word, queue: Mutex::new(()), asleep: Condvar::new() }
    }

    pub fn sleep(&self, count: u32) {
        let queue = self.queue.lock().unwrap();
        if self.word.count.load(SeqCst) == count {
            drop(self.asleep.wait(queue).unwrap());
        }
    }

    /// Wakes all sleepers.
    pub fn wake(&self) {
        let _queue = self.queue.lock().unwrap();
        self.asleep.notify_all();
    }

    pub fn notify(&self, all: bool) {
        self.ring_those(SLEEPER, all);
    }

    pub fn ring_those(&self, those: u32, all: bool) {
        if notify(&self.word, those) != 0 {
            let _queue = self.queue.lock().unwrap();
            if all { self.asleep.notify_all() } else { self.asleep.notify_one() }
        }
    }
}

struct World {
    /// The word of a slot, stored with release and read with acquire.
    version: AtomicU64,
    lock: AtomicU32,
    changed: Sleeping,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World { version: AtomicU64::new(0), lock: AtomicU32::new(0), changed: Sleeping::new() })
    }

    fn put(&self, version: u64) {
        assert!(lock::try_acquire(&self.lock, 0));
        self.version.store(version, Release);
        let _ = lock::release(&self.lock);
        self.changed.notify(true);
    }

    fn wait_for(&self, version: u64) {
        loop {
            let rings = mark(&self.changed.word, SLEEPER);
            if self.version.load(Acquire) >= version {
                return;
            }
            self.changed.sleep(rings);
        }
    }
}

/// The second change may come during the notification of the first: a mark set then must not be taken for an old one.
#[test]
fn f61_who_waits_is_woken_by_each_change() {
    loom::model(|| {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                world.put(1);
                world.put(2);
            })
        };
        world.wait_for(2);
        writer.join().unwrap();
    });
}

#[test]
fn f61_a_change_wakes_all_who_wait() {
    bounded(3, || {
        let world = World::new();
        let waiters = [(); 2].map(|()| {
            let world = world.clone();
            thread::spawn(move || world.wait_for(1))
        });
        world.put(1);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

/// Two writers, which hold the lock one after the other, notify at the same time.
#[test]
fn f61_two_notifications_at_once_leave_no_waiter_asleep() {
    bounded(3, || {
        let world = World::new();
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                while !lock::try_acquire(&world.lock, 1) {
                    thread::yield_now();
                }
                world.version.fetch_add(1, Release);
                let _ = lock::release(&world.lock);
                world.changed.notify(true);
            })
        };
        let waiter = {
            let world = world.clone();
            thread::spawn(move || world.wait_for(2))
        };
        while !lock::try_acquire(&world.lock, 0) {
            thread::yield_now();
        }
        world.version.fetch_add(1, Release);
        let _ = lock::release(&world.lock);
        world.changed.notify(true);
        writer.join().unwrap();
        waiter.join().unwrap();
    });
}

/// A watcher sleeps on a count of its own, which it reads before it sets its mark; the list of what it watches comes first.
#[test]
fn f61_a_watcher_is_woken_through_its_own_count() {
    loom::model(|| {
        let world = Arc::new((AtomicU64::new(0), AtomicU32::new(1), Sleeping::new(), Sleeping::new()));
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                let (version, word, changed, watch) = &*world;
                for next in [1, 2] {
                    version.store(next, Release);
                    let _ = lock::release(word);
                    if notify(&changed.word, WATCHER) != 0 {
                        watch.word.count.fetch_add(1, SeqCst);
                        let _queue = watch.queue.lock().unwrap();
                        watch.asleep.notify_all();
                    }
                }
            })
        };
        let (version, _, changed, watch) = &*world;
        loop {
            let count = watch.word.count.load(SeqCst);
            mark(&changed.word, WATCHER);
            if version.load(Acquire) == 2 {
                break;
            }
            watch.sleep(count);
        }
        writer.join().unwrap();
    });
}

/// A watcher whose slice is over looks again only if something has changed, or its count has moved: a mark that was cleared
/// after its look is not set again by a look that is left out.
#[test]
fn f61_a_watcher_that_leaves_out_a_look_is_woken() {
    bounded(3, || {
        let world =
            Arc::new((AtomicU64::new(0), AtomicU32::new(0), AtomicU64::new(0), Sleeping::new(), Sleeping::new()));
        let writer = {
            let world = world.clone();
            thread::spawn(move || {
                let (version, word, serial, changed, watch) = &*world;
                for next in [1, 2] {
                    assert!(lock::try_acquire(word, 0));
                    serial.store(next, Relaxed);
                    fence(Release);
                    version.store(next, Release);
                    let _ = lock::release(word);
                    if notify(&changed.word, WATCHER) != 0 {
                        watch.word.count.fetch_add(1, SeqCst);
                        watch.wake();
                    }
                }
            })
        };
        let (version, word, serial, changed, watch) = &*world;
        let (mut last, mut last_count) = (None, watch.word.count.load(SeqCst));
        for turn in 0.. {
            let count = watch.word.count.load(SeqCst);
            let now = serial.load(Relaxed);
            fence(Acquire);
            let quiet = (word.load(Acquire) == 0).then_some(now);
            if last.is_none() || last != quiet || count != last_count {
                mark(&changed.word, WATCHER);
                if version.load(Acquire) == 2 {
                    break;
                }
            }
            (last, last_count) = (quiet, count);
            // The first slice is over at once.
            if turn > 0 {
                watch.sleep(count);
            }
        }
        writer.join().unwrap();
    });
}

/// Two locks share a wake word, each with its own bit: notifying one wakes no waiter of the other, so it keeps that mark.
#[test]
fn a_notification_for_one_lock_takes_no_mark_of_another_away() {
    const ONE: u32 = 4;
    const OTHER: u32 = 8;
    bounded(3, || {
        let world = Arc::new((AtomicU32::new(1), AtomicU32::new(1), Sleeping::new()));
        let waiter = {
            let world = world.clone();
            thread::spawn(move || {
                let (held, _, released) = &*world;
                loop {
                    let rings = mark(&released.word, ONE);
                    if held.load(Acquire) == 0 {
                        break;
                    }
                    released.sleep(rings);
                }
            })
        };
        let (held, writer_lock, released) = &*world;
        // Another thread waited for the other lock, too.
        mark(&released.word, OTHER);
        let _ = notify(&released.word, OTHER);
        held.store(0, Release);
        let _ = lock::release(writer_lock);
        released.ring_those(ONE, false);
        waiter.join().unwrap();
    });
}
