//! Pins against retiring and freeing.

use crate::{bounded, slot};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use loom::thread;
use shmvar::format::Slot;
use shmvar::sync::slot::Content;
use shmvar::sync::slot::Seqlock;

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

/// A span is freed and filled again at once: the second look of the reader, at the whole slot, detects that.
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
