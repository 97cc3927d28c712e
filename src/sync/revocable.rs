//! A shared value that can be revoked while other threads use it. It is dropped when the last use that had begun ends.
//!
//! A handle keeps its attachment in one, so that `detach` does not have to wait for calls of other threads. The
//! protocol is "A handle that is detached while other threads call it" in `docs/protocol.md`. Nothing here is in shared
//! memory.
//!
//! | `uses` | meaning |
//! | --- | --- |
//! | bit 0 | revoked: no further use may begin |
//! | the other bits | number of uses under way |

#![allow(unsafe_code, reason = "the value is reached through a pointer, which the word of uses guards")]

use crate::atomic::{AtomicPtr, AtomicU64, Ordering, calls_are_serialized};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// The bit of a revoked value.
const REVOKED: u64 = 1;
/// One use, in the count of uses.
const USE: u64 = 2;

/// Private to the process: an `Arc` that can be revoked (see the module's text).
pub struct Revocable<T> {
    /// The result of `Arc::into_raw`, or null once the value was dropped.
    value: AtomicPtr<T>,
    /// Bit 0 and the count of uses: see the table of the module.
    uses: AtomicU64,
    _owns: PhantomData<Arc<T>>,
}

/// A use of the value of a [`Revocable`]. The value stays alive at least until the guard is dropped.
pub struct RevocableGuard<'a, T> {
    revocable: &'a Revocable<T>,
    value: &'a T,
}

impl<T> Revocable<T> {
    /// Makes a revocable of this value.
    pub fn new(value: Arc<T>) -> Self {
        Revocable {
            value: AtomicPtr::new(Arc::into_raw(value).cast_mut()),
            uses: AtomicU64::new(0),
            _owns: PhantomData,
        }
    }

    /// Begins a use. Returns `None` if the value was revoked.
    #[inline(always)]
    pub fn get(&self) -> Option<RevocableGuard<'_, T>> {
        // SYNC: acquire: the pointer is loaded after this use was counted. A use that finds the value not revoked comes
        // before the revocation in the order of this word, so the value is dropped after the use has ended.
        let before = self.change(|uses| uses + USE, |uses| uses.fetch_add(USE, Ordering::Acquire));
        if before & REVOKED != 0 {
            self.end_use();
            return None;
        }
        // SAFETY: the value was not revoked when this use was counted, and it is not dropped while a use is counted.
        Some(RevocableGuard { revocable: self, value: unsafe { &*self.value.load(Ordering::Relaxed) } })
    }

    /// Returns `true` if the value was revoked.
    #[inline]
    pub fn is_revoked(&self) -> bool {
        self.uses.load(Ordering::Relaxed) & REVOKED != 0
    }

    /// Revokes the value. Returns `false` if it had been revoked before.
    pub fn revoke(&self) -> bool {
        let before = self.change(|uses| uses | REVOKED, |uses| uses.fetch_or(REVOKED, Ordering::AcqRel));
        if before == 0 {
            self.drop_value();
        }
        before & REVOKED == 0
    }

    /// Ends a use. The last use of a revoked value drops the value.
    #[inline(always)]
    fn end_use(&self) {
        // SYNC: release, paired with the acquire of the thread that ends the last use and drops the value: everything
        // that this thread did with the value happens before the drop.
        let before = self.change(|uses| uses - USE, |uses| uses.fetch_sub(USE, Ordering::AcqRel));
        if before == USE | REVOKED {
            self.drop_value();
        }
    }

    /// Changes the word and returns its old value. If an interpreter's lock is held around every change, a plain load
    /// and a plain store are enough, and cost a tenth of an atomic operation.
    #[inline(always)]
    fn change(&self, plain: impl FnOnce(u64) -> u64, atomic: impl FnOnce(&AtomicU64) -> u64) -> u64 {
        if calls_are_serialized() {
            let before = self.uses.load(Ordering::Relaxed);
            self.uses.store(plain(before), Ordering::Relaxed);
            return before;
        }
        atomic(&self.uses)
    }

    /// Drops the value, which is revoked and has no use under way. Several threads may call this, because a call of
    /// `get` that finds the value revoked counts as a use for a moment; the first one drops the value.
    #[cold]
    fn drop_value(&self) {
        let value = self.value.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !value.is_null() {
            // SAFETY: the pointer is from `Arc::into_raw`, and this swap is the only one that got it.
            drop(unsafe { Arc::from_raw(value.cast_const()) });
        }
    }
}

impl<T> Deref for RevocableGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for RevocableGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.revocable.end_use();
    }
}

impl<T> Drop for Revocable<T> {
    fn drop(&mut self) {
        // No guard is alive. Uses that are still counted belong to threads of a parent process that a fork left behind.
        self.drop_value();
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
        assert!(revocable.revoke() && !revocable.revoke() && revocable.is_revoked());
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
