//! How a reader looks at memory that others may give back: through the mapping, inside of a section; or, where it has no
//! word to say that it is inside of one, by calls of the system, to which a hole is zeros.

use crate::error::{Error, Result};
use crate::format::{Slot, SpanEntry, ZONE};
use crate::os::mem::Scratch;
use crate::os::object;
use crate::process::attachment::Attachment;
use crate::sync::slot::Seqlock;
use rustix::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Loads of what is at an offset of the segment.
pub trait Access: Copy {
    /// A word, with acquire.
    fn word(self, att: &Attachment, offset: u64) -> Result<u64>;
    /// The other three words of a slot.
    fn rest(self, att: &Attachment, slot: u64) -> Result<[u64; 3]>;
    /// A record.
    fn record(self, att: &Attachment, offset: u64, len: usize, scratch: &mut Scratch) -> Result<()>;

    /// An entry of the span map.
    #[inline(always)]
    fn entry(self, att: &Attachment, granule: u64) -> Result<SpanEntry> {
        if granule / ZONE >= att.arena().zones() {
            return Err(Error::corrupt(format_args!("granule {granule} lies beyond the zones in use")));
        }
        // The span map is what a zone's metadata begins with.
        Ok(SpanEntry(self.word(att, att.identity.geometry.zone_at(granule / ZONE) + granule % ZONE * 8)?))
    }
}

/// Through the mapping: a section has begun, or the writer lock is held.
#[derive(Clone, Copy)]
pub struct MappedAccess;

impl Access for MappedAccess {
    #[inline(always)]
    fn word(self, att: &Attachment, offset: u64) -> Result<u64> {
        Ok(att.mem.at::<AtomicU64>(offset)?.load(Ordering::Acquire))
    }

    #[inline(always)]
    fn rest(self, att: &Attachment, slot: u64) -> Result<[u64; 3]> {
        Ok(att.mem.at::<Slot>(slot)?.rest())
    }

    #[inline(always)]
    fn record(self, att: &Attachment, offset: u64, len: usize, scratch: &mut Scratch) -> Result<()> {
        att.mem.read_scratch(offset, len, scratch)
    }
}

/// By `pread`.
#[derive(Clone, Copy)]
pub struct PreadAccess<'a>(pub BorrowedFd<'a>);

impl PreadAccess<'_> {
    fn read(self, att: &Attachment, offset: u64, to: &mut [u8]) -> Result<()> {
        let allow_threads = || Error::corrupt(format_args!("offset {offset} lies outside of it"));
        let length = att.identity.geometry.length;
        if offset > length || length - offset < to.len() as u64 {
            return Err(allow_threads());
        }
        // Not by the map: others may have made the object longer since.
        let done = object::read_at(self.0, to, offset).map_err(|e| Error::system("reading the segment", e))?;
        if done < to.len() {
            return Err(allow_threads());
        }
        // SYNC: a call of the system orders nothing: what is read next must not be from before.
        fence(Ordering::Acquire);
        Ok(())
    }
}

impl Access for PreadAccess<'_> {
    fn word(self, att: &Attachment, offset: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(att, offset, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn rest(self, att: &Attachment, slot: u64) -> Result<[u64; 3]> {
        let mut bytes = [0; 24];
        self.read(att, slot + 8, &mut bytes)?;
        let word = |i: usize| u64::from_ne_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        Ok([word(0), word(1), word(2)])
    }

    fn record(self, att: &Attachment, offset: u64, len: usize, scratch: &mut Scratch) -> Result<()> {
        self.read(att, offset, scratch.resize(len)?)
    }
}

/// Looks once: within a section, where this process can say that it is inside of one, else by calls of the system. With a way
/// to wait, a process without a number takes one first.
macro_rules! reading {
    ($att:expr, |$look:ident| $body:expr) => {
        reading!(in $att.read_section(), $att, |$look| $body)
    };
    ($att:expr, $policy:expr, |$look:ident| $body:expr) => {
        reading!(in $att.begin_read_section($policy)?, $att, |$look| $body)
    };
    (in $read_section:expr, $att:expr, |$look:ident| $body:expr) => {
        match $read_section {
            Some(_section) => {
                let $look = MappedAccess;
                $body
            }
            None => $att.with_file(|fd| {
                let $look = PreadAccess(fd);
                $body
            })?,
        }
    };
}
pub(crate) use reading;
