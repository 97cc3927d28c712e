//! How a process notices that it is a forked child, however the fork was made; a mutex that survives a fork; handlers
//! around `fork()`.
//!
//! The protocol is "Fork" in `docs/protocol.md`. What the handlers do is in `process/at_fork.rs`.

use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::cell::UnsafeCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// A page with the epoch. The kernel clears it in every child, so a child that has not called [`epoch`] yet reads 0.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());
/// The last epoch, in ordinary memory, which a child inherits.
static LAST: AtomicU32 = AtomicU32::new(1);

/// Returns the epoch: a number that differs between a process and its forked children. It costs two loads.
#[inline]
pub fn epoch() -> u32 {
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return first_epoch();
    }
    // SAFETY: once the pointer is set, the page stays mapped for the life of the process.
    match unsafe { &*page }.load(Ordering::Relaxed) {
        0 => epoch_of_child(),
        epoch => epoch,
    }
}

/// Maps the page, once in a process and its children, and returns the epoch.
#[cold]
fn first_epoch() -> u32 {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let (read_write, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a fresh anonymous page, and advice about it. Kernels before 4.14 refuse the advice; then only the
        // handlers that `pthread_atfork` runs tell a child that it is one.
        let page = unsafe {
            let page = rustix::mm::mmap_anonymous(std::ptr::null_mut(), 4096, read_write, private)
                .expect("one page of memory");
            let _ = rustix::mm::madvise(page, 4096, Advice::LinuxWipeOnFork);
            page.cast::<AtomicU32>()
        };
        // SAFETY: the page is mapped, and zero is a valid value.
        unsafe { &*page }.store(LAST.load(Ordering::Relaxed), Ordering::Relaxed);
        PAGE.store(page, Ordering::Release);
    });
    epoch()
}

/// Chooses a new epoch in a child that finds 0 on the page. Only one of several threads succeeds; all return its epoch.
#[cold]
fn epoch_of_child() -> u32 {
    // SAFETY: the caller has found the pointer to be set, and the page stays mapped.
    let word = unsafe { &*PAGE.load(Ordering::Acquire) };
    let next = LAST.load(Ordering::Relaxed).wrapping_add(1).max(1);
    if word.compare_exchange(0, next, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        LAST.store(next, Ordering::SeqCst);
    }
    word.load(Ordering::SeqCst)
}

/// Private to the process: a mutex that a forked child finds free, because a thread of the parent that held it does not
/// exist in the child. Its value is then replaced by the default, because that thread may have left it half changed.
pub struct ForkMutex<T> {
    /// 0 if the mutex is free, else the epoch of the process with the thread that holds it.
    holder: AtomicU32,
    /// A child keeps the value instead of replacing it. True where the value is only ever changed in one step.
    keeps_value: bool,
    value: UnsafeCell<T>,
}

// SAFETY: `value` is reached through a guard only, and one thread at a time has a guard.
unsafe impl<T: Send> Sync for ForkMutex<T> {}

/// The guard of a [`ForkMutex`], which is released when the guard is dropped.
pub struct ForkGuard<'a, T>(&'a ForkMutex<T>);

impl<T: Default> Default for ForkMutex<T> {
    fn default() -> Self {
        ForkMutex::new(T::default())
    }
}

impl<T: Default> ForkMutex<T> {
    /// Makes a free mutex with this value.
    pub const fn new(value: T) -> Self {
        ForkMutex { holder: AtomicU32::new(0), keeps_value: false, value: UnsafeCell::new(value) }
    }

    /// Makes a free mutex whose value a child keeps, even if a thread of the parent held the mutex. The caller promises
    /// that the value is only ever changed in one step.
    pub const fn keeping(value: T) -> Self {
        ForkMutex { holder: AtomicU32::new(0), keeps_value: true, value: UnsafeCell::new(value) }
    }

    /// Locks the mutex. Returns `None` if another thread of this process holds it.
    pub fn try_lock(&self) -> Option<ForkGuard<'_, T>> {
        let (now, holder) = (epoch(), self.holder.load(Ordering::Relaxed));
        let free = holder != now;
        if !free || self.holder.compare_exchange(holder, now, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return None;
        }
        if holder != 0 && !self.keeps_value {
            // SAFETY: this thread holds the mutex. The old value is not dropped, because it may be inconsistent.
            unsafe { std::ptr::write(self.value.get(), T::default()) };
        }
        Some(ForkGuard(self))
    }

    /// Locks the mutex, and waits until it is free. A thread that holds the mutex must not wait for the interpreter's
    /// lock.
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

    /// Makes this process the holder of a mutex. Called in a child, by the thread that held the mutex across the fork.
    pub fn adopt(&self) {
        self.holder.store(epoch(), Ordering::Relaxed);
    }

    /// Runs `act` with the value of a mutex that this very thread has locked, and whose guard it has forgotten
    /// ([`std::mem::forget`]).
    ///
    /// # Panics
    /// If this process does not hold the mutex.
    pub fn with_forgotten_guard<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        assert_eq!(self.holder.load(Ordering::Relaxed), epoch(), "the mutex is held across the fork");
        // SAFETY: this thread holds the mutex, and its guard was forgotten.
        act(unsafe { &mut *self.value.get() })
    }

    /// Releases a mutex that this thread has locked, and whose guard it has forgotten.
    pub fn force_unlock(&self) {
        self.holder.store(0, Ordering::Release);
    }
}

impl<T> std::ops::Deref for ForkGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this thread holds the mutex as long as the guard is alive.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> std::ops::DerefMut for ForkGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread holds the mutex as long as the guard is alive, and the guard is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for ForkGuard<'_, T> {
    fn drop(&mut self) {
        self.0.holder.store(0, Ordering::Release);
    }
}

/// The functions that run around every `fork()` of the C library. (`_Fork` and a raw `clone` run none.)
pub struct Handlers {
    /// Runs in the parent, before the fork.
    pub before: fn(),
    /// Runs in the parent, after the fork.
    pub parent: fn(),
    /// Runs in the child, after the fork.
    pub child: fn(),
}

static HANDLERS: OnceLock<Handlers> = OnceLock::new();

/// Installs the handlers. Only the first call in a process has an effect.
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
        // SAFETY: these are functions of this library, which is never unloaded, because it has static state.
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
        // SAFETY: the child only loads, compares and exits.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            let differs = epoch() != before && MUTEX.lock().is_empty();
            // SAFETY: ends the child without handlers.
            unsafe { libc::_exit(if differs { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: waits for the child of this very test.
        unsafe { libc::waitpid(child as i32, &mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(epoch(), before);
    }
}
