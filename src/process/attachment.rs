//! A process's half of a segment: mapping, descriptors, participant number. One per process and segment, shared by all
//! of its handles.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::identity::Identity;
use crate::format::{CLASSES, Participant, State};
use crate::os::bytelock::Anchor;
use crate::os::fork::{self, ForkMutex};
use crate::os::map::Mapping;
use crate::os::mem::Mem;
use crate::os::object::{self, Status};
use crate::process::deferred_free::DeferredFree;
use crate::process::descriptor::Descriptor;
use crate::process::held_locks::Held;
use crate::process::pin_table::PinTable;
use crate::process::reaping::Burial;
use rustix::fd::{BorrowedFd, OwnedFd};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// A length that is compared with what the object really takes.
pub const ASK_THE_KERNEL: u64 = 1 << 20;

/// What a forked child was given by the handler that ran before the fork: two descriptions of the lock object that are
/// its own.
#[derive(Default)]
pub struct Prepared {
    /// For its anchor, then for its questions.
    pub fds: Option<(OwnedFd, OwnedFd)>,
    /// The process they are meant for: not its children.
    pub pid: u32,
    /// A number that was claimed for it already, because it inherits objects over pinned memory.
    pub number: Option<u32>,
    /// The pins stand still across the fork.
    pub holds_pins: bool,
}

/// See the module.
pub struct Attachment {
    /// For what outlives a call: see [`Attachment::share`].
    pub me: OnceLock<Weak<Attachment>>,
    /// What it is.
    pub identity: Identity,
    /// Its object's name.
    pub name: String,
    /// As opened.
    pub status: Status,
    /// Of the object that carries the lock bytes.
    pub lock_status: Status,
    /// Access to its bytes.
    pub mem: Mem,
    /// Keeps the first map of `mem`.
    pub mapping: Arc<Mapping>,
    /// For `pread`, `pwrite`, `fallocate`.
    pub file: Arc<Descriptor>,
    /// For questions about locks.
    pub query: Descriptor,
    /// `epoch << 32 | participant + 1`, or 0.
    pub member: AtomicU64,
    /// `epoch << 32 | calls inside that may use the number`.
    pub active: AtomicU64,
    /// Keeps this process's byte locked.
    pub anchor: ForkMutex<Option<Anchor>>,
    /// For the next child.
    pub child: ForkMutex<Prepared>,
    /// For the next acquisition of the lock.
    pub chores: ForkMutex<Vec<DeferredFree>>,
    /// Is there any, or an abandoned lock?
    pub has_chores: AtomicBool,
    /// Named locks that this process holds.
    pub held: ForkMutex<Held>,
    /// False: this process holds none, and `held` need not be asked. Stored under its mutex.
    pub holds_some: AtomicBool,
    /// So many locks may be taken before those that are held are counted again. Under the writer lock.
    pub locks_unasked: AtomicU64,
    /// When the writer lock is let go: wake whoever waits for anything.
    pub ring_later: AtomicBool,
    /// A burial that was begun and is to go on when the writer lock is let go.
    pub unburied: ForkMutex<Option<Burial>>,
    /// Pins of this process.
    pub pins: ForkMutex<PinTable>,
    /// Where the next look after the others begins.
    pub looked_after: AtomicU32,
    /// Spans that this process has filled, by their first granule: how many it had.
    pub met: ForkMutex<HashMap<u64, u64>>,
    /// Where each class had a free block last: looked at before the bitmaps are searched.
    pub slab_hints: [AtomicU32; CLASSES.len()],
    /// The directory's word of a leaf that could not grow for lack of memory.
    pub crowded_leaf: AtomicU64,
    /// The last roots that were found sound, of the variables and of the names.
    pub sound_roots: [AtomicU64; 2],
    /// No number was to be had: not asked for again before this, in milliseconds of `os::monotonic_ms`.
    pub unnumbered: AtomicU64,
    /// Serial of the last change when free memory was last given back to know what is left.
    pub trimmed_at: AtomicU64,
    /// So many must be freed before the next look.
    pub look_after_freed: AtomicU64,
    /// Bytes that this process has freed since it last looked whether too much is kept.
    pub freed: AtomicU64,
    /// Handles that are not detached.
    pub handles: AtomicU64,
}

