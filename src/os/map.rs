//! Maps of a segment: of the whole object, of zeros for a copy of it, and private maps of a part.
//!
//! How much of an object is mapped, and when more is, is decided in `process/extent.rs` ("Length" in
//! `docs/protocol.md`).

use crate::error::{Error, Lack, Result};
use crate::os::description::Description;
use crate::os::object::Status;
#[cfg(feature = "python")]
use memmap2::MmapOptions;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MlockFlags, MprotectFlags, MremapFlags, ProtFlags};
use shared_memory::Shmem;
use std::mem::ManuallyDrop;
#[cfg(feature = "python")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Private to the process: a map of a segment, which is unmapped when it is dropped.
pub struct Mapping {
    ptr: *mut u8,
    /// Length in bytes. It grows if the map can be made longer in its place.
    len: AtomicUsize,
    /// The part of the `shared_memory` crate, if that crate made the map.
    by_crate: Option<CrateMap>,
}

/// The part that the `shared_memory` crate has in a map. Dropping it unmaps, and closes the descriptor that the crate
/// keeps to itself.
struct CrateMap {
    shmem: ManuallyDrop<Shmem>,
    /// The number of that descriptor.
    number: RawFd,
    /// The description that it was opened as.
    description: Description,
}

// SAFETY: a map is an address range, and access to its bytes is checked by `Mem`. The crate's part is used once, by
// `drop`.
unsafe impl Send for Mapping {}
// SAFETY: a map is an address range, and access to its bytes is checked by `Mem`. The crate's part is used once, by
// `drop`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Returns the first address.
    pub fn ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed) as u64
    }

    /// Returns checked access to the bytes. The caller must keep the map for as long as it uses the result: both are
    /// fields of one struct.
    pub fn mem(&self, writable: bool) -> crate::os::mem::Mem {
        // SAFETY: the bytes are mapped and page-aligned, and `new` asserts that they are at least the fixed part. Every
        // caller keeps the map beside the result.
        unsafe { crate::os::mem::Mem::new(self.ptr, self.len(), writable) }
    }

    /// Maps the object with this name for reading and writing, through the `shared_memory` crate, in exchange for a
    /// descriptor of it. The crate opens the name again, so the caller must compare the identity in the map with the
    /// one that it knows. Returns `None` if the object cannot be mapped that way now.
    ///
    /// The crate keeps its descriptor to itself. When it unmaps, it closes the number of that descriptor, even if the
    /// number is another file's by then (after `os.closerange`, and a new file). So the number must be known. It is
    /// that of the descriptor that was given up, unless another thread opens a file at this very moment.
    /// [`Mapping::descriptor`] lends it. Where a standard stream is closed the crate would get that number, and keep it
    /// (it takes a 0 for no descriptor when it closes); so it is not asked then.
    pub fn named(name: &str, in_exchange: OwnedFd, status: &Status) -> Option<Self> {
        if fills_new_maps() || is_a_stream_closed() {
            return None;
        }
        let number = in_exchange.as_raw_fd();
        drop(in_exchange);
        let mut shmem = shared_memory::ShmemConf::new().os_id(name).open().ok()?;
        shmem.set_owner(false);
        // SAFETY: the number is only asked which file it is of, and its file position is set. If it is not that of the
        // crate, `shmem` is dropped here, and the crate closes what it opened an instant ago.
        let description = Description::mark(unsafe { BorrowedFd::borrow_raw(number) }, status)?;
        let (ptr, len, shmem) = (shmem.as_ptr(), shmem.len(), ManuallyDrop::new(shmem));
        let by_crate = Some(CrateMap { shmem, number, description });
        let mapping = Mapping { ptr, len: AtomicUsize::new(len), by_crate };
        mapping.keep_out_of_dumps().is_ok().then_some(mapping)
    }

    /// Returns the descriptor that the crate holds, which the caller compares with the object before it uses it: its
    /// number may be another file's by now. Returns `None` if the crate did not make the map.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: nobody closes the number while it is borrowed but user code that closes what is not its own. Then the
        // comparison fails, or the system call does.
        self.by_crate.as_ref().map(|by_crate| unsafe { BorrowedFd::borrow_raw(by_crate.number) })
    }

    /// Maps the first `len` bytes of an open object, or the first `least` bytes if there is no address space for so
    /// many.
    pub fn new_or_shorter(fd: BorrowedFd<'_>, len: u64, least: u64, write: bool) -> Result<Self> {
        Self::new(fd, len, write).or_else(|_| Self::new_at(roomy_address(), fd, least, write))
    }

    /// Maps the first `len` bytes of an open object.
    pub fn new(fd: BorrowedFd<'_>, len: u64, write: bool) -> Result<Self> {
        Self::new_at(0, fd, len, write)
    }

    /// Maps the first `len` bytes of an open object, at `address` if that is free. With address 0 the kernel chooses.
    fn new_at(address: usize, fd: BorrowedFd<'_>, len: u64, write: bool) -> Result<Self> {
        let access = if write { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let fills = fills_new_maps();
        // The kernel does not fill a map that may not be touched.
        let first = if fills { ProtFlags::empty() } else { access };
        let address = std::ptr::without_provenance_mut(address);
        // SAFETY: a fresh map. If the address is not free, the kernel chooses another.
        let ptr = unsafe { rustix::mm::mmap(address, len as usize, first, MapFlags::SHARED, fd, 0) };
        let ptr = ptr.map_err(|error| mapping_error(error, len))?;
        let mapping = Mapping { ptr: ptr.cast(), len: AtomicUsize::new(len as usize), by_crate: None };
        if fills {
            mapping.lock_on_fault(write)?;
        }
        mapping.keep_out_of_dumps()?;
        Ok(mapping)
    }

    /// Makes the map `len` bytes long, without moving it. One thread at a time may call this. Returns `false` if the
    /// addresses behind the map are in use, or if this process may have no more address space.
    pub fn extend_in_place(&self, len: u64) -> bool {
        let now = self.len.load(Ordering::Relaxed);
        if self.by_crate.is_some() || len <= now as u64 {
            return false;
        }
        // SAFETY: without `MAYMOVE`, the bytes that are mapped stay where they are.
        let done = unsafe { rustix::mm::mremap(self.ptr.cast(), now, len as usize, MremapFlags::empty()) };
        if done.is_ok() {
            self.len.store(len as usize, Ordering::Relaxed);
        }
        done.is_ok()
    }

    /// Maps `len` bytes of zeros that belong to this process alone. They take memory only where something is stored.
    pub fn private(len: u64) -> Result<Self> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: fresh anonymous memory, at an address that the kernel chooses.
        let ptr = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len as usize, access, flags) }
            .map_err(|_| Error::Memory { asked: len, what: "a copy of a segment" })?;
        Ok(Mapping { ptr: ptr.cast(), len: AtomicUsize::new(len as usize), by_crate: None })
    }

    /// Gives access to a map that was made without any, so that the kernel did not fill it.
    ///
    /// After `mlockall(MCL_FUTURE)` the kernel fills each new map at once, and would make every page of the object that
    /// is not present yet. A map that may not be touched is not filled. If its pages are then locked as they are
    /// touched, the object stays as sparse as it is.
    fn lock_on_fault(&self, write: bool) -> Result<()> {
        let access = if write { MprotectFlags::READ | MprotectFlags::WRITE } else { MprotectFlags::READ };
        // SAFETY: this map was just made, and nothing refers to it yet.
        unsafe {
            let (ptr, len) = (self.ptr.cast(), self.len() as usize);
            // If the kernel cannot lock pages as they are touched, they are not locked at all.
            if rustix::mm::mlock_with(ptr, len, MlockFlags::ONFAULT).is_err() {
                rustix::mm::munlock(ptr, len).map_err(|e| Error::system("munlock", e))?;
            }
            rustix::mm::mprotect(ptr, len, access).map_err(|e| Error::system("mprotect", e))
        }
    }

    /// Keeps the map out of core dumps: writing one would make every page of the reserve present.
    fn keep_out_of_dumps(&self) -> Result<()> {
        // SAFETY: the advice is about this map alone.
        unsafe { rustix::mm::madvise(self.ptr.cast(), self.len() as usize, Advice::LinuxDontDump) }
            .map_err(|e| Error::system("madvise", e))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let number_is_ours = |by_crate: &CrateMap| {
            // SAFETY: the number is only asked which file it is of. It is not closed here, whatever it is.
            by_crate.description.is_of(unsafe { BorrowedFd::borrow_raw(by_crate.number) })
        };
        if let Some(by_crate) = &mut self.by_crate {
            if number_is_ours(by_crate) {
                // SAFETY: it is dropped here only, and `drop` runs once.
                unsafe { ManuallyDrop::drop(&mut by_crate.shmem) };
                return;
            }
            // The number is another file's by now, so the crate must not close it. Some bytes of text are leaked.
        }
        // SAFETY: this map is unmapped once, here, and everything that borrowed from it is gone.
        let _ = unsafe { rustix::mm::munmap(self.ptr.cast(), self.len() as usize) };
    }
}

