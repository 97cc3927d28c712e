//! Mappings of a segment.

use crate::error::{Error, Result};
use crate::os::object::{self, Status};
#[cfg(feature = "python")]
use memmap2::MmapOptions;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MlockFlags, MprotectFlags, MremapFlags, ProtFlags};
use shared_memory::Shmem;
use std::mem::ManuallyDrop;
#[cfg(feature = "python")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A mapped segment, unmapped when dropped.
pub struct Mapping {
    ptr: *mut u8,
    /// Grows where it can be made longer in its place.
    len: AtomicUsize,
    /// Where the `shared_memory` crate made it.
    named: Option<Named>,
}

/// The crate's half of a mapping: it unmaps, and closes the descriptor that it keeps to itself.
struct Named {
    shmem: ManuallyDrop<Shmem>,
    /// The number of that descriptor.
    number: RawFd,
    /// What it is of.
    status: Status,
}

// SAFETY: an address range; access to it is `Mem`'s business. The crate's half is used once, when this is dropped.
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
        self.len.load(Ordering::Relaxed) as u64
    }

    /// Checked access to it, for as long as this lives: kept together in one struct.
    pub fn mem(&self, writable: bool) -> crate::os::mem::Mem {
        // SAFETY: mapped, page-aligned, at least the fixed part (asserted there). Every caller keeps the mapping beside it.
        unsafe { crate::os::mem::Mem::new(self.ptr, self.len(), writable) }
    }

    /// Maps the object of this name for reading and writing, through the `shared_memory` crate, in exchange for a descriptor of
    /// it. The name is opened anew: the caller compares the identity inside with the one he knows. `None`: it cannot be done
    /// that way now.
    ///
    /// The crate keeps its descriptor to itself, and closes its number when it unmaps, whosever it is by then
    /// (`os.closerange`, and a new file). So its number must be known: the one that was given up for it, unless another thread
    /// opens something at this very moment; [`Mapping::descriptor`] lends it.
    pub fn named(name: &str, in_exchange: OwnedFd, status: &Status) -> Option<Self> {
        if fills_new_maps() {
            return None;
        }
        let number = in_exchange.as_raw_fd();
        drop(in_exchange);
        let mut shmem = shared_memory::ShmemConf::new().os_id(name).open().ok()?;
        shmem.set_owner(false);
        // SAFETY: a number that is asked what it is.
        if !is_descriptor_of(unsafe { BorrowedFd::borrow_raw(number) }, status) {
            // The crate closes what it opened an instant ago.
            return None;
        }
        let (ptr, len, shmem) = (shmem.as_ptr(), shmem.len(), ManuallyDrop::new(shmem));
        let mapping =
            Mapping { ptr, len: AtomicUsize::new(len), named: Some(Named { shmem, number, status: *status }) };
        mapping.keep_out_of_dumps().is_ok().then_some(mapping)
    }

    /// The descriptor that the crate holds, if its number still is the object's.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let named = self.named.as_ref()?;
        // SAFETY: a number that is asked what it is. Whatever it is, it is not closed here.
        let fd = unsafe { BorrowedFd::borrow_raw(named.number) };
        is_descriptor_of(fd, &named.status).then_some(fd)
    }

    /// Maps the first `len` bytes of an open object; where addresses are short, the first `least`.
    pub fn of_as_much(fd: BorrowedFd<'_>, len: u64, least: u64, write: bool) -> Result<Self> {
        Self::of(fd, len, write).or_else(|_| Self::at(roomy_place(), fd, least, write))
    }

    /// Maps the first `len` bytes of an open object.
    pub fn of(fd: BorrowedFd<'_>, len: u64, write: bool) -> Result<Self> {
        Self::at(0, fd, len, write)
    }

    /// The same, at this address if it is free (0: at any).
    fn at(place: usize, fd: BorrowedFd<'_>, len: u64, write: bool) -> Result<Self> {
        let access = if write { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let fills = fills_new_maps();
        // What may not be touched is not filled.
        let first = if fills { ProtFlags::empty() } else { access };
        let place = std::ptr::without_provenance_mut(place);
        // SAFETY: a fresh mapping: where the place is taken, the kernel chooses another.
        let ptr = unsafe { rustix::mm::mmap(place, len as usize, first, MapFlags::SHARED, fd, 0) };
        let ptr = ptr.map_err(|error| no_room(error, len))?;
        let mapping = Mapping { ptr: ptr.cast(), len: AtomicUsize::new(len as usize), named: None };
        if fills {
            mapping.lock_on_fault(write)?;
        }
        mapping.keep_out_of_dumps()?;
        Ok(mapping)
    }

    /// Makes it longer where it is, by one caller at a time. False: what lies behind it is taken, or this process may take no
    /// more.
    pub fn lengthen(&self, len: u64) -> bool {
        let now = self.len.load(Ordering::Relaxed);
        if self.named.is_some() || len <= now as u64 {
            return false;
        }
        // SAFETY: without leave to move it, what it had stays where it is.
        let done = unsafe { rustix::mm::mremap(self.ptr.cast(), now, len as usize, MremapFlags::empty()) };
        if done.is_ok() {
            self.len.store(len as usize, Ordering::Relaxed);
        }
        done.is_ok()
    }

    /// Zeros of this process alone, which take memory where something is stored.
    pub fn private(len: u64) -> Result<Self> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: fresh anonymous memory, at an address of the kernel's choice.
        let ptr = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len as usize, access, flags) }
            .map_err(|_| Error::Memory { asked: len, what: "a copy of a segment" })?;
        Ok(Mapping { ptr: ptr.cast(), len: AtomicUsize::new(len as usize), named: None })
    }

    /// After `mlockall(MCL_FUTURE)` a new map is filled whole: every page of the object that is not there yet would be made. A
    /// map that nobody may touch yet is not; locked as it is touched, it stays as sparse as the object.
    fn lock_on_fault(&self, write: bool) -> Result<()> {
        let access = if write { MprotectFlags::READ | MprotectFlags::WRITE } else { MprotectFlags::READ };
        // SAFETY: our own mapping, which nobody knows yet.
        unsafe {
            let (ptr, len) = (self.ptr.cast(), self.len() as usize);
            // Where that is not to be had, what is touched is not locked.
            if rustix::mm::mlock_with(ptr, len, MlockFlags::ONFAULT).is_err() {
                rustix::mm::munlock(ptr, len).map_err(|e| Error::system("munlock", e))?;
            }
            rustix::mm::mprotect(ptr, len, access).map_err(|e| Error::system("mprotect", e))
        }
    }

    /// A core dump would make every page of the reserve present.
    fn keep_out_of_dumps(&self) -> Result<()> {
        // SAFETY: advice about our own mapping.
        unsafe { rustix::mm::madvise(self.ptr.cast(), self.len() as usize, Advice::LinuxDontDump) }
            .map_err(|e| Error::system("madvise", e))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let known = self.descriptor().is_some();
        if let Some(named) = &mut self.named {
            if known {
                // SAFETY: once, here.
                unsafe { ManuallyDrop::drop(&mut named.shmem) };
                return;
            }
            // The number is somebody else's by now. What the crate keeps besides is some bytes of text.
        }
        // SAFETY: ours, and whoever borrowed from it is gone.
        let _ = unsafe { rustix::mm::munmap(self.ptr.cast(), self.len() as usize) };
    }
}

