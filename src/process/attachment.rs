//! [`Attachment`]: a process's private half of a segment. It has the maps, the descriptors, the participant number, and
//! what the process remembers between calls. There is one for each process and segment (one more if the process has the
//! segment open for reading only as well), and all handles of the process share it.
//!
//! This file makes an attachment and gives access to its parts. What is done with the parts stands in the file of each
//! part: see the map in `process/mod.rs`.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::format::identity::Identity;
use crate::format::{Eviction, Participant, State};
use crate::os::fork::ForkMutex;
use crate::os::map::Mapping;
use crate::os::mem::Mem;
use crate::os::object::{self, Status};
use crate::process::after_release::AfterRelease;
use crate::process::deferred_free::DeferredFrees;
use crate::process::descriptor::Descriptor;
use crate::process::extent::Extent;
use crate::process::heap_hints::HeapHints;
use crate::process::held_locks::ProcessLocks;
use crate::process::pin_table::PinTable;
use crate::process::queue_holds::ProcessQueues;
use crate::process::registration::Registration;
use crate::process::segment_object::SegmentObject;
use crate::process::stamps_hints::StampsHints;
use crate::process::table_hints::TableHints;
use rustix::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

/// A structure of at least this many bytes is believed only if the object takes that much memory. A shorter one is read
/// without asking the kernel.
pub const CHECK_RESIDENT_FROM: u64 = 1 << 20;

/// Private to the process: its half of a segment.
///
/// The struct has more than eight fields because it is only the place where the parts meet. Each part is a struct with
/// a file of its own and knows nothing of the others.
pub struct Attachment {
    /// This attachment itself, for whatever outlives a call: see [`Attachment::share`].
    shared: OnceLock<Weak<Attachment>>,
    /// What the segment says of itself: key, geometry, creation id.
    pub identity: Identity,
    /// Checked access to the segment's bytes.
    pub mem: Mem,
    /// The kernel objects: descriptors and the first map.
    pub object: SegmentObject,
    /// This process as a participant.
    pub registration: Registration,
    /// The spans that this process has pinned.
    pub pins: ForkMutex<PinTable>,
    /// Spans that are freed at the next acquisition of the writer lock.
    pub deferred: DeferredFrees,
    /// Work that is done after the next release of the writer lock.
    pub after_release: AfterRelease,
    /// The named locks that this process holds.
    pub locks: ProcessLocks,
    /// The items of queues that this process holds.
    pub queues: ProcessQueues,
    /// Guesses about the heap.
    pub heap_hints: HeapHints,
    /// Guesses about the hash tables.
    pub table_hints: TableHints,
    /// What the segment evicts where there is no room. It never changes.
    pub eviction: Option<Eviction>,
    /// What this process knows of the segment's stamps.
    pub stamps_hints: StampsHints,
}

/// Private to the process: the parts of a new attachment. The object was opened and mapped, and its identity was read.
///
/// The struct has eight fields because each of them is known only to the caller of [`Attachment::new`].
pub struct Opened<'a> {
    /// What the segment says of itself.
    pub identity: Identity,
    /// The name of the segment's object.
    pub name: &'a str,
    /// What the system says of the segment's object.
    pub status: Status,
    /// What the system says of the lock object.
    pub lock_status: Status,
    /// The first map of the segment's object.
    pub mapping: Mapping,
    /// A descriptor of the segment's object. `None`: the map lends one.
    pub fd: Option<OwnedFd>,
    /// A descriptor of the lock object. `None`: it is opened by name when it is needed.
    pub query: Option<OwnedFd>,
    /// Whether the segment was opened for writing.
    pub write: bool,
}

impl Attachment {
    /// Makes an attachment of an object that was opened.
    pub fn new(opened: Opened<'_>) -> Self {
        let Opened { identity, name, status, lock_status, mapping, fd, query, write } = opened;
        let (file, mapping) = (Arc::new(Descriptor::new(fd, &status)), Arc::new(mapping));
        let extent = Extent {
            name: name.into(),
            status,
            write,
            geometry: identity.geometry,
            file: file.clone(),
            first: mapping.clone(),
            maps: ForkMutex::new(Vec::new()),
        };
        let mem = mapping.mem(write).with_extender(Box::new(extent));
        Attachment {
            shared: OnceLock::new(),
            eviction: Eviction::of_code(mem.state().evict.load(Ordering::Relaxed)).flatten(),
            stamps_hints: StampsHints::default(),
            mem,
            object: SegmentObject {
                name: name.into(),
                status,
                lock_status,
                mapping,
                file,
                query: Descriptor::new(query, &lock_status),
            },
            identity,
            registration: Registration::default(),
            pins: ForkMutex::default(),
            deferred: DeferredFrees::default(),
            after_release: AfterRelease::default(),
            locks: ProcessLocks::default(),
            queues: ProcessQueues::default(),
            heap_hints: HeapHints::default(),
            table_hints: TableHints::default(),
        }
    }

