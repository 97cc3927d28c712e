//! Threads that somebody else ends in the middle of a call.
//!
//! `pthread_exit` of glibc unwinds the stack of its thread, and asks a function of its own about each frame. Frames of
//! Rust between, which may be unwound by a panic and by nothing else, end the process. Only the handlers that a thread
//! has pushed come before the first frame is left: such a handler can keep the thread where it is. (musl ends a thread
//! without unwinding.)
//!
//! A thread that has been here once keeps its handler, wherever it is later. So a program that embeds the interpreter,
//! ends it, and then cancels such a thread and waits for it, waits in vain.

/// Lets this thread stand still for ever, instead of being unwound, where somebody ends it while `is_over` is true. It
/// is asked when that happens. A second call of a thread does nothing.
#[cfg(target_env = "gnu")]
#[inline]
pub fn stand_still_instead(is_over: fn() -> bool) {
    if !PREPARED.get() {
        prepare(is_over);
    }
}

/// There is nothing to be done.
#[cfg(not(target_env = "gnu"))]
#[inline]
pub fn stand_still_instead(_: fn() -> bool) {}

#[cfg(target_env = "gnu")]
use std::{
    cell::Cell,
    ffi::{c_int, c_void},
    time::Duration,
};

#[cfg(target_env = "gnu")]
thread_local! {
    static PREPARED: Cell<bool> = const { Cell::new(false) };
    static HANDLER: Cell<Option<Handler>> = const { Cell::new(None) };
}

#[cfg(target_env = "gnu")]
type Push = unsafe extern "C" fn(*mut CleanupBuffer, unsafe extern "C" fn(*mut c_void), *mut c_void);
#[cfg(target_env = "gnu")]
type Pop = unsafe extern "C" fn(*mut CleanupBuffer, c_int);

/// The handler of a thread, which is taken away when the thread ends by itself.
#[cfg(target_env = "gnu")]
struct Handler {
    buffer: *mut CleanupBuffer,
    pop: Pop,
}

#[cfg(target_env = "gnu")]
impl Drop for Handler {
    fn drop(&mut self) {
        // SAFETY: the buffer is from `prepare` of this thread, whose frames are all left: nobody else's is above it.
        // Afterwards nothing refers to it.
        unsafe {
            (self.pop)(self.buffer, 0);
            drop(Box::from_raw(self.buffer));
        }
    }
}

/// `struct _pthread_cleanup_buffer` of glibc's `pthread.h`. It is Linux's ABI for as long as there is glibc.
#[cfg(target_env = "gnu")]
#[repr(C)]
struct CleanupBuffer {
    routine: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
    cancel_type: c_int,
    previous: *mut CleanupBuffer,
}

/// Pushes the handler of this thread.
#[cfg(target_env = "gnu")]
#[cold]
fn prepare(is_over: fn() -> bool) {
    PREPARED.set(true);
    // SAFETY: the names end with 0.
    let (push, pop) = unsafe {
        let named = |name: &std::ffi::CStr| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        (named(c"_pthread_cleanup_push"), named(c"_pthread_cleanup_pop"))
    };
    if push.is_null() || pop.is_null() {
        return;
    }
    let buffer =
        CleanupBuffer { routine: None, argument: std::ptr::null_mut(), cancel_type: 0, previous: std::ptr::null_mut() };
    // glibc calls a handler when the frame of its buffer is left, which it tells by the address: a buffer that is not on
    // the stack belongs to the frame that is left first.
    let buffer = Box::into_raw(Box::new(buffer));
    // SAFETY: glibc's functions of these names have these signatures. The first fills the buffer, which lives until
    // `Handler` is dropped, and hangs it into the list of this thread. The argument is a function, as `handler` expects.
    unsafe {
        let (push, pop) =
            (std::mem::transmute::<*mut c_void, Push>(push), std::mem::transmute::<*mut c_void, Pop>(pop));
        push(buffer, handler, is_over as *mut c_void);
        HANDLER.set(Some(Handler { buffer, pop }));
    }
}

/// Called by glibc in a thread that ends itself, before any frame is left.
///
/// # Safety
/// The argument must be a `fn() -> bool`.
#[cfg(target_env = "gnu")]
unsafe extern "C" fn handler(is_over: *mut c_void) {
    // SAFETY: `prepare` passes such a function.
    let is_over = unsafe { std::mem::transmute::<*mut c_void, fn() -> bool>(is_over) };
    // Whoever ends the threads may say so an instant after the first of them has noticed.
    for _ in 0..20 {
        if is_over() {
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}
