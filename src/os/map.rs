//! Mappings of a whole segment.

use crate::error::{Error, Result};
use crate::os::object::{self, Status};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags};
#[cfg(feature = "python")]
use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

/// A mapped segment, unmapped when dropped.
pub struct Mapping {
    ptr: *mut u8,
    len: usize,
}

// SAFETY: an address range; access to it is `Mem`'s business.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Its first address.
    pub fn ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// Checked access to it, for as long as this lives: kept together in one struct.
    pub fn mem(&self, writable: bool) -> crate::mem::Mem {
        // SAFETY: mapped, page-aligned, at least the fixed part (asserted there). Every caller keeps the mapping beside it.
        unsafe { crate::mem::Mem::new(self.ptr, self.len as u64, writable) }
    }

    /// Maps the object of this name for reading and writing, through the `shared_memory` crate. The name is opened anew:
    /// the caller compares the identity inside with the one he knows.
    pub fn named(name: &str) -> Result<Self> {
        let opened = shared_memory::ShmemConf::new().os_id(name).open();
        let mut shmem = opened
            .map_err(|e| object::no_descriptors("mapping a segment").unwrap_or_else(|| no_room(&e.to_string(), 0)))?;
        shmem.set_owner(false);
        // The crate closes its descriptor's number when it unmaps, whosever it is by then (`os.closerange`, and a new
        // file): so it unmaps now, and a second mapping of the same pages stays.
        // SAFETY: an old size of 0 duplicates a shared mapping; the crate's own is left alone.
        let ptr = unsafe { rustix::mm::mremap(shmem.as_ptr().cast(), 0, shmem.len(), MremapFlags::MAYMOVE) }
            .map_err(|e| no_room(&e.to_string(), shmem.len() as u64))?;
        let mapping = Mapping { ptr: ptr.cast(), len: shmem.len() };
        mapping.keep_out_of_dumps()?;
        Ok(mapping)
    }

    /// Maps an open object.
    pub fn of(fd: BorrowedFd<'_>, len: u64, write: bool) -> Result<Self> {
        let mut options = MmapOptions::new();
        options.len(len as usize);
        let map = if write { options.map_raw(fd.as_raw_fd()) } else { options.map_raw_read_only(fd.as_raw_fd()) };
        let map: MmapRaw = map.map_err(|e| no_room(&e.to_string(), len))?;
        let mapping = Mapping { ptr: map.as_mut_ptr(), len: map.len() };
        std::mem::forget(map);
        mapping.keep_out_of_dumps()?;
        Ok(mapping)
    }

    /// Zeros of this process alone, which take memory where something is stored.
    pub fn private(len: u64) -> Result<Self> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: fresh anonymous memory, at an address of the kernel's choice.
        let ptr = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len as usize, access, flags) }
            .map_err(|e| no_room(&e.to_string(), len))?;
        Ok(Mapping { ptr: ptr.cast(), len: len as usize })
    }

    /// A core dump would make every page of the reserve present.
    fn keep_out_of_dumps(&self) -> Result<()> {
        // SAFETY: advice about our own mapping.
        unsafe { rustix::mm::madvise(self.ptr.cast(), self.len, Advice::LinuxDontDump) }
            .map_err(|e| Error::system("madvise", e))
    }
}

fn no_room(text: &str, len: u64) -> Error {
    Error::Busy(format!(
        "cannot map the segment's {len} bytes of address space ({text}): raise `ulimit -v`, or detach other segments"
    ))
}

/// A private, writable copy-on-write map of a part of a segment.
#[cfg(feature = "python")]
pub struct Private(memmap2::MmapMut);

/// Private maps alive in this process.
#[cfg(feature = "python")]
static PRIVATE: AtomicUsize = AtomicUsize::new(0);

/// How many there may be: half of what the system allows a process, for its allocator needs maps, too.
#[cfg(feature = "python")]
fn private_max() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
        text.ok().and_then(|t| t.trim().parse::<usize>().ok()).unwrap_or(65_530) / 2
    })
}

#[cfg(feature = "python")]
impl Private {
    /// Maps `len` bytes from `offset`, which may lie anywhere.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, len: usize) -> std::io::Result<Self> {
        if PRIVATE.load(Ordering::Relaxed) >= private_max() {
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: the pages are private to us once written; those not yet written show the span, which the caller keeps
        // pinned for as long as this lives.
        unsafe { MmapOptions::new().offset(offset).len(len).map_copy(fd.as_raw_fd()) }.map(|map| {
            PRIVATE.fetch_add(1, Ordering::Relaxed);
            Private(map)
        })
    }

    /// Its first address.
    pub fn ptr(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut()
    }
}

#[cfg(feature = "python")]
impl Drop for Private {
    fn drop(&mut self) {
        PRIVATE.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours, and whoever borrowed from it is gone.
        let _ = unsafe { rustix::mm::munmap(self.ptr.cast(), self.len) };
    }
}

/// Is this still a descriptor of that object? User code may have closed it, and the number may be another file's.
pub fn is_descriptor_of(fd: impl AsFd, status: &Status) -> bool {
    object::status(fd).is_ok_and(|found| found.same(status))
}