    /// Makes the attachment one that the handles of this process share.
    pub fn into_shared(self) -> Arc<Self> {
        let shared = Arc::new(self);
        let _ = shared.shared.set(Arc::downgrade(&shared));
        shared
    }

    /// Returns a reference that does not keep the attachment alive. It leads nowhere if no handle ever had this
    /// attachment.
    pub fn downgrade(&self) -> Weak<Self> {
        self.shared.get().cloned().unwrap_or_default()
    }

    /// Returns a reference that keeps the attachment alive, and with it the maps, after the call. `None`: no handle
    /// ever had this attachment.
    pub fn share(&self) -> Option<Arc<Self>> {
        self.downgrade().upgrade()
    }

    /// Returns the arena of the segment, for looking at its spans.
    #[inline(always)]
    pub fn arena(&self) -> Arena<'_> {
        Arena { mem: &self.mem, geo: &self.identity.geometry }
    }

    /// Returns the state page of the segment: counters and the writer lock.
    #[inline(always)]
    pub fn state(&self) -> &State {
        self.mem.state()
    }

    /// Returns a participant's record. `None`: the number is at or above `participants_top`, where no page need be
    /// present.
    pub fn participant(&self, number: u32) -> Option<&Participant> {
        let top = self.state().participants_top.load(Ordering::Acquire);
        (number < top.min(crate::format::PARTICIPANTS))
            .then(|| self.mem.at(self.identity.geometry.participant_at(number)).ok())
            .flatten()
    }

    /// Returns the name of the lock object.
    pub fn lock_name(&self) -> String {
        if self.identity.lock_object == 0 {
            self.object.name.clone()
        } else {
            Identity::lock_object_name(&self.identity.id)
        }
    }

    /// Runs `act` with a descriptor of the segment's object, if the object is as long as the zones in use need it.
    pub fn with_file<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T> {
        let (geometry, lent) = (&self.identity.geometry, self.object.mapping.descriptor());
        self.object.file.with(&self.object.name, &self.object.status, lent, self.mem.writable(), |fd, found| {
            // A page behind the object's end is gone, and a process that touches it through a map gets SIGBUS. The
            // number of zones in use stands on such a page, so it is read only if the object reaches that far.
            let has_state = found.size >= geometry.end_of_zones(1);
            let zones = if has_state { self.state().zones.load(Ordering::Relaxed) } else { 1 };
            let (size, least) = (found.size, geometry.end_of_zones(zones));
            if size < least {
                let text =
                    format!("{} was cut to {size} bytes; {zones} zones are in use, up to {least}", self.object.name);
                return Err(Error::corrupt(text));
            }
            Ok(act(fd))
        })?
    }

    /// Runs `act` with a descriptor of the lock object, the one that carries the lock bytes of participants.
    pub fn with_lock_object<T>(&self, write: bool, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T> {
        self.object.query.with(&self.lock_name(), &self.object.lock_status, None, write, |fd, _| act(fd))
    }

    /// Returns the size of the memory file system that the object is in, and what is free of it.
    pub fn file_system(&self) -> Result<(u64, u64)> {
        self.with_file(|fd| object::file_system_of(fd))?
    }

    /// Returns how many bytes of memory the object takes.
    pub fn resident(&self) -> Result<u64> {
        let status = self.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
        Ok(status.resident)
    }

    /// Returns the creation id that the mapped segment holds now.
    pub fn mapped_id(&self) -> Result<[u8; 16]> {
        let mut bytes = Vec::new();
        self.mem.read_into(24, 16, &mut bytes)?;
        Ok(bytes.try_into().expect("sixteen bytes"))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // The last reference is going, so no call is under way.
        self.release_number();
        self.object.file.replace(None);
        self.object.query.replace(None);
    }
}
