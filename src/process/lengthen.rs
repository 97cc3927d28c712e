//! Making the segment's object longer as zones come into use, and mapping all zones before a change. The protocol is
//! "Length" in `docs/protocol.md`.

use crate::error::{Error, Lack, Result};
use crate::os::object;
use crate::os::{Limited, limit_of};
use crate::process::attachment::Attachment;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// Makes an object `want` bytes long if it is shorter than `least`. If this process may not make a file so long, the
/// object gets as long as it may, and at least `least` bytes. The caller makes sure that no other process does the same
/// at the same time.
fn lengthen(fd: BorrowedFd<'_>, least: u64, want: u64) -> Result<()> {
    let length = object::status(fd).map_err(|e| Error::system("fstat", e))?.size;
    if length >= least {
        return Ok(());
    }
    // Beyond the limit the kernel sends a signal, which ends a program that does not ignore it. So the limit is asked
    // for first.
    let limit = limit_of(Limited::File).unwrap_or(u64::MAX);
    if least > limit {
        return Err(too_long(least, limit));
    }
    rustix::fs::ftruncate(fd, want.min(limit).max(least)).map_err(|error| match error {
        Errno::FBIG => too_long(least, limit),
        error => Error::system("making a segment longer", error),
    })?;
    // CRASH: the object is longer than it needs to be.
    crash_point!("lengthened");
    Ok(())
}

fn too_long(needed: u64, limit: u64) -> Error {
    let remedy = "this process may not make a file that long: raise `ulimit -f`, or create the segment with a smaller \
                  reserve: attach(key, size, reserve=size)"
        .into();
    Error::Full { lack: Lack::Other, needed, free: limit, size: limit, remedy }
}

impl Attachment {
    /// Makes the object long enough for this number of zones. If it is too short, it becomes long enough for twice as
    /// many, so that this is seldom done. The caller holds the registry lock.
    pub fn lengthen_for(&self, zones: u64) -> Result<()> {
        let geometry = &self.identity.geometry;
        let (least, want) = (geometry.end_of_zones(zones), geometry.end_of_zones(zones.saturating_mul(2)));
        self.with_file(|fd| lengthen(fd, least, want))?
    }

    /// Maps all zones in use. Called before a change, so that the change is not left half done for want of addresses.
    #[inline(always)]
    pub fn map_zones(&self) -> Result<()> {
        let zones = self.state().zones.load(Ordering::Relaxed);
        let end = self.identity.geometry.end_of_zones(zones);
        self.mem.map_up_to(end).map_err(|error| match error {
            Error::Corrupt(_) => {
                Error::corrupt(format_args!("{zones} zones are in use, but the object ends before that"))
            }
            error => error,
        })
    }
}