/// Returns an address that most likely has many free addresses behind it, so that a map there can be made longer in its
/// place. The kernel gives addresses from the top down, and programs are at the bottom.
fn roomy_address() -> usize {
    const FIRST: usize = 16 << 40;
    const STEP: usize = 64 << 30;
    const STEPS: usize = 1_024;
    let mut any = [0; 8];
    // If there are no random bytes, all maps ask for one address, and the kernel moves them. That does no harm.
    let _ = super::random(&mut any);
    FIRST + usize::from_ne_bytes(any) % STEPS * STEP
}

/// Returns `true` if the kernel fills new maps of this process at once (after `mlockall` with `MCL_FUTURE` and without
/// `MCL_ONFAULT`).
fn fills_new_maps() -> bool {
    let page = crate::format::PAGE as usize;
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: fresh anonymous memory, at an address that the kernel chooses.
    let Ok(ptr) = (unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), page, access, flags) }) else {
        // The process may not lock one more page, or has no memory at all. The map that follows will show which.
        return true;
    };
    let mut resident = 0_u8;
    // SAFETY: the page was just mapped, and the kernel stores one byte for it.
    let filled = unsafe { libc::mincore(ptr, page, &mut resident) } == 0 && resident & 1 == 1;
    // SAFETY: the page was just mapped, and nothing refers to it.
    let _ = unsafe { rustix::mm::munmap(ptr, page) };
    filled
}

