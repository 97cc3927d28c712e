//! Handles that are attached and detached while other threads are inside of calls.

mod common;

use common::{Fresh, existing};
use shmvar::{Blocking, Segment};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Detaching the last handle must not release the participant number while a put still fills a span.
#[test]
fn f13_a_handle_detached_in_the_middle_of_a_large_put_loses_nothing() {
    let fresh = Fresh::new("detach", 1 << 30);
    fresh.segment.detach();
    let value = vec![7; 30 << 20];
    for round in 0..20 {
        let handle = existing(&fresh.key);
        std::thread::scope(|scope| {
            let put = scope.spawn(|| handle.put_bytes(round, &value));
            std::thread::sleep(Duration::from_millis(round as u64 % 7));
            handle.detach();
            match put.join().unwrap() {
                Ok(()) | Err(shmvar::Error::Detached) => {}
                Err(error) => panic!("{error}"),
            }
        });
        let handle = existing(&fresh.key);
        let report = handle.check().unwrap();
        assert_eq!(report.busy, 0, "round {round}: a span is still being filled by nobody");
        assert_eq!(handle.info().unwrap().attached, 1);
        handle.clear().unwrap();
    }
}

#[test]
fn attaching_and_detaching_in_many_threads_leaves_one_segment_and_no_descriptor() {
    let fresh = Fresh::new("threads", 1 << 20);
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = count();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..6_i64 {
            let (key, stop) = (&fresh.key, &stop);
            scope.spawn(move || {
                for round in 0.. {
                    let segment: Segment = existing(key);
                    segment.put(number, &round).unwrap();
                    assert_eq!(segment.get::<i64>(number).unwrap(), Some(round));
                    if round % 16 == 0 {
                        segment.trim(&Blocking).unwrap();
                    }
                    shmvar::segments().unwrap();
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
    });
    assert!(count() <= before + 2, "{} descriptors, {before} before", count());
    fresh.segment.check().unwrap();
    assert_eq!(fresh.segment.info().unwrap().attached, 1);
}