impl Attachment {
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
        if self.identity.lock_object == 0 { self.name.clone() } else { Identity::lock_name(&self.identity.id) }
    }

    /// Runs something with a descriptor of the segment.
    pub fn with_file<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T> {
        let (geometry, lent) = (&self.identity.geometry, self.mapping.descriptor());
        self.file.with(&self.name, &self.status, lent, self.mem.writable(), |fd, found| {
            // Pages behind the end are gone: what touches them through the mapping ends with SIGBUS. So those that say how many
            // zones are in use are touched where they are there.
            let there = found.size >= geometry.end_of_zones(1);
            let zones = if there { self.state().zones.load(Ordering::Relaxed) } else { 1 };
            let (size, least) = (found.size, geometry.end_of_zones(zones));
            if size < least {
                let text = format!("{} was cut to {size} bytes; {zones} zones are in use, up to {least}", self.name);
                return Err(Error::corrupt(text));
            }
            Ok(act(fd))
        })?
    }

    /// Runs something with a descriptor of the object that carries the lock bytes.
    pub fn with_locks<T>(&self, write: bool, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T> {
        self.query.with(&self.lock_name(), &self.lock_status, None, write, |fd, _| act(fd))
    }

    /// Bytes of memory that the object takes.
    pub fn resident(&self) -> Result<u64> {
        let status = self.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
        Ok(status.resident)
    }

    /// Makes pages present.
    pub fn obtain(&self, offset: u64, len: u64) -> Result<rustix::io::Result<()>> {
        self.with_file(|fd| object::obtain(fd, offset, len))
    }

    /// Begins a call that uses this process's participant number: from now on it is not let go.
    #[inline]
    pub fn enter(&self) -> Inside<'_> {
        let now = fork::epoch();
        let epoch = u64::from(now) << 32;
        let mut seen = self.active.load(Ordering::Relaxed);
        loop {
            // Calls of another epoch are the parent's threads.
            let inside = if seen >> 32 << 32 == epoch { seen + 1 } else { epoch + 1 };
            match self.active.compare_exchange_weak(seen, inside, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Inside { att: self, epoch: now },
                Err(now) => seen = now,
            }
        }
    }

    /// This process's participant number, if it has one.
    #[inline]
    pub fn member_now(&self) -> Option<u32> {
        let member = self.member.load(Ordering::SeqCst);
        (member != 0 && (member >> 32) as u32 == fork::epoch()).then(|| (member as u32).wrapping_sub(1))
    }

    /// Leaves something to be done at the next acquisition of the lock.
    pub fn leave_chore(&self, chore: DeferredFree) {
        let mut chores = self.chores.lock();
        // Whoever takes a span has seen to its room. Without any, a retired span waits for a sweep.
        if chore.is_unpublished() || chores.len() < chores.capacity() || chores.try_reserve(1).is_ok() {
            chores.push(chore);
        }
        drop(chores);
        self.has_chores.store(true, Ordering::Release);
    }

    /// Before a span is taken, which may come to nothing: leaving it then asks for no memory.
    pub fn room_for_chores(&self) -> Result<()> {
        // So many threads take one at the same time at most, or the last ones ask when they leave it.
        fallible::reserve(&mut self.chores.lock(), 32, "a list of what is left to do")
    }
}

/// A call that may use the participant number.
pub struct Inside<'a> {
    att: &'a Attachment,
    /// Of the process that entered: a child that was forked meanwhile never did.
    pub epoch: u32,
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.epoch != fork::epoch() {
            return;
        }
        let before = self.att.active.fetch_sub(1, Ordering::SeqCst);
        if before as u32 == 1 && self.att.handles.load(Ordering::SeqCst) == 0 {
            // The last handle was detached while we were inside.
            self.att.deregister_if_free();
        }
    }
}
