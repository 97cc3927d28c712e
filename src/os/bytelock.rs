//! Byte-range locks of open file descriptions (`F_OFD_SETLK`): with them the kernel knows which participants are alive.
//!
//! Each participant holds a write lock on its own byte of the lock object. The protocol is "Who is alive" in
//! `docs/protocol.md`. A byte must never be asked for through the description that holds its lock: the kernel would
//! answer "free".

use crate::os::fork;
use rustix::fd::{AsFd, AsRawFd};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Offset of the byte of the registry lock.
pub const REGISTRY_BYTE: u64 = (1 << 62) - 1;
/// Offset of the byte of participant 0.
const PARTICIPANT_BYTES: u64 = 1 << 62;

/// Returns the offset of the byte that stands for a participant.
pub fn byte_of(participant: u32) -> u64 {
    PARTICIPANT_BYTES + u64::from(participant)
}

/// Offset of the first byte that stands for the index of a value that is being made.
const CREATION_BYTES: u64 = 1 << 61;

/// Returns the offset of the byte that stands for the index with this hash, while a value in place is made under it.
pub fn creation_byte_of(hash: u64) -> u64 {
    CREATION_BYTES + hash % (1 << 60)
}

/// Calls `fcntl` with a lock of one byte. Returns the kind of lock that the kernel stored in the struct, which is the
/// answer of `F_OFD_GETLK`.
fn control(fd: impl AsFd, command: libc::c_int, kind: i32, byte: u64) -> std::io::Result<i32> {
    // SAFETY: the struct consists of integers, and all zeros is a valid value of it.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte as libc::off_t;
    lock.l_len = 1;
    // SAFETY: fcntl reads and writes the struct only during the call.
    if unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), command, &mut lock) } == -1 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(i32::from(lock.l_type))
}

/// Takes a write lock on a byte. Returns `false` if another description holds a lock on it.
pub fn try_lock(fd: impl AsFd, byte: u64) -> std::io::Result<bool> {
    match control(fd, libc::F_OFD_SETLK, libc::F_WRLCK, byte) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Releases the lock on a byte.
pub fn unlock(fd: impl AsFd, byte: u64) -> std::io::Result<()> {
    control(fd, libc::F_OFD_SETLK, libc::F_UNLCK, byte).map(drop)
}

/// Returns `true` if another description holds a write lock on a byte. The question is asked as if for a read lock, so
/// read locks of others do not count. They need no write permission, so any user could take them.
pub fn is_locked(fd: impl AsFd, byte: u64) -> std::io::Result<bool> {
    Ok(control(fd, libc::F_OFD_GETLK, libc::F_RDLCK, byte)? != libc::F_UNLCK)
}

/// Private to the process: a map that keeps an open file description, and the locks that it holds, for exactly as long
/// as the address space of this process lives. The descriptor may be closed meanwhile.
pub struct Anchor {
    page: *mut std::ffi::c_void,
    /// The epoch of the process that mapped the page. A forked child does not have the page.
    epoch: u32,
}

// SAFETY: the address is only unmapped, never read.
unsafe impl Send for Anchor {}
// SAFETY: the address is only unmapped, never read.
unsafe impl Sync for Anchor {}

const ANCHOR_LEN: usize = 4096;

impl Anchor {
    /// Maps one page through the descriptor's description. The page is never touched, and forked children do not get
    /// it.
    pub fn new(description: impl AsFd) -> rustix::io::Result<Self> {
        // SAFETY: a fresh mapping at an address that the kernel chooses; nothing accesses it.
        let page = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), ANCHOR_LEN, ProtFlags::empty(), MapFlags::SHARED, description, 0)?
        };
        let anchor = Anchor { page, epoch: fork::epoch() };
        // SAFETY: the advice is about the page that was just mapped.
        unsafe { rustix::mm::madvise(page, ANCHOR_LEN, Advice::LinuxDontFork)? };
        Ok(anchor)
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            // SAFETY: `new` mapped the page in this very process, and there is no reference into it.
            let _ = unsafe { rustix::mm::munmap(self.page, ANCHOR_LEN) };
        }
    }
}
