//! A process's half of a segment: mapping, descriptors, participant number. One per process and segment, shared by all
//! of its handles.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::format::identity::Identity;
use crate::format::{Participant, State};
use crate::os::fork::{self, ForkMutex};
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
use crate::process::registration::Registration;
use crate::process::segment_object::SegmentObject;
use crate::process::table_hints::TableHints;
use rustix::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

/// A length that is compared with what the object really takes.
pub const ASK_THE_KERNEL: u64 = 1 << 20;

/// See the module. Each field is a piece with a file of its own, but for what every call needs at once.
pub struct Attachment {
    /// For what outlives a call: see [`Attachment::share`].
    me: OnceLock<Weak<Attachment>>,
    /// What the segment says of itself.
    pub identity: Identity,
    /// Access to the segment's bytes.
    pub mem: Mem,
    /// The kernel objects.
    pub object: SegmentObject,
    /// This process as a participant.
    pub registration: Registration,
    /// What this process has pinned.
    pub pins: ForkMutex<PinTable>,
    /// Spans that are freed at the next acquisition of the writer lock.
    pub deferred: DeferredFrees,
    /// Work that waits for the next release of the writer lock.
    pub after_release: AfterRelease,
    /// Named locks that this process holds.
    pub locks: ProcessLocks,
    /// Guesses about the heap.
    pub heap_hints: HeapHints,
    /// Guesses about the hash tables.
    pub table_hints: TableHints,
}

/// What an attachment is made of: an object that was opened, mapped and identified.
pub struct Opened<'a> {
    /// What it says of itself.
    pub identity: Identity,
    /// The name of its object.
    pub name: &'a str,
    /// What the system says of it.
    pub status: Status,
    /// The same of the object that carries the lock bytes.
    pub lock_status: Status,
    /// Its map.
    pub mapping: Mapping,
    /// Its descriptor; `None`: the map lends one.
    pub fd: Option<OwnedFd>,
    /// A descriptor of the object that carries the lock bytes.
    pub query: Option<OwnedFd>,
    /// For writing?
    pub write: bool,
}

impl Attachment {
    /// Of an object that was opened.
    pub fn new(opened: Opened<'_>) -> Self {
        let Opened { identity, name, status, lock_status, mapping, fd, query, write } = opened;
        let (file, mapping) = (Arc::new(Descriptor::new(fd)), Arc::new(mapping));
        let extent = Extent {
            name: name.into(),
            status,
            write,
            geometry: identity.geometry,
            file: file.clone(),
            first: mapping.clone(),
            maps: ForkMutex::new(Vec::new()),
        };
        Attachment {
            me: OnceLock::new(),
            mem: mapping.mem(write).with_extender(Box::new(extent)),
            object: SegmentObject {
                name: name.into(),
                status,
                lock_status,
                mapping,
                file,
                query: Descriptor::new(query),
            },
            identity,
            registration: Registration::default(),
            pins: ForkMutex::default(),
            deferred: DeferredFrees::default(),
            after_release: AfterRelease::default(),
            locks: ProcessLocks::default(),
            heap_hints: HeapHints::default(),
            table_hints: TableHints::default(),
        }
    }

    /// For the handles of this process.
    pub fn into_shared(self) -> Arc<Self> {
        let shared = Arc::new(self);
        let _ = shared.me.set(Arc::downgrade(&shared));
        shared
    }

    /// For what lives on after the call, and looks whether this is still there.
    pub fn downgrade(&self) -> Weak<Self> {
        self.me.get().cloned().unwrap_or_default()
    }

    /// For what outlives the call, and keeps this mapped. `None`: no handle ever had it.
    pub fn share(&self) -> Option<Arc<Self>> {
        self.downgrade().upgrade()
    }

