//! How a reader loads from memory that other processes may give back to the system meanwhile. There are two ways,
//! behind one trait, [`Access`]:
//!
//! * [`MappedAccess`]: through the map. The reader is inside a read section, so nothing that it can reach is given
//!   back.
//! * [`PreadAccess`]: by `pread`. For a reader that has no reader word to announce a read section with. To `pread` a
//!   page that was given back is zeros, and not a signal.
//!
//! The macro [`reading!`] chooses. The protocol is "Reading, without a lock" in `docs/protocol.md`, "Without a reader
//! word".

use crate::error::{Error, Result};
use crate::format::{Slot, SpanEntry, ZONE};
use crate::os::mem::Scratch;
use crate::os::object;
use crate::process::attachment::Attachment;
use crate::sync::slot::Seqlock;
use rustix::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Loads from the segment, at offsets of its file.
pub trait Access: Copy {
    /// Loads a word, with acquire.
    fn word(self, att: &Attachment, offset: u64) -> Result<u64>;
    /// Loads the three words of a slot that follow its sequence lock.
    fn rest(self, att: &Attachment, slot: u64) -> Result<[u64; 3]>;
    /// Copies `len` bytes of a record into `scratch`.
    fn record(self, att: &Attachment, offset: u64, len: usize, scratch: &mut Scratch) -> Result<()>;

    /// Loads a granule's entry in the span map.
    #[inline(always)]
    fn entry(self, att: &Attachment, granule: u64) -> Result<SpanEntry> {
        if granule / ZONE >= att.arena().zones() {
            return Err(Error::corrupt(format_args!("granule {granule} lies beyond the zones in use")));
        }
        // A zone's metadata begins with the span map.
        Ok(SpanEntry(self.word(att, att.identity.geometry.zone_at(granule / ZONE) + granule % ZONE * 8)?))
    }
}

/// Loads through the map. The caller is inside a read section or holds the writer lock.
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

/// Loads by `pread`, through this descriptor of the segment's object.
#[derive(Clone, Copy)]
pub struct PreadAccess<'a>(pub BorrowedFd<'a>);

impl PreadAccess<'_> {
    fn read(self, att: &Attachment, offset: u64, to: &mut [u8]) -> Result<()> {
        let out_of_bounds = || Error::corrupt(format_args!("offset {offset} lies outside of it"));
        // The bound is the geometry's and not that of the map: other processes may have made the object longer since.
        let length = att.identity.geometry.length;
        if offset > length || length - offset < to.len() as u64 {
            return Err(out_of_bounds());
        }
        let done = object::read_at(self.0, to, offset).map_err(|e| Error::system("reading the segment", e))?;
        if done < to.len() {
            return Err(out_of_bounds());
        }
        // SYNC: a system call orders nothing by itself. The fence keeps the next load from being made before this one.
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

/// Runs an expression with the [`Access`] that this thread has: [`MappedAccess`] inside a read section, which ends with
/// the expression, or [`PreadAccess`] if no read section can begin. It is a macro because the expression is compiled
/// once for each of the two types.
///
/// * `reading!(attachment, |access| expression)` begins a read section only if the process has a participant number.
/// * `reading!(attachment, policy, |access| expression)` registers a process that has none, waiting as `policy` says.
macro_rules! reading {
    ($att:expr, |$access:ident| $body:expr) => {
        reading!(in $att.read_section(), $att, |$access| $body)
    };
    ($att:expr, $policy:expr, |$access:ident| $body:expr) => {
        reading!(in $att.begin_read_section($policy)?, $att, |$access| $body)
    };
    (in $read_section:expr, $att:expr, |$access:ident| $body:expr) => {
        match $read_section {
            Some(_section) => {
                let $access = MappedAccess;
                $body
            }
            None => $att.with_file(|fd| {
                let $access = PreadAccess(fd);
                $body
            })?,
        }
    };
}
pub(crate) use reading;
