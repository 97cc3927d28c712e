//! Models of the protocols: every interleaving, and every value that the memory model lets a load return.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --no-default-features --release --test loom`
//!
//! What the models cannot show: stores by plain instructions (relaxed atomics stand for the copies of records), the part of
//! the kernel (an atomic and a mutex stand for liveness and the registry lock), and more than three threads.
#![cfg(loom)]

mod batch;
mod changes;
mod expiry;
mod handover;
mod intent;
mod leaf;
mod moves;
mod pins;
mod read_section;
mod revocable;
mod slot;
mod stamps;
mod wake_word;
mod writer;

use loom::sync::atomic::AtomicU64;
use shmvar::format::{IntentArea, Root, Slot};
use shmvar::sync::intent::Counters;
use shmvar::sync::slot::Content;

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
    Counters { root: Root(1), names: Root(2), zones: 1, version, used: 1, count: 1, expiring: 0 }
}

fn area() -> IntentArea {
    IntentArea::zeroed()
}

fn bounded(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}