    /// The spans of its arena.
    #[inline(always)]
    pub fn arena(&self) -> Arena<'_> {
        Arena { mem: &self.mem, geo: &self.identity.geometry }
    }

    /// Its counters and lock.
    #[inline(always)]
    pub fn state(&self) -> &State {
        self.mem.state()
    }

    /// A participant's record; `None` at or above the top, where nothing is present.
    pub fn participant(&self, number: u32) -> Option<&Participant> {
        let top = self.state().participants_top.load(Ordering::Acquire);
        (number < top.min(crate::format::PARTICIPANTS))
            .then(|| self.mem.at(self.identity.geometry.participant_at(number)).ok())
            .flatten()
    }

    /// The name of the object that carries the lock bytes.
    pub fn lock_name(&self) -> String {
        if self.identity.lock_object == 0 {
            self.object.name.clone()
        } else {
            Identity::lock_object_name(&self.identity.id)
        }
    }

    /// Runs something with a descriptor of the segment.
    pub fn with_file<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T> {
        let (geometry, lent) = (&self.identity.geometry, self.object.mapping.descriptor());
        self.object.file.with(&self.object.name, &self.object.status, lent, self.mem.writable(), |fd, found| {
            // Pages behind the end are gone: what touches them through the mapping ends with SIGBUS. So those that say how many
            // zones are in use are touched where they are there.
            let there = found.size >= geometry.end_of_zones(1);
            let zones = if there { self.state().zones.load(Ordering::Relaxed) } else { 1 };
            let (size, least) = (found.size, geometry.end_of_zones(zones));
            if size < least {
                let text =
                    format!("{} was cut to {size} bytes; {zones} zones are in use, up to {least}", self.object.name);
                return Err(Error::corrupt(text));
            }
            Ok(act(fd))
        })?
    }

    /// Runs something with a descriptor of the object that carries the lock bytes.
    pub fn with_locks<T>(&self, write: bool, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T> {
        self.object.query.with(&self.lock_name(), &self.object.lock_status, None, write, |fd, _| act(fd))
    }

    /// Bytes of memory that the object takes.
    pub fn resident(&self) -> Result<u64> {
        let status = self.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
        Ok(status.resident)
    }

    /// The creation id that the mapping holds.
    pub fn mapped_id(&self) -> Result<[u8; 16]> {
        let mut bytes = Vec::new();
        self.mem.read_into(24, 16, &mut bytes)?;
        Ok(bytes.try_into().expect("sixteen bytes"))
    }

    /// Makes pages present.
    pub fn obtain(&self, offset: u64, len: u64) -> Result<rustix::io::Result<()>> {
        self.with_file(|fd| object::obtain(fd, offset, len))
    }

    /// Begins a call that uses this process's participant number: from now on it is not let go.
    #[inline]
    pub fn enter_call(&self) -> CallGuard<'_> {
        let now = fork::epoch();
        let epoch = u64::from(now) << 32;
        let mut seen = self.registration.active.load(Ordering::Relaxed);
        loop {
            // Calls of another epoch are the parent's threads.
            let inside = if seen >> 32 << 32 == epoch { seen + 1 } else { epoch + 1 };
            match self.registration.active.compare_exchange_weak(seen, inside, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return CallGuard { att: self, epoch: now },
                Err(now) => seen = now,
            }
        }
    }

    /// This process's participant number, if it has one.
    #[inline]
    pub fn number_now(&self) -> Option<u32> {
        let member = self.registration.member.load(Ordering::SeqCst);
        (member != 0 && (member >> 32) as u32 == fork::epoch()).then(|| (member as u32).wrapping_sub(1))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // The last of it: nobody is inside.
        self.release_number();
        self.object.file.replace(None, &self.object.status);
        self.object.query.replace(None, &self.object.lock_status);
    }
}

/// A call that may use the participant number.
pub struct CallGuard<'a> {
    att: &'a Attachment,
    /// Of the process that entered: a child that was forked meanwhile never did.
    pub epoch: u32,
}

impl Drop for CallGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch != fork::epoch() {
            return;
        }
        let before = self.att.registration.active.fetch_sub(1, Ordering::SeqCst);
        if before as u32 == 1 && self.att.registration.handles.load(Ordering::SeqCst) == 0 {
            // The last handle was detached while we were inside.
            self.att.deregister_if_free();
        }
    }
}
