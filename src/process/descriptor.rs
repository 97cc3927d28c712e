//! A descriptor that user code may close (`os.closerange`). Its number may then be that of another file, so it is
//! compared with its object before each use, and opened again by name if it is not the object's any more.

use crate::error::{Error, Result};
use crate::os::description::{self, MarkedFd};
use crate::os::fork::ForkMutex;
use crate::os::object::is_descriptor_of;
use crate::os::object::{self, Status};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Private to the process: a descriptor of a kernel object, the segment's or its lock object.
pub struct Descriptor {
    /// The descriptor. `None`: it is lent by the map each time, or user code has closed it.
    own: ForkMutex<Option<Arc<MarkedFd>>>,
}

impl Descriptor {
    /// Makes one of an open descriptor of the object. `None`: the caller lends one at each use.
    pub fn new(fd: Option<OwnedFd>, status: &Status) -> Self {
        Descriptor { own: ForkMutex::keeping(fd.map(|fd| Arc::new(MarkedFd::new(fd, status)))) }
    }

    /// Runs `act` with a descriptor of the object and with what the kernel says of the object now. The descriptor is
    /// the one that is lent, if it still is the object's and open for what it is needed for, or else this one, which is
    /// opened again by name if user code has closed it. The number may be that of another descriptor of the object by
    /// now, open for reading only: that of a read-only handle, or the program's own.
    pub fn with<T>(
        &self,
        name: &str,
        status: &Status,
        lent: Option<BorrowedFd<'_>>,
        write: bool,
        act: impl FnOnce(BorrowedFd<'_>, &Status) -> T,
    ) -> Result<T> {
        let of_object = |fd: BorrowedFd<'_>| description::usable(fd, status, write);
        if let Some((fd, found)) = lent.and_then(|fd| Some((fd, of_object(fd)?))) {
            return Ok(act(fd, &found));
        }
        let mut own = self.own.lock();
        if let Some(fd) = own.clone() {
            if let Some(found) = of_object(fd.as_fd()) {
                drop(own);
                return Ok(act(fd.as_fd(), &found));
            }
        }
        // The number is that of another file now, or of none, or it is this package's, but open for reading only.
        // Dropping it closes it in the last case only.
        own.take();
        let fd = Arc::new(MarkedFd::new(reopen(name, status, write)?, status));
        *own = Some(fd.clone());
        drop(own);
        let found = object::status(&*fd).map_err(|e| Error::system("fstat", e))?;
        Ok(act(fd.as_fd(), &found))
    }

    /// Returns what the kernel says of the object now. `None`: neither this descriptor nor the one that is lent is the
    /// object's any more.
    pub fn status(&self, status: &Status, lent: Option<BorrowedFd<'_>>) -> Option<Status> {
        let own = self.own.lock().clone();
        // Any descriptor of the object will do, whatever it is open for.
        let fds = lent.into_iter().chain(own.as_ref().map(|own| own.as_fd()));
        fds.filter_map(|fd| object::status(fd).ok()).find(|found| found.is_same_object(status))
    }

    /// Uses another descriptor from now on. The old one is closed if its number still is that of what was opened.
    pub fn replace(&self, fd: Option<MarkedFd>) {
        let old = std::mem::replace(&mut *self.own.lock(), fd.map(Arc::new));
        drop(old);
    }
}

/// Opens the object again by its name.
fn reopen(name: &str, status: &Status, write: bool) -> Result<OwnedFd> {
    if let Some(fd) = object::open(name, write).ok().filter(|fd| is_descriptor_of(fd, status)) {
        return Ok(fd);
    }
    Err(object::descriptor_shortage("opening a segment again").unwrap_or_else(|| {
        Error::Access(format!(
            "the descriptors of {name} were closed (os.closerange?) and it cannot be opened again: attach again"
        ))
    }))
}
