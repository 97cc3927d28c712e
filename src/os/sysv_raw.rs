//! System V segments as bytes: maps that are copied from and to at any offset, perhaps for reading alone.

use crate::error::{Error, Result};
use crate::os::opaque_copy::opaque_copy;
use crate::os::sysv_shm::status;
use std::io;

/// Private to the process: a map of a segment, which is unmapped when it is dropped.
pub struct RawMap {
    base: *mut u8,
    size: u64,
    readonly: bool,
}

// SAFETY: a map is an address range, and its bytes are reached through opaque copies alone.
unsafe impl Send for RawMap {}
// SAFETY: as above.
unsafe impl Sync for RawMap {}

impl RawMap {
    /// Maps a segment, and asks the kernel for its size.
    pub fn new(id: i32, readonly: bool) -> io::Result<Self> {
        let flags = if readonly { libc::SHM_RDONLY } else { 0 };
        // SAFETY: the kernel chooses the address.
        let base = unsafe { libc::shmat(id, std::ptr::null(), flags) };
        if base.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        let mut map = RawMap { base: base.cast(), size: 0, readonly };
        map.size = status(id)?.size;
        Ok(map)
    }

    /// Returns the size that the kernel tells.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns whether the map is for reading alone.
    pub fn is_readonly(&self) -> bool {
        self.readonly
    }

    fn pointer(&self, offset: u64, len: usize) -> Result<*mut u8> {
        match offset.checked_add(len as u64) {
            // SAFETY: the bytes lie within the map, as was just checked.
            Some(end) if end <= self.size => Ok(unsafe { self.base.add(offset as usize) }),
            _ => Err(Error::Invalid(format!("{len} bytes at offset {offset} reach beyond its {} bytes", self.size))),
        }
    }

    /// Copies bytes out of the segment. Others may change them meanwhile.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let from = self.pointer(offset, to.len())?;
        // SAFETY: the source is mapped, and the destination is private.
        unsafe { opaque_copy(to.as_mut_ptr(), from, to.len()) };
        Ok(())
    }

    /// Copies bytes into the segment.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<()> {
        if self.readonly {
            return Err(Error::ReadOnly);
        }
        let to = self.pointer(offset, from.len())?;
        // SAFETY: the destination is mapped for writing, and a private slice does not overlap it.
        unsafe { opaque_copy(to, from.as_ptr(), from.len()) };
        Ok(())
    }
}

impl Drop for RawMap {
    fn drop(&mut self) {
        // SAFETY: this map is unmapped once, here, and nothing borrows from it.
        let _ = unsafe { libc::shmdt(self.base.cast()) };
    }
}
