//! Handles that are attached and detached while other threads are inside of calls.

mod common;

use common::{Fresh, existing};
use shmvar::{Blocking, Condition, Error, Index, Segment, WaitPolicy};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One test of this program at a time: they count the descriptors of the process, and another test's would be among them.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Detaching the last handle must not release the participant number while a put still fills a span.
#[test]
fn f13_a_handle_detached_in_the_middle_of_a_large_put_loses_nothing() {
    let _alone = alone();
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
                Err(error) => panic!("round {round}: {error}"),
            }
        });
        let handle = existing(&fresh.key);
        let report = handle.check().unwrap_or_else(|error| panic!("round {round}: {error}"));
        let attached = handle.info().unwrap().attached;
        assert_eq!(report.busy, 0, "round {round}: a span is still being filled by nobody, {attached} attached");
        assert_eq!(attached, 1, "round {round}: {report:?}");
        handle.clear().unwrap();
    }
}

/// Does something once, while a value is copied without a lock.
struct Meanwhile<F: Fn()>(F);

impl<F: Fn()> WaitPolicy for Meanwhile<F> {
    fn allow_threads(&self, slow: &mut (dyn FnMut() + Send)) {
        slow();
        (self.0)();
    }
    fn interrupted(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// The put is refused when its span is filled already, and only it still keeps the process's number.
#[test]
fn f13_a_large_put_that_is_refused_after_the_last_handle_was_detached_leaves_no_span() {
    let _alone = alone();
    let fresh = Fresh::new("refused", 64 << 20);
    fresh.segment.put(1, &1).unwrap();
    let version = fresh.segment.version(1).unwrap();
    let handle = existing(&fresh.key);
    let policy = Meanwhile(|| {
        if !handle.detached() {
            handle.put(1, &2).unwrap();
            handle.detach();
            fresh.segment.detach();
        }
    });
    let put = handle.put_pickle(&Index::Int(1), &[&[b'.'; 1 << 20]], Condition::Version(version), &policy);
    assert_eq!(put.unwrap(), None);
    assert!(handle.detached() && fresh.segment.detached());
    let handle = existing(&fresh.key);
    let report = handle.check().unwrap();
    assert_eq!((report.busy, report.live), (0, 0), "a span is still being filled by nobody: {report:?}");
    assert_eq!(handle.info().unwrap().attached, 1);
}

#[test]
fn attaching_and_detaching_in_many_threads_leaves_one_segment_and_no_descriptor() {
    let _alone = alone();
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
