//! A shared value that can be taken away while others use it: it goes when the last use that had begun ends.
//!
//! | `uses` | |
//! | --- | --- |
//! | bit 0 | revoked: no use begins any more |
//! | the rest | uses under way |

#![allow(unsafe_code, reason = "the value is reached through a pointer, which the word of uses guards")]

use crate::atomic::{AtomicPtr, AtomicU64, Ordering, one_at_a_time};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

const REVOKED: u64 = 1;
const USE: u64 = 2;

/// See the module.
pub struct Revocable<T> {
    /// From `Arc::into_raw`; null once it was given back.
    value: AtomicPtr<T>,
    uses: AtomicU64,
    _owns: PhantomData<Arc<T>>,
}

/// One use: the value stays until this is dropped.
pub struct Borrowed<'a, T> {
    of: &'a Revocable<T>,
    value: &'a T,
}

impl<T> Revocable<T> {
    /// Of this value.
    pub fn new(value: Arc<T>) -> Self {
        Revocable {
            value: AtomicPtr::new(Arc::into_raw(value).cast_mut()),
            uses: AtomicU64::new(0),
            _owns: PhantomData,
        }
    }

    /// Begins a use. `None`: it was revoked.
    #[inline(always)]
    pub fn get(&self) -> Option<Borrowed<'_, T>> {
        // SYNC: acquire, with the release of `give_back` through the word: who finds it not revoked finds the value there.
        let before = self.change(|uses| uses + USE, |uses| uses.fetch_add(USE, Ordering::Acquire));
        if before & REVOKED != 0 {
            self.end();
            return None;
        }
        // SAFETY: it was not revoked when this use was counted, and while it is counted nobody gives the value back.
        Some(Borrowed { of: self, value: unsafe { &*self.value.load(Ordering::Relaxed) } })
    }

    /// Was it revoked?
    #[inline]
    pub fn revoked(&self) -> bool {
        self.uses.load(Ordering::Relaxed) & REVOKED != 0
    }

    /// Takes it away. False: somebody did before.
    pub fn revoke(&self) -> bool {
        let before = self.change(|uses| uses | REVOKED, |uses| uses.fetch_or(REVOKED, Ordering::AcqRel));
        if before == 0 {
            self.give_back();
        }
        before & REVOKED == 0
    }

    #[inline(always)]
    fn end(&self) {
        // SYNC: release, with the acquire of whoever finds that this was the last use: all it did with the value is done.
        let before = self.change(|uses| uses - USE, |uses| uses.fetch_sub(USE, Ordering::AcqRel));
        if before == USE | REVOKED {
            self.give_back();
        }
    }

    /// Changes the word, and returns what it was. Where an interpreter's lock is held around every change, plain loads and
    /// stores do, and cost a tenth.
    #[inline(always)]
    fn change(&self, plain: impl FnOnce(u64) -> u64, atomic: impl FnOnce(&AtomicU64) -> u64) -> u64 {
        if one_at_a_time() {
            let before = self.uses.load(Ordering::Relaxed);
            self.uses.store(plain(before), Ordering::Relaxed);
            return before;
        }
        atomic(&self.uses)
    }

    /// Revoked, and no use is under way. More than one may come here: who asks in vain is counted for a moment, too.
    #[cold]
    fn give_back(&self) {
        let value = self.value.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !value.is_null() {
            // SAFETY: from `Arc::into_raw`, and taken by this swap alone.
            drop(unsafe { Arc::from_raw(value.cast_const()) });
        }
    }
}

impl<T> Deref for Borrowed<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for Borrowed<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.of.end();
    }
}

impl<T> Drop for Revocable<T> {
    fn drop(&mut self) {
        // Nobody borrows it: uses that are counted still are of threads that a fork left behind.
        self.give_back();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_value_goes_with_the_last_use_that_had_begun() {
        let value = Arc::new(5);
        let revocable = Revocable::new(value.clone());
        let (first, second) = (revocable.get().unwrap(), revocable.get().unwrap());
        assert!(revocable.revoke() && !revocable.revoke() && revocable.revoked());
        assert!(revocable.get().is_none());
        drop(first);
        assert_eq!((Arc::strong_count(&value), *second), (2, 5));
        drop(second);
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(revocable.get().is_none());
        drop(revocable);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn what_is_not_used_goes_at_once() {
        let value = Arc::new(());
        let revocable = Revocable::new(value.clone());
        drop(revocable.get());
        assert_eq!(Arc::strong_count(&value), 2);
        assert!(revocable.revoke());
        assert_eq!(Arc::strong_count(&value), 1);
        drop(Revocable::new(value.clone()));
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
