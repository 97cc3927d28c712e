//! How long the object is, and how much of it is mapped. It is made longer as zones come into use, and never shorter; a
//! process maps what there is when it attaches, and more when it meets something behind that.

use crate::error::{Error, Result};
use crate::fallible;
use crate::format::Geometry;
use crate::os::fork::ForkMutex;
use crate::os::map::Mapping;
use crate::os::mem::Longer;
use crate::os::object::{self, Status};
use crate::os::{Limited, limit_of};
use crate::process::attachment::Attachment;
use crate::process::descriptor::Descriptor;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Maps longer than the first. They stay: objects, and calls of other threads, have addresses in each.
pub struct Extent {
    pub name: String,
    pub status: Status,
    pub write: bool,
    pub geometry: Geometry,
    pub file: Arc<Descriptor>,
    /// Whoever attached made it.
    pub first: Arc<Mapping>,
    /// Those made since, each longer than the one before.
    pub maps: ForkMutex<Vec<Mapping>>,
}

impl Longer for Extent {
    fn longer(&self, least: u64, publish: &mut dyn FnMut(*mut u8, u64)) -> Result<bool> {
        let mut maps = self.maps.lock();
        if maps.last().map_or(self.first.len(), Mapping::len) >= least {
            return Ok(true);
        }
        fallible::reserve(&mut maps, 1, "a list of maps")?;
        let mapped = self.file.with(&self.name, &self.status, self.first.descriptor(), self.write, |fd, found| {
            let length = found.size.min(self.geometry.length);
            if length < least {
                return Ok(None);
            }
            // Where the last map is, if what lies behind it is free: so the addresses are taken once.
            let last = maps.last().unwrap_or(&self.first);
            if last.lengthen(length) || last.lengthen(least) {
                return Ok(Some(None));
            }
            Mapping::of_as_much(fd, length, least, self.write).map(|map| Some(Some(map)))
        })?;
        match mapped? {
            None => return Ok(false),
            Some(map) => maps.extend(map),
        }
        let map = maps.last().unwrap_or(&self.first);
        publish(map.ptr(), map.len());
        Ok(true)
    }
}

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
