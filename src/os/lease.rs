//! Asking the kernel whether a file is open anywhere, by a write lease: the kernel grants one only on a file that no
//! other description has open or mapped, in any namespace.
//!
//! Used before a stale object is removed: "Stale objects" in `docs/protocol.md`.

use rustix::fd::{AsFd, AsRawFd};
use std::io::Error;

/// `F_SETSIG` of `<asm-generic/fcntl.h>`: chooses the signal of a lease.
const F_SETSIG: libc::c_int = 10;

/// Returns `true` if no other description of the file is open or mapped anywhere. Returns `None` if the system does not
/// tell.
///
/// The file must belong to the caller, unless the caller is root: the kernel grants a lease only to the owner of the
/// file and to root.
pub fn is_open_only_here(fd: impl AsFd) -> Option<bool> {
    let fd = fd.as_fd().as_raw_fd();
    // While the lease is held, the kernel announces each opener by a signal. SIGURG is ignored unless the program asks
    // for it.
    // SAFETY: the call takes integers only.
    unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) };
    // SAFETY: the call takes integers only.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) } == 0 {
        // The lease is held for an instant only, because an opener that does not wait is refused meanwhile.
        // SAFETY: the call takes integers only.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Some(true);
    }
    (Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)).then_some(false)
}
