//! Byte-range locks of open file descriptions: the kernel's word on who is alive.
//!
//! Never asked through the description that holds the lock, which would say "free".

use crate::os::fork;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The byte of the registry lock.
pub const REGISTRY: u64 = (1 << 62) - 1;
/// The byte of participant 0.
const FIRST: u64 = 1 << 62;

/// The byte that stands for a participant.
pub fn byte_of(participant: u32) -> u64 {
    FIRST + u64::from(participant)
}

fn control(fd: impl AsFd, take: bool, kind: i32, byte: u64) -> std::io::Result<i32> {
    let command = if take { libc::F_OFD_SETLK } else { libc::F_OFD_GETLK };
    // SAFETY: plain integers; all-zero is a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte as libc::off_t;
    lock.l_len = 1;
    // SAFETY: fcntl reads and writes the struct during the call only.
    if unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), command, &mut lock) } == -1 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(i32::from(lock.l_type))
}

/// Takes a byte for writing, if nobody else has it.
pub fn try_lock(fd: impl AsFd, byte: u64) -> std::io::Result<bool> {
    match control(fd, true, libc::F_WRLCK, byte) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Lets a byte go.
pub fn unlock(fd: impl AsFd, byte: u64) -> std::io::Result<()> {
    control(fd, true, libc::F_UNLCK, byte).map(drop)
}

/// Does somebody else hold this byte for writing? Asked as a reader: read locks, which need no write permission, do not
/// count.
pub fn is_locked(fd: impl AsFd, byte: u64) -> std::io::Result<bool> {
    Ok(control(fd, false, libc::F_RDLCK, byte)? != libc::F_UNLCK)
}

/// Keeps a description, and the locks it holds, alive for exactly as long as this address space lives.
pub struct Anchor {
    page: *mut std::ffi::c_void,
    epoch: u32,
}

// SAFETY: the address is only unmapped, never read.
unsafe impl Send for Anchor {}
// SAFETY: as above.
unsafe impl Sync for Anchor {}

const ANCHOR_LEN: usize = 4096;

impl Anchor {
    /// Maps one page, never touched, through the descriptor's description; forked children do not get it.
    pub fn new(description: &OwnedFd) -> rustix::io::Result<Self> {
        // SAFETY: a fresh mapping that nobody touches.
        let page = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), ANCHOR_LEN, ProtFlags::empty(), MapFlags::SHARED, description, 0)?
        };
        let anchor = Anchor { page, epoch: fork::epoch() };
        // SAFETY: advice about the page just mapped.
        unsafe { rustix::mm::madvise(page, ANCHOR_LEN, Advice::LinuxDontFork)? };
        Ok(anchor)
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            // SAFETY: mapped by `new` in this very process; nobody holds a reference into it.
            let _ = unsafe { rustix::mm::munmap(self.page, ANCHOR_LEN) };
        }
    }
}
