//! Making the segment's file longer as zones come into use, and mapping what a change may touch. The protocol is "Length" in
//! `docs/protocol.md`.

use crate::error::{Error, Result};
use crate::os::object;
use crate::os::{Limited, limit_of};
use crate::process::attachment::Attachment;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// Makes an object longer, if it is shorter than `want`; where this process may not, at least as long as `least`. The caller holds
/// what keeps others from doing it at the same time.
fn lengthen(fd: BorrowedFd<'_>, least: u64, want: u64) -> Result<()> {
    let length = object::status(fd).map_err(|e| Error::system("fstat", e))?.size;
    if length >= least {
        return Ok(());
    }
    // Beyond the limit there is a signal, which ends a program that does not ignore it.
    let limit = limit_of(Limited::File).unwrap_or(u64::MAX);
    if least > limit {
        return Err(too_long(least, limit));
    }
    rustix::fs::ftruncate(fd, want.min(limit).max(least)).map_err(|error| match error {
        Errno::FBIG => too_long(least, limit),
        error => Error::system("making a segment longer", error),
    })?;
    // CRASH: longer than it needs to be.
    crash_point!("lengthened");
    Ok(())
}

fn too_long(needed: u64, limit: u64) -> Error {
    let remedy =
        "this process may not make a file as long as that: raise `ulimit -f`, or create the segment with a smaller \
                  reserve: attach(key, size, reserve=size)"
            .into();
    Error::Full { needed, free: limit, size: limit, remedy }
}

impl Attachment {
    /// Makes the object as long as so many zones need it; the next time, twice as many. Under the registry lock.
    pub fn lengthen_for(&self, zones: u64) -> Result<()> {
        let geometry = &self.identity.geometry;
        let (least, want) = (geometry.end_of_zones(zones), geometry.end_of_zones(zones.saturating_mul(2)));
        self.with_file(|fd| lengthen(fd, least, want))?
    }

    /// Before a change: whatever it may touch is mapped, so that it is not left half way for want of addresses.
    #[inline(always)]
    pub fn map_zones(&self) -> Result<()> {
        let zones = self.state().zones.load(Ordering::Relaxed);
        let end = self.identity.geometry.end_of_zones(zones);
        self.mem.map_up_to(end).map_err(|error| match error {
            Error::Corrupt(_) => {
                Error::corrupt(format_args!("{zones} zones are in use, the object does not reach that far"))
            }
            error => error,
        })
    }
}
