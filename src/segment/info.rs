//! What can be said of a segment and of a variable.

use crate::codec::buffers;
use crate::error::{Error, Result};
use crate::key::{Index, IndexBuf, Key};
use crate::layout::{GRANULE, ZoneMeta};
use crate::mem::Scratch;
use crate::os::object;
use crate::segment::attachment::{Attachment, Patience};
use crate::segment::capacity::largest_bytes;
use crate::segment::glance::Glance;
use crate::segment::open::identify;
use crate::segment::read::{Got, Retry};
use crate::segment::scan::Stuck;
use std::sync::atomic::{AtomicU64, Ordering};

/// A segment, in numbers. All sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SegmentInfo {
    /// Its key.
    pub key: Key,
    /// Its object's name.
    pub name: String,
    /// The limit.
    pub size: u64,
    /// What its variables are charged.
    pub used: u64,
    /// What may still be charged.
    pub free: u64,
    /// Variables; from [`segments`], expired ones that nobody has removed yet among them.
    pub count: u64,
    /// Permission bits.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Nanoseconds since 1970.
    pub created_at: u64,
    /// Living processes attached for writing.
    pub attached: u32,
    /// Longest `bytes` that can be stored under a new integer index.
    pub largest_put: u64,
    /// Memory it takes.
    pub resident: u64,
    /// Of that, what was replaced or removed and is still in somebody's view. From [`segments`], 0.
    pub held: u64,
    /// Of `resident`, what is free: kept for what comes next, until `trim` gives it back. From [`segments`], 0.
    pub spare: u64,
    /// Named locks that are held, and the pid of each one's owner, in his pid namespace: for people. From [`segments`], none.
    pub locks: Vec<(IndexBuf, u32)>,
}

/// A variable, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VariableInfo {
    /// Bytes it is charged: 32 for its slot, its key and its value as stored.
    pub size: u64,
    /// Grows with every change.
    pub version: u64,
    /// Nanoseconds until it expires.
    pub expires_in: Option<u64>,
    /// Name of its type, found without running code.
    pub kind: String,
}

impl Attachment {
    /// See [`SegmentInfo`].
    pub fn info(&self, patience: &dyn Patience) -> Result<SegmentInfo> {
        // Before anything is touched: an object that was cut short is an error.
        self.with_file(|_| ())?;
        let state = self.state();
        let (size, used) = (state.limit.load(Ordering::Relaxed), state.used.load(Ordering::Relaxed));
        let free = size.saturating_sub(used);
        let largest_put = self.largest_put(free, patience)?;
        let status = self.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
        Ok(SegmentInfo {
            key: self.identity.key.clone(),
            name: self.name.clone(),
            size,
            used,
            free,
            count: self.live_count(patience)?,
            perm: status.mode & 0o777,
            uid: status.uid,
            created_at: self.identity.created_at,
            attached: self.attached()?,
            largest_put,
            resident: status.resident,
            held: self.held().min(status.resident),
            spare: self.warm().min(status.resident),
            locks: self.locks(patience)?,
        })
    }

    /// Bytes that are free and known to be present; a guess while others write.
    pub fn warm(&self) -> u64 {
        let both = |zone: &ZoneMeta| {
            let both = |(a, b): (&AtomicU64, &AtomicU64)| a.load(Ordering::Relaxed) & b.load(Ordering::Relaxed);
            zone.free.iter().zip(&zone.present).map(|words| u64::from(both(words).count_ones())).sum::<u64>()
        };
        let zones = 0..self.arena().zones();
        zones.map_while(|zone| self.with_zone(zone, both).ok()?).sum::<u64>() * GRANULE
    }

    /// Bytes of the arena that are known to be present; a guess while others write.
    pub fn present(&self) -> u64 {
        let pages = |zone: &ZoneMeta| {
            zone.present.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum::<u64>()
        };
        let zones = 0..self.arena().zones();
        zones.map_while(|zone| self.with_zone(zone, pages).ok()?).sum::<u64>() * GRANULE
    }

