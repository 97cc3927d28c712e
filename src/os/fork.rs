//! Knowing that one is a forked child, however the fork was made.

use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::cell::UnsafeCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// One page that the kernel clears in every child: it holds the epoch, 0 in a child that has not looked yet.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());
/// The epoch in ordinary memory, which a child inherits.
static LAST: AtomicU32 = AtomicU32::new(1);

/// A number that differs between a process and its forked children. One load and a comparison.
#[inline]
pub fn epoch() -> u32 {
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return first();
    }
    // SAFETY: once set, the page stays mapped for the life of the process.
    match unsafe { &*page }.load(Ordering::Relaxed) {
        0 => child(),
        epoch => epoch,
    }
}

#[cold]
fn first() -> u32 {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let (read_write, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a fresh anonymous page; advice about it. Kernels before 4.14 refuse the advice: then the handlers that
        // `pthread_atfork` runs are all there is.
        let page = unsafe {
            let page = rustix::mm::mmap_anonymous(std::ptr::null_mut(), 4096, read_write, private)
                .expect("one page of memory");
            let _ = rustix::mm::madvise(page, 4096, Advice::LinuxWipeOnFork);
            page.cast::<AtomicU32>()
        };
        // SAFETY: mapped and zero.
        unsafe { &*page }.store(LAST.load(Ordering::Relaxed), Ordering::Relaxed);
        PAGE.store(page, Ordering::Release);
    });
    epoch()
}

#[cold]
fn child() -> u32 {
    // SAFETY: not null, see `epoch`.
    let word = unsafe { &*PAGE.load(Ordering::Acquire) };
    let next = LAST.load(Ordering::Relaxed).wrapping_add(1).max(1);
    if word.compare_exchange(0, next, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        LAST.store(next, Ordering::SeqCst);
    }
    word.load(Ordering::SeqCst)
}

/// A mutex that a forked child finds free: its holder is a thread of the parent, which does not exist here. What it
/// guards is then made anew, for it may be half changed.
pub struct ForkMutex<T> {
    /// 0, or the epoch of the process that holds it.
    holder: AtomicU32,
    /// The value bears being found half way: it is changed in one step.
    keep: bool,
    value: UnsafeCell<T>,
}

// SAFETY: `value` is reached through the guard only, by one thread at a time.
unsafe impl<T: Send> Sync for ForkMutex<T> {}

/// Held until dropped.
pub struct ForkGuard<'a, T>(&'a ForkMutex<T>);

impl<T: Default> Default for ForkMutex<T> {
    fn default() -> Self {
        ForkMutex::new(T::default())
    }
}

impl<T: Default> ForkMutex<T> {
    /// Free.
    pub const fn new(value: T) -> Self {
        ForkMutex { holder: AtomicU32::new(0), keep: false, value: UnsafeCell::new(value) }
    }

    /// Free; a child keeps the value even if a thread of the parent held the mutex: it is replaced in one step.
    pub const fn keeping(value: T) -> Self {
        ForkMutex { holder: AtomicU32::new(0), keep: true, value: UnsafeCell::new(value) }
    }

    /// The mutex if it is free.
    pub fn try_lock(&self) -> Option<ForkGuard<'_, T>> {
        let (now, holder) = (epoch(), self.holder.load(Ordering::Relaxed));
        let free = holder != now;
        if !free || self.holder.compare_exchange(holder, now, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return None;
        }
        if holder != 0 && !self.keep {
            // SAFETY: held by us alone. Not dropped: it may be inconsistent.
            unsafe { std::ptr::write(self.value.get(), T::default()) };
        }
        Some(ForkGuard(self))
    }

    /// Waits for it. Who holds it never waits for the interpreter.
    pub fn lock(&self) -> ForkGuard<'_, T> {
        let mut wait = std::time::Duration::from_micros(5);
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(std::time::Duration::from_millis(1));
        }
    }

    /// Makes a held mutex this process's: for the child of a thread that held it across the fork.
    pub fn adopt(&self) {
        self.holder.store(epoch(), Ordering::Relaxed);
    }

    /// Runs something with the value while a forgotten guard of this very thread holds the mutex.
    pub fn held<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        assert_eq!(self.holder.load(Ordering::Relaxed), epoch(), "held across the fork");
        // SAFETY: held by this thread, no guard is alive.
        act(unsafe { &mut *self.value.get() })
    }

    /// Lets go of what [`ForkMutex::lock`] took and a forgotten guard kept.
    pub fn unlock(&self) {
        self.holder.store(0, Ordering::Release);
    }
}

impl<T> std::ops::Deref for ForkGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard is the proof of holding it.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> std::ops::DerefMut for ForkGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for ForkGuard<'_, T> {
    fn drop(&mut self) {
        self.0.holder.store(0, Ordering::Release);
    }
}

/// What runs around every `fork()` of the C library (`_Fork` and raw `clone` run nothing).
pub struct Handlers {
    /// Before, in the parent.
    pub before: fn(),
    /// After, in the parent.
    pub parent: fn(),
    /// After, in the child.
    pub child: fn(),
}

static HANDLERS: OnceLock<Handlers> = OnceLock::new();

/// Installs the handlers, once.
pub fn install(handlers: Handlers) {
    let mut first = false;
    HANDLERS.get_or_init(|| {
        first = true;
        handlers
    });
    if first {
        extern "C" fn before() {
            HANDLERS.get().inspect(|h| (h.before)());
        }
        extern "C" fn parent() {
            HANDLERS.get().inspect(|h| (h.parent)());
        }
        extern "C" fn child() {
            HANDLERS.get().inspect(|h| (h.child)());
        }
        // SAFETY: functions of this library, which is never unloaded (it holds static state).
        unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "clone")]
    fn a_raw_clone_sees_another_epoch_and_a_free_mutex() {
        static MUTEX: ForkMutex<Vec<u8>> = ForkMutex::new(Vec::new());
        let (before, mut held) = (epoch(), MUTEX.lock());
        held.push(1);
        // SAFETY: a child that only loads, compares and exits.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            let differs = epoch() != before && MUTEX.lock().is_empty();
            // SAFETY: ends the child without handlers.
            unsafe { libc::_exit(if differs { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: our own child.
        unsafe { libc::waitpid(child as i32, &mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(epoch(), before);
    }
}