/// An address with much room behind it, most likely: the kernel gives addresses from the top down, programs are at the bottom.
fn roomy_place() -> usize {
    const FIRST: usize = 16 << 40;
    const STEP: usize = 64 << 30;
    const PLACES: usize = 1_024;
    let mut any = [0; 8];
    // Without chance they collide, and are moved: no harm.
    let _ = super::random(&mut any);
    FIRST + usize::from_ne_bytes(any) % PLACES * STEP
}

/// Does this process have new maps filled at once (`mlockall` with `MCL_FUTURE`, and without `MCL_ONFAULT`)?
fn fills_new_maps() -> bool {
    let page = crate::format::PAGE as usize;
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: fresh anonymous memory, at an address of the kernel's choice.
    let Ok(ptr) = (unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), page, access, flags) }) else {
        // Not one page may be locked any more, or nothing is left at all: the map itself will tell.
        return true;
    };
    let mut resident = 0_u8;
    // SAFETY: a page of ours, and a byte for it.
    let filled = unsafe { libc::mincore(ptr, page, &mut resident) } == 0 && resident & 1 == 1;
    // SAFETY: ours, and nobody knows it.
    let _ = unsafe { rustix::mm::munmap(ptr, page) };
    filled
}

/// The error for a map that the system refused.
fn no_room(error: Errno, len: u64) -> Error {
    if error == Errno::AGAIN {
        let limit = super::limit_of(super::Limited::Locked).unwrap_or(u64::MAX);
        let remedy = format!(
            "all memory of this process is locked (mlockall), and it may lock {limit} bytes: raise `ulimit -l`, attach before \
             mlockall, or create the segment with a smaller reserve: attach(key, size, reserve=size)"
        );
        return Error::Full { needed: len, free: 0, size: limit, remedy };
    }
    if error != Errno::NOMEM {
        return Error::system("mapping a segment", error);
    }
    let taken = super::addresses_used();
    match super::limit_of(super::Limited::Addresses) {
        Some(limit) => Error::Full {
            needed: len,
            free: limit.saturating_sub(taken),
            size: limit,
            remedy: "this process may take no more addresses: raise `ulimit -v`, detach other segments, or create the segment \
                     with a smaller reserve: attach(key, size, reserve=size)"
                .into(),
        },
        None => Error::Full {
            needed: len,
            free: super::ADDRESSES.saturating_sub(taken),
            size: super::ADDRESSES,
            remedy: format!(
                "the system gives this process no more maps or addresses (it may have {} maps, sysctl vm.max_map_count): \
                 detach other segments, or create them with a smaller reserve: attach(key, size, reserve=size)",
                super::maps_max()
            ),
        },
    }
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
    *MAX.get_or_init(|| super::maps_max() / 2)
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

/// Is this still a descriptor of that object? User code may have closed it, and the number may be another file's.
pub fn is_descriptor_of(fd: impl AsFd, status: &Status) -> bool {
    object::status(fd).is_ok_and(|found| found.same(status))
}
