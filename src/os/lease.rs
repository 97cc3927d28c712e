//! Does anybody have a file open? The kernel knows: a write lease is given on a file that nobody else has open or mapped.

use rustix::fd::{AsFd, AsRawFd};
use std::io::Error;

/// `<asm-generic/fcntl.h>`
const F_SETSIG: libc::c_int = 10;

/// `None`: this system does not tell. The file is ours, or we are root.
pub fn nobody_has_open(fd: impl AsFd) -> Option<bool> {
    let fd = fd.as_fd().as_raw_fd();
    // Whoever opens it while we hold the lease is announced by a signal: by one that is ignored unless somebody asked.
    // SAFETY: plain integers.
    unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) };
    // SAFETY: as above.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) } == 0 {
        // SAFETY: as above. Held for an instant only: an opener that does not wait would be refused meanwhile.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Some(true);
    }
    (Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)).then_some(false)
}
