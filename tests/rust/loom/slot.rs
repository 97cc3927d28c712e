//! Reads of a slot and of the record that it names.

use crate::{content, slot, whole};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use loom::thread;
use shmvar::sync::lock_word as lock;
use shmvar::sync::slot::Content;
use shmvar::sync::slot::Seqlock;

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

/// The record of a variable, and its block, which the next put uses again.
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
