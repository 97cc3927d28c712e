//! A handle is detached while other threads call it: what they use is given back once, after the last of them.

use crate::bounded;
use loom::cell::UnsafeCell;
use loom::thread;
use shmvar::sync::revocable::Revocable;
use std::sync::Arc;

/// Storage whose every access loom sees: the cell reports it if a thread gives it back while another still looks.
struct Mapping {
    there: UnsafeCell<bool>,
    given_back: Arc<loom::sync::atomic::AtomicU32>,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.there.with_mut(|there| unsafe { *there = false });
        self.given_back.fetch_add(1, loom::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_use_that_began_keeps_the_value_and_the_last_one_gives_it_back_once() {
    bounded(3, || {
        let given_back = Arc::new(loom::sync::atomic::AtomicU32::new(0));
        let mapping = Mapping { there: UnsafeCell::new(true), given_back: given_back.clone() };
        let revocable = Arc::new(Revocable::new(Arc::new(mapping)));
        let users: Vec<_> = (0..2)
            .map(|_| {
                let revocable = revocable.clone();
                thread::spawn(move || {
                    if let Some(lent) = revocable.get() {
                        assert!(lent.there.with(|there| unsafe { *there }));
                    }
                })
            })
            .collect();
        assert!(revocable.revoke());
        for user in users {
            user.join().unwrap();
        }
        // Before the handle itself is dropped.
        assert_eq!(given_back.load(loom::sync::atomic::Ordering::Relaxed), 1);
        assert!(revocable.get().is_none());
    });
}