    /// Bytes of spans that are retired: somebody has them in a view, or they are about to be freed.
    pub fn held(&self) -> u64 {
        self.state().retired.load(Ordering::Relaxed).saturating_mul(GRANULE)
    }

    /// Looks at a zone's metadata. `None`: it is not in use any more.
    pub fn with_zone<T>(&self, zone: u64, look: impl FnOnce(&ZoneMeta) -> T) -> Result<Option<T>> {
        if let Some(_section) = self.section() {
            // Within the section: what is in use now stays present until it ends.
            return if zone < self.arena().zones() {
                self.arena().zone(zone).map(|meta| Some(look(meta)))
            } else {
                Ok(None)
            };
        }
        let mut copy = crate::mem::Copied::<ZoneMeta>::new();
        let offset = self.identity.geometry.zone_at(zone);
        let read = self.with_file(|fd| object::read_at(fd, copy.bytes(), offset))?;
        read.map_err(|e| Error::system("reading the segment", e))?;
        Ok(Some(look(copy.get())))
    }

    /// See [`VariableInfo`]. `None`: missing.
    pub fn stat(&self, index: &Index<'_>, patience: &dyn Patience) -> Result<Option<VariableInfo>> {
        let (mut retry, mut stuck) = (Retry::default(), Stuck::default());
        loop {
            let mut scratch = Scratch::new();
            let Some(found) = self.find(index, &mut scratch, patience)? else { return Ok(None) };
            let Some(got) = self.get(index, &mut scratch, patience)? else { return Ok(None) };
            let (version, kind) = match &got {
                Got::Inline { bytes, len, version } => (*version, crate::codec::kind::type_name(&bytes[2..2 + len])),
                Got::Record { prefix, version, .. } => {
                    (*version, crate::codec::kind::type_name(&scratch.bytes()[*prefix..]))
                }
                Got::Large(large) => {
                    let Some(stream) = large.stream(patience)? else {
                        retry.again(&self.identity.key, patience)?;
                        continue;
                    };
                    let bare = large.has_buffers() && stream == buffers::MEMORYVIEW;
                    let kind = if bare { "memoryview".into() } else { crate::codec::kind::type_name(&stream) };
                    (large.version(), kind)
                }
            };
            let expiry = self.version(index, patience)?;
            if version == found.content.version() && expiry.0 == version {
                let expires_in = expiry.1.map(|at| at.saturating_sub(crate::os::boottime_ns()));
                return Ok(Some(VariableInfo { size: found.content.charge(), version, expires_in, kind }));
            }
            stuck.again(self, patience)?;
        }
    }
}

/// Every segment that this user can see, by name. Objects that are none of ours are passed over, as is what vanishes.
pub fn segments() -> Vec<SegmentInfo> {
    object::list(crate::key::PREFIX).iter().filter_map(|name| summary(name)).collect()
}

/// Of a segment that is not attached: read, never mapped.
fn summary(name: &str) -> Option<SegmentInfo> {
    let fd = object::open(name, false).ok()?;
    let (identity, status) = identify(None, name, &fd).ok()??;
    if identity.key.object_name() != name {
        return None;
    }
    let state = Glance::of(&fd).ok()?;
    let (size, used) = (state.limit(), state.used());
    let lock_fd = match identity.lock_object {
        0 => Some(fd),
        _ => object::open(&crate::identity::Identity::lock_name(&identity.id), false).ok(),
    };
    let living = |n: &u32| {
        lock_fd
            .as_ref()
            .is_some_and(|fd| crate::os::bytelock::is_locked(fd, crate::os::bytelock::byte_of(*n)).unwrap_or(false))
    };
    Some(SegmentInfo {
        key: identity.key,
        name: name.into(),
        size,
        used,
        free: size.saturating_sub(used),
        count: state.count(),
        perm: status.mode & 0o777,
        uid: status.uid,
        created_at: identity.created_at,
        attached: (0..state.participants_top()).filter(living).count() as u32,
        largest_put: largest_bytes(size.saturating_sub(used)),
        resident: status.resident,
        held: 0,
        spare: 0,
        locks: Vec::new(),
    })
}
