//! Reads and believes.

use crate::error::{Error, Result};
use crate::format::identity::{Identity, Unverified};
use crate::format::{IDENTITY_LEN, State, at};
use crate::key::Key;
use crate::os::object::{self, Status};
use crate::segment::refusals::strange;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::ffi::OsStr;

/// Where `gone` is in the object.
pub const GONE_AT: u64 = at::STATE + std::mem::offset_of!(State, gone) as u64;

/// Reads and believes the identity of an open object.
pub fn identify(key: Option<&Key>, name: &str, fd: &OwnedFd) -> Result<Option<(Identity, Status)>> {
    let status = object::status(fd).map_err(|e| Error::system("fstat", e))?;
    if !status.regular {
        return Err(strange(name, "no regular file", "rm"));
    }
    // More names than one are no harm: whose it is, who may write, and which key it has are asked of the object itself.
    if status.nlink == 0 {
        return Ok(None);
    }
    let mut bytes = [0; IDENTITY_LEN];
    let len = object::read_at(fd, &mut bytes, 0).map_err(|e| Error::system("reading the identity", e))?;
    let identity = Unverified::new(&bytes[..len]).finalize(name, status.size)?;
    if key.is_some_and(|key| *key != identity.key) {
        let (key, found) = (key.expect("just asked"), &identity.key);
        return Err(Error::Incompatible(format!("{}/{name} says its key is {found}, not {key}", object::DIR)));
    }
    let mut gone = [0; 4];
    object::read_at(fd, &mut gone, GONE_AT).map_err(|e| Error::system("reading the segment", e))?;
    if gone != [0; 4] {
        return match object::status_of(name) {
            Ok(now) if now.same(&status) => Err(Error::corrupt(format_args!(
                "{name} says that it was destroyed, and has its name: somebody who had another name for it gave it this one \
                 again, or changed its bytes"
            ))),
            _ => Ok(None),
        };
    }
    Ok(Some((identity, status)))
}

/// Does this say nothing of the object, and everything of this process: it can look at none?
pub fn fatal(error: &Error) -> bool {
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(|errno| Some(errno.raw_os_error()));
    matches!(error, Error::System { source, .. } if lacking.contains(&source.raw_os_error()))
}

/// Opens what is at a name of ours to read it, and believes what it says of itself. `None`: it vanished.
pub fn identify_by_name(name: &OsStr) -> Result<Option<(OwnedFd, Identity, Status)>> {
    let fd = match object::open(name, false) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ACCESS | Errno::PERM) => return Err(Error::Access("this user may not read it".into())),
        Err(Errno::AGAIN) => return Err(Error::Busy("a process has a lease on it (fcntl F_SETLEASE)".into())),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV) => {
            return Err(Error::Incompatible("it is no regular file".into()));
        }
        Err(error) => return Err(Error::system(format!("opening {}/{}", object::DIR, name.to_string_lossy()), error)),
    };
    let Some(text) = name.to_str() else { return Err(Error::Incompatible("its name is no text, so no key's".into())) };
    let Some((identity, status)) = identify(None, text, &fd)? else { return Ok(None) };
    if identity.key.object_name() != text {
        let (key, right) = (&identity.key, identity.key.object_name());
        return Err(Error::Incompatible(format!("it says that its key is {key}, whose name would be {right}")));
    }
    Ok(Some((fd, identity, status)))
}