/// Returns the error for a map of `len` bytes that the system refused.
fn mapping_error(error: Errno, len: u64) -> Error {
    if error == Errno::AGAIN {
        let limit = super::limit_of(super::Limited::Locked).unwrap_or(u64::MAX);
        let remedy = format!(
            "all memory of this process is locked (mlockall), and it may lock {limit} bytes: raise `ulimit -l`, attach before \
             mlockall, or create the segment with a smaller reserve: attach(key, size, reserve=size)"
        );
        return Error::Full { lack: Lack::Other, needed: len, free: 0, size: limit, remedy };
    }
    if error != Errno::NOMEM {
        return Error::system("mapping a segment", error);
    }
    let used = super::addresses_used();
    match super::limit_of(super::Limited::Addresses) {
        Some(limit) => Error::Full {
            lack: Lack::Other,
            needed: len,
            free: limit.saturating_sub(used),
            size: limit,
            remedy: "this process may take no more addresses: raise `ulimit -v`, detach other segments, or create the \
                     segment with a smaller reserve: attach(key, size, reserve=size)"
                .into(),
        },
        None => Error::Full {
            lack: Lack::Other,
            needed: len,
            free: super::ADDRESSES.saturating_sub(used),
            size: super::ADDRESSES,
            remedy: format!(
                "the system gives this process no more maps or addresses (it may have {} maps, sysctl vm.max_map_count): \
                 detach other segments, or create them with a smaller reserve: attach(key, size, reserve=size)",
                super::maps_max()
            ),
        },
    }
}

/// Private to the process: a writable copy-on-write map of a part of a segment.
#[cfg(feature = "python")]
pub struct PrivateMap(memmap2::MmapMut);

/// The number of private maps that this process has.
#[cfg(feature = "python")]
static PRIVATE_MAPS: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of private maps that this process may have: half of the maps that the system allows it, because
/// its allocator needs maps, too.
#[cfg(feature = "python")]
fn private_maps_max() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| super::maps_max() / 2)
}

#[cfg(feature = "python")]
impl PrivateMap {
    /// Maps `len` bytes from `offset` on, which need not be a multiple of a page.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, len: usize) -> std::io::Result<Self> {
        if PRIVATE_MAPS.load(Ordering::Relaxed) >= private_maps_max() {
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: a page belongs to this process alone once it was written. Pages that were not written yet show the
        // span, which the caller keeps pinned for as long as the map lives.
        unsafe { MmapOptions::new().offset(offset).len(len).map_copy(fd.as_raw_fd()) }.map(|map| {
            PRIVATE_MAPS.fetch_add(1, Ordering::Relaxed);
            PrivateMap(map)
        })
    }

    /// Returns the first address.
    pub fn ptr(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut()
    }
}

#[cfg(feature = "python")]
impl Drop for PrivateMap {
    fn drop(&mut self) {
        PRIVATE_MAPS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns `true` if this program has closed one of its standard streams, so that the next file gets that number.
fn is_a_stream_closed() -> bool {
    // SAFETY: the numbers are only asked for their flags.
    [0, 1, 2].iter().any(|number| rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(*number) }).is_err())
}
